//! One change of one object, written once: what `scale`, `rollout` and `patch` have in common.
//!
//! The change is recorded with absolute values and with what the object was. It is written under a precondition and under a field manager that names
//! the step, its mark. A repetition looks first: what bears the mark is done, what is still as it was is written, and what somebody else has changed is
//! left alone. This file knows no kind of action.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::{Api, api::PatchParams, core::DynamicObject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Attempt, Context, Done, Failure, FailureKind, gitops, recording, target::Aim};
use crate::{
    api::ActionOutcome,
    bus::Permit,
    event::title,
    kubernetes::Right,
    record::{Effect, without_nulls},
};

/// How often a repetition looks again when the object changes between looking and writing; a controller's status writes come about once a second.
const LOOKS: usize = 5;

/// An object as it was when the request was rendered: a part of the recorded request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) api_version: String,
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) uid: String,
    /// Nothing: what the object was is remembered, and the write tests that it still is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resource_version: Option<String>,
}

impl Object {
    pub(super) fn new(aim: &Aim, uid: String, resource_version: Option<String>) -> Self {
        Self {
            api_version: aim.resource.api.api_version.clone(),
            kind: aim.resource.api.kind.clone(),
            namespace: aim.namespace.clone(),
            name: aim.name.clone(),
            uid,
            resource_version,
        }
    }

    /// The object that a step has written.
    pub(super) fn of(effect: &Effect) -> Self {
        Self {
            api_version: effect.api_version.clone(),
            kind: effect.kind.clone(),
            namespace: effect.namespace.clone(),
            name: effect.name.clone(),
            uid: effect.uid.clone(),
            resource_version: effect.resource_version.clone(),
        }
    }

    /// `Deployment shop/web`
    pub(super) fn title(&self) -> String {
        title(&self.kind, self.namespace.as_deref(), &self.name)
    }

    pub(super) fn effect(&self, resource_version: Option<String>, reason: &str) -> Effect {
        Effect {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            resource_version,
            found: false,
            gone: false,
            reason: reason.to_owned(),
        }
    }
}

/// How a change is told.
pub(super) struct Words {
    /// `scale`
    pub(super) present: &'static str,
    /// `scaled`
    pub(super) past: &'static str,
    /// Reason of the Kubernetes Event: `ScaledByRule`
    pub(super) reason: &'static str,
    /// What follows the object's name, ` from 2 to 6`, or nothing.
    pub(super) how: String,
    /// What the object that needs no change is: `has 6 replicas`.
    pub(super) state: String,
}

/// What a repetition finds.
pub(super) enum Verdict {
    /// The change is there, and an earlier attempt has made it: it has left its mark.
    Done,
    /// The change is there, and an earlier attempt has made it, for all that can be told without a mark.
    Unmarked,
    /// The change is there.
    Unchanged,
    /// Somebody else has changed what would be written; in words, `was set to 9 by somebody else`.
    Superseded(String),
    /// It is what it was.
    Write,
}

/// A recorded request that changes one object.
pub(super) trait Change: Serialize + DeserializeOwned + Send + Sync {
    /// The object.
    fn object(&self) -> &Object;

    /// How it is told.
    fn words(&self) -> Words;

    /// `actions.<name>` for later expressions.
    fn result(&self) -> Value;

    /// Whether the object was already what it is to become.
    fn is_nothing(&self) -> bool {
        false
    }

    /// Reads what [`Change::is_ours`] and [`Change::judge`] need.
    fn look(&self, step: &Step<'_>) -> impl Future<Output = Result<DynamicObject, Failure>> + Send {
        step.get()
    }

    /// Whether the object bears this step's mark.
    fn is_ours(&self, step: &Step<'_>, now: &DynamicObject) -> impl Future<Output = Result<bool, Failure>> + Send {
        let entries = now.metadata.managed_fields.as_deref();
        std::future::ready(Ok(is_mark(entries, &self.manager(step), None)))
    }

    /// What a repetition has to do about an object of the recorded uid.
    fn judge(&self, step: &Step<'_>, now: &DynamicObject) -> impl Future<Output = Result<Verdict, Failure>> + Send;

    /// The same change of the object as it is now, where the request holds more than what it changes: the rest of a list.
    fn anew(&self, _now: &DynamicObject) -> Option<Self> {
        None
    }

    /// Sends it, for an object of this version; without one, for an object that is as the request says that it was.
    fn send(
        &self,
        step: &Step<'_>,
        version: Option<&str>,
        params: &PatchParams,
    ) -> impl Future<Output = Result<DynamicObject, Failure>> + Send;

    /// The field manager that it is written under.
    fn manager(&self, step: &Step<'_>) -> String {
        step.cx.manager()
    }

    /// It was written, and the answer has come.
    fn written(&self, _step: &Step<'_>) {}

    /// The request as it is recorded.
    fn to_request(&self) -> Result<Value, Failure> {
        recording::of(self)
    }
}

/// One step and the object that it is about.
pub(super) struct Step<'a> {
    pub(super) cx: &'a Context,
    pub(super) aim: Aim,
    pub(super) api: Api<DynamicObject>,
}

impl<'a> Step<'a> {
    pub(super) fn new(cx: &'a Context, aim: Aim) -> Self {
        let client = cx.services.cluster.as_account(&cx.account);
        let api = match &aim.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &aim.resource.api),
            None => Api::all_with(client, &aim.resource.api),
        };
        Self { cx, aim, api }
    }

    /// The right on all objects of the kind, or of its namespace.
    pub(super) fn right(&self, verb: &str) -> Right {
        let kind = &self.aim.resource.api;
        Right::new(verb, &kind.group, &kind.plural).within(self.aim.namespace.as_deref())
    }

    pub(super) fn failure(&self, error: &kube::Error, doing: &str, right: Right) -> Failure {
        Failure::of_kube(error, &format!("{doing} {}", self.aim.title()), &self.cx.account, right)
    }

    pub(super) async fn get(&self) -> Result<DynamicObject, Failure> {
        self.api.get(&self.aim.name).await.map_err(|error| self.failure(&error, "read", self.right("get")))
    }
}

/// Whether one of the entries says that the manager has written the object, or this subresource of it.
pub(super) fn is_mark(entries: Option<&[ManagedFieldsEntry]>, manager: &str, subresource: Option<&str>) -> bool {
    let is_mark = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(manager) && entry.subresource.as_deref() == subresource
    };
    entries.unwrap_or_default().iter().any(is_mark)
}

/// A part of an object in 64 hexadecimal digits. Null and absent are the same to the API server, and which of them it says depends on its version.
pub(super) fn digest(part: &Value) -> String {
    let text = without_nulls(part).to_string();
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Carries a recorded request out.
pub(super) async fn execute<C: Change>(
    cx: &Context,
    request: &Value,
    attempt: Attempt,
    permit: Permit,
) -> Result<Done, Failure> {
    let (change, step) = recorded::<C>(cx, request).await?;
    if change.is_nothing() {
        return Ok(unchanged(&change));
    }
    match attempt {
        Attempt::First => first(&change, &step, permit).await,
        Attempt::Again => again(&change, &step, permit).await,
    }
}

/// Sends a recorded request as a dry run.
pub(super) async fn observe<C: Change>(cx: &Context, request: &Value) -> Result<Done, Failure> {
    let (change, step) = recorded::<C>(cx, request).await?;
    if change.is_nothing() {
        return Ok(unchanged(&change));
    }
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    change.send(&step, change.object().resource_version.as_deref(), &params).await?;
    let Words { present, how, .. } = change.words();
    let message = format!("would {present} {}{how}", change.object().title());
    Ok(Done::observed(message, change.result()))
}

/// Reads a recorded request and finds its object's kind.
pub(super) async fn recorded<'a, C: Change>(cx: &'a Context, request: &Value) -> Result<(C, Step<'a>), Failure> {
    let change: C = recording::read(request)?;
    let Object { api_version, kind, namespace, name, .. } = change.object();
    let resource = cx.services.cluster.resolve(Some(api_version), kind).await?;
    let step = Step::new(cx, Aim { resource, name: name.clone(), namespace: namespace.clone() });
    Ok((change, step))
}

/// Writes, provided that the object is still as it was when the request was rendered.
async fn first<C: Change>(change: &C, step: &Step<'_>, permit: Permit) -> Result<Done, Failure> {
    match write(change, step, change.object().resource_version.as_deref(), permit).await {
        Err(failure) if failure.kind == FailureKind::Conflict => {
            let now = change.look(step).await?;
            // Something on the way had sent it twice.
            let ours = is_of(&now, change) && change.is_ours(step, &now).await?;
            if ours { Ok(done(change, now.metadata).found()) } else { Err(failure) }
        }
        result => result,
    }
}

/// Finds out whether an earlier attempt has written, and writes the same if it has not and nobody else has. Never asks for a fresh request: that would
/// be "2 more" than what an attempt still on its way may have written, a second restart, or one revision further back.
async fn again<C: Change>(change: &C, step: &Step<'_>, permit: Permit) -> Result<Done, Failure> {
    for _ in 0..LOOKS {
        let now = change.look(step).await?;
        if !is_of(&now, change) {
            return Ok(superseded(change, "was deleted and created anew"));
        }
        match change.judge(step, &now).await? {
            Verdict::Done => return Ok(done(change, now.metadata).found()),
            // What a rule hears of its own write is known by the mark, or else by the version alone.
            Verdict::Unmarked => return Ok(done(change, now.metadata)),
            Verdict::Unchanged => return Ok(unchanged(change)),
            Verdict::Superseded(what) => return Ok(superseded(change, &what)),
            Verdict::Write => {}
        }
        let anew = change.anew(&now);
        match write(anew.as_ref().unwrap_or(change), step, now.metadata.resource_version.as_deref(), permit).await {
            Err(failure) if failure.kind == FailureKind::Conflict => {}
            result => return result,
        }
    }
    let doing = change.words().present;
    Err(Failure::retryable(format!("{doing} {}: it changes faster than it can be written", step.aim.title())))
}

fn is_of<C: Change>(now: &DynamicObject, change: &C) -> bool {
    now.metadata.uid.as_deref() == Some(&change.object().uid)
}

async fn write<C: Change>(
    change: &C,
    step: &Step<'_>,
    version: Option<&str>,
    _permit: Permit,
) -> Result<Done, Failure> {
    let params = PatchParams { field_manager: Some(change.manager(step)), ..PatchParams::default() };
    let written = change.send(step, version, &params).await?;
    change.written(step);
    // The API server gives no new version to an object that a write leaves as it is.
    if version.is_some() && written.metadata.resource_version.as_deref() == version {
        return Ok(unchanged(change));
    }
    Ok(done(change, written.metadata))
}

fn done<C: Change>(change: &C, metadata: ObjectMeta) -> Done {
    let Words { past, reason, how, .. } = change.words();
    let warning = gitops::warning(&metadata);
    let effect = change.object().effect(metadata.resource_version, reason);
    let message = format!("{past} {}{how}{warning}", change.object().title());
    Done { effect: Some(effect), ..ended(change, ActionOutcome::Succeeded, message) }
}

pub(super) fn unchanged<C: Change>(change: &C) -> Done {
    let message = format!("{} {} already", change.object().title(), change.words().state);
    ended(change, ActionOutcome::Unchanged, message)
}

fn superseded<C: Change>(change: &C, what: &str) -> Done {
    let Words { past, how, .. } = change.words();
    let message = format!("{} {what} meanwhile, it was not {past}{how}", change.object().title());
    ended(change, ActionOutcome::Superseded, message)
}

fn ended<C: Change>(change: &C, outcome: ActionOutcome, message: String) -> Done {
    Done { outcome, message, result: change.result(), effect: None, reason: None }
}
