//! Judging: what the rules in force say to an event. It reads the engine and changes nothing.

use std::sync::Arc;

use super::{
    Engine, MAX_ERROR,
    group::{Group, occurrence},
};
use crate::{
    event::{Event, TYPE_KUBERNETES_EVENT},
    poison,
    record::{Account, Decision, EventInput, Firing, FiringId, Head, RuleUid, SuppressedReason},
    rule::{
        cel::{Program, Scope},
        change::Change,
        compile::{CompiledSource, Rule},
        fault::EvalError,
        filter::Kind,
        index::Slot,
        state::State,
    },
    text::cut,
};

/// What the rules say to an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// The rules of which a source's filter took the event, in the order of their uids.
    pub seen: Vec<RuleUid>,
    /// The decisions, in the order of rule uids.
    pub decisions: Vec<Decision>,
}

impl Engine {
    /// What the rules in force say to the event. Changes nothing.
    pub fn judge(&self, head: &Head, input: &EventInput) -> Judged {
        let mut judged = Judged::default();
        let mut events = Views::new(input);
        let candidates = self.index.candidates(&input.origin, &input.event);
        for slots in candidates.chunk_by(|a, b| a.rule.rule.uid == b.rule.rule.uid) {
            self.judge_rule(head, &mut events, slots, &mut judged);
        }
        judged
    }

    /// Asks one rule. If that panics, it is an error of the rule: the event is in the log, and would be judged again after every restart.
    pub(super) fn judge_rule(&self, head: &Head, events: &mut Views<'_>, slots: &[&Slot], judged: &mut Judged) {
        let Some(rule) = slots.first().map(|slot| &slot.rule) else { return };
        let (seen, decisions) = (judged.seen.len(), judged.decisions.len());
        if let Err(poisoned) = poison::caught(|| self.ask(rule, head, events, slots, judged)) {
            judged.seen.truncate(seen);
            judged.decisions.truncate(decisions);
            judged.seen.push(rule.rule.uid.clone());
            judged.decisions.push(errored(&rule.rule.uid, EvalError::new(poisoned.to_string()).at("spec")));
        }
    }

    fn ask(&self, rule: &Rule, head: &Head, events: &mut Views<'_>, slots: &[&Slot], judged: &mut Judged) {
        let uid = &rule.rule.uid;
        let Some((_, state)) = self.rules.get(uid) else { return };
        let Some(version) = state.in_force.as_ref() else { return };
        let takes = |slot: &&&Slot| {
            let source = &rule.sources[slot.source];
            let lookups = &events.input.lookups;
            version.is_live(&source.name)
                && events.input.only.as_ref().is_none_or(|only| {
                    only.rule == *uid && only.generation == rule.generation && only.source == source.name
                })
                && source.filter.passes(
                    &events.input.origin,
                    &events.input.event,
                    lookups.namespace_labels.as_ref(),
                    lookups.regarding(&rule.account),
                )
                && source.filter.change(&events.input.event, &events.input.origin) != Change::Same
        };
        let taken: Vec<&&Slot> = slots.iter().filter(takes).collect();
        if taken.is_empty() {
            return;
        }
        let of_object = |slot: &&&Slot| matches!(rule.sources[slot.source].filter.kind(), Kind::Resource { .. });
        if taken.iter().any(of_object)
            && let Some(object) = state.own.defers(rule, events.input)
        {
            judged.decisions.push(Decision::Deferred { rule: uid.clone(), object });
            return;
        }
        judged.seen.push(uid.clone());
        let input = events.input;
        let (event, own) = (events.of(rule), state.own.is_own(input));
        for slot in taken {
            let source = &rule.sources[slot.source];
            if let Some(error) = untold(source, input) {
                judged.decisions.push(errored(uid, error));
                continue;
            }
            let scope = Scope::new(&event, &source.name, &rule.rule, head.stamp.timestamp()).with_variables(rule);
            let group = match first_no(rule, source, &scope) {
                Ok(Some(_)) => continue,
                Ok(None) => Group::of(rule, &scope, &event),
                Err(error) => Err(error),
            };
            match group {
                Ok(Group { name: group, .. }) if own => {
                    let reason = SuppressedReason::OwnWrite;
                    judged.decisions.push(Decision::Suppressed { rule: uid.clone(), group, reason, occurrence: None });
                    break;
                }
                Ok(group) => {
                    judged.decisions.push(self.decision(head, rule, state, &source.name, &event, group));
                    break;
                }
                Err(error) => judged.decisions.push(errored(uid, error)),
            }
        }
    }

    /// What becomes of an event that met every condition.
    fn decision(
        &self,
        head: &Head,
        rule: &Rule,
        state: &State,
        source: &str,
        event: &Event,
        Group { name: group, values }: Group,
    ) -> Decision {
        let (uid, now) = (rule.rule.uid.clone(), head.stamp.at);
        if rule.keeps_groups() && !state.groups.has_room(&group, rule.max_groups, now) {
            return Decision::Suppressed {
                rule: uid,
                group,
                reason: SuppressedReason::TooManyGroups,
                occurrence: None,
            };
        }
        let mut counted = None;
        if let Some(count) = &rule.count {
            let (occurrence, so_far) = state.groups.count(&group, count, occurrence(head, event), now);
            if so_far < count.at_least {
                return Decision::Counted { rule: uid, group, occurrence };
            }
            counted = Some((occurrence, so_far));
        }
        let reason = if state.is_busy(rule, &group) {
            Some(SuppressedReason::Concurrency)
        } else if rule.cooldown.is_some() && state.groups.is_cooling(&group, now) {
            Some(SuppressedReason::Cooldown)
        } else {
            let is_spent = rule.budget.is_some_and(|budget| state.is_spent(&budget, &group, now));
            is_spent.then_some(SuppressedReason::Budget)
        };
        if let Some(reason) = reason {
            let occurrence = counted.map(|(occurrence, _)| occurrence);
            return Decision::Suppressed { rule: uid, group, reason, occurrence };
        }
        Decision::Fired(Firing {
            id: FiringId::derive(&self.log, head.position, &uid, &group),
            rule: rule.rule.clone(),
            generation: rule.generation,
            source: source.to_owned(),
            group,
            group_values: values,
            count: counted.map(|(_, so_far)| so_far),
            input: head.position,
            stamp: head.stamp,
        })
    }
}

/// The event as accounts see it, made once for each.
pub(in crate::rule) struct Views<'i> {
    input: &'i EventInput,
    views: Vec<(Account, Arc<Event>)>,
}

impl<'i> Views<'i> {
    pub(in crate::rule) fn new(input: &'i EventInput) -> Self {
        Self { input, views: Vec::new() }
    }

    pub(in crate::rule) fn of(&mut self, rule: &Rule) -> Arc<Event> {
        let plain = &self.input.event;
        if plain.type_ != TYPE_KUBERNETES_EVENT {
            return Arc::clone(plain);
        }
        let lookups = &self.input.lookups;
        let (labels, owner) = (lookups.regarding(&rule.account), lookups.owner(&rule.account));
        if labels.is_none() && owner.is_none() {
            return Arc::clone(plain);
        }
        if let Some((_, event)) = self.views.iter().find(|(account, _)| *account == rule.account) {
            return Arc::clone(event);
        }
        let mut event = Event::clone(plain);
        if let Some(regarding) = event.data.get_mut("regarding").and_then(serde_json::Value::as_object_mut) {
            labels.map(|labels| regarding.insert("labels".to_owned(), serde_json::json!(labels)));
            owner.map(|owner| regarding.insert("owner".to_owned(), serde_json::json!(owner)));
        }
        let event = Arc::new(event);
        self.views.push((rule.account.clone(), Arc::clone(&event)));
        event
    }
}

fn errored(rule: &RuleUid, error: EvalError) -> Decision {
    Decision::Errored { rule: rule.clone(), place: error.path, message: cut(&error.message, MAX_ERROR) }
}

/// Why it cannot be told whether an update changed what the source asks for, or whether an object that is gone had the labels.
fn untold(source: &CompiledSource, input: &EventInput) -> Option<EvalError> {
    let index = match source.filter.change(&input.event, &input.origin) {
        Change::Untold(index) => index,
        Change::Unselected => {
            let error = EvalError::new("an object that was deleted while nobody listened: its labels were not known");
            return Some(error.at(&format!("sources[{}].resource.selector", source.name)));
        }
        Change::Passes | Change::Same => return None,
    };
    let Kind::Resource { changes, .. } = source.filter.kind() else { return None };
    let object = input.event.data.get("object").unwrap_or(&serde_json::Value::Null);
    let error = match changes.get(index)?.value(object) {
        Err(error) => error,
        // Another version of the program did not follow it.
        Ok(_) => EvalError::new("its value was not followed"),
    };
    Some(error.at(&format!("sources[{}].resource.changedExpressions[{index}]", source.name)))
}

/// A condition in its place.
pub(in crate::rule) struct Placed<'r> {
    source: Option<&'r str>,
    name: &'r str,
    pub(in crate::rule) program: &'r Program,
}

impl Placed<'_> {
    /// `when[often]`, or `sources[crash].when[front]`.
    pub(in crate::rule) fn place(&self) -> String {
        match self.source {
            Some(source) => format!("sources[{source}].when[{}]", self.name),
            None => format!("when[{}]", self.name),
        }
    }
}

/// The first condition of the source or the rule that does not hold; nothing when all do.
pub(in crate::rule) fn first_no<'r>(
    rule: &'r Rule,
    source: &'r CompiledSource,
    scope: &Scope<'_>,
) -> Result<Option<Placed<'r>>, EvalError> {
    let of_source = source.conditions.iter().map(|one| (one, Some(source.name.as_str())));
    for ((name, program), source) in of_source.chain(rule.conditions.iter().map(|one| (one, None))) {
        let condition = Placed { source, name, program };
        if !program.test(scope).map_err(|error| error.at(&condition.place()))? {
            return Ok(Some(condition));
        }
    }
    Ok(None)
}
