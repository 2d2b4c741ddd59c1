//! `rollout`: restarts, rolls back, pauses and resumes workloads as `kubectl rollout` does; nothing else of the object is written.

mod history;
mod stuck;

use futures::future::BoxFuture;
use kube::{
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Action, Attempt, Back, Context, Done, Failure, Undo,
    target::{Aim, filled_key, fixed, recorded_key},
    undo,
    write::{self, Change, Object, Step, Verdict, Words},
};
use crate::{
    api::{self, RolloutOperation},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{self, Effect},
};
use history::Revision;
use stuck::Stuck;

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
    #[serde(flatten)]
    object: Object,
    operation: RolloutOperation,
    /// What the one field that is written held, and what it is to hold: a time, whether it is paused, or the digest of a Pod template.
    from: Value,
    to: Value,
    /// What it is rolled back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    /// Of a StatefulSet whose stuck Pods are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stuck: Option<Stuck>,
}

impl Rollout {
    /// Of a target that the event has led to, it is known only now what kind it is.
    fn refuse_operation(&self, aim: &Aim) -> Result<(), Failure> {
        let target = api::Target { from: None, kind: aim.resource.api.kind.clone(), ..self.0.target.clone() };
        let fault = api::Rollout { target, ..self.0.clone() }.fault();
        fault.map_or(Ok(()), |fault| Err(Failure::last(format!("{}: {fault}", aim.title()))))
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
            if self.0.delete_stuck_pods {
                rights.extend(stuck::rights(&aim));
            }
            rights
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
            if let Some(fault) = self.0.fault() {
                return Err(Failure::last(fault));
            }
            let aim = Aim::filled(cx, &self.0.target, filled).await?;
            refuse_without_rollout(&aim)?;
            self.refuse_operation(&aim)?;
            let step = Step::new(cx, aim);
            let now = step.get().await?;
            let operation = self.0.operation;
            refuse_paused(operation, &now, &step.aim)?;
            let revision = match operation {
                RolloutOperation::Undo => Some(history::find(&step, &now, self.0.revision).await?),
                _ => None,
            };
            let request = Request {
                stuck: if self.0.delete_stuck_pods { Stuck::of(&now) } else { None },
                from: held(operation, &now),
                object: Object::new(&step.aim, now.metadata.uid.unwrap_or_default(), now.metadata.resource_version),
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
            request.to_request()
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
            let done = write::execute::<Request>(cx, request, attempt, permit).await?;
            match Request::deserialize(request) {
                Ok(Request { object, stuck: Some(stuck), .. }) => stuck.delete(cx, &object, done).await,
                _ => Ok(done),
            }
        })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(write::observe::<Request>(cx, request))
    }

    fn changed(&self, cx: &Context, request: &Value, _: Option<&Effect>) -> Undo {
        match Request::deserialize(request) {
            Ok(request) => request.changed(cx),
            Err(_) => Undo::Never("what it was is not known"),
        }
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a record::Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(take_back(cx, change))
    }
}

impl Request {
    fn changed(self, cx: &Context) -> Undo {
        let paused = |paused: Value| json!({"paused": paused});
        match self.operation {
            RolloutOperation::Restart => Undo::Never("a restart cannot be undone"),
            RolloutOperation::Undo => {
                Undo::Never("a roll-back is not undone: kubectl rollout history shows the revisions")
            }
            RolloutOperation::Pause | RolloutOperation::Resume => {
                Undo::of(self.object.change(cx.manager(), None, paused(self.from), paused(self.to)))
            }
        }
    }
}

/// Pauses what was resumed, and resumes what was paused.
async fn take_back(cx: &Context, change: &record::Change) -> Result<Back, Failure> {
    let step = undo::step(cx, change).await?;
    let read = step.api.get(&step.aim.name).await;
    let now = match undo::same(change, read, |error| step.failure(error, "read", step.right("get")))? {
        Ok(now) => now,
        Err(back) => return Ok(back),
    };
    let (from, to) = (change.made["paused"].clone(), change.back["paused"].clone());
    let operation = if to == true { RolloutOperation::Pause } else { RolloutOperation::Resume };
    if held(operation, &now) == to {
        return Ok(Back::unchanged(format!("{} is {} already", undo::named(change), words(operation).1)));
    }
    if change.unsure && !undo::is_witnessed(change, now.metadata.managed_fields.as_deref()) {
        return Ok(Back::not_ours(change));
    }
    let object = Object::new(&step.aim, now.metadata.uid.unwrap_or_default(), now.metadata.resource_version);
    Request { object, operation, from, to, revision: None, stuck: None }.to_request().map(Back::Request)
}

impl Change for Request {
    fn object(&self) -> &Object {
        &self.object
    }

    fn words(&self) -> Words {
        let (present, past, reason) = words(self.operation);
        let (how, state) = match &self.revision {
            Some(Revision { number, .. }) => (format!(" to revision {number}"), format!("is as in revision {number}")),
            None => (String::new(), format!("is {past}")),
        };
        Words { present, past, reason, how, state }
    }

    fn result(&self) -> Value {
        match self.operation {
            RolloutOperation::Restart => json!({"restartedAt": self.to}),
            RolloutOperation::Undo => json!({"revision": self.revision.as_ref().map(|revision| revision.number)}),
            RolloutOperation::Pause | RolloutOperation::Resume => json!({"paused": self.to}),
        }
    }

    fn is_nothing(&self) -> bool {
        self.from == self.to
    }

    async fn judge(&self, step: &Step<'_>, now: &DynamicObject) -> Result<Verdict, Failure> {
        let held = held(self.operation, now);
        if self.is_ours(step, now).await? {
            return Ok(Verdict::Done);
        }
        if held == self.to && leaves_no_mark(self.operation) {
            return Ok(Verdict::Unmarked);
        }
        if held == self.to {
            return Ok(Verdict::Unchanged);
        }
        if held != self.from {
            return Ok(Verdict::Superseded("was changed by somebody else".to_owned()));
        }
        refuse_paused(self.operation, now, &step.aim)?;
        Ok(Verdict::Write)
    }

    async fn send(
        &self,
        step: &Step<'_>,
        version: Option<&str>,
        params: &PatchParams,
    ) -> Result<DynamicObject, Failure> {
        let metadata = json!({"resourceVersion": version});
        let patch = match (self.operation, &self.revision) {
            (RolloutOperation::Undo, Some(revision)) => Patch::Strategic(revision.patch(metadata)),
            (RolloutOperation::Undo, None) => return Err(Failure::last("the recorded request has no revision")),
            (RolloutOperation::Restart, _) => {
                let template = json!({"metadata": {"annotations": {RESTARTED_AT: self.to}}});
                Patch::Merge(json!({"metadata": metadata, "spec": {"template": template}}))
            }
            (RolloutOperation::Pause | RolloutOperation::Resume, _) => {
                Patch::Merge(json!({"metadata": metadata, "spec": {"paused": self.to}}))
            }
        };
        let sent = step.api.patch(&step.aim.name, params, &patch).await;
        sent.map_err(|error| step.failure(&error, words(self.operation).0, step.right("patch")))
    }
}

fn refuse_without_rollout(aim: &Aim) -> Result<(), Failure> {
    let kind = &aim.resource.api;
    if kind.group == "apps" && aim.namespace.is_some() {
        return Ok(());
    }
    Err(Failure::last(format!("{}: {} {} has no rollout", aim.title(), kind.api_version, kind.kind)))
}

/// What the field that the operation writes holds.
fn held(operation: RolloutOperation, now: &DynamicObject) -> Value {
    match operation {
        RolloutOperation::Restart => now.data["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT].clone(),
        RolloutOperation::Undo => write::digest(&now.data["spec"]["template"]).into(),
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

#[cfg(test)]
mod tests;
