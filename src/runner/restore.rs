//! Giving back what a rule remembers: a firing of one step, which takes a change back.

use serde_json::{Value, json};

use super::{
    halt::{self, Halt},
    step::Part,
    way::Way,
};
use crate::{
    api::{self, ActionOutcome},
    record::{Change, Outcome, Record, Release, Remember},
    rule::CompiledAction,
};

/// The name of its only step.
pub(super) const STEP: &str = "restore";

/// An action of the kind that has made the change.
pub(super) fn action(change: &Change) -> api::Action {
    let Change { api_version, kind, namespace, name, .. } = change;
    let target = json!({"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name});
    let kind = match change.subresource.as_deref() {
        Some("scale") => ("scale", json!({"target": target, "to": 0})),
        _ => ("patch", json!({"target": target, "patch": {}})),
    };
    let spec = Value::Object([("name".to_owned(), STEP.into()), (kind.0.to_owned(), kind.1)].into_iter().collect());
    serde_json::from_value(spec).expect("an action by its own fields")
}

impl Way<'_> {
    /// Gives back what the change has taken.
    pub(super) async fn restore(&mut self, change: &Change) -> Result<(), Halt> {
        let known = self.open.steps.get(STEP);
        let (outcome, message) = match known.and_then(|step| Some((step.outcome?, step.message.clone()))) {
            Some(ended) => ended,
            None => {
                let (spec, compiled) = (action(change), CompiledAction::bare(STEP));
                let intent = known.and_then(|step| step.intent.clone());
                let mut held = intent.as_ref().and_then(|_| self.held.take());
                let (outcome, _) = self.step(&spec, &compiled, STEP, Part::Undo(change)).run(intent, &mut held).await?;
                let ended = (outcome.outcome, outcome.message.clone());
                halt::record(self.inner, Record::Outcome(outcome)).await?;
                ended
            }
        };
        match outcome {
            ActionOutcome::Failed => self.fail(STEP, message),
            ActionOutcome::Succeeded => self.say(format!("given back: {message}")),
            _ => self.say(message),
        }
        Ok(())
    }
}

/// What is to be remembered of a step that was carried out, if it is to be given back.
pub(super) fn remember(rule: &crate::record::RuleUid, spec: &api::Action, change: Change) -> Option<Box<Remember>> {
    let restore = spec.restore()?;
    let release = match restore.after {
        Some(after) => Release::After(i64::try_from(after.get().as_micros()).unwrap_or(i64::MAX)),
        None => Release::Resolved,
    };
    Some(Box::new(Remember { rule: rule.clone(), change, release }))
}

/// What is to be remembered of a step that was undone: nothing of what it had changed.
pub(super) fn forget(rule: &crate::record::RuleUid, spec: &api::Action, undone: &Change, outcome: &mut Outcome) {
    if spec.restore().is_some() && matches!(outcome.outcome, ActionOutcome::Succeeded | ActionOutcome::Unchanged) {
        let manager = outcome.firing.manager(&outcome.action);
        let change = Change { back: undone.made.clone(), made: undone.back.clone(), manager, ..undone.clone() };
        outcome.remember = Some(Box::new(Remember { rule: rule.clone(), change, release: Release::Undone }));
    }
}
