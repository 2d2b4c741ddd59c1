//! One firing from beginning to end.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Inner, Job,
    begin::{compiled, expired, is_let, observing},
    halt::{self, Halt},
    step::{self, Part, Step},
    targets::Held,
    timeout::Timeout,
    undo::{self, Made},
};
use crate::{
    actions::Context,
    api::{self, ActionOutcome, FiringKind, FiringOutcome, OnError, RuleMode},
    bus::{BusError, Missing},
    record::{
        FailureReason, Finished, FiringId, OpenFiring, Outcome, Position, Record, Results, RuleUid, undone, whole,
    },
    rule::{CompiledAction, Rule},
    text,
};

/// How long the view is given until it can be read again.
const UNREAD: Duration = Duration::from_secs(1);

/// Fetches the firing whose turn has come. Nothing: it goes on after a restart, or it has ended because it cannot be read.
pub(super) async fn fetch(inner: &Inner, rule: &RuleUid, id: &FiringId) -> Option<Arc<OpenFiring>> {
    loop {
        let missing = match inner.firings.lend(id).await {
            Ok(open) => return Some(open),
            Err(missing) => missing,
        };
        tracing::error!(firing = %id, error = %missing, "a firing that waited cannot be read");
        match missing {
            Missing::Bus(BusError::Full) => tokio::select! {
                () = inner.stop.cancelled() => return None,
                () = tokio::time::sleep(UNREAD) => {}
            },
            Missing::Bus(error) => {
                inner.fail(error);
                return None;
            }
            Missing::Unreadable { .. } => {
                let ended = finish(inner, (id, rule), FiringOutcome::Failed, missing.to_string(), None).await;
                halted(inner, ended);
                return None;
            }
        }
    }
}

/// Carries the firing out, or as much of it as can be; says nothing, because the log says it all.
pub(super) async fn carry_out(inner: &Arc<Inner>, job: Job, open: Arc<OpenFiring>) {
    halted(inner, go(inner, job, &open).await);
}

fn halted(inner: &Inner, ended: Result<(), Halt>) {
    match ended {
        Ok(()) => {}
        Err(Halt::Interrupted) => tracing::debug!("a firing goes on after the restart"),
        Err(Halt::Bus(error)) => inner.fail(error),
    }
}

async fn go(inner: &Arc<Inner>, job: Job, open: &OpenFiring) -> Result<(), Halt> {
    let Job { rule, held, gone, .. } = job;
    let of = (&open.firing.id, &open.firing.rule.uid);
    // It was read just now.
    let put_off = inner.holds.ended();
    let rule = match rule.map_or_else(|| compiled(inner, open), Ok) {
        Ok(rule) => rule,
        Err(why) => {
            let message = format!("the rule cannot be read any more: {why}");
            return finish(inner, of, FiringOutcome::Failed, message, None).await;
        }
    };
    halt::may_act(inner).await?;
    if let Some(message) = expired(open, &rule, inner.services.clock.now()) {
        return finish(inner, of, FiringOutcome::Expired, message, None).await;
    }
    let observed;
    let (open, rule) = if is_let(inner, open, &rule) {
        (open, rule)
    } else {
        // On record before it begins: a start goes on with it in the same way.
        halt::record(inner, Record::Observe(open.firing.id.clone())).await?;
        observed = observing(open);
        match compiled(inner, &observed) {
            Ok(rule) => (&observed, rule),
            Err(why) => return finish(inner, of, FiringOutcome::Failed, why, None).await,
        }
    };
    let mut way = Way {
        inner,
        open,
        put_off,
        rule: &rule,
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
        keeps: open.firing.all_actions(&rule.spec).any(|one| one.on_error == OnError::Undo || one.restore().is_some()),
    };
    if let Some(change) = &open.firing.restores {
        way.restore(change).await?;
        return way.end().await;
    }
    let compiled = rule.actions_of(open.firing.kind, open.firing.step);
    way.go(open.firing.actions(&rule.spec), compiled).await?;
    way.after_failure().await?;
    way.end().await
}

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

/// An action that failed for good.
struct Failed {
    action: String,
    reason: FailureReason,
    message: String,
}

impl<'a> Way<'a> {
    /// Carries the actions out, in order.
    async fn go(&mut self, specs: &'a [api::Action], compiled: &'a [CompiledAction]) -> Result<(), Halt> {
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
    async fn after_failure(&mut self) -> Result<(), Halt> {
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
        let known = self.open.steps.get(&spec.name);
        let outcome =
            known.and_then(|step| Some((step.outcome?, step.reason, step.message.clone(), step.result.clone())));
        let intent = known.and_then(|step| step.intent.clone());
        let effect;
        let (outcome, reason, message, result, request, position) = match outcome {
            // Of an earlier process; whether it was settled is not known.
            Some((outcome, reason, message, result)) if spec.target().is_some_and(api::Target::is_several) => {
                effect = None;
                let parts = self
                    .open
                    .steps
                    .iter()
                    .filter(|(name, _)| whole(name) == (&spec.name, true) && undone(name).is_none());
                let parts = parts.filter_map(|(name, step)| Some((name, step.outcome?, undo::known(step))));
                let made = parts.filter_map(|(name, outcome, (request, wrote))| {
                    Made::of(spec, compiled, name, request, (outcome, wrote))
                });
                self.made.extend(made);
                (outcome, reason, message, result, None, self.open.firing.input)
            }
            Some((outcome, reason, message, result)) => {
                let (request, wrote) = known.map(undo::known).unwrap_or_default();
                effect = wrote;
                (outcome, reason, message, result, request, self.open.firing.input)
            }
            None => {
                // While all rules are stopped, the time of a step that has not begun does not begin either.
                if intent.is_none() {
                    self.gone.run_until_cancelled(halt::may_act(self.inner)).await.unwrap_or(Ok(()))?;
                }
                let (outcome, request, _held) = match spec.target() {
                    Some(target) if target.is_several() => (self.each(spec, compiled, intent).await?, None, None),
                    _ => {
                        let mut held = intent.as_ref().and_then(|_| self.held.take());
                        let step = self.step(spec, compiled, &spec.name, Part::Whole);
                        let (outcome, request) = step.run(intent, &mut held).await?;
                        (outcome, request, held)
                    }
                };
                let Outcome { outcome: kind, reason, message, result, .. } = outcome.clone();
                effect = outcome.effect.clone();
                let head = halt::record(self.inner, Record::Outcome(outcome)).await?;
                (kind, reason, message, result, request, head)
            }
        };
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

    async fn end(mut self) -> Result<(), Halt> {
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

/// Whether nothing is changed. What was changed before the rule was told to observe is given back.
pub(super) fn observes(rule: &Rule, open: &OpenFiring) -> bool {
    rule.spec.mode == RuleMode::Observe && open.firing.restores.is_none()
}

async fn finish(
    inner: &Inner,
    (firing, rule): (&FiringId, &RuleUid),
    outcome: FiringOutcome,
    message: String,
    failed_at: Option<String>,
) -> Result<(), Halt> {
    let finished = Finished {
        firing: firing.clone(),
        rule: rule.clone(),
        outcome,
        message: text::cut(&message, step::MESSAGE),
        failed_at,
    };
    halt::record(inner, Record::Finished(finished)).await?;
    // Where the engine took it for the trial, it has said what becomes of the gate, or will; where it did not, as of another version, another one is on trial.
    inner.gates.lock().release(rule, firing);
    Ok(())
}
