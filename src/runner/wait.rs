//! A step that has changed its target and waits until that is as wanted: it holds up nobody meanwhile.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    Inner,
    halt::{Halt, caught, record},
    lanes::Place,
    restore,
    step::{GONE, Step},
    targets::Held,
};
use crate::{
    actions::{Done, FailureKind, Look, Undo, Waiting},
    api::{ActionOutcome, WaitFor},
    bus::BusError,
    record::{Change, FailureReason, Intent, Outcome, Record, Remember, RuleUid},
};

/// While it lives, a firing that only waits has no place of its rule.
pub(super) struct Resting<'a>(&'a Inner, &'a RuleUid);

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.lanes.lock().back(self.1);
    }
}

/// Gives the firing's place away, unless too many have.
pub(super) fn rest<'a>(inner: &'a Arc<Inner>, rule: &'a RuleUid) -> Option<Resting<'a>> {
    let place = inner.lanes.lock().rest(rule);
    if place == Place::Taken {
        inner.tasks.spawn(Arc::clone(inner).work(rule.clone()));
    }
    (place != Place::Kept).then(|| Resting(inner, rule))
}

impl Step<'_> {
    /// What becomes of a step whose request was carried out. Where the rule waits for more, that is recorded first: from then on the target is free for
    /// others, who may change it, and a restart does not look for the step's mark on it any more.
    pub(super) async fn conclude(
        &self,
        done: Done,
        request: Value,
        rendering: u32,
        held: &mut Option<Held>,
    ) -> Result<(Outcome, Option<Value>), Halt> {
        let waits = !self.observes() && self.part.may_wait();
        let mut remember = self.remembers(&done, &request).filter(|_| waits);
        let Some(spec) = self.spec.waits().filter(|_| waits) else {
            return Ok((Outcome { remember, ..self.done(done) }, Some(request)));
        };
        let waiting = match Waiting::begin(&self.cx, &spec, &request, &done) {
            Ok(Some(waiting)) => waiting,
            Ok(None) => return Ok((Outcome { remember, ..self.done(done) }, Some(request))),
            Err(failure) => return Ok((self.failed(FailureReason::Refused, failure.message), Some(request))),
        };
        if let Some(effect) = &done.effect {
            (self.cx.wrote)(effect);
        }
        let intent = Intent {
            firing: self.cx.firing.clone(),
            action: self.cx.action.clone(),
            rendering,
            request: serde_json::to_value(&waiting).unwrap_or_default(),
            // The write has its answer, or there was none.
            writes: None,
            // It has an end of its own.
            deadline: None,
            remember: remember.clone(),
        };
        match record(self.inner, Record::Intent(intent)).await {
            Ok(_) => (*held, remember) = (None, None),
            // Then the target stays held, and a restart finds the mark.
            Err(Halt::Bus(BusError::TooLarge(_) | BusError::TooDeep)) => {}
            Err(halt) => return Err(halt),
        }
        let (outcome, request) = self.wait(&spec, waiting).await?;
        Ok((Outcome { remember, ..outcome }, request))
    }

    /// What was changed and is to be given back.
    fn remembers(&self, done: &Done, request: &Value) -> Option<Box<Remember>> {
        self.spec.restore()?;
        let is_so = matches!(done.outcome, ActionOutcome::Succeeded | ActionOutcome::Unchanged);
        let action = (self.inner.build)(self.spec).filter(|_| is_so)?;
        match action.changed(&self.cx, request, done.effect.as_ref()) {
            // Somebody else has made it so, also where the request was decided before: there is nothing to give back.
            Undo::Change(mut change) if done.outcome == ActionOutcome::Unchanged => {
                change.back.clone_from(&change.made);
                restore::remember(&self.rule.rule.uid, self.spec, *change)
            }
            Undo::Change(change) => restore::remember(&self.rule.rule.uid, self.spec, *change),
            Undo::Nothing | Undo::Never(_) => None,
        }
    }

    /// The outcome of a step that has failed and may have changed its target all the same: that is given back if the step's mark is on it.
    pub(super) fn maybe_made(&self, outcome: Outcome, request: &Value) -> Outcome {
        let lends = self.spec.restore().is_some() && !self.observes() && self.part.may_wait();
        let action = (self.inner.build)(self.spec).filter(|_| lends);
        match action.map(|action| action.changed(&self.cx, request, None)) {
            Some(Undo::Change(change)) if !change.is_nothing() => {
                let change = Change { unsure: true, ..*change };
                Outcome { remember: restore::remember(&self.rule.rule.uid, self.spec, change), ..outcome }
            }
            _ => outcome,
        }
    }

    /// Waits, as was recorded.
    pub(super) async fn wait(&self, spec: &WaitFor, waiting: Waiting) -> Result<(Outcome, Option<Value>), Halt> {
        let request = waiting.request().clone();
        let _resting = rest(self.inner, &self.rule.rule.uid);
        let place = if self.spec.wait.is_some() { "wait" } else { "waitFor" };
        let waiting = caught(waiting.end(&self.cx, spec, place, |target| self.look(place, target)));
        let Some(ended) = self.gone.run_until_cancelled(waiting).await else {
            return Ok((self.failed(FailureReason::Failed, GONE), Some(request)));
        };
        let outcome = match ended {
            Ok(Ok(done)) => self.done(done),
            Ok(Err(failure)) if failure.kind == FailureKind::Interrupted => return Err(Halt::Interrupted),
            Ok(Err(failure)) | Err(failure) => self.failed(FailureReason::Failed, failure.message),
        };
        Ok((outcome, Some(request)))
    }

    /// Lets the time to the next attempt pass: where only its turn is waited for, without a place of the rule. Gives the outcome of a step whose rule is gone.
    pub(super) async fn pause(&self, pause: Duration, why: FailureKind) -> Result<Option<Outcome>, Halt> {
        let waits = matches!(why, FailureKind::Turn(_));
        let _resting = if waits { rest(self.inner, &self.rule.rule.uid) } else { None };
        tokio::select! {
            () = self.inner.stop.cancelled() => Err(Halt::Interrupted),
            () = self.gone.cancelled() => Ok(Some(self.failed(FailureReason::Failed, GONE))),
            () = tokio::time::sleep(pause) => Ok(None),
        }
    }

    /// Judges the target by `failExpression` and by `expression`.
    fn look(&self, place: &str, target: &Value) -> Look {
        let scope = self.scope().with_value("target", target);
        let is_secret = target["apiVersion"] == "v1" && target["kind"] == "Secret";
        let shown = |words: String| if is_secret { "what is in a Secret is not shown".to_owned() } else { words };
        if let Some(program) =
            self.compiled.fails_when.as_ref().filter(|program| matches!(program.test(&scope), Ok(true)))
        {
            return Look::Never(format!("{place}.failExpression gives true: {}", shown(program.saw(&scope))));
        }
        let Some(program) = &self.compiled.wait_for else { return Look::Met };
        match program.test(&scope) {
            Ok(true) => Look::Met,
            Ok(false) => Look::NotYet(shown(program.saw(&scope))),
            Err(error) => Look::NotYet(shown(error.to_string())),
        }
    }
}
