//! The request of a step: of the action's fields, or the way back from what it has changed; recorded before it is carried out.

use std::time::Duration;

use serde_json::Value;

use super::{
    halt::{Halt, caught, record},
    step::{Part, Recorded, Step},
    targets::Held,
    timeout::Timeout,
};
use crate::{
    actions::{Action, Attempt, Back, Done, Failure, FailureKind, lead, lead_to},
    api::ActionOutcome,
    bus::BusError,
    record::{Change, Intent, Record, RuleRef, Writes},
    rule::EvalError,
};

/// How long rendering may take, which reads from the cluster at most.
const RENDER: Duration = Duration::from_secs(30);

/// What rendering gives.
pub(super) enum Rendered {
    Request(Recorded),
    /// There is nothing to carry out.
    Done(Box<Done>),
}

impl Step<'_> {
    /// Renders the request, records it and waits until it is durable.
    pub(super) async fn render(
        &self,
        action: &dyn Action,
        renderings: &mut u32,
        held: &mut Option<Held>,
    ) -> Result<Result<Rendered, Failure>, Halt> {
        let rendered = match self.part {
            Part::Undo(change) => self.reverse(action, change, held).await?,
            _ => self.fill(action, held).await?.map(Back::Request),
        };
        let request = match rendered {
            Ok(Back::Request(request)) => request,
            Ok(Back::Done(done)) => return Ok(Ok(Rendered::Done(done))),
            Err(failure) => return Ok(Err(failure)),
        };
        let intent = Intent {
            firing: self.cx.firing.clone(),
            action: self.cx.action.clone(),
            rendering: *renderings,
            request: request.clone(),
            writes: self.writes(action, &request),
            deadline: self.timeout.as_ref().map(Timeout::deadline),
            remember: None,
        };
        let position = match record(self.inner, Record::Intent(intent)).await {
            Ok(position) => position,
            Err(Halt::Bus(error @ (BusError::TooLarge(_) | BusError::TooDeep))) => {
                return Ok(Err(Failure::last(format!("record the request: {error}"))));
            }
            Err(halt) => return Err(halt),
        };
        *renderings += 1;
        let permit = self.durable(position).await?;
        Ok(Ok(Rendered::Request(Recorded { request, attempt: Attempt::First, permit })))
    }

    /// The request of the action's fields with their texts filled in.
    async fn fill(&self, action: &dyn Action, held: &mut Option<Held>) -> Result<Result<Value, Failure>, Halt> {
        let mut filled = match self.compiled.body.fill(&self.scope()) {
            Ok(filled) => filled,
            Err(error) => return Ok(Err(unfilled(&error))),
        };
        let leading = async {
            match self.part {
                Part::Whole => lead(&self.cx, self.spec, &mut filled).await,
                Part::Of(found) => {
                    lead_to(found, &mut filled);
                    Ok(())
                }
                Part::Find | Part::Undo(_) => Ok(()),
            }
        };
        match tokio::time::timeout(self.to_render(), leading).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Ok(Err(failure)),
            Err(_) => return Ok(Err(Failure::retryable("finding the target took too long"))),
        }
        if held.is_none() {
            match self.hold(action.target(&self.rule.rule.namespace, &filled)).await? {
                Ok(target) => *held = target,
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(self.read(action.render(&self.cx, &filled)).await)
    }

    /// The request that takes the change back.
    async fn reverse(
        &self,
        action: &dyn Action,
        change: &Change,
        held: &mut Option<Held>,
    ) -> Result<Result<Back, Failure>, Halt> {
        if held.is_none() {
            let object = serde_json::to_value(change).unwrap_or_default();
            match self.hold(action.target_again(&self.rule.rule.namespace, &object)).await? {
                Ok(target) => *held = target,
                Err(failure) => return Ok(Err(failure)),
            }
        }
        // Nobody takes hold of it while the target is held.
        if self.inner.holders.are_others(self.open) {
            let message =
                format!("{} is held again by another firing: it is not given back yet", self.open.firing.group);
            return Ok(Ok(Back::Done(Box::new(Done {
                outcome: ActionOutcome::Superseded,
                message,
                result: Value::Null,
                effect: None,
                reason: None,
            }))));
        }
        Ok(self.read(action.take_back(&self.cx, change)).await)
    }

    /// What reads from the cluster at most, within its time.
    async fn read<T>(&self, reading: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match caught(tokio::time::timeout(self.to_render(), reading)).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err(Failure::retryable("reading the target took too long")),
            Err(failure) => Err(failure),
        }
    }

    fn to_render(&self) -> Duration {
        self.at_most(self.spec.retry.attempt_timeout.map_or(RENDER, |limit| limit.get().min(RENDER)))
    }

    fn writes(&self, action: &dyn Action, request: &Value) -> Option<Writes> {
        let RuleRef { uid, namespace, .. } = &self.rule.rule;
        let object = action.object(namespace, request).filter(|_| !self.observes())?;
        Some(Writes { rule: uid.clone(), object })
    }
}

/// An expression in a target's name that gives nothing is a missing target.
fn unfilled(error: &EvalError) -> Failure {
    // spec.actions[0].scale.target.name
    if error.path.split('.').nth(3) == Some("target") {
        return Failure::last(format!("no target: {}", error.message));
    }
    Failure { kind: FailureKind::Invalid, message: error.to_string() }
}
