//! Judging: what the rules in force say to an event. It reads the engine and changes nothing.

use super::{Engine, MAX_ERROR, Views, conclude::Moment, group::Group, same::Sameness};
use crate::{
    api::Operation,
    event::{Event, Old, trail},
    poison,
    record::{Decision, EventInput, Head, RuleUid, SuppressedReason},
    rule::{
        cel::{Program, Scope},
        change::{Change, old_object},
        compile::{CompiledSource, Rule},
        fault::EvalError,
        filter::{Kind, operation},
        index::{ClassId, Slot},
        state::{State, Version},
        trigger::{Fires, Sighting, Trigger, Verdict},
    },
    text::cut,
};

/// What the rules say to an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// The rules of which a source's filter took the event.
    pub seen: SeenBy,
    /// The decisions, in the order of rule uids.
    pub decisions: Vec<Decision>,
}

/// The rules of which a source's filter took the event: it counts as seen by them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenBy {
    /// Classes of rules that filter alike, by the index of the engine that judged.
    pub(super) classes: Vec<ClassId>,
    /// Rules for themselves, in the order of their uids.
    pub(super) rules: Vec<RuleUid>,
}

impl Engine {
    /// All rules that have seen an event.
    #[cfg(test)]
    pub(in crate::rule) fn seen_by(&self, seen: &SeenBy) -> Vec<RuleUid> {
        let of_classes = seen.classes.iter().flat_map(|class| self.index.rules_of(*class));
        let mut rules: Vec<RuleUid> = of_classes.chain(seen.rules.iter().cloned()).collect();
        rules.sort();
        rules
    }

    /// What the rules in force say to the event. Changes nothing.
    pub fn judge(&self, head: &Head, input: &EventInput) -> Judged {
        let mut judged = Judged::default();
        let mut events = Views::new(input);
        let slots = match &input.only {
            Some(only) => self.index.of_rule(&only.rule, only.generation),
            None => {
                let (classes, slots) = self.index.find(input);
                judged.seen.classes = classes;
                slots
            }
        };
        for slots in slots.chunk_by(|a, b| a.rule.rule.uid == b.rule.rule.uid) {
            self.judge_rule(head, &mut events, slots, &mut judged);
        }
        judged
    }

    /// Asks one rule. If that panics, it is an error of the rule: the event is in the log, and would be judged again after every restart.
    pub(super) fn judge_rule(&self, head: &Head, events: &mut Views<'_>, slots: &[Slot<'_>], judged: &mut Judged) {
        let Some(Slot { rule, counted, .. }) = slots.first() else { return };
        let (seen, decisions) = (judged.seen.rules.len(), judged.decisions.len());
        if let Err(poisoned) = poison::caught(|| self.ask(rule, head, events, slots, judged)) {
            judged.seen.rules.truncate(seen);
            judged.decisions.truncate(decisions);
            judged.seen.rules.extend((!counted).then(|| rule.rule.uid.clone()));
            judged.decisions.push(Decision::Errored {
                rule: rule.rule.uid.clone(),
                place: "spec".to_owned(),
                message: cut(&poisoned.to_string(), MAX_ERROR),
                poisoned: true,
            });
        }
    }

    fn ask(&self, rule: &Rule, head: &Head, events: &mut Views<'_>, slots: &[Slot<'_>], judged: &mut Judged) {
        let uid = &rule.rule.uid;
        let Some((_, state)) = self.rules.get(uid) else { return };
        let Some(version) = state.in_force.as_ref() else { return };
        let asked: Vec<Asked<'_>> = slots.iter().filter_map(|slot| Asked::of(version, slot, events.input)).collect();
        if asked.is_empty() {
            return;
        }
        let of_object = |asked: &Asked<'_>| matches!(asked.source.filter.kind(), Kind::Resource { .. });
        if asked.iter().any(of_object)
            && let Some(object) = state.own.defers(rule, events.input)
        {
            judged.decisions.push(Decision::Deferred { rule: uid.clone(), object });
            return;
        }
        // A list that was taken before the last change tells of what is not so any more.
        if follows(rule) && events.input.only.is_some() && state.begun.is_stale(&events.input.origin) {
            return;
        }
        judged.seen.rules.extend(slots.iter().any(|slot| !slot.counted).then(|| uid.clone()));
        let (mut no, mut errors) = (None, 0);
        for Asked { source, gone } in asked {
            let event = events.of(rule, source);
            let sight = Sight { head, input: events.input, event: &event, own: state.own.is_own(events.input) };
            match self.look(rule, state, source, gone, &sight) {
                Ok(None) => no = no.or_else(|| Some((source, event.clone()))),
                Ok(Some(decisions)) => return judged.decisions.extend(decisions),
                Err(error) => {
                    errors += 1;
                    judged.decisions.push(errored(uid, error));
                }
            }
        }
        // What cannot be told of a condition changes nothing.
        let no = no.filter(|_| errors == 0 && follows(rule) && state.groups.has_kept());
        let Some((source, event)) = no else { return };
        let sight = Sight { head, input: events.input, event: &event, own: state.own.is_own(events.input) };
        match self.decisions(rule, state, source, &sight, &sight.scope(rule, source), false) {
            Ok(decisions) => judged.decisions.extend(decisions),
            Err(error) => judged.decisions.push(errored(uid, error)),
        }
    }

    /// What one source makes of the event: decisions, or nothing when it is gone or a condition says no.
    fn look(
        &self,
        rule: &Rule,
        state: &State,
        source: &CompiledSource,
        gone: bool,
        sight: &Sight<'_>,
    ) -> Result<Option<Vec<Decision>>, EvalError> {
        if gone {
            return Ok(None);
        }
        if let Some(error) = untold(source, sight.input).or_else(|| not_kept(rule, source, sight.input)) {
            return Err(error);
        }
        let scope = sight.scope(rule, source);
        if first_no(rule, source, &scope)?.is_some() {
            return Ok(None);
        }
        self.decisions(rule, state, source, sight, &scope, true).map(Some)
    }

    /// What becomes of an event that concerns a group, and of which the conditions hold or not.
    fn decisions(
        &self,
        rule: &Rule,
        state: &State,
        source: &CompiledSource,
        sight: &Sight<'_>,
        scope: &Scope<'_>,
        holds: bool,
    ) -> Result<Vec<Decision>, EvalError> {
        let Group { name: group, values } = Group::of(rule, scope, sight.event)?;
        let (uid, now) = (&rule.rule.uid, sight.head.stamp.at);
        // An own write begins nothing; what has begun it may end.
        if holds && sight.own && !(follows(rule) && state.groups.kept(&group).is_some()) {
            let reason = SuppressedReason::OwnWrite;
            return Ok(vec![Decision::Suppressed { rule: uid.clone(), group, reason, occurrence: None }]);
        }
        if holds
            && (trail::ends(sight.event, &uid.0) || self.is_loop(sight.head, sight.event, &sight.input.origin, uid))
        {
            let reason = SuppressedReason::Loop;
            return Ok(vec![Decision::Suppressed { rule: uid.clone(), group, reason, occurrence: None }]);
        }
        let crowded = self.is_full(&rule.rule.namespace);
        let sighting = Sighting { head: sight.head, event: sight.event, holds, source: &source.name, crowded, scope };
        if sighting.holds && rule.keeps_groups() {
            let room = state.groups.has_room(&group, rule.max_groups, now);
            let full = !state.groups.knows(&group) && crowded;
            let reason = match (room, full) {
                (false, _) => Some(SuppressedReason::TooManyGroups),
                (true, true) => Some(SuppressedReason::TooMuchState),
                (true, false) => None,
            };
            if let Some(reason) = reason {
                return Ok(vec![Decision::Suppressed { rule: uid.clone(), group, reason, occurrence: None }]);
            }
        }
        let sameness = Sameness::of(rule, state, &group, scope, now)?;
        if let Sameness::Same = sameness {
            let reason = SuppressedReason::Dedupe;
            return Ok(vec![Decision::Suppressed { rule: uid.clone(), group, reason, occurrence: None }]);
        }
        let verdict = match &rule.trigger {
            Some(trigger) => trigger.judge(state.groups.kept(&group), &sighting)?,
            None => Verdict { fires: Some(Fires::default()), ..Verdict::default() },
        };
        let (head, event) = (*sight.head, Some(sight.event));
        let moment = Moment { head, source: &source.name, event, group: &group, values, deadline: None };
        Ok(sameness.noted(uid, &group, self.conclude(&moment, rule, state, verdict)))
    }
}

/// Whether the event tells that the object that the source looks at is gone.
fn is_deletion(source: &CompiledSource, event: &Event) -> bool {
    matches!(source.filter.kind(), Kind::Resource { .. }) && operation(event) == Some(Operation::Delete)
}

/// Whether the rule follows objects.
fn follows(rule: &Rule) -> bool {
    rule.trigger.as_ref().is_some_and(Trigger::follows_objects)
}

/// A source that is asked about an event.
struct Asked<'r> {
    source: &'r CompiledSource,
    /// What the rule follows is deleted, or is not selected any more: for it the conditions do not hold, whatever they say.
    gone: bool,
}

impl<'r> Asked<'r> {
    fn of(version: &'r Version, slot: &Slot<'_>, input: &EventInput) -> Option<Self> {
        let (rule, source) = (&version.rule, version.rule.sources.get(slot.source)?);
        let (origin, event) = (&input.origin, &input.event);
        let for_it = input.only.as_ref().is_none_or(|only| {
            only.rule == rule.rule.uid && only.generation == rule.generation && only.source == source.name
        });
        if !for_it || !version.is_live(&source.name) {
            return None;
        }
        if slot.counted {
            // The class has asked its filter.
            return Some(Self { source, gone: false });
        }
        let lookups = &input.lookups;
        let (labels, regarding) = (lookups.namespace_labels.as_ref(), lookups.regarding(&rule.account));
        let takes = source.filter.passes(origin, event, labels, regarding)
            && source.filter.change(event, origin) != Change::Same;
        let left = follows(rule) && source.filter.is_left_by(origin, event);
        (takes || left).then(|| Self { source, gone: left || (follows(rule) && is_deletion(source, event)) })
    }
}

/// An event, as a rule sees it.
struct Sight<'s> {
    head: &'s Head,
    input: &'s EventInput,
    event: &'s Event,
    /// It tells of a write of the rule's own.
    own: bool,
}

impl<'s> Sight<'s> {
    fn scope(&self, rule: &'s Rule, source: &'s CompiledSource) -> Scope<'s> {
        Scope::new(self.event, &source.name, &rule.rule, self.head.stamp.timestamp()).with_variables(rule)
    }
}

pub(super) fn errored(rule: &RuleUid, error: EvalError) -> Decision {
    let message = cut(&error.message, MAX_ERROR);
    Decision::Errored { rule: rule.clone(), place: error.path, message, poisoned: false }
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

/// Why the rule cannot be told what it reads of the object as it was.
fn not_kept(rule: &Rule, source: &CompiledSource, input: &EventInput) -> Option<EvalError> {
    if rule.old.is_empty() || input.only.is_some() || matches!(operation(&input.event)?, Operation::Create) {
        return None;
    }
    let none = Old::default();
    let old = input.origin.old.as_deref().unwrap_or(&none);
    let error = old_object(&rule.old, old).err()?;
    Some(error.at(&format!("sources[{}].resource", source.name)))
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

/// The first condition of the source or the rule that does not hold; nothing when all do. Where one does not hold, it does not matter that another
/// fails, as with the API server's `matchConditions`.
pub(in crate::rule) fn first_no<'r>(
    rule: &'r Rule,
    source: &'r CompiledSource,
    scope: &Scope<'_>,
) -> Result<Option<Placed<'r>>, EvalError> {
    let of_source = source.conditions.iter().map(|one| (one, Some(source.name.as_str())));
    let mut failed = None;
    for ((name, program), source) in of_source.chain(rule.conditions.iter().map(|one| (one, None))) {
        let condition = Placed { source, name, program };
        match program.test(scope) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(condition)),
            Err(error) => failed = failed.or_else(|| Some(error.at(&condition.place()))),
        }
    }
    failed.map_or(Ok(None), Err)
}
