//! What follows from records: the events that rules emit, and those that tell how rules fare.
//!
//! Each follows from one record of the log, in every replay the same one, and gets its id from there. Whoever folds appends it, unless the log has it
//! already.

use std::sync::Arc;

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::Engine;
use crate::{
    api::{ActionKind, ActionOutcome, EventRef, FiringKind, FiringOutcome, RuleMode},
    event::{
        Event,
        rule_event::{self, TYPE_RULE_FAILED, TYPE_RULE_FIRED, TYPE_RULE_RESOLVED},
        trail::Trail,
    },
    record::{
        Deadline, Emitted, EventInput, Finished, FiringId, Head, Lookups, OpenFiring, Outcome, RuleRef, RuleUid, Stamp,
    },
};

/// The event that a step has emitted, if it was one that does and has done it.
pub fn emitted(head: &Head, open: &OpenFiring, outcome: &Outcome) -> Option<EventInput> {
    let action = open.firing.all_actions(&open.spec).find(|action| action.name == outcome.action)?;
    let (Some(ActionKind::Emit(_)), ActionOutcome::Succeeded) = (action.kind(), outcome.outcome) else { return None };
    let (_, request) = open.steps.get(&outcome.action)?.intent.as_ref()?;
    let Emitted { type_, subject, data } = Emitted::deserialize(request).ok()?;
    let id = format!("{}-{}", open.firing.id, outcome.action);
    let of = (&open.firing.rule, id, type_.as_str());
    Some(event(of, subject, head.stamp, data, open.trail()))
}

impl Engine {
    /// Tells that a rule has fired, if some rule hears of that. To give something back is no news.
    pub fn tells_fired(&self, open: &OpenFiring) -> Option<EventInput> {
        let firing = &open.firing;
        if matches!(firing.kind, FiringKind::Resolved | FiringKind::Restored)
            || !self.is_told(&firing.rule, open.spec.mode)
        {
            return None;
        }
        self.heard(tells(TYPE_RULE_FIRED, "fired", firing.stamp, open, |_| ()))
    }

    /// Tells that a firing has failed for good, if some rule hears of that.
    pub fn tells_failed(&self, head: &Head, open: &OpenFiring, finished: &Finished) -> Option<EventInput> {
        if finished.outcome != FiringOutcome::Failed || !self.is_told(&open.firing.rule, open.spec.mode) {
            return None;
        }
        self.heard(tells(TYPE_RULE_FAILED, "failed", head.stamp, open, |data| {
            data["place"] = json!(finished.failed_at);
            data["message"] = json!(finished.message);
        }))
    }

    /// Tells that what a rule had fired for since then has ended: because of this event, or of what was due. To be asked before that is taken in.
    pub fn tells_resolved(
        &self,
        head: &Head,
        because: Result<&EventInput, &Deadline>,
        (rule, group, since): (&RuleUid, &str, Stamp),
    ) -> Option<EventInput> {
        let (names, state) = self.rules.get(rule)?;
        let mode = state.in_force.as_ref()?.rule.spec.mode;
        if !self.is_told(names, mode) {
            return None;
        }
        let (id, stamp, cause) = match because {
            Ok(input) => (FiringId::derive(&self.log, head.position, rule, group), head.stamp, Some(&input.event)),
            Err(deadline) => {
                let id = FiringId::derive_due(&self.log, deadline, "resolved");
                (id, deadline.stamp(head), state.groups.cause(group).map(|cause| &cause.event))
            }
        };
        let trail = Trail::of(cause.map(|event| &**event));
        let data = json!({"rule": names_of(names), "group": group, "since": since.timestamp().to_string()});
        let of = (names, format!("{id}/resolved"), TYPE_RULE_RESOLVED);
        self.heard(event(of, Some(subject(names)), stamp, data, trail))
    }

    /// Whether somebody may hear how the rule fares. Of one that only observes, be it for its breaker, nobody does.
    fn is_told(&self, rule: &RuleRef, mode: RuleMode) -> bool {
        let trips = self.rules.get(&rule.uid).is_some_and(|(_, state)| state.breaker.trip().is_some());
        mode != RuleMode::Observe && !trips && self.index.hears_rules(&rule.namespace)
    }

    /// The event, if the source of some rule takes it.
    fn heard(&self, input: EventInput) -> Option<EventInput> {
        let (origin, event) = (&input.origin, &*input.event);
        self.index.is_heard(origin, event).then_some(input)
    }
}

/// What tells of a firing.
fn tells(type_: &str, word: &str, stamp: Stamp, open: &OpenFiring, more: impl FnOnce(&mut Value)) -> EventInput {
    let (firing, rule) = (&open.firing, &open.firing.rule);
    let mut data = json!({
        "rule": names_of(rule),
        "group": firing.group,
        "firing": {"id": firing.id, "kind": firing.kind},
        "event": EventRef::from(&*open.event),
    });
    more(&mut data);
    event((rule, format!("{}/{word}", firing.id), type_), Some(subject(rule)), stamp, data, open.trail())
}

fn event(
    (rule, id, type_): (&RuleRef, String, &str),
    subject: Option<String>,
    stamp: Stamp,
    data: Value,
    trail: Trail,
) -> EventInput {
    let origin = rule_event::origin(&rule.namespace, &id);
    let source = rule_event::event_source(&rule.namespace, &rule.name);
    let mut event = Event { subject, time: Some(stamp.timestamp()), ..Event::new(id, source, type_, data) };
    trail.by(&rule.uid.0).mark(&mut event);
    EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() }
}

fn names_of(rule: &RuleRef) -> Value {
    json!({"namespace": rule.namespace, "name": rule.name, "uid": rule.uid})
}

fn subject(rule: &RuleRef) -> String {
    format!("{}/EventRule/{}", rule.namespace, rule.name)
}
