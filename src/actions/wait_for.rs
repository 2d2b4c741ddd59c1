//! `waitFor`: waits until what an action has changed is as the rule wants it.
//!
//! It only looks, with the rights of the account. What the action has done is recorded before the waiting begins, with the instant at which it ends, so
//! that a restart goes on waiting and neither acts nor begins to count anew. It knows no kind of action.

mod ended;
mod rollout;

use std::time::Duration;

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Context, Done, Failure, FailureKind,
    target::Aim,
    write::{Object, Step},
};
use crate::{
    api::{ActionOutcome, WaitFor},
    record::FailureReason,
};

/// How long one answer of the API server is waited for.
const ANSWER: Duration = Duration::from_secs(30);
/// Waits between two looks: a tenth of the time that has passed, within these bounds. In five minutes that is about 85 looks.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);

/// A step whose change was made and that only waits: what is recorded in place of its request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    waiting: Recorded,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recorded {
    /// The action's own.
    request: Value,
    object: Object,
    /// Microseconds since 1970 at which waiting ends.
    deadline: i64,
    done: Done,
}

/// What one look at the object has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is as wanted.
    Met,
    /// It is not; in words.
    NotYet(String),
    /// It will not be; in words.
    Never(String),
}

impl Waiting {
    /// What is to be waited for after the request was carried out; nothing when that has failed or somebody else has changed the object meanwhile.
    ///
    /// # Errors
    /// Final when the request is about no object.
    pub fn begin(cx: &Context, spec: &WaitFor, request: &Value, done: &Done) -> Result<Option<Self>, Failure> {
        if !matches!(done.outcome, ActionOutcome::Succeeded | ActionOutcome::Unchanged) {
            return Ok(None);
        }
        let object = match &done.effect {
            Some(effect) => Object::of(effect),
            // What was already as it is to be may still be on its way.
            None => Object::deserialize(request)
                .map_err(|_| Failure::last(format!("{}, and there is no object to wait for", done.message)))?,
        };
        let limit = i64::try_from(spec.timeout.get().as_micros()).unwrap_or(i64::MAX);
        let deadline = cx.services.clock.now().wall.saturating_add(limit);
        let recorded = Recorded { request: request.clone(), object, deadline, done: done.clone() };
        Ok(Some(Self { waiting: recorded }))
    }

    /// The waiting that was recorded, if that is what was.
    pub fn read(recorded: &Value) -> Option<Self> {
        Self::deserialize(recorded).ok()
    }

    /// The request of the action of which this was recorded.
    pub fn request_of(recorded: Value) -> Value {
        Self::read(&recorded).map_or(recorded, |waiting| waiting.waiting.request)
    }

    /// The request of the action.
    pub fn request(&self) -> &Value {
        &self.waiting.request
    }

    /// Waits. `expressions` judges the object by those of the spec, which stand at `place`; without `expression` it is met.
    ///
    /// # Errors
    /// With [`FailureKind::Interrupted`] only: what is not met in time is an outcome.
    pub async fn end(
        self,
        cx: &Context,
        spec: &WaitFor,
        place: &str,
        expressions: impl Fn(&Value) -> Look + Send + Sync,
    ) -> Result<Done, Failure> {
        let Recorded { object, deadline, done, .. } = self.waiting;
        let now = cx.services.clock.now().wall;
        let left = Duration::from_micros(u64::try_from(deadline.saturating_sub(now)).unwrap_or(0));
        let judge = |seen: &Value| match expressions(seen) {
            Look::Met if spec.rollout.is_some() => rollout::look(seen),
            Look::NotYet(what) => ended::failed(seen).map_or(Look::NotYet(what), Look::Never),
            look => look,
        };
        let missed = tokio::select! {
            () = cx.stop.cancelled() => {
                let message = format!("{}; waiting goes on after the restart", done.message);
                return Err(Failure { kind: FailureKind::Interrupted, message });
            }
            missed = until(cx, &object, left, &judge) => missed,
        };
        let (what, is, was) = match spec.rollout {
            Some(_) => ("its rollout", "is complete", "was not complete"),
            None => (&*format!("{place}.expression"), "gives true", "did not give true"),
        };
        Ok(match missed {
            None => Done { message: format!("{}; {what} {is}", done.message), ..done },
            Some(Missed::Never(why)) => failed(done, &why, FailureReason::Failed),
            Some(Missed::InTime(last)) => {
                failed(done, &format!("{what} {was} within {}: {last}", spec.timeout), FailureReason::TimedOut)
            }
        })
    }
}

fn failed(done: Done, why: &str, reason: FailureReason) -> Done {
    let message = format!("{}, but {why}", done.message);
    Done { outcome: ActionOutcome::Failed, message, reason: Some(reason), ..done }
}

enum Missed {
    Never(String),
    /// What was seen last.
    InTime(String),
}

/// Looks until the object is as wanted; at least once.
async fn until(
    cx: &Context,
    object: &Object,
    left: Duration,
    judge: &(dyn Fn(&Value) -> Look + Sync),
) -> Option<Missed> {
    let began = Instant::now();
    loop {
        let last = match tokio::time::timeout(ANSWER.min(left.max(SHORTEST)), get(cx, object)).await {
            Err(_) => "the API server gave no answer".to_owned(),
            Ok(Err(failure)) if failure.kind == FailureKind::Final => return Some(Missed::Never(failure.message)),
            Ok(Err(failure)) => failure.message,
            Ok(Ok(now)) if now.metadata.uid.as_deref() != Some(&object.uid) => {
                return Some(Missed::Never("it was deleted and created anew meanwhile".to_owned()));
            }
            Ok(Ok(now)) => match serde_json::to_value(now).map(|seen| judge(&seen)) {
                Ok(Look::Met) => return None,
                Ok(Look::NotYet(what)) => what,
                Ok(Look::Never(why)) => return Some(Missed::Never(why)),
                Err(error) => return Some(Missed::Never(format!("it cannot be read: {error}"))),
            },
        };
        let passed = began.elapsed();
        if passed >= left {
            return Some(Missed::InTime(last));
        }
        tokio::time::sleep((passed / 10).clamp(SHORTEST, LONGEST).min(left - passed)).await;
    }
}

async fn get(cx: &Context, object: &Object) -> Result<DynamicObject, Failure> {
    let resource = cx.services.cluster.resolve(Some(&object.api_version), &object.kind).await?;
    let step = Step::new(cx, Aim { resource, name: object.name.clone(), namespace: object.namespace.clone() });
    let found = step.api.get(&object.name).await;
    found.map_err(|error| step.failure(&error, "wait for", step.right("get").named(&object.name)))
}

#[cfg(test)]
mod tests;
