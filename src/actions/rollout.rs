//! `rollout`: restarts, rolls back, pauses and resumes workloads as `kubectl rollout` does; nothing else of the object is written.

mod history;

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Action, Attempt, Context, Done, Failure, FailureKind,
    target::{Aim, fixed, key, title},
};
use crate::{
    api::{self, ActionOutcome, RolloutOperation},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::Effect,
};
use history::Revision;

/// How often a repetition looks again when the object changes between looking and writing; a controller's status writes come about once a second.
const LOOKS: usize = 5;
/// What `kubectl rollout restart` writes: another value makes another Pod template, and so new Pods.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// The action.
pub(super) struct Rollout(api::Rollout);

impl Rollout {
    pub(super) fn new(spec: &api::Rollout) -> Self {
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
    resource_version: String,
    operation: RolloutOperation,
    /// What the one field that is written held, and what it is to hold: a time, whether it is paused, or the digest of a Pod template.
    from: Value,
    to: Value,
    /// What it is rolled back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
}

impl Rollout {
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

impl Action for Rollout {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let Some(aim) = fixed(cluster, &self.0.target, namespace).await else { return Vec::new() };
            let mut rights = ["get", "patch"].map(|verb| aim.right(verb)).to_vec();
            if self.0.operation == RolloutOperation::Undo {
                rights.push(history::right(&aim));
            }
            rights
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
            if let Some(fault) = self.0.fault() {
                return Err(Failure::last(fault));
            }
            let aim = Aim::new(cx, &self.0.target, filled.get("target").unwrap_or(&Value::Null)).await?;
            let step = Step::new(cx, aim)?;
            let now = step.look().await?;
            let operation = self.0.operation;
            refuse_paused(operation, &now, &step.aim)?;
            let revision = match operation {
                RolloutOperation::Undo => Some(history::find(&step, &now, self.0.revision).await?),
                _ => None,
            };
            let request = Request {
                api_version: step.aim.resource.api.api_version.clone(),
                kind: step.aim.resource.api.kind.clone(),
                namespace: step.aim.namespace.clone(),
                name: step.aim.name.clone(),
                from: held(operation, &now),
                uid: now.metadata.uid.unwrap_or_default(),
                resource_version: now.metadata.resource_version.unwrap_or_default(),
                operation,
                to: match operation {
                    // To the millisecond: with whole seconds the second of two restarts within one would be lost.
                    RolloutOperation::Restart => format!("{:.3}", cx.services.clock.now().timestamp()).into(),
                    RolloutOperation::Undo => revision.as_ref().map_or(Value::Null, Revision::digest),
                    RolloutOperation::Pause => true.into(),
                    RolloutOperation::Resume => false.into(),
                },
                revision,
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
            step.send(&request, &request.resource_version, &params).await?;
            let message = format!("would {} {}{}", words(request.operation).0, request.title(), request.to_revision());
            Ok(Done::observed(message, request.result()))
        })
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
        let kind = &aim.resource.api;
        let Some(namespace) = aim.namespace.as_deref().filter(|_| kind.group == "apps") else {
            let message = format!("{}: {} {} has no rollout", aim.title(), kind.api_version, kind.kind);
            return Err(Failure::last(message));
        };
        let api = Api::namespaced_with(cx.services.cluster.as_account(&cx.account), namespace, kind);
        Ok(Self { cx, aim, api })
    }

    fn failure(&self, error: &kube::Error, doing: &str, verb: &str) -> Failure {
        let kind = &self.aim.resource.api;
        let right = Right::new(verb, &kind.group, &kind.plural).within(self.aim.namespace.as_deref());
        Failure::of_kube(error, &format!("{doing} {}", self.aim.title()), &self.cx.account, right)
    }

    async fn look(&self) -> Result<DynamicObject, Failure> {
        self.api.get(&self.aim.name).await.map_err(|error| self.failure(&error, "read", "get"))
    }

    /// Writes, provided that the object is still as it was when the request was rendered.
    async fn first(&self, request: &Request, permit: Permit) -> Result<Done, Failure> {
        match self.write(request, &request.resource_version, permit).await {
            Err(failure) if failure.kind == FailureKind::Conflict => {
                let now = self.look().await?;
                // Something on the way had sent it twice.
                if is_of(&now, request) && self.is_ours(&now) { Ok(done(request, None)) } else { Err(failure) }
            }
            result => result,
        }
    }

    /// Finds out whether an earlier attempt has written, and writes the same if it has not and nobody else has. Never asks for a fresh request:
    /// that would be a second restart, or one revision further back.
    async fn again(&self, request: &Request, permit: Permit) -> Result<Done, Failure> {
        for _ in 0..LOOKS {
            let now = self.look().await?;
            if !is_of(&now, request) {
                return Ok(superseded(request, "was deleted and created anew"));
            }
            let held = held(request.operation, &now);
            if self.is_ours(&now) || (held == request.to && leaves_no_mark(request.operation)) {
                return Ok(done(request, now.metadata.resource_version));
            }
            if held == request.to {
                return Ok(unchanged(request));
            }
            if held != request.from {
                return Ok(superseded(request, "was changed by somebody else"));
            }
            refuse_paused(request.operation, &now, &self.aim)?;
            match self.write(request, &now.metadata.resource_version.unwrap_or_default(), permit).await {
                Err(failure) if failure.kind == FailureKind::Conflict => {}
                result => return result,
            }
        }
        let doing = words(request.operation).0;
        Err(Failure::retryable(format!("{doing} {}: it changes faster than it can be written", self.aim.title())))
    }

    /// Whether the object bears this step's mark.
    fn is_ours(&self, now: &DynamicObject) -> bool {
        let manager = self.cx.manager();
        let is_mark =
            |entry: &ManagedFieldsEntry| entry.manager.as_deref() == Some(&manager) && entry.subresource.is_none();
        now.metadata.managed_fields.iter().flatten().any(is_mark)
    }

    async fn write(&self, request: &Request, version: &str, _permit: Permit) -> Result<Done, Failure> {
        let params = PatchParams { field_manager: Some(self.cx.manager()), ..PatchParams::default() };
        let written = self.send(request, version, &params).await?;
        Ok(done(request, written.metadata.resource_version))
    }

    async fn send(&self, request: &Request, version: &str, params: &PatchParams) -> Result<DynamicObject, Failure> {
        let metadata = json!({"resourceVersion": version});
        let patch = match (request.operation, &request.revision) {
            (RolloutOperation::Undo, Some(revision)) => Patch::Strategic(revision.patch(metadata)),
            (RolloutOperation::Undo, None) => return Err(Failure::last("the recorded request has no revision")),
            (RolloutOperation::Restart, _) => {
                let template = json!({"metadata": {"annotations": {RESTARTED_AT: request.to}}});
                Patch::Merge(json!({"metadata": metadata, "spec": {"template": template}}))
            }
            (RolloutOperation::Pause | RolloutOperation::Resume, _) => {
                Patch::Merge(json!({"metadata": metadata, "spec": {"paused": request.to}}))
            }
        };
        let sent = self.api.patch(&self.aim.name, params, &patch).await;
        sent.map_err(|error| self.failure(&error, words(request.operation).0, "patch"))
    }
}

fn is_of(now: &DynamicObject, request: &Request) -> bool {
    now.metadata.uid.as_deref() == Some(&request.uid)
}

/// What the field that the operation writes holds.
fn held(operation: RolloutOperation, now: &DynamicObject) -> Value {
    match operation {
        RolloutOperation::Restart => now.data["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT].clone(),
        RolloutOperation::Undo => history::digest(&now.data["spec"]["template"]),
        // Absent means false.
        RolloutOperation::Pause | RolloutOperation::Resume => (now.data["spec"]["paused"] == true).into(),
    }
}

/// Whether the field alone tells that the step has written it. The time of a restart is the step's own. A roll-back that only takes fields away
/// owns none, and so leaves no field manager behind.
fn leaves_no_mark(operation: RolloutOperation) -> bool {
    matches!(operation, RolloutOperation::Restart | RolloutOperation::Undo)
}

/// A paused Deployment would be restarted or rolled back when it is resumed, whenever that is.
fn refuse_paused(operation: RolloutOperation, now: &DynamicObject, aim: &Aim) -> Result<(), Failure> {
    if !matches!(operation, RolloutOperation::Restart | RolloutOperation::Undo) || now.data["spec"]["paused"] != true {
        return Ok(());
    }
    let resume = kubectl("resume", aim);
    let doing = words(operation).0;
    Err(Failure::last(format!("{doing} {}: it is paused; resume it first: {resume}", aim.title())))
}

/// The command line that does `what` to the target.
fn kubectl(what: &str, aim: &Aim) -> String {
    let kind = aim.resource.api.kind.to_ascii_lowercase();
    let within = aim.namespace.as_deref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    format!("kubectl rollout {what} {kind} {}{within}", aim.name)
}

/// What is done, what was done, and the reason of the Kubernetes Event that tells it.
fn words(operation: RolloutOperation) -> (&'static str, &'static str, &'static str) {
    match operation {
        RolloutOperation::Restart => ("restart", "restarted", "RestartedByRule"),
        RolloutOperation::Undo => ("roll back", "rolled back", "RolledBackByRule"),
        RolloutOperation::Pause => ("pause", "paused", "PausedByRule"),
        RolloutOperation::Resume => ("resume", "resumed", "ResumedByRule"),
    }
}

impl Request {
    fn title(&self) -> String {
        title(&self.kind, self.namespace.as_deref(), &self.name)
    }

    fn result(&self) -> Value {
        match self.operation {
            RolloutOperation::Restart => json!({"restartedAt": self.to}),
            RolloutOperation::Undo => json!({"revision": self.revision.as_ref().map(|revision| revision.number)}),
            RolloutOperation::Pause | RolloutOperation::Resume => json!({"paused": self.to}),
        }
    }

    /// ` to revision 3`, or nothing.
    fn to_revision(&self) -> String {
        self.revision.as_ref().map(|revision| format!(" to revision {}", revision.number)).unwrap_or_default()
    }

    fn ended(&self, outcome: ActionOutcome, message: String) -> Done {
        Done { outcome, message, result: self.result(), effect: None }
    }
}

fn done(request: &Request, resource_version: Option<String>) -> Done {
    let (_, past, reason) = words(request.operation);
    let effect = Effect {
        api_version: request.api_version.clone(),
        kind: request.kind.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        uid: request.uid.clone(),
        resource_version,
        reason: reason.to_owned(),
    };
    let message = format!("{past} {}{}", request.title(), request.to_revision());
    let done = request.ended(ActionOutcome::Succeeded, message);
    Done { effect: Some(effect), ..done }
}

fn unchanged(request: &Request) -> Done {
    let state = match &request.revision {
        Some(revision) => format!("as in revision {}", revision.number),
        None => words(request.operation).1.to_owned(),
    };
    request.ended(ActionOutcome::Unchanged, format!("{} is {state} already", request.title()))
}

fn superseded(request: &Request, what: &str) -> Done {
    let (_, past, _) = words(request.operation);
    request.ended(ActionOutcome::Superseded, format!("{} {what} meanwhile, it was not {past}", request.title()))
}

#[cfg(test)]
mod tests;
