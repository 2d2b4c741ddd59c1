//! `patch`: changes an object of any kind in one of the four ways that the API server knows.
//!
//! It is written under the version that was seen. A repetition compares what the patch touches with what that was; of lists it is the whole list, so that
//! nothing is added twice. Nothing of a Secret is shown but the names of its fields.

mod back;
mod difference;
mod touched;

use futures::future::BoxFuture;
use kube::{
    api::{self as request, PatchParams, ValidationDirective},
    core::DynamicObject,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Action, Attempt, Back, Context, Done, Failure, FailureKind, Undo,
    failure::is_missing_right,
    target::{Aim, filled_key, fixed, key},
    text,
    write::{self, Change, Object, Step, Verdict, Words},
};
use crate::{
    api::{self, PatchType},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{self, Effect},
    text::join,
};
use back::Kept;
use difference::{differences, sentence};

/// The API server does not say which operation it was.
const UNFIT: &str = "an operation does not fit the object: a path that is not there, or a test that fails";

/// Nothing of a Secret is in the log but what the rule itself says.
const NOT_KEPT: &str = "what a Secret held is not kept, so it cannot be given back";

/// The action.
pub(super) struct Patch(api::Patch);

impl Patch {
    pub(super) fn new(spec: &api::Patch) -> Self {
        Self(spec.clone())
    }
}

/// What is recorded before the write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(flatten)]
    object: Object,
    #[serde(rename = "type")]
    type_: PatchType,
    patch: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subresource: Option<String>,
    #[serde(default)]
    force: bool,
    /// The digest of what the patch touches, as it was.
    from: String,
    /// What it changes, as it was and as it becomes, where that is to be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

impl Action for Patch {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let Some(aim) = fixed(cluster, &self.0.target, namespace).await else { return Vec::new() };
            vec![aim.right("get"), on(aim.right("patch"), self.0.subresource.as_deref())]
        })
    }

    fn target(&self, namespace: &str, filled: &Value) -> Option<String> {
        filled_key(namespace, &self.0.target, filled)
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        key(namespace, request.get("kind")?.as_str()?, request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let mut patch = filled.get("patch").cloned().unwrap_or(Value::Null);
            let faults = self.0.faults(&patch);
            if !faults.is_empty() {
                let told = faults.iter().map(|fault| format!("patch{}: {}", fault.path, fault.message));
                return Err(Failure::last(join(told)));
            }
            texts(&mut patch)?;
            let aim = Aim::new(cx, &self.0.target, filled.get("target").unwrap_or(&Value::Null)).await?;
            let step = Step::new(cx, aim);
            let now = step.get().await?;
            let from = write::digest(&touched::by(&patch, &json(&now)));
            let metadata = now.metadata.clone();
            let object = Object::new(&step.aim, metadata.uid.unwrap_or_default(), metadata.resource_version);
            let api::Patch { type_, subresource, force, .. } = self.0.clone();
            let mut request = Request { object, type_, patch, subresource, force, from, kept: None };
            if request.is_secret() && self.0.restore.is_some() {
                return Err(Failure::last(format!("patch {}: {NOT_KEPT}: leave restore out", request.object.title())));
            }
            if cx.keeps && !request.is_secret() {
                let after = json(&request.tried(&step, &now).await?);
                request.kept = Some(Kept::of(&request, &json(&now), &after)?);
            }
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
        Box::pin(write::execute::<Request>(cx, request, attempt, permit))
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let (change, step) = write::recorded::<Request>(cx, request).await?;
            let now = step.get().await?;
            let changes = differences(&json(&now), &json(&change.tried(&step, &now).await?));
            if changes.is_empty() {
                return Ok(write::unchanged(&change));
            }
            let told = sentence(&changes, change.is_secret());
            Ok(Done::observed(format!("would patch {}: {told}", change.object.title()), change.result()))
        })
    }

    fn changed(&self, cx: &Context, request: &Value, _: Option<&Effect>) -> Undo {
        match Request::deserialize(request) {
            Ok(request) if request.is_secret() => Undo::Never(NOT_KEPT),
            Ok(Request { object, subresource, type_, kept: Some(Kept { back, made }), .. }) => {
                Undo::of(object.change(manager(type_, cx), subresource.as_deref(), back, made))
            }
            _ => Undo::Nothing,
        }
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a record::Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(back::take_back(cx, change))
    }
}

impl Change for Request {
    fn object(&self) -> &Object {
        &self.object
    }

    fn words(&self) -> Words {
        Words {
            present: "patch",
            past: "patched",
            reason: "PatchedByRule",
            how: self.subresource.as_ref().map(|name| format!(" ({name})")).unwrap_or_default(),
            state: "is as the patch makes it".to_owned(),
        }
    }

    fn result(&self) -> Value {
        let Object { api_version, kind, namespace, name, .. } = &self.object;
        json!({"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name})
    }

    /// The manager of an applied patch is the same for all firings: it proves nothing about this one.
    async fn is_ours(&self, step: &Step<'_>, now: &DynamicObject) -> Result<bool, Failure> {
        Ok(self.type_ != PatchType::Apply && self.is_marked(step, now))
    }

    async fn judge(&self, step: &Step<'_>, now: &DynamicObject) -> Result<Verdict, Failure> {
        if self.is_ours(step, now).await? {
            return Ok(Verdict::Done);
        }
        let before = json(now);
        if write::digest(&touched::by(&self.patch, &before)) == self.from {
            return Ok(Verdict::Write);
        }
        let after = match self.tried(step, now).await {
            Ok(after) => after,
            Err(failure) if failure.message.ends_with(UNFIT) => {
                let what = "was changed (perhaps by an attempt whose answer was lost)";
                return Ok(Verdict::Superseded(what.to_owned()));
            }
            Err(failure) => return Err(failure),
        };
        if !differences(&before, &json(&after)).is_empty() {
            return Ok(Verdict::Superseded("was changed by somebody else".to_owned()));
        }
        // It has been made so since.
        Ok(match self.type_ {
            PatchType::Apply if self.is_marked(step, now) => Verdict::Unmarked,
            // Somebody else's values, which the rule does not own yet.
            PatchType::Apply => Verdict::Write,
            // What only takes fields away leaves no mark.
            _ if touched::only_removes(&self.patch) => Verdict::Unmarked,
            _ => Verdict::Unchanged,
        })
    }

    async fn send(
        &self,
        step: &Step<'_>,
        version: Option<&str>,
        params: &PatchParams,
    ) -> Result<DynamicObject, Failure> {
        let params = PatchParams {
            // A field that the kind does not have would be dropped without a word.
            field_validation: Some(ValidationDirective::Strict),
            force: self.force,
            ..params.clone()
        };
        let (name, patch) = (&step.aim.name, self.body(version)?);
        let sent = match &self.subresource {
            Some(subresource) => step.api.patch_subresource(subresource, name, &params, &patch).await,
            None => step.api.patch(name, &params, &patch).await,
        };
        sent.map_err(|error| self.failure(step, &error))
    }

    fn manager(&self, step: &Step<'_>) -> String {
        manager(self.type_, step.cx)
    }
}

fn manager(type_: PatchType, cx: &Context) -> String {
    match type_ {
        // Fields that an earlier firing applied and this one does not name go: 10 + 36 + 1 + 63 of 128 characters allowed.
        PatchType::Apply => format!("signalbox/{}/{}", cx.rule.uid.0, cx.action),
        _ => cx.manager(),
    }
}

impl Request {
    /// What a dry run makes of the object.
    async fn tried(&self, step: &Step<'_>, now: &DynamicObject) -> Result<DynamicObject, Failure> {
        let params = PatchParams { dry_run: true, field_manager: Some(self.manager(step)), ..PatchParams::default() };
        self.send(step, now.metadata.resource_version.as_deref(), &params).await
    }

    /// The patch with what the object must be: its uid, and this version.
    fn body(&self, version: Option<&str>) -> Result<request::Patch<Value>, Failure> {
        let mut patch = self.patch.clone();
        if let Value::Array(operations) = &mut patch {
            let of = |field: &str, value: Option<&str>| json!({"op": "add", "path": format!("/metadata/{field}"), "value": value});
            operations.splice(0..0, [of("uid", Some(&self.object.uid)), of("resourceVersion", version)]);
            return serde_json::from_value(patch)
                .map(request::Patch::Json)
                .map_err(|error| Failure::last(format!("make a patch: {error}")));
        }
        let mut metadata = patch["metadata"].as_object().cloned().unwrap_or_default();
        metadata.insert("uid".to_owned(), self.object.uid.as_str().into());
        metadata.insert("resourceVersion".to_owned(), version.into());
        if self.type_ == PatchType::Apply {
            patch["apiVersion"] = self.object.api_version.as_str().into();
            patch["kind"] = self.object.kind.as_str().into();
            metadata.insert("name".to_owned(), self.object.name.as_str().into());
        }
        patch["metadata"] = metadata.into();
        Ok(match self.type_ {
            PatchType::Strategic => request::Patch::Strategic(patch),
            PatchType::Apply => request::Patch::Apply(patch),
            PatchType::Merge | PatchType::JSON => request::Patch::Merge(patch),
        })
    }

    fn is_marked(&self, step: &Step<'_>, now: &DynamicObject) -> bool {
        let entries = now.metadata.managed_fields.as_deref();
        write::is_mark(entries, &self.manager(step), self.subresource.as_deref())
    }

    fn is_secret(&self) -> bool {
        self.object.api_version == "v1" && self.object.kind == "Secret"
    }

    fn failure(&self, step: &Step<'_>, error: &kube::Error) -> Failure {
        let failure = step.failure(error, "patch", on(step.right("patch"), self.subresource.as_deref()));
        let kube::Error::Api(status) = error else { return failure };
        let title = self.object.title();
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let said = match status.code {
            409 if causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict") => {
                format!("{}; force: true takes the fields over", status.message)
            }
            415 if self.type_ == PatchType::Strategic => {
                format!("{} has no Strategic patches, which are for built-in kinds: use type Merge", self.object.kind)
            }
            404 if self.subresource.is_some() => {
                let subresource = self.subresource.as_deref().unwrap_or_default();
                format!("it is not there any more, or {} has no subresource {subresource}", self.object.kind)
            }
            422 if self.type_ == PatchType::JSON && status.message.starts_with("the server rejected our request") => {
                UNFIT.to_owned()
            }
            // Refusals repeat values.
            400..500 if self.is_secret() && failure.kind == FailureKind::Final && !is_missing_right(status) => {
                format!("the API server refuses it as {} (what it says is not shown for a Secret)", status.reason)
            }
            _ => match after_the_object(&status.message) {
                Some(reason) => reason.to_owned(),
                None => return failure,
            },
        };
        Failure::last(format!("patch {title}: {said}"))
    }
}

/// What the API server says of a patch after having repeated the whole object: `patch: Invalid value: "{\"apiVersion\":…}": unknown field`.
fn after_the_object(message: &str) -> Option<&str> {
    let (_, quoted) = message.split_once("patch: Invalid value: \"{")?;
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    quoted[end + 1..].strip_prefix(": ")
}

fn on(right: Right, subresource: Option<&str>) -> Right {
    match subresource {
        Some(name) => right.on(name),
        None => right,
    }
}

fn json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// Labels and annotations are texts: numbers that were filled in are written out.
fn texts(patch: &mut Value) -> Result<(), Failure> {
    for base in ["/metadata", "/spec/template/metadata"] {
        for map in ["labels", "annotations"] {
            let values = patch.pointer_mut(&format!("{base}/{map}")).and_then(Value::as_object_mut);
            values.into_iter().flat_map(Map::values_mut).filter(|value| !value.is_null()).try_for_each(written_out)?;
        }
    }
    for operation in patch.as_array_mut().into_iter().flatten() {
        let path = operation["path"].as_str().unwrap_or_default();
        if ["labels", "annotations"].iter().any(|map| path.contains(&format!("/metadata/{map}/")))
            && let Some(value) = operation.get_mut("value")
        {
            written_out(value)?;
        }
    }
    Ok(())
}

fn written_out(value: &mut Value) -> Result<(), Failure> {
    *value = Value::String(text::of(Some(value), "a label or annotation")?);
    Ok(())
}

#[cfg(test)]
mod tests;
