//! `evict`: evicts a Pod by its uid, as PodDisruptionBudgets allow.

use futures::future::BoxFuture;
use kube::api::PostParams;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Action, Attempt, Context, Done, Failure, FailureKind, Undo,
    deletion::{Found, doomed, find},
    eviction::{Answer, Pod},
    recording,
    target::{Aim, filled_key, fixed, key},
    write::{Object, Step},
};
use crate::{
    api::{self, ActionOutcome},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::Effect,
};

/// Reason of the Kubernetes Event.
const REASON: &str = "EvictedByRule";

/// The action.
pub(super) struct Evict(api::Evict);

impl Evict {
    pub(super) fn new(spec: &api::Evict) -> Self {
        Self(spec.clone())
    }
}

/// What is recorded before the Pod is evicted; without a uid there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(flatten)]
    object: Object,
    /// Whether another one had its name already: this one is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    another: bool,
}

impl Action for Evict {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let aim = fixed(cluster, &self.0.target, namespace).await;
            aim.iter().flat_map(|aim| [aim.right("get"), aim.right("create").on("eviction")]).collect()
        })
    }

    fn target(&self, namespace: &str, filled: &Value) -> Option<String> {
        filled_key(namespace, &self.0.target, filled)
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        key(namespace, "Pod", request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let aim = Aim::filled(cx, &self.0.target, filled).await?;
            let kind = &aim.resource.api;
            if kind.api_version != "v1" || kind.kind != "Pod" {
                return Err(Failure::last(format!("evict {}: only a Pod can be evicted", aim.title())));
            }
            let step = Step::new(cx, aim);
            let (uid, another) = doomed(&step, filled).await?;
            let request = Request { object: Object::new(&step.aim, uid, None), another };
            recording::of(&request)
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        _: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let Request { object, another } = read(request)?;
            let title = object.title();
            if another {
                return Ok(theirs(&object));
            }
            let effect = |found: bool| Some(Effect { found, gone: true, ..object.effect(None, REASON) });
            let params = PostParams { dry_run: false, field_manager: Some(cx.manager()) };
            // A budget is charged before the API server looks at the uid, so what is known to be another one is not asked for.
            let found = if attempt == Attempt::Again { there(cx, &object).await? } else { Found::Itself };
            let answer = match found {
                Found::Nothing => Answer::Gone,
                Found::Another => Answer::Another(String::new()),
                Found::Leaving | Found::Itself => ask(cx, &object, &params).await?,
            };
            match answer {
                Answer::Another(why) if found != Found::Another && there(cx, &object).await? != Found::Another => {
                    Err(Failure { kind: FailureKind::Conflict, message: why })
                }
                Answer::Accepted => {
                    let done = ended(&object, ActionOutcome::Succeeded, format!("evicted {title}"));
                    Ok(Done { effect: effect(false), ..done })
                }
                // An earlier attempt did it, for all that can be told.
                Answer::Gone if attempt == Attempt::Again && !object.uid.is_empty() => {
                    let done = ended(&object, ActionOutcome::Succeeded, format!("evicted {title}"));
                    Ok(Done { effect: effect(true), ..done })
                }
                Answer::Another(_) if attempt == Attempt::Again => {
                    let message = format!("evicted {title}; another one has its name by now, which is left as it is");
                    Ok(Done { effect: effect(true), ..ended(&object, ActionOutcome::Succeeded, message) })
                }
                Answer::Gone => Ok(ended(&object, ActionOutcome::Unchanged, format!("{title} is gone already"))),
                Answer::Another(_) => Ok(theirs(&object)),
                Answer::Refused(why) => Err(Failure::last(why)),
                Answer::NotNow { why, after } => Err(Failure { kind: FailureKind::Retryable { after }, message: why }),
            }
        })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let Request { object, another } = read(request)?;
            let title = object.title();
            let params = PostParams { dry_run: true, field_manager: None };
            let answer = if another { Answer::Another(String::new()) } else { ask(cx, &object, &params).await? };
            let message = match answer {
                Answer::Accepted => format!("would evict {title}"),
                Answer::Gone => {
                    return Ok(ended(&object, ActionOutcome::Unchanged, format!("{title} is gone already")));
                }
                Answer::Another(why) if !another && there(cx, &object).await? != Found::Another => {
                    return Err(Failure { kind: FailureKind::Conflict, message: why });
                }
                Answer::Another(_) => format!("would leave {title}, which is another one by now"),
                Answer::Refused(why) => return Err(Failure::last(why)),
                Answer::NotNow { why, .. } => format!("would wait to {why}"),
            };
            Ok(Done::observed(message, result(&object)))
        })
    }

    fn changed(&self, _: &Context, _: &Value, _: Option<&Effect>) -> Undo {
        Undo::Never("an eviction cannot be undone")
    }
}

/// Whether it is there.
async fn there(cx: &Context, object: &Object) -> Result<Found, Failure> {
    let Object { api_version, kind, namespace, name, uid, .. } = object;
    let resource = cx.services.cluster.resolve(Some(api_version), kind).await?;
    let step = Step::new(cx, Aim { resource, name: name.clone(), namespace: namespace.clone() });
    find(&step, uid).await
}

async fn ask(cx: &Context, object: &Object, params: &PostParams) -> Result<Answer, Failure> {
    if object.uid.is_empty() {
        return Ok(Answer::Gone);
    }
    let Object { namespace, name, uid, .. } = object.clone();
    Pod { namespace: namespace.unwrap_or_default(), name, uid }.evict(cx, params).await
}

fn read(request: &Value) -> Result<Request, Failure> {
    recording::read(request)
}

fn result(object: &Object) -> Value {
    json!({"namespace": object.namespace, "name": object.name, "uid": object.uid})
}

fn theirs(object: &Object) -> Done {
    let message = format!("{} is another one by now: it is left as it is", object.title());
    ended(object, ActionOutcome::Superseded, message)
}

fn ended(object: &Object, outcome: ActionOutcome, message: String) -> Done {
    Done { outcome, message, result: result(object), effect: None, reason: None }
}
