//! `wait`: time passes, or an object becomes as wanted, before the next action.
//!
//! The instant at which it ends is recorded before it begins, so that a restart goes on waiting to the same end. Waiting for an expression is what
//! `waitFor` does, of an object that was not changed; here the object is only found.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Action, Attempt, Context, Done, Failure, FailureKind, Undo, recording,
    target::{Aim, fixed},
    write::{Object, Step},
};
use crate::{
    api::{self, ActionOutcome},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::Effect,
};

/// The action.
pub(super) struct Wait(api::Wait);

impl Wait {
    pub(super) fn new(spec: &api::Wait) -> Self {
        Self(spec.clone())
    }
}

/// What is recorded before it waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Request {
    /// Until then, in microseconds since 1970.
    Until { until: i64 },
    /// For this object, until it is as wanted.
    For(Object),
}

impl Action for Wait {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let Some(target) = &self.0.target else { return Vec::new() };
            fixed(cluster, target, namespace).await.map(|aim| aim.right("get")).into_iter().collect()
        })
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let request = match (self.0.time, &self.0.target) {
                (Some(time), None) => {
                    let micros = i64::try_from(time.get().as_micros()).unwrap_or(i64::MAX);
                    Request::Until { until: cx.services.clock.now().wall.saturating_add(micros) }
                }
                (None, Some(target)) => {
                    let aim = Aim::filled(cx, target, filled).await?;
                    let step = Step::new(cx, aim);
                    let now = step.get().await?;
                    Request::For(Object::new(&step.aim, now.metadata.uid.unwrap_or_default(), None))
                }
                _ => return Err(Failure::last("exactly one of for and expression must be set")),
            };
            recording::of(&request)
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        _: Attempt,
        _: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            match read(request)? {
                Request::For(object) => Ok(done(ActionOutcome::Succeeded, format!("waited for {}", object.title()))),
                Request::Until { until } => {
                    let left = until.saturating_sub(cx.services.clock.now().wall);
                    let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
                    tokio::select! {
                        () = cx.stop.cancelled() => {
                            let message = "waiting goes on after the restart".to_owned();
                            Err(Failure { kind: FailureKind::Interrupted, message })
                        }
                        () = tokio::time::sleep(left) => Ok(done(ActionOutcome::Succeeded, self.told("waited"))),
                    }
                }
            }
        })
    }

    fn observe<'a>(&'a self, _: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let message = match read(request)? {
                Request::For(object) => format!("would wait for {}", object.title()),
                Request::Until { .. } => self.told("would wait"),
            };
            Ok(Done::observed(message, Value::Null))
        })
    }

    fn patience(&self, _: &api::Action) -> Duration {
        // It ends by itself.
        self.0.time.map_or(super::TIMEOUT, |time| time.get().saturating_add(super::TIMEOUT))
    }

    fn only_waits(&self) -> bool {
        self.0.time.is_some()
    }

    fn changed(&self, _: &Context, _: &Value, _: Option<&Effect>) -> Undo {
        Undo::Nothing
    }
}

impl Wait {
    /// `waited 30s`
    fn told(&self, what: &str) -> String {
        self.0.time.map_or_else(|| what.to_owned(), |time| format!("{what} {time}"))
    }
}

fn read(request: &Value) -> Result<Request, Failure> {
    recording::read(request)
}

fn done(outcome: ActionOutcome, message: String) -> Done {
    Done { outcome, message, result: Value::Null, effect: None, reason: None }
}
