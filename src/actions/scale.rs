//! `scale`: sets the number of replicas through the scale subresource; nothing else of the object is written.

mod amount;
mod autoscaler;
mod back;
mod seen;

use futures::future::BoxFuture;
use kube::{
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use autoscaler::Known;
pub use seen::Scales;
use seen::{Key, Seen};

use super::{
    Action, Attempt, Back, Context, Done, Failure, FailureKind, Undo,
    fields::{self, Fields, Verb},
    target::{Aim, filled_key, fixed, recorded_key},
    write::{self, Change, Object, Step, Verdict, Words},
};
use crate::{
    api::{self, Autoscaler},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{self, Effect},
};

/// The subresource.
const SCALE: &str = "scale";

/// The action.
pub(super) struct Scale(api::Scale);

impl Scale {
    pub(super) fn new(spec: &api::Scale) -> Self {
        Self(spec.clone())
    }
}

/// What is recorded before the write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(flatten)]
    object: Object,
    from: i32,
    to: i32,
    /// What was known of an autoscaler.
    #[serde(default)]
    autoscaler: Known,
}

/// The number that is wanted where there is this one.
type Amount<'a> = &'a (dyn Fn(i32) -> i32 + Sync);

/// Whether the recorded request is about the bounds of an autoscaler.
fn adjusts(request: &Value) -> bool {
    request.get("patch").is_some()
}

impl Action for Scale {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            match fixed(cluster, &self.0.target, namespace).await {
                Some(aim) if aim.resource.scalable => {
                    let mut rights = ["get", "patch"].map(|verb| aim.right(verb).on(SCALE)).to_vec();
                    rights.extend(autoscaler::rights(&aim, &self.0, cluster).await);
                    rights
                }
                _ => Vec::new(),
            }
        })
    }

    fn target(&self, namespace: &str, filled: &Value) -> Option<String> {
        filled_key(namespace, &self.0.target, filled)
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        recorded_key(namespace, request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let amount = match &self.0.to_expression {
                Some(_) => amount::evaluated(filled.get("toExpression").unwrap_or(&Value::Null), self.0.max)?,
                None => self
                    .0
                    .amount()
                    .ok_or_else(|| Failure::last("exactly one of to, toExpression and by must be set"))?,
            };
            let aim = Aim::filled(cx, &self.0.target, filled).await?;
            refuse_without_scale(&aim)?;
            let step = Step::new(cx, aim);
            plan(&step, &self.0, &|from| amount::desired(amount, from, self.0.min, self.0.max)).await
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            match adjusts(request) {
                true => write::execute::<Fields>(cx, request, attempt, permit).await,
                false => {
                    let mut done = write::execute::<Request>(cx, request, attempt, permit).await?;
                    if let (Some(_), Ok(request)) = (&done.effect, Request::deserialize(request)) {
                        let rivalry = cx.services.scales.rivalry(Key::of(&request.object), &cx.rule);
                        done.message.extend(rivalry);
                    }
                    Ok(done)
                }
            }
        })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            match adjusts(request) {
                true => Fields::observe(cx, request).await,
                false => write::observe::<Request>(cx, request).await,
            }
        })
    }

    fn changed(&self, cx: &Context, request: &Value, _: Option<&Effect>) -> Undo {
        if adjusts(request) {
            return Fields::changed(cx, request);
        }
        let Ok(Request { object, from, to, .. }) = Request::deserialize(request) else {
            return Undo::Never("what it was is not known");
        };
        let replicas = |number: i32| json!({"replicas": number});
        Undo::of(object.change(cx.manager(), Some(SCALE), replicas(from), replicas(to)))
    }

    /// Who has written the object is told by it, not by its scale.
    fn undo_rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let aim = fixed(cluster, &self.0.target, namespace).await.filter(|aim| aim.resource.scalable);
            aim.map(|aim| vec![aim.right("get")]).unwrap_or_default()
        })
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a record::Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(async move {
            match change.subresource {
                Some(_) => back::take_back(cx, change).await,
                None => fields::take_back(cx, change, Verb::Adjust).await,
            }
        })
    }
}

fn refuse_without_scale(aim: &Aim) -> Result<(), Failure> {
    let kind = &aim.resource.api;
    if aim.resource.scalable {
        return Ok(());
    }
    Err(Failure::last(format!("{}: {} {} has no scale subresource", aim.title(), kind.api_version, kind.kind)))
}

/// What the object is, and what it is to become: as remembered, if that would change it, and else as it is now. Where an autoscaler manages it, that is
/// left alone or told.
async fn plan(step: &Step<'_>, spec: &api::Scale, desired: Amount<'_>) -> Result<Value, Failure> {
    let known = step.cx.services.scales.take(&Key::new(&step.aim), &step.cx.account);
    // The API server leaves zeros out, so a write cannot test for them.
    if let Some(Seen { uid, replicas: from, autoscaler, .. }) = known
        && from > 0
        && desired(from) != from
        && autoscaler.is_enough(spec.autoscaler)
    {
        return Request { object: Object::new(&step.aim, uid, None), from, to: desired(from), autoscaler }.to_request();
    }
    let (now, found) = futures::join!(look(step), autoscaler::find(step, spec));
    let (now, found) = (now?, found?);
    let from = replicas(&now);
    match (found, spec.autoscaler) {
        (Ok(found), Some(Autoscaler::Adjust)) => found.adjusted(step.cx, &step.aim, from, desired).await,
        (Ok(found), _) => Err(found.refusal(step)),
        (Err(autoscaler), _) => {
            let object = Object::new(&step.aim, now.metadata.uid.unwrap_or_default(), now.metadata.resource_version);
            Request { object, from, to: desired(from), autoscaler }.to_request()
        }
    }
}

async fn look(step: &Step<'_>) -> Result<DynamicObject, Failure> {
    let scale = step.api.get_subresource(SCALE, &step.aim.name).await;
    scale.map_err(|error| match error {
        // Of a custom resource; it is said as an error of the server's own.
        kube::Error::Api(status) if status.code == 500 && status.message.contains("replicas field") => {
            let said = status.message.trim_start_matches("Internal error occurred: ");
            Failure::last(format!("read the scale of {}: {said}: set it once, or give it a default", step.aim.title()))
        }
        error => step.failure(&error, "read the scale of", step.right("get").on(SCALE)),
    })
}

/// Absent means 0: the API server leaves zeros out.
fn replicas(scale: &DynamicObject) -> i32 {
    scale.data["spec"]["replicas"].as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or(0)
}

/// Whether the object bears this step's mark; nothing when the account may not read it.
async fn is_marked(step: &Step<'_>) -> Result<Option<bool>, Failure> {
    match step.api.get_metadata(&step.aim.name).await {
        Ok(object) => {
            let entries = object.metadata.managed_fields.as_deref();
            Ok(Some(write::is_mark(entries, &step.cx.manager(), Some(SCALE))))
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(step.failure(&error, "read", step.right("get"))),
    }
}

impl Change for Request {
    fn object(&self) -> &Object {
        &self.object
    }

    fn words(&self) -> Words {
        Words {
            present: "scale",
            past: "scaled",
            reason: "ScaledByRule",
            how: format!(" from {} to {}", self.from, self.to),
            state: format!("has {} replicas", self.to),
        }
    }

    fn result(&self) -> Value {
        json!({"from": self.from, "to": self.to})
    }

    fn is_nothing(&self) -> bool {
        self.from == self.to
    }

    async fn look(&self, step: &Step<'_>) -> Result<DynamicObject, Failure> {
        look(step).await
    }

    async fn is_ours(&self, step: &Step<'_>, _scale: &DynamicObject) -> Result<bool, Failure> {
        Ok(is_marked(step).await? == Some(true))
    }

    async fn judge(&self, step: &Step<'_>, now: &DynamicObject) -> Result<Verdict, Failure> {
        let (marked, now) = (is_marked(step).await?, replicas(now));
        Ok(match marked {
            Some(true) => Verdict::Done,
            // Who wrote it cannot be seen without the right to read the object.
            None if now == self.to => Verdict::Unmarked,
            _ if now == self.to => Verdict::Unchanged,
            _ if now != self.from => Verdict::Superseded(format!("was set to {now} by somebody else")),
            _ => Verdict::Write,
        })
    }

    async fn send(
        &self,
        step: &Step<'_>,
        version: Option<&str>,
        params: &PatchParams,
    ) -> Result<DynamicObject, Failure> {
        let patch = match version {
            Some(version) => {
                Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": self.to}}))
            }
            None => tested(self)?,
        };
        step.api.patch_subresource(SCALE, &step.aim.name, params, &patch).await.map_err(|error| match error {
            // A test that fails is answered 422, and so is a number that is refused: a fresh request finds out which.
            kube::Error::Api(status) if version.is_none() && status.code == 422 => {
                let message = format!("scale {}: it is not what it was any more", step.aim.title());
                Failure { kind: FailureKind::Conflict, message }
            }
            error => step.failure(&error, "scale", step.right("patch").on(SCALE)),
        })
    }

    fn written(&self, step: &Step<'_>) {
        let (account, uid) = (step.cx.account.clone(), self.object.uid.clone());
        step.cx
            .services
            .scales
            .put(Key::new(&step.aim), Seen { account, uid, replicas: self.to, autoscaler: self.autoscaler });
    }
}

/// A patch that does nothing unless the object still is what the request says that it was.
fn tested(request: &Request) -> Result<Patch<Value>, Failure> {
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": request.object.uid},
        {"op": "test", "path": "/spec/replicas", "value": request.from},
        {"op": "replace", "path": "/spec/replicas", "value": request.to},
    ]);
    serde_json::from_value(operations).map(Patch::Json).map_err(|error| Failure::last(format!("make a patch: {error}")))
}

#[cfg(test)]
mod tests;
