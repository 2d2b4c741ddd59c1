//! The way of a firing that has begun: its actions in order, those for a failure, and what is done when their outcomes are durable.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Inner,
    begin::observes,
    firing::finish,
    halt::{self, Halt},
    step::{self, Part, Step},
    targets::Held,
    timeout::Timeout,
    undo::{self, Made},
};
use crate::{
    actions::Context,
    api::{self, ActionOutcome, FiringKind, FiringOutcome, OnError},
    record::{Effect, FailureReason, OpenFiring, Outcome, Position, Record, Results, undone, whole},
    rule::{CompiledAction, Rule},
};

/// A firing under way.
pub(super) struct Way<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) open: &'a OpenFiring,
    /// By how much the recorded ends of its steps were put off in this process when it was read.
    put_off: Duration,
    rule: &'a Rule,
    results: Results,
    named: Vec<(&'static str, Value)>,
    said: Vec<String>,
    /// The first action that failed for good.
    failed: Option<Failed>,
    /// What failed of `failureActions`, in words.
    failed_after: Vec<String>,
    /// Steps that have something to do when their outcome is durable: request, result, position of the outcome.
    settle: Vec<(&'a api::Action, Value, Value, Position)>,
    /// The target of the step that an earlier process began.
    pub(super) held: Option<Held>,
    pub(super) gone: CancellationToken,
    /// The rule went before all its actions were begun.
    ended_early: bool,
    /// The steps that may have changed something, in their order.
    pub(super) made: Vec<Made<'a>>,
    /// What was undone, in words.
    pub(super) undone: Vec<String>,
    /// Whether what is changed may have to be given back.
    keeps: bool,
}

/// What became of an action, in this process or an earlier one.
struct Acted {
    outcome: ActionOutcome,
    reason: Option<FailureReason>,
    message: String,
    result: Value,
    /// What it wrote, and by which request; nothing of an action with several targets, whose parts are steps of their own.
    effect: Option<Effect>,
    request: Option<Value>,
    /// Of the record that has the outcome, or, of an earlier process, of one before it.
    position: Position,
}

/// An action that failed for good.
struct Failed {
    action: String,
    reason: FailureReason,
    message: String,
}

impl<'a> Way<'a> {
    /// The way of a firing that begins, or goes on. `put_off` is how long all rules were stopped in this process before it was read, `held` the target
    /// of the step that an earlier process began.
    pub(super) fn new(
        inner: &'a Arc<Inner>,
        open: &'a OpenFiring,
        rule: &'a Rule,
        put_off: Duration,
        held: Option<Held>,
        gone: CancellationToken,
    ) -> Self {
        let keeps = |one: &api::Action| one.on_error == OnError::Undo || one.restore().is_some();
        Self {
            inner,
            open,
            put_off,
            rule,
            results: open.results(),
            named: open.named(),
            said: Vec::new(),
            failed: None,
            failed_after: Vec::new(),
            settle: Vec::new(),
            held,
            gone,
            ended_early: false,
            made: Vec::new(),
            undone: Vec::new(),
            keeps: open.firing.all_actions(&rule.spec).any(keeps),
        }
    }

    /// Carries the actions out, in order.
    pub(super) async fn go(&mut self, specs: &'a [api::Action], compiled: &'a [CompiledAction]) -> Result<(), Halt> {
        for (spec, compiled) in specs.iter().zip(compiled) {
            if self.gone.is_cancelled() && !self.is_begun(spec) {
                self.ended_early = true;
                break;
            }
            let outcome = self.act(spec, compiled).await?;
            match (outcome, spec.on_error) {
                (ActionOutcome::Failed, OnError::Stop) => break,
                (ActionOutcome::Failed, OnError::Undo) => {
                    self.undo().await?;
                    break;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether an earlier process may have carried the action out, without an outcome on record: it has to end with one.
    fn is_begun(&self, spec: &api::Action) -> bool {
        let known = self.open.steps.get(&spec.name);
        known.is_some_and(|step| step.intent.is_some() && step.outcome.is_none())
    }

    /// Carries `failureActions` out if an action has failed. With a rule that is gone goes the reason for them too.
    pub(super) async fn after_failure(&mut self) -> Result<(), Halt> {
        let Some(Failed { action, reason, message }) = self.failed.as_ref().filter(|_| !self.gone.is_cancelled())
        else {
            return Ok(());
        };
        let rule: &'a Rule = self.rule;
        let failure = json!({"action": action, "reason": reason.name(), "message": message});
        self.named.push(("failure", failure));
        self.go(&rule.spec.failure_actions, &rule.failure_actions).await
    }

    async fn act(&mut self, spec: &'a api::Action, compiled: &'a CompiledAction) -> Result<ActionOutcome, Halt> {
        let acted = match self.acted_before(spec, compiled) {
            Some(acted) => acted,
            None => self.act_now(spec, compiled).await?,
        };
        let Acted { outcome, reason, message, result, effect, request, position } = acted;
        if outcome == ActionOutcome::Failed {
            let failed =
                Failed { action: spec.name.clone(), reason: reason.unwrap_or_default(), message: message.clone() };
            match &self.failed {
                None => self.failed = Some(failed),
                Some(_) if self.is_after_failure() => {
                    self.failed_after.push(format!("failureActions[{}]: {}", failed.action, failed.message));
                }
                Some(_) => {}
            }
        }
        self.made.extend(Made::of(spec, compiled, &spec.name, request.clone(), (outcome, effect)));
        if let Some(request) = request {
            self.settle.push((spec, request, result.clone(), position));
        }
        self.said.push(message);
        self.results.insert(spec.name.clone(), result);
        Ok(outcome)
    }

    /// What became of the action in an earlier process, if it came to its end there. Whether it was settled is not known.
    fn acted_before(&mut self, spec: &'a api::Action, compiled: &'a CompiledAction) -> Option<Acted> {
        let open = self.open;
        let known = open.steps.get(&spec.name)?;
        let outcome = known.outcome?;
        let (request, effect) = if spec.target().is_some_and(api::Target::is_several) {
            let parts =
                open.steps.iter().filter(|(name, _)| whole(name) == (&spec.name, true) && undone(name).is_none());
            let parts = parts.filter_map(|(name, step)| Some((name, step.outcome?, undo::known(step))));
            let made = parts.filter_map(|(name, outcome, (request, wrote))| {
                Made::of(spec, compiled, name, request, (outcome, wrote))
            });
            self.made.extend(made);
            (None, None)
        } else {
            undo::known(known)
        };
        let (message, result) = (known.message.clone(), known.result.clone());
        let position = open.firing.input;
        Some(Acted { outcome, reason: known.reason, message, result, effect, request, position })
    }

    /// Carries the action out, or goes on with it, and records its outcome.
    async fn act_now(&mut self, spec: &'a api::Action, compiled: &'a CompiledAction) -> Result<Acted, Halt> {
        let intent = self.open.steps.get(&spec.name).and_then(|step| step.intent.clone());
        // While all rules are stopped, the time of a step that has not begun does not begin either.
        if intent.is_none() {
            self.gone.run_until_cancelled(halt::may_act(self.inner)).await.unwrap_or(Ok(()))?;
        }
        let (ended, request, _held) = match spec.target() {
            Some(target) if target.is_several() => (self.each(spec, compiled, intent).await?, None, None),
            _ => {
                let mut held = intent.as_ref().and_then(|_| self.held.take());
                let step = self.step(spec, compiled, &spec.name, Part::Whole);
                let (ended, request) = step.run(intent, &mut held).await?;
                (ended, request, held)
            }
        };
        let Outcome { outcome, reason, message, result, effect, .. } = ended.clone();
        let position = halt::record(self.inner, Record::Outcome(ended)).await?;
        Ok(Acted { outcome, reason, message, result, effect, request, position })
    }

    pub(super) fn step<'s>(
        &'s self,
        spec: &'s api::Action,
        compiled: &'s CompiledAction,
        name: &str,
        part: Part<'s>,
    ) -> Step<'s> {
        Step {
            inner: self.inner,
            cx: self.context(name),
            open: self.open,
            rule: self.rule,
            results: &self.results,
            gone: &self.gone,
            named: &self.named,
            spec,
            compiled,
            part,
            timeout: Timeout::of(
                spec,
                self.open.steps.get(name).and_then(|step| step.deadline),
                &self.inner.services.clock,
                &self.inner.holds,
                self.put_off,
            ),
        }
    }

    pub(super) async fn end(mut self) -> Result<(), Halt> {
        self.settle().await?;
        let (outcome, message, failed_at) = match self.failed.take() {
            Some(Failed { action, message, .. }) => {
                let more = [std::mem::take(&mut self.undone), std::mem::take(&mut self.failed_after)].concat();
                let told = [vec![message], more].concat().join("; ");
                let place = if self.open.firing.restores.is_some() { action } else { format!("actions[{action}]") };
                (FiringOutcome::Failed, told, Some(place))
            }
            None if self.ended_early => (FiringOutcome::Expired, step::GONE.to_owned(), None),
            None => {
                self.said.retain(|message| !message.is_empty());
                let outcome = if self.observes() { FiringOutcome::Observed } else { FiringOutcome::Succeeded };
                (outcome, self.said.join("; "), None)
            }
        };
        let of = (&self.open.firing.id, &self.open.firing.rule.uid);
        finish(self.inner, of, outcome, message, failed_at).await
    }

    async fn settle(&mut self) -> Result<(), Halt> {
        if self.observes() {
            return Ok(());
        }
        for (spec, request, result, position) in std::mem::take(&mut self.settle) {
            let Some(action) = (self.inner.build)(spec) else { continue };
            if !action.settles(&request) {
                continue;
            }
            let permit = self.inner.bus.durable(position).await.map_err(Halt::Bus)?;
            let cx = self.context(&spec.name);
            halt::may_act(self.inner).await?;
            let settling = tokio::time::timeout(step::SETTLE, action.settle(&cx, &request, &result, permit));
            let failure = match halt::caught(settling).await {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(failure))) | Err(failure) => failure.message,
                Ok(Err(_)) => format!("no answer within {} s", step::SETTLE.as_secs()),
            };
            tracing::warn!(rule = %self.rule.rule, firing = %self.open.firing.id, action = %spec.name, error = %failure, "an action was done, but not settled");
            self.said.push(failure);
        }
        Ok(())
    }

    /// Whether what is carried out now are `failureActions`.
    fn is_after_failure(&self) -> bool {
        self.named.iter().any(|(name, _)| *name == "failure")
    }

    fn observes(&self) -> bool {
        observes(self.rule, self.open)
    }

    /// A step has failed for good.
    pub(super) fn fail(&mut self, action: &str, message: String) {
        self.failed = Some(Failed { action: action.to_owned(), reason: FailureReason::Failed, message });
    }

    /// For the firing's message.
    pub(super) fn say(&mut self, message: String) {
        self.said.push(message);
    }

    pub(super) fn context(&self, step: &str) -> Context {
        Context {
            services: Arc::clone(&self.inner.services),
            rule: self.rule.rule.clone(),
            account: self.rule.account.clone(),
            firing: self.open.firing.id.clone(),
            action: step.to_owned(),
            group: self.open.firing.group.clone(),
            count: self.open.firing.count,
            said: self.said.as_slice().into(),
            closes: self.open.firing.closes,
            resolves: self.open.firing.kind == FiringKind::Resolved && !self.is_after_failure(),
            event: Arc::clone(&self.open.event),
            hops: self.open.trail().hops,
            wrote: self.wrote(step),
            beside: self.beside(step),
            keeps: self.keeps,
            stop: self.inner.stop.clone(),
        }
    }
}
