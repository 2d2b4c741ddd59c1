//! `scale`: sets the number of replicas through the scale subresource; nothing else of the object is written.

mod amount;
mod seen;

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{DynamicObject, subresource::Scale as Replicas},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use seen::Scales;
use seen::{Key, Seen};

use super::{
    Action, Attempt, Context, Done, Failure, FailureKind,
    target::{Aim, fixed, key, title},
};
use crate::{
    api::{self, ActionOutcome},
    bus::Permit,
    kubernetes::{Cluster, Resource, Right},
    record::Effect,
};

/// How often a repetition looks again when the object changes between looking and writing; a controller's status writes come about once a second.
const LOOKS: usize = 5;

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
    api_version: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    uid: String,
    /// Nothing: what the object was is remembered, and the write tests that it still is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
    from: i32,
    to: i32,
}

/// The object as it is now.
struct Now {
    uid: String,
    /// Nothing when it is remembered.
    resource_version: Option<String>,
    replicas: i32,
}

impl Action for Scale {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            match fixed(cluster, &self.0.target, namespace).await {
                Some(aim) if aim.resource.scalable => ["get", "patch"].map(|verb| aim.right(verb).on("scale")).to_vec(),
                _ => Vec::new(),
            }
        })
    }

    fn target(&self, namespace: &str, filled: &Value) -> Option<String> {
        key(namespace, &self.0.target.kind, filled.get("target")?)
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        key(namespace, request.get("kind")?.as_str()?, request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let amount = self.0.amount().ok_or_else(|| Failure::last("exactly one of to and by must be set"))?;
            let aim = Aim::new(cx, &self.0.target, filled.get("target").unwrap_or(&Value::Null)).await?;
            let step = Step::new(cx, aim)?;
            let (now, to) = step.plan(|from| amount::desired(amount, from, self.0.min, self.0.max)).await?;
            let request = Request {
                api_version: step.aim.resource.api.api_version.clone(),
                kind: step.aim.resource.api.kind.clone(),
                namespace: step.aim.namespace.clone(),
                name: step.aim.name.clone(),
                uid: now.uid,
                resource_version: now.resource_version,
                from: now.replicas,
                to,
            };
            serde_json::to_value(request).map_err(|error| Failure::last(format!("record the request: {error}")))
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
            let (request, step) = Self::step(cx, request).await?;
            if request.from == request.to {
                return Ok(unchanged(&request));
            }
            match attempt {
                Attempt::First => step.first(&request, permit).await,
                Attempt::Again => step.again(&request, permit).await,
            }
        })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let (request, step) = Self::step(cx, request).await?;
            if request.from == request.to {
                return Ok(unchanged(&request));
            }
            let params = PatchParams { dry_run: true, ..PatchParams::default() };
            step.send(&request, request.resource_version.as_deref(), &params).await?;
            let message = format!("would scale {} from {} to {}", request.title(), request.from, request.to);
            Ok(Done::observed(message, request.result()))
        })
    }
}

impl Scale {
    /// Reads the recorded request and finds its target.
    async fn step<'a>(cx: &'a Context, request: &Value) -> Result<(Request, Step<'a>), Failure> {
        let request = Request::deserialize(request)
            .map_err(|error| Failure::last(format!("read the recorded request: {error}")))?;
        let resource = cx.services.cluster.resolve(Some(&request.api_version), &request.kind).await?;
        let aim = Aim { resource, name: request.name.clone(), namespace: request.namespace.clone() };
        let step = Step::new(cx, aim)?;
        Ok((request, step))
    }
}

/// One step and the object that it is about.
struct Step<'a> {
    cx: &'a Context,
    aim: Aim,
    api: Api<DynamicObject>,
}

impl<'a> Step<'a> {
    fn new(cx: &'a Context, aim: Aim) -> Result<Self, Failure> {
        let Resource { api: kind, scalable, .. } = &aim.resource;
        if !scalable {
            return Err(Failure::last(format!(
                "{}: {} {} has no scale subresource",
                aim.title(),
                kind.api_version,
                kind.kind
            )));
        }
        let client = cx.services.cluster.as_account(&cx.account);
        let api = match &aim.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, kind),
            None => Api::all_with(client, kind),
        };
        Ok(Self { cx, aim, api })
    }

    fn right(&self, verb: &str) -> Right {
        let kind = &self.aim.resource.api;
        Right::new(verb, &kind.group, &kind.plural).within(self.aim.namespace.as_deref())
    }

    fn failure(&self, error: &kube::Error, doing: &str, right: Right) -> Failure {
        Failure::of_kube(error, &format!("{doing} {}", self.aim.title()), &self.cx.account, right)
    }

    /// What the object is, and what it is to become: as remembered, if that would change it, and else as it is now.
    async fn plan(&self, desired: impl Fn(i32) -> i32) -> Result<(Now, i32), Failure> {
        let known = self.cx.services.scales.take(&Key::new(&self.aim), &self.cx.account);
        // The API server leaves zeros out, so a write cannot test for them.
        if let Some(Seen { uid, replicas, .. }) = known
            && replicas > 0
            && desired(replicas) != replicas
        {
            return Ok((Now { uid, resource_version: None, replicas }, desired(replicas)));
        }
        let now = self.look().await?;
        let to = desired(now.replicas);
        Ok((now, to))
    }

    async fn look(&self) -> Result<Now, Failure> {
        let scale = self.api.get_scale(&self.aim.name).await;
        let scale = scale.map_err(|error| self.failure(&error, "read the scale of", self.right("get").on("scale")))?;
        Ok(Now {
            uid: scale.metadata.uid.unwrap_or_default(),
            resource_version: scale.metadata.resource_version,
            // Absent means 0: the API server leaves zeros out.
            replicas: scale.spec.and_then(|spec| spec.replicas).unwrap_or(0),
        })
    }

    /// Writes, provided that the object is still as it was when the request was rendered.
    async fn first(&self, request: &Request, permit: Permit) -> Result<Done, Failure> {
        match self.write(request, request.resource_version.as_deref(), permit).await {
            Err(failure) if failure.kind == FailureKind::Conflict && self.is_done().await? == Some(true) => {
                // Something on the way had sent it twice.
                Ok(done(request, None))
            }
            result => result,
        }
    }

    /// Finds out whether an earlier attempt has written, and writes if it has not and the object is still as it was. Never asks for a fresh
    /// request: with "2 more" that would be 2 more than what an attempt still on its way may have written.
    async fn again(&self, request: &Request, permit: Permit) -> Result<Done, Failure> {
        for _ in 0..LOOKS {
            let ours = self.is_done().await?;
            let now = self.look().await?;
            if now.uid != request.uid {
                return Ok(superseded(request, "was deleted and created anew".to_owned()));
            }
            match ours {
                Some(true) => return Ok(done(request, now.resource_version)),
                // Who wrote it cannot be seen without the right to read the object.
                None if now.replicas == request.to => return Ok(done(request, now.resource_version)),
                _ if now.replicas == request.to => return Ok(unchanged(request)),
                _ if now.replicas != request.from => {
                    return Ok(superseded(request, format!("was set to {} by somebody else", now.replicas)));
                }
                _ => {}
            }
            match self.write(request, now.resource_version.as_deref(), permit).await {
                Err(failure) if failure.kind == FailureKind::Conflict => {}
                result => return result,
            }
        }
        Err(Failure::retryable(format!("scale {}: it changes faster than it can be written", self.aim.title())))
    }

    /// Whether the object bears this step's mark; nothing when the account may not read it.
    async fn is_done(&self) -> Result<Option<bool>, Failure> {
        let manager = self.cx.manager();
        match self.api.get_metadata(&self.aim.name).await {
            Ok(object) => {
                Ok(Some(object.metadata.managed_fields.iter().flatten().any(|entry| is_mark(entry, &manager))))
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
            Err(error) => Err(self.failure(&error, "read", self.right("get"))),
        }
    }

    /// Writes, if the object is still of this version; without a version, if it still is what the request says that it was.
    async fn write(&self, request: &Request, version: Option<&str>, _permit: Permit) -> Result<Done, Failure> {
        let params = PatchParams { field_manager: Some(self.cx.manager()), ..PatchParams::default() };
        let scale = self.send(request, version, &params).await?;
        let (account, uid) = (self.cx.account.clone(), request.uid.clone());
        self.cx.services.scales.put(Key::new(&self.aim), Seen { account, uid, replicas: request.to });
        Ok(done(request, scale.metadata.resource_version))
    }

    async fn send(&self, request: &Request, version: Option<&str>, params: &PatchParams) -> Result<Replicas, Failure> {
        let patch = match version {
            Some(version) => {
                Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": request.to}}))
            }
            None => tested(request)?,
        };
        self.api.patch_scale(&self.aim.name, params, &patch).await.map_err(|error| match error {
            // A test that fails is answered 422, and so is a number that is refused: a fresh request finds out which.
            kube::Error::Api(status) if version.is_none() && status.code == 422 => {
                let message = format!("scale {}: it is not what it was any more", self.aim.title());
                Failure { kind: FailureKind::Conflict, message }
            }
            error => self.failure(&error, "scale", self.right("patch").on("scale")),
        })
    }
}

/// A patch that does nothing unless the object still is what the request says that it was.
fn tested(request: &Request) -> Result<Patch<Value>, Failure> {
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": request.uid},
        {"op": "test", "path": "/spec/replicas", "value": request.from},
        {"op": "replace", "path": "/spec/replicas", "value": request.to},
    ]);
    serde_json::from_value(operations).map(Patch::Json).map_err(|error| Failure::last(format!("make a patch: {error}")))
}

fn is_mark(entry: &ManagedFieldsEntry, manager: &str) -> bool {
    entry.manager.as_deref() == Some(manager) && entry.subresource.as_deref() == Some("scale")
}

impl Request {
    fn title(&self) -> String {
        title(&self.kind, self.namespace.as_deref(), &self.name)
    }

    fn result(&self) -> Value {
        json!({"from": self.from, "to": self.to})
    }
}

fn done(request: &Request, resource_version: Option<String>) -> Done {
    Done {
        outcome: ActionOutcome::Succeeded,
        message: format!("scaled {} from {} to {}", request.title(), request.from, request.to),
        result: request.result(),
        effect: Some(Effect {
            api_version: request.api_version.clone(),
            kind: request.kind.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            uid: request.uid.clone(),
            resource_version,
            reason: "ScaledByRule".to_owned(),
        }),
    }
}

fn unchanged(request: &Request) -> Done {
    Done {
        outcome: ActionOutcome::Unchanged,
        message: format!("{} has {} replicas already", request.title(), request.to),
        result: request.result(),
        effect: None,
    }
}

fn superseded(request: &Request, what: String) -> Done {
    Done {
        outcome: ActionOutcome::Superseded,
        message: format!(
            "{} {what} meanwhile, it was not scaled from {} to {}",
            request.title(),
            request.from,
            request.to
        ),
        result: request.result(),
        effect: None,
    }
}

#[cfg(test)]
mod tests;
