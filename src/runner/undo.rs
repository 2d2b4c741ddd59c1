//! `onError: Undo`: what a firing has changed is taken back, the last first.
//!
//! Each is a step of its own, with an intent and an outcome, so that a restart goes on where it stopped.

use serde_json::Value;

use super::{
    halt::{self, Halt},
    restore,
    step::Part,
    way::Way,
};
use crate::{
    actions::{Undo, Waiting},
    api::{self, ActionOutcome},
    record::{Change, Effect, Outcome, Record, Step, undo_of},
    rule::CompiledAction,
};

/// A step that may have changed something.
pub(super) struct Made<'a> {
    spec: &'a api::Action,
    compiled: &'a CompiledAction,
    /// Its name: the action's, or that of a part of it.
    step: String,
    request: Value,
    effect: Option<Effect>,
    outcome: ActionOutcome,
}

impl<'a> Made<'a> {
    /// Nothing for a step that has changed nothing: it was not needed, or nothing was asked for.
    pub(super) fn of(
        spec: &'a api::Action,
        compiled: &'a CompiledAction,
        step: &str,
        request: Option<Value>,
        (outcome, effect): (ActionOutcome, Option<Effect>),
    ) -> Option<Self> {
        // What has failed may have been carried out, in part or as a whole.
        let request = request.filter(|_| matches!(outcome, ActionOutcome::Succeeded | ActionOutcome::Failed))?;
        Some(Self { spec, compiled, step: step.to_owned(), request, effect, outcome })
    }
}

/// The request and the effect of a step of an earlier process.
pub(super) fn known(step: &Step) -> (Option<Value>, Option<Effect>) {
    (step.intent.clone().map(|(_, recorded)| Waiting::request_of(recorded)), step.wrote.clone())
}

impl Way<'_> {
    /// Takes back what the firing has changed.
    pub(super) async fn undo(&mut self) -> Result<(), Halt> {
        while let Some(made) = self.made.pop() {
            if self.gone.is_cancelled() {
                self.undone.push("the rest was not undone: the rule was deleted".to_owned());
                break;
            }
            if let Some((outcome, message)) = self.undo_one(&made).await? {
                self.undone.push(match outcome {
                    ActionOutcome::Succeeded => format!("undone: {message}"),
                    ActionOutcome::Unchanged => message,
                    _ => format!("not undone: {}: {message}", made.step),
                });
            }
        }
        Ok(())
    }

    /// Nothing when there is nothing to tell.
    async fn undo_one(&mut self, made: &Made<'_>) -> Result<Option<(ActionOutcome, String)>, Halt> {
        let Made { spec, compiled, step, request, effect, outcome } = made;
        let name = undo_of(step);
        let known = self.open.steps.get(&name);
        if let Some(ended) = known.and_then(|step| Some((step.outcome?, step.message.clone()))) {
            return Ok(Some(ended));
        }
        let Some(action) = (self.inner.build)(spec) else { return Ok(None) };
        let mut held = None;
        let undone: Outcome = match action.changed(&self.context(step), request, effect.as_ref()) {
            Undo::Change(change) if change.is_nothing() => return Ok(None),
            Undo::Change(change) => {
                // What has failed after it was written has an effect.
                let unsure = *outcome == ActionOutcome::Failed && effect.is_none();
                let change = Change { unsure, ..*change };
                let intent = known.and_then(|step| step.intent.clone());
                held = intent.as_ref().and_then(|_| self.held.take());
                let mut undone = self.step(spec, compiled, &name, Part::Undo(&change)).run(intent, &mut held).await?.0;
                restore::forget(&self.open.firing.rule.uid, spec, &change, &mut undone);
                undone
            }
            Undo::Nothing => return Ok(None),
            // What has failed and cannot be undone was told as what it is.
            Undo::Never(_) if *outcome == ActionOutcome::Failed => return Ok(None),
            Undo::Never(why) => self.step(spec, compiled, &name, Part::Whole).bare(ActionOutcome::Skipped, why),
        };
        let ended = (undone.outcome, undone.message.clone());
        halt::record(self.inner, Record::Outcome(undone)).await?;
        drop(held);
        Ok(Some(ended))
    }
}
