//! One step of a firing: condition, rendering, intent, attempts, outcome.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Inner, backoff,
    halt::{Halt, caught, may_act, record},
    targets::Held,
};
use crate::{
    actions::{Action, Attempt, Context, Done, Failure, FailureKind, Users, Waiting, lead, lead_to},
    api::{self, ActionOutcome, RuleMode},
    bus::{BusError, Permit},
    event::{MAX_LEVELS, levels},
    record::{Intent, OpenFiring, Outcome, Position, Record, Results, RuleRef, Writes},
    rule::{CompiledAction, EvalError, Rule, cel::Scope},
    text,
};

/// Characters of a message. Status shows fewer of most, but a missing right is told with the lines that grant it.
pub(super) const MESSAGE: usize = 1024;
/// What a result may have when written as JSON; it is in the log, in the view and in memory while the firing is open.
const RESULT: usize = 16 * 1024;
/// Renderings after conflicts that are not counted as failures: a controller's status writes are no failure of ours.
const CONFLICTS: u32 = 20;
/// A conflict comes of another writer, who is done in a moment.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);
/// How long rendering may take, which reads from the cluster at most.
const RENDER: Duration = Duration::from_secs(30);
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
}

/// A request on stable storage.
struct Recorded {
    request: Value,
    attempt: Attempt,
    permit: Permit,
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
            Err(failure) => Ok((self.bare(ActionOutcome::Failed, failure.message), request)),
        }
    }

    async fn go(
        &self,
        intent: Option<(u32, Value)>,
        held: &mut Option<Held>,
    ) -> Result<(Outcome, Option<Value>), Halt> {
        if self.gone.is_cancelled() {
            return Ok((
                self.bare(ActionOutcome::Failed, GONE),
                intent.map(|(_, request)| Waiting::request_of(request)),
            ));
        }
        if intent.is_none()
            && let Some(outcome) = self.condition()
        {
            return Ok((outcome, None));
        }
        let Some(action) = self.action() else {
            return Ok((self.bare(ActionOutcome::Failed, "the action has not exactly one kind"), None));
        };
        if let (Some(spec), Some((_, recorded))) = (&self.spec.wait_for, &intent)
            && let Some(waiting) = Waiting::read(recorded)
        {
            return self.wait(spec, waiting).await;
        }
        let mut renderings = intent.as_ref().map_or(0, |(last, _)| last.saturating_add(1));
        if let (None, Some((_, request))) = (&*held, &intent) {
            *held = self.hold(action.target_again(&self.rule.rule.namespace, request)).await?;
        }
        let mut recorded = match intent {
            // It was read out of the log, so everything up to the event is durable.
            Some((_, request)) => {
                Some(Recorded { request, attempt: Attempt::Again, permit: self.durable(self.open.firing.input).await? })
            }
            None => None,
        };
        let (mut failures, mut conflicts) = (0, 0);
        loop {
            let failure = match self.attempt(&*action, &mut recorded, &mut renderings, held).await? {
                Ok(done) => {
                    let request = recorded.map(|recorded| recorded.request).unwrap_or_default();
                    return self.conclude(done, request, renderings, held).await;
                }
                Err(failure) => failure,
            };
            let pause = match failure.kind {
                FailureKind::Interrupted => return Err(Halt::Interrupted),
                FailureKind::Final => None,
                FailureKind::Conflict if conflicts < CONFLICTS => {
                    conflicts += 1;
                    // The first time it may be that what was remembered of the target is old: then nobody is at work.
                    Some(if conflicts == 1 { Duration::ZERO } else { backoff::jittered(AFTER_CONFLICT) })
                }
                FailureKind::Conflict | FailureKind::Retryable { .. } => {
                    failures += 1;
                    let after = if let FailureKind::Retryable { after } = failure.kind { after } else { None };
                    (failures <= self.spec.retry.limit).then(|| backoff::wait(&self.spec.retry, failures, after))
                }
            };
            let Some(pause) = pause else {
                if recorded.is_some() && !self.observes() {
                    action.gave_up(&self.cx, &failure);
                }
                let message = if failures > 1 {
                    format!("{} (after {failures} attempts)", failure.message)
                } else {
                    failure.message
                };
                return Ok((self.bare(ActionOutcome::Failed, message), recorded.map(|recorded| recorded.request)));
            };
            tracing::debug!(rule = %self.rule.rule, firing = %self.cx.firing, action = %self.cx.action, error = %failure, ?pause, "an attempt failed");
            tokio::select! {
                () = self.inner.stop.cancelled() => return Err(Halt::Interrupted),
                () = self.gone.cancelled() => {
                    return Ok((self.bare(ActionOutcome::Failed, GONE), recorded.map(|recorded| recorded.request)));
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn action(&self) -> Option<Box<dyn Action>> {
        match self.part {
            Part::Whole | Part::Of(_) => (self.inner.build)(self.spec),
            Part::Find => Users::of(self.spec).map(|users| Box::new(users) as Box<dyn Action>),
        }
    }

    /// One attempt: with the request that is recorded, else with a fresh one.
    async fn attempt(
        &self,
        action: &dyn Action,
        recorded: &mut Option<Recorded>,
        renderings: &mut u32,
        held: &mut Option<Held>,
    ) -> Result<Result<Done, Failure>, Halt> {
        let Recorded { request, attempt, permit } = match recorded.take() {
            Some(recorded) => recorded,
            None => match self.render(action, renderings, held).await? {
                Ok(fresh) => fresh,
                Err(failure) => return Ok(Err(failure)),
            },
        };
        // What only looks can look again and again.
        let mut attempt = if self.observes() { Attempt::First } else { attempt };
        let result = loop {
            may_act(self.inner).await?;
            let doing = self.execute(action, &request, attempt, permit);
            if let Some(result) = self.inner.authority.during(doing).await {
                break result;
            }
            tracing::warn!(rule = %self.rule.rule, firing = %self.cx.firing, action = %self.cx.action, "an attempt is given up: it goes on when the Lease is renewed");
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
        let fresh = matches!(&result, Err(failure) if failure.kind == FailureKind::Conflict);
        if !fresh {
            *recorded = Some(Recorded { request, attempt: Attempt::Again, permit });
        }
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
        let patience = action.patience(self.spec);
        match caught(tokio::time::timeout(patience, doing)).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::retryable(format!("no answer within {} s", patience.as_secs_f64()))),
            Err(failure) => Err(failure),
        }
    }

    /// Fills in and renders the request, records it and waits until it is durable.
    async fn render(
        &self,
        action: &dyn Action,
        renderings: &mut u32,
        held: &mut Option<Held>,
    ) -> Result<Result<Recorded, Failure>, Halt> {
        let mut filled = match self.compiled.body.fill(&self.scope()) {
            Ok(filled) => filled,
            Err(error) => return Ok(Err(unfilled(&error))),
        };
        let limit = self.spec.timeout.map_or(RENDER, |timeout| timeout.get().min(RENDER));
        let leading = async {
            match self.part {
                Part::Whole => lead(&self.cx, self.spec, &mut filled).await,
                Part::Of(found) => {
                    lead_to(found, &mut filled);
                    Ok(())
                }
                Part::Find => Ok(()),
            }
        };
        match tokio::time::timeout(limit, leading).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Ok(Err(failure)),
            Err(_) => return Ok(Err(Failure::retryable("finding the target took too long"))),
        }
        if held.is_none() {
            *held = self.hold(action.target(&self.rule.rule.namespace, &filled)).await?;
        }
        let rendered = caught(tokio::time::timeout(limit, action.render(&self.cx, &filled))).await;
        let request = match rendered {
            Ok(Ok(Ok(request))) => request,
            Ok(Ok(Err(failure))) | Err(failure) => return Ok(Err(failure)),
            Ok(Err(_)) => return Ok(Err(Failure::retryable("reading the target took too long"))),
        };
        let intent = Intent {
            firing: self.cx.firing.clone(),
            action: self.cx.action.clone(),
            rendering: *renderings,
            request: request.clone(),
            writes: self.writes(action, &request),
        };
        let position = match record(self.inner, Record::Intent(intent)).await {
            Ok(position) => position,
            Err(Halt::Bus(error @ (BusError::TooLarge(_) | BusError::TooDeep))) => {
                return Ok(Err(Failure::last(format!("record the request: {error}"))));
            }
            Err(halt) => return Err(halt),
        };
        *renderings += 1;
        Ok(Ok(Recorded { request, attempt: Attempt::First, permit: self.durable(position).await? }))
    }

    fn writes(&self, action: &dyn Action, request: &Value) -> Option<Writes> {
        let RuleRef { uid, namespace, .. } = &self.rule.rule;
        let object = action.object(namespace, request).filter(|_| !self.observes())?;
        Some(Writes { rule: uid.clone(), object })
    }

    /// Waits for the step's turn with its target. When the process is about to stop, nobody gets a turn any more: a step that was interrupted keeps
    /// its intent, and no second one may be rendered beside it.
    async fn hold(&self, target: Option<String>) -> Result<Option<Held>, Halt> {
        let Some(target) = target else { return Ok(None) };
        tokio::select! {
            biased;
            () = self.inner.stop.cancelled() => Err(Halt::Interrupted),
            held = self.inner.targets.hold(target) => Ok(Some(held)),
        }
    }

    /// The outcome of a step whose condition does not hold or cannot be told.
    fn condition(&self) -> Option<Outcome> {
        // The parts of an action are begun when it holds.
        let condition = self.compiled.if_expression.as_ref().filter(|_| !matches!(self.part, Part::Of(_)))?;
        match condition.test(&self.scope()) {
            Ok(true) => None,
            Ok(false) => Some(self.bare(ActionOutcome::Skipped, "ifExpression gives false")),
            Err(error) => Some(self.bare(ActionOutcome::Failed, format!("ifExpression: {error}"))),
        }
    }

    pub(super) fn observes(&self) -> bool {
        self.rule.spec.mode == RuleMode::Observe
    }

    pub(super) fn scope(&self) -> Scope<'_> {
        Scope::of_firing(self.rule, self.open, self.results, self.named)
    }

    async fn durable(&self, position: Position) -> Result<Permit, Halt> {
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
        }
    }

    pub(super) fn done(&self, done: Done) -> Outcome {
        let Done { outcome, mut message, mut result, effect } = done;
        if levels(&result) > MAX_LEVELS {
            message = format!("{message} (its result of more than {MAX_LEVELS} levels was left out)");
            result = Value::Null;
        }
        let size = result.to_string().len();
        if size > RESULT {
            message = format!("{message} (its result of {size} bytes was left out)");
            result = Value::Null;
        }
        Outcome { result, effect, ..self.bare(outcome, message) }
    }
}

/// An expression in a target's name that gives nothing is a missing target.
fn unfilled(error: &EvalError) -> Failure {
    // spec.actions[0].scale.target.name
    if error.path.split('.').nth(3) == Some("target") {
        return Failure::last(format!("no target: {}", error.message));
    }
    Failure::last(error.to_string())
}
