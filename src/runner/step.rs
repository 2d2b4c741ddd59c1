//! One step of a firing: condition, rendering, intent, attempts, outcome.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Inner, begin,
    halt::{Halt, caught, may_act},
    render::Rendered,
    targets::Held,
    timeout::Timeout,
    tries::Tries,
    wait,
};
use crate::{
    actions::{Action, Attempt, Context, Done, Failure, FailureKind, Selected, Users, Waiting},
    api::{self, ActionKind, ActionOutcome},
    bus::Permit,
    event::{MAX_LEVELS, levels},
    record::{Change, FailureReason, OpenFiring, Outcome, Position, Results},
    rule::{CompiledAction, Rule, cel::Scope},
    text,
};

/// Characters of a message. Status shows fewer of most, but a missing right is told with the lines that grant it.
pub(super) const MESSAGE: usize = 1024;
/// What a result may have when written as JSON; it is in the log, in the view and in memory while the firing is open.
const RESULT: usize = 16 * 1024;
/// What becomes of the firings of a rule that is gone.
pub(super) const GONE: &str = "ended before all was done: the rule was deleted";
/// How long settling one step may take.
pub(super) const SETTLE: Duration = Duration::from_secs(30);

/// What of an action a step does.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// All of it.
    Whole,
    /// Finds the objects of an action that has several.
    Find,
    /// Its work on one of them.
    Of(&'a Value),
    /// Taking back what it has changed.
    Undo(&'a Change),
}

impl Part<'_> {
    /// Whether the action's condition and its waiting are about it.
    fn is_judged(self) -> bool {
        matches!(self, Self::Whole | Self::Find)
    }

    /// Whether what it changes is waited for.
    pub(super) fn may_wait(self) -> bool {
        matches!(self, Self::Whole | Self::Of(_))
    }
}

/// A step that has no outcome yet.
pub(super) struct Step<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) cx: Context,
    pub(super) open: &'a OpenFiring,
    pub(super) rule: &'a Rule,
    pub(super) results: &'a Results,
    pub(super) gone: &'a CancellationToken,
    /// What the trigger tells: `value`, `baseline`, `events`.
    pub(super) named: &'a [(&'static str, Value)],
    pub(super) spec: &'a api::Action,
    pub(super) compiled: &'a CompiledAction,
    pub(super) part: Part<'a>,
    /// When it ends, done or not.
    pub(super) timeout: Option<Timeout>,
}

/// A request on stable storage.
pub(super) struct Recorded {
    pub(super) request: Value,
    pub(super) attempt: Attempt,
    pub(super) permit: Permit,
}

impl Step<'_> {
    /// Runs the step to its outcome; `intent` is the last one of an earlier process. Gives the last request too.
    /// `held` is the target of that intent; afterwards it is the step's target, to be held until the outcome is recorded.
    pub(super) async fn run(
        &self,
        intent: Option<(u32, Value)>,
        held: &mut Option<Held>,
    ) -> Result<(Outcome, Option<Value>), Halt> {
        let request = intent.as_ref().map(|(_, request)| Waiting::request_of(request.clone()));
        // Whatever it is that panics: the firing is in the ledger, and would be gone on with after every restart.
        // On the heap: what is caught would be on the stack twice.
        match caught(Box::pin(self.go(intent, held))).await {
            Ok(ended) => ended,
            Err(failure) => Ok((self.failed(FailureReason::Failed, failure.message), request)),
        }
    }

    async fn go(
        &self,
        intent: Option<(u32, Value)>,
        held: &mut Option<Held>,
    ) -> Result<(Outcome, Option<Value>), Halt> {
        if self.gone.is_cancelled() {
            let failed = self.failed(FailureReason::Failed, GONE);
            let Some((_, recorded)) = intent else { return Ok((failed, None)) };
            // One that waits has told what it changed.
            let waits = Waiting::read(&recorded).is_some();
            let request = Waiting::request_of(recorded);
            let failed = if waits { failed } else { self.maybe_made(failed, &request) };
            return Ok((failed, Some(request)));
        }
        if intent.is_none()
            && let Some(outcome) = self.condition()
        {
            return Ok((outcome, None));
        }
        if let Some(ActionKind::Approve(spec)) = self.spec.kind() {
            return self.approve(spec, intent).await;
        }
        let Some(action) = self.action() else {
            return Ok((self.failed(FailureReason::Refused, "the action has not exactly one kind"), None));
        };
        if let (Some(spec), Some((_, recorded))) = (self.spec.waits(), &intent)
            && let Some(waiting) = Waiting::read(recorded)
        {
            return self.wait(&spec, waiting).await;
        }
        self.attempts(&*action, intent, held).await
    }

    /// Attempts the step until it is done, or has failed for good.
    async fn attempts(
        &self,
        action: &dyn Action,
        intent: Option<(u32, Value)>,
        held: &mut Option<Held>,
    ) -> Result<(Outcome, Option<Value>), Halt> {
        let mut tries = Tries::after(intent.as_ref().map_or(0, |(last, _)| last.saturating_add(1)));
        if let Some((_, request)) = intent {
            if self.is_over() {
                let message =
                    "its time ended while the operator was not running, and whether it was carried out is not known";
                return Ok((self.maybe_made(self.timed_out(message), &request), Some(request)));
            }
            if held.is_none() {
                match self.hold(action.target_again(&self.rule.rule.namespace, &request)).await? {
                    Ok(target) => *held = target,
                    Err(failure) => return Ok((self.timed_out(&failure.message), Some(request))),
                }
            }
            // It was read out of the log, so everything up to the event is durable.
            let permit = self.durable(self.open.firing.input).await?;
            tries.recorded = Some(Recorded { request, attempt: Attempt::Again, permit });
        }
        loop {
            let failure = match self.attempt(action, &mut tries, held).await? {
                Ok(done) => {
                    let request = tries.recorded.map(|recorded| recorded.request).unwrap_or_default();
                    return self.conclude(done, request, tries.renderings, held).await;
                }
                Err(failure) => failure,
            };
            if failure.kind == FailureKind::Interrupted {
                return Err(Halt::Interrupted);
            }
            let pause = tries.pause(&failure, &self.spec.retry);
            let outcome = match (pause, &self.timeout) {
                (None, _) => self.gave_up(action, &tries, failure),
                (Some(pause), Some(timeout)) if timeout.left() <= pause => {
                    self.told_giving_up(action, &tries, &failure);
                    self.timed_out(&failure.message)
                }
                (Some(pause), _) => {
                    tracing::debug!(rule = %self.rule.rule, firing = %self.cx.firing, action = %self.cx.action, error = %failure, ?pause, "an attempt failed");
                    match self.pause(pause, failure.kind).await? {
                        Some(outcome) => outcome,
                        None => continue,
                    }
                }
            };
            let request = tries.recorded.map(|recorded| recorded.request);
            // An attempt that got no answer may have been carried out.
            let outcome = match &request {
                Some(request) if tries.failures > 0 => self.maybe_made(outcome, request),
                _ => outcome,
            };
            return Ok((outcome, request));
        }
    }

    /// The outcome of a step that failed for good by its last attempt.
    fn gave_up(&self, action: &dyn Action, tries: &Tries, failure: Failure) -> Outcome {
        self.told_giving_up(action, tries, &failure);
        let reason = match failure.kind {
            FailureKind::Invalid => FailureReason::InvalidExpression,
            FailureKind::Retryable { .. } | FailureKind::Conflict | FailureKind::Turn(_) => {
                FailureReason::RetriesExhausted
            }
            FailureKind::Final | FailureKind::Interrupted => FailureReason::Refused,
        };
        let message = match tries.failures {
            0 | 1 => failure.message,
            failures => format!("{} (after {failures} attempts)", failure.message),
        };
        self.failed(reason, message)
    }

    fn told_giving_up(&self, action: &dyn Action, tries: &Tries, failure: &Failure) {
        if tries.recorded.is_some() && !self.observes() {
            action.gave_up(&self.cx, failure);
        }
    }

    fn is_over(&self) -> bool {
        self.timeout.as_ref().is_some_and(Timeout::is_over)
    }

    /// The outcome of a step that was not done in time.
    fn timed_out(&self, last: &str) -> Outcome {
        let message = self.timeout.as_ref().map_or_else(|| last.to_owned(), |timeout| timeout.told(last));
        self.failed(FailureReason::TimedOut, message)
    }

    /// No longer than this, and no longer than is left of the step's time.
    pub(super) fn at_most(&self, limit: Duration) -> Duration {
        self.timeout.as_ref().map_or(limit, |timeout| timeout.left().min(limit))
    }

    fn action(&self) -> Option<Box<dyn Action + '_>> {
        match self.part {
            Part::Whole | Part::Of(_) | Part::Undo(_) => (self.inner.build)(self.spec),
            Part::Find => match Users::of(self.spec) {
                Some(users) => Some(Box::new(users)),
                None => Some(Box::new(Selected::of(self.spec, Box::new(move |target: &Value| self.keeps(target)))?)),
            },
        }
    }

    /// Whether an object that a selector takes is one of those that the action is to change.
    fn keeps(&self, target: &Value) -> Result<bool, String> {
        let Some(filter) = &self.compiled.filter else { return Ok(true) };
        filter.test(&self.scope().with_value("target", target)).map_err(|error| error.to_string())
    }

    /// One attempt: with the request that is recorded, else with a fresh one.
    async fn attempt(
        &self,
        action: &dyn Action,
        tries: &mut Tries,
        held: &mut Option<Held>,
    ) -> Result<Result<Done, Failure>, Halt> {
        let Recorded { request, attempt, permit } = match tries.recorded.take() {
            Some(recorded) => recorded,
            None => match self.render(action, &mut tries.renderings, held).await? {
                Ok(Rendered::Request(fresh)) => fresh,
                Ok(Rendered::Done(done)) => return Ok(Ok(*done)),
                Err(failure) => return Ok(Err(failure)),
            },
        };
        // What only looks can look again and again.
        let mut attempt = if self.observes() { Attempt::First } else { attempt };
        let result = loop {
            may_act(self.inner).await?;
            if self.is_over() {
                break Err(Failure::retryable("its time ended before it could be sent"));
            }
            let doing = self.execute(action, &request, attempt, permit);
            let ended = tokio::select! {
                biased;
                broken_off = self.broken_off(action) => broken_off,
                ended = self.inner.authority.during(doing) => ended,
            };
            if let Some(result) = ended {
                break result;
            }
            tracing::warn!(rule = %self.rule.rule, firing = %self.cx.firing, action = %self.cx.action, "an attempt is given up: it goes on when the Lease is renewed, or when rules act again");
            // It may have been carried out.
            attempt = if self.observes() { Attempt::First } else { Attempt::Again };
        };
        let result = match result {
            // What may have been written once is never asked for afresh.
            Err(Failure { kind: FailureKind::Conflict, message }) if attempt == Attempt::Again => {
                Err(Failure::retryable(message))
            }
            result => result,
        };
        let next = match &result {
            Err(Failure { kind: FailureKind::Conflict, .. }) => None,
            // Nothing was attempted.
            Err(Failure { kind: FailureKind::Turn(_), .. }) => Some(attempt),
            _ => Some(Attempt::Again),
        };
        tries.recorded = next.map(|attempt| Recorded { request, attempt, permit });
        Ok(result)
    }

    /// Does what the request says, within its time.
    async fn execute(
        &self,
        action: &dyn Action,
        request: &Value,
        attempt: Attempt,
        permit: Permit,
    ) -> Result<Done, Failure> {
        let doing = if self.observes() {
            action.observe(&self.cx, request)
        } else {
            action.execute(&self.cx, request, attempt, permit)
        };
        if action.only_waits() && !self.observes() {
            let _resting = wait::rest(self.inner, &self.rule.rule.uid);
            let waited = self.gone.run_until_cancelled(caught(doing)).await;
            return waited.unwrap_or_else(|| Ok(Err(Failure::last(GONE)))).unwrap_or_else(Err);
        }
        let patience = self.at_most(action.patience(self.spec));
        match caught(tokio::time::timeout(patience, doing)).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::retryable(format!("no answer within {} s", patience.as_secs_f64()))),
            Err(failure) => Err(failure),
        }
    }

    /// Waits for the step's turn with its target. When the process is about to stop, nobody gets a turn any more: a step that was interrupted keeps
    /// its intent, and no second one may be rendered beside it.
    pub(super) async fn hold(&self, target: Option<String>) -> Result<Result<Option<Held>, Failure>, Halt> {
        let Some(target) = target else { return Ok(Ok(None)) };
        let over = async {
            match &self.timeout {
                Some(timeout) => timeout.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.inner.stop.cancelled() => Err(Halt::Interrupted),
            held = self.inner.targets.hold(target) => Ok(Ok(Some(held))),
            () = over => Ok(Err(Failure::retryable("another step was changing its target all the time"))),
        }
    }

    /// The outcome of a step whose condition does not hold or cannot be told.
    fn condition(&self) -> Option<Outcome> {
        // The parts of an action are begun when it holds.
        let condition = self.compiled.if_expression.as_ref().filter(|_| self.part.is_judged())?;
        match condition.test(&self.scope()) {
            Ok(true) => None,
            Ok(false) => Some(self.bare(ActionOutcome::Skipped, "ifExpression gives false")),
            Err(error) => Some(self.failed(FailureReason::InvalidExpression, format!("ifExpression: {error}"))),
        }
    }

    pub(super) fn observes(&self) -> bool {
        begin::observes(self.rule, self.open)
    }

    pub(super) fn scope(&self) -> Scope<'_> {
        Scope::of_firing(self.rule, self.open, self.results, self.named)
    }

    pub(super) async fn durable(&self, position: Position) -> Result<Permit, Halt> {
        self.inner.bus.durable(position).await.map_err(Halt::Bus)
    }

    pub(super) fn bare(&self, outcome: ActionOutcome, message: impl Into<String>) -> Outcome {
        Outcome {
            firing: self.cx.firing.clone(),
            action: self.cx.action.clone(),
            outcome,
            message: text::cut(&message.into(), MESSAGE),
            result: Value::Null,
            effect: None,
            reason: None,
            remember: None,
        }
    }

    pub(super) fn failed(&self, reason: FailureReason, message: impl Into<String>) -> Outcome {
        Outcome { reason: Some(reason), ..self.bare(ActionOutcome::Failed, message) }
    }

    pub(super) fn done(&self, done: Done) -> Outcome {
        let Done { outcome, mut message, mut result, effect, reason } = done;
        if levels(&result) > MAX_LEVELS {
            message = format!("{message} (its result of more than {MAX_LEVELS} levels was left out)");
            result = Value::Null;
        }
        let size = result.to_string().len();
        if size > RESULT {
            message = format!("{message} (its result of {size} bytes was left out)");
            result = Value::Null;
        }
        let reason = (outcome == ActionOutcome::Failed).then(|| reason.unwrap_or_default());
        Outcome { result, effect, reason, ..self.bare(outcome, message) }
    }
}
