//! One change of the fields of one object, in one of the four ways that the API server knows: what `patch` and all that is a patch with words of its
//! own have in common.
//!
//! It is written under the version that was seen. A repetition compares what the patch touches with what that was; of lists it is the whole list, so that
//! nothing is added twice, unless it is known which entry the change is about. Nothing of a Secret is shown but the names of its fields.

mod back;
mod difference;
mod entry;
mod refused;
mod touched;

use kube::{
    api::{self as request, PatchParams, ValidationDirective},
    core::DynamicObject,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(super) use back::{Kept, take_back};
pub(super) use entry::{Entry, Image, Taints};

use super::{
    Context, Done, Failure, Undo, recording, text,
    write::{self, Change, Object, Step, Verdict, Words},
};
use crate::{api::PatchType, kubernetes::Right};
use difference::{differences, sentence};
use refused::UNFIT;

/// Nothing of a Secret is in the log but what the rule itself says.
pub(super) const NOT_KEPT: &str = "what a Secret held is not kept, so it cannot be given back";

/// What is recorded before the write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fields {
    #[serde(flatten)]
    pub(super) object: Object,
    #[serde(rename = "type")]
    pub(super) type_: PatchType,
    pub(super) patch: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subresource: Option<String>,
    #[serde(default)]
    pub(super) force: bool,
    /// The digest of what the patch touches, as it was.
    pub(super) from: String,
    /// The entry of a list that it is about, whose `from` and `to` are in `more`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) entry: Option<Entry>,
    /// What it changes, as it was and as it becomes, where that is to be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<Kept>,
    /// The action that it is of.
    #[serde(default, skip_serializing_if = "Verb::is_patch")]
    pub(super) verb: Verb,
    /// What follows the object's name when it is told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) how: String,
    /// What `actions.<name>` holds beside the object's names.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) more: Map<String, Value>,
}

/// Which action changes the fields: it is told by its own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verb {
    #[default]
    Patch,
    Apply,
    SetImage,
    Adjust,
    Cordon,
    Uncordon,
    Taint,
    Untaint,
}

impl Verb {
    fn is_patch(&self) -> bool {
        *self == Self::Patch
    }

    /// What is done, what was done, the reason of the Kubernetes Event, and what the object is that needs it no more.
    fn words(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Patch => ("patch", "patched", "PatchedByRule", "is as the patch makes it"),
            Self::Apply => ("apply", "applied", "AppliedByRule", "is as the manifest says"),
            Self::SetImage => ("set the image of", "set the image of", "ImageSetByRule", "has this image"),
            Self::Adjust => ("adjust", "adjusted", "AdjustedByRule", "has these bounds"),
            Self::Cordon => ("cordon", "cordoned", "CordonedByRule", "is cordoned"),
            Self::Uncordon => ("uncordon", "uncordoned", "UncordonedByRule", "is schedulable"),
            Self::Taint => ("taint", "tainted", "TaintedByRule", "has this taint"),
            Self::Untaint => ("untaint", "untainted", "UntaintedByRule", "has no such taint"),
        }
    }
}

impl Change for Fields {
    fn object(&self) -> &Object {
        &self.object
    }

    fn words(&self) -> Words {
        let (present, past, reason, state) = self.verb.words();
        let how = match &self.subresource {
            Some(name) => format!(" ({name})"),
            None => self.how.clone(),
        };
        Words { present, past, reason, how, state: state.to_owned() }
    }

    fn result(&self) -> Value {
        let Object { api_version, kind, namespace, name, uid, .. } = &self.object;
        let mut result = json!({"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name});
        if self.verb == Verb::Apply {
            result["uid"] = uid.as_str().into();
        }
        result.as_object_mut().into_iter().for_each(|result| result.extend(self.more.clone()));
        result
    }

    /// The manager of an applied patch is the same for all firings: it proves nothing about this one.
    async fn is_ours(&self, step: &Step<'_>, now: &DynamicObject) -> Result<bool, Failure> {
        Ok(self.type_ != PatchType::Apply && self.is_marked(step, now))
    }

    fn is_nothing(&self) -> bool {
        self.more.get("from").is_some_and(|from| self.more.get("to") == Some(from))
    }

    async fn judge(&self, step: &Step<'_>, now: &DynamicObject) -> Result<Verdict, Failure> {
        if self.is_ours(step, now).await? {
            return Ok(Verdict::Done);
        }
        if let Some(entry) = &self.entry {
            return Ok(self.judge_entry(entry, now));
        }
        let before = as_json(now);
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
        if !differences(&before, &as_json(&after)).is_empty() {
            return Ok(Verdict::Superseded("was changed by somebody else".to_owned()));
        }
        // It has been made so since.
        Ok(match self.type_ {
            PatchType::Apply if self.is_marked(step, now) => Verdict::Unmarked,
            // Somebody else's values, which the rule does not own yet.
            PatchType::Apply => Verdict::Write,
            // What only takes fields away leaves no mark.
            _ if touched::only_removes(&self.patch) => Verdict::Unmarked,
            // Controllers write Nodes in a way that takes all marks away.
            _ if self.object.kind == "Node" => Verdict::Unmarked,
            _ => Verdict::Unchanged,
        })
    }

    fn anew(&self, now: &DynamicObject) -> Option<Self> {
        let patch = self.entry.as_ref()?.patch(now, self.more.get("to")?)?;
        Some(Self { patch, ..self.clone() })
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
        self.manager_of(step.cx)
    }
}

impl Fields {
    /// A change of the object as it is now.
    pub(super) fn new(step: &Step<'_>, now: &DynamicObject, verb: Verb, type_: PatchType, patch: Value) -> Self {
        let metadata = now.metadata.clone();
        Self {
            object: Object::new(&step.aim, metadata.uid.unwrap_or_default(), metadata.resource_version),
            type_,
            from: write::digest(&touched::by(&patch, &as_json(now))),
            patch,
            subresource: None,
            force: false,
            entry: None,
            kept: None,
            verb,
            how: String::new(),
            more: Map::new(),
        }
    }

    /// The recorded request.
    ///
    /// # Errors
    /// Final when it is none.
    pub(super) fn of(request: &Value) -> Result<Self, Failure> {
        recording::read(request)
    }

    /// With what it changes, where that may have to be given back.
    ///
    /// # Errors
    /// Final when a dry run is refused, or when it changes more than can be kept.
    pub(super) async fn keeping(mut self, step: &Step<'_>, now: &DynamicObject) -> Result<Self, Failure> {
        if step.cx.keeps && !self.is_secret() {
            let after = as_json(&self.tried(step, now).await?);
            self.kept = Some(Kept::of(&self, &as_json(now), &after)?);
        }
        Ok(self)
    }

    /// Tells what it would change, by a dry run.
    pub(super) async fn observe(cx: &Context, request: &Value) -> Result<Done, Failure> {
        let (change, step) = write::recorded::<Self>(cx, request).await?;
        let now = step.get().await?;
        let changes = differences(&as_json(&now), &as_json(&change.tried(&step, &now).await?));
        if changes.is_empty() {
            return Ok(write::unchanged(&change));
        }
        let (told, Words { present, .. }) = (sentence(&changes, change.is_secret()), change.words());
        Ok(Done::observed(format!("would {present} {}: {told}", change.object.title()), change.result()))
    }

    /// What carrying it out has changed.
    pub(super) fn changed(cx: &Context, request: &Value) -> Undo {
        match Self::deserialize(request) {
            Ok(request) if request.is_secret() => Undo::Never(NOT_KEPT),
            Ok(request) => {
                let manager = request.manager_of(cx);
                let Self { object, subresource, kept, .. } = request;
                kept.map_or(Undo::Nothing, |Kept { back, made }| {
                    Undo::of(object.change(manager, subresource.as_deref(), back, made))
                })
            }
            Err(_) => Undo::Nothing,
        }
    }

    fn manager_of(&self, cx: &Context) -> String {
        match (self.verb, self.type_) {
            (Verb::Apply, _) => rule_manager(cx),
            // Fields that an earlier firing applied and this one does not name go: 10 + 36 + 1 + 63 of 128 characters allowed.
            (_, PatchType::Apply) => format!("{}/{}", rule_manager(cx), cx.action),
            _ => cx.manager(),
        }
    }

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

    pub(super) fn is_secret(&self) -> bool {
        is_secret(&self.object.api_version, &self.object.kind)
    }
}

/// The field manager of what a rule applies: fields that an earlier firing of it has applied and this one does not name go.
pub(super) fn rule_manager(cx: &Context) -> String {
    format!("signalbox/{}", cx.rule.uid.0)
}

/// Of a Secret nothing is told but the names of its fields.
pub(super) fn is_secret(api_version: &str, kind: &str) -> bool {
    api_version == "v1" && kind == "Secret"
}

pub(super) fn on(right: Right, subresource: Option<&str>) -> Right {
    match subresource {
        Some(name) => right.on(name),
        None => right,
    }
}

pub(super) fn as_json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// Labels and annotations are texts: numbers that were filled in are written out.
pub(super) fn texts(patch: &mut Value) -> Result<(), Failure> {
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
