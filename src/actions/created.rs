//! Creating one object, once: what `create` and `apply` have in common, and how it is taken back.
//!
//! The name is always the same, and the object says which step has created it: so a repetition finds it. One that was created, and that somebody has deleted
//! before the outcome was recorded, is created once more after a crash.

use kube::{
    api::{Patch, PatchParams, PostParams, ValidationDirective},
    core::{DynamicObject, Request as Http},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Attempt, Back, CAUSED_BY, Context, Done, Failure, Undo, deletion,
    fields::rule_manager,
    manifest::{Filled, refused},
    name, recording,
    target::Aim,
    undo::{named, same, step},
    write::{Object, Step},
};
use crate::{
    api::{ActionOutcome, Propagation},
    bus::Permit,
    record::{Change, Effect},
};

/// How many names are tried when objects of others have ours.
const SUFFIXES: u32 = 5;
/// Reasons of the Kubernetes Event.
const CREATED: &str = "CreatedByRule";
const APPLIED: &str = "AppliedByRule";

/// What is recorded before an object is created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    create: Creation,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Creation {
    object: Value,
    way: Way,
}

/// How it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    /// Under this name.
    Named,
    /// Under this name or, when that is taken, with a number at its end.
    Generated,
    /// By server-side apply.
    Applied,
    /// By server-side apply, which takes fields over.
    Forced,
}

impl Request {
    pub(super) fn new(filled: Filled, way: Way) -> Self {
        Self { create: Creation { object: filled.object, way } }
    }

    /// The request, if that is what was recorded.
    pub(super) fn read(recorded: &Value) -> Option<Self> {
        Self::deserialize(recorded).ok()
    }

    pub(super) fn to_request(&self) -> Result<Value, Failure> {
        recording::of(self)
    }

    /// Creates the object, or finds the one that an earlier attempt created.
    pub(super) async fn execute(&self, cx: &Context, attempt: Attempt, _permit: Permit) -> Result<Done, Failure> {
        let step = self.step(cx).await?;
        if self.is_applied() { self.apply(&step, attempt).await } else { self.post(&step).await }
    }

    /// Tells what it would create, by a dry run.
    pub(super) async fn observe(&self, cx: &Context) -> Result<Done, Failure> {
        let step = self.step(cx).await?;
        let tried = if self.is_applied() {
            self.send_applied(&step, true).await
        } else {
            self.send(&step, &step.aim.name, true).await
        };
        match tried {
            Ok(_) => {}
            // It would get another name.
            Err(kube::Error::Api(status)) if self.create.way == Way::Generated && status.is_already_exists() => {}
            Err(error) => return Err(refused(&step, &error, "create", self.verb())),
        }
        let Aim { resource, name, namespace } = &step.aim;
        let (api_version, kind) = (&resource.api.api_version, &resource.api.kind);
        let result = json!({"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name});
        Ok(Done::observed(format!("would create {}", step.aim.title()), result))
    }

    async fn post(&self, step: &Step<'_>) -> Result<Done, Failure> {
        let first = &step.aim.name;
        let names = if self.create.way == Way::Generated { SUFFIXES } else { 1 };
        for suffix in 1..=names {
            let name = name::with_suffix(first, suffix);
            match self.send(step, &name, false).await {
                Ok(object) => return Ok(done(step, first, object, CREATED)),
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(error) => return Err(refused(step, &error, "create", "create")),
            }
            match step.api.get(&name).await {
                Ok(found) if is_ours(&found, &step.cx.cause()) => return Ok(done(step, first, found, CREATED).found()),
                Ok(found) if names == 1 && found.metadata.deletion_timestamp.is_some() => {
                    let title = step.aim.title();
                    return Err(Failure::retryable(format!("create {title}: the one that is there is being deleted")));
                }
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    return Err(Failure::retryable(format!("create {}: it went just now", step.aim.title())));
                }
                Err(error) => return Err(step.failure(&error, "read", step.right("get"))),
            }
        }
        let taken = match names {
            1 => {
                "there is one already, of somebody else; apply changes what is there, generateName makes a name of its own"
            }
            _ => "objects of somebody else have this name and its next 4",
        };
        Err(Failure::last(format!("create {}: {taken}", step.aim.title())))
    }

    async fn apply(&self, step: &Step<'_>, attempt: Attempt) -> Result<Done, Failure> {
        let first = &step.aim.name;
        if attempt == Attempt::Again {
            match step.api.get(first).await {
                Ok(found) if is_ours(&found, &step.cx.cause()) => {
                    let reason = reason(step.cx, &found);
                    // What a rule applies is not marked for a step: what it hears of it is known by the version alone.
                    return Ok(done(step, first, found, reason));
                }
                Ok(_) => {
                    let message =
                        format!("{} was created by somebody else meanwhile, it was not applied", step.aim.title());
                    let outcome = ActionOutcome::Superseded;
                    return Ok(Done { outcome, message, result: Value::Null, effect: None, reason: None });
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(step.failure(&error, "read", step.right("get"))),
            }
        }
        let applied = self.send_applied(step, false).await.map_err(|error| refused(step, &error, "apply", "patch"))?;
        let reason = reason(step.cx, &applied);
        Ok(done(step, first, applied, reason))
    }

    async fn send(&self, step: &Step<'_>, name: &str, dry_run: bool) -> Result<DynamicObject, kube::Error> {
        let mut object = self.create.object.clone();
        object["metadata"]["name"] = name.into();
        let params = PostParams { dry_run, field_manager: Some(step.cx.manager()) };
        let body = serde_json::to_vec(&object).map_err(kube::Error::SerdeError)?;
        let request = Http::new(step.api.resource_url()).create(&params, body).map_err(kube::Error::BuildRequest)?;
        let (mut parts, body) = request.into_parts();
        // A field that the kind does not have would be dropped without a word.
        let uri = format!("{}&fieldValidation=Strict", parts.uri);
        parts.uri = uri.parse().map_err(|error: http::uri::InvalidUri| kube::Error::HttpError(error.into()))?;
        let client = step.api.clone().into_client();
        client.request(http::Request::from_parts(parts, body)).await
    }

    async fn send_applied(&self, step: &Step<'_>, dry_run: bool) -> Result<DynamicObject, kube::Error> {
        let params = PatchParams {
            dry_run,
            force: self.create.way == Way::Forced,
            field_manager: Some(rule_manager(step.cx)),
            field_validation: Some(ValidationDirective::Strict),
        };
        step.api.patch(&step.aim.name, &params, &Patch::Apply(&self.create.object)).await
    }

    async fn step<'a>(&self, cx: &'a Context) -> Result<Step<'a>, Failure> {
        let text = |pointer: &str| self.create.object.pointer(pointer).and_then(Value::as_str);
        let resource = cx.services.cluster.resolve(text("/apiVersion"), text("/kind").unwrap_or_default()).await?;
        let name = text("/metadata/name").unwrap_or_default().to_owned();
        let namespace = text("/metadata/namespace").map(str::to_owned);
        Ok(Step::new(cx, Aim { resource, name, namespace }))
    }

    fn is_applied(&self) -> bool {
        matches!(self.create.way, Way::Applied | Way::Forced)
    }

    fn verb(&self) -> &'static str {
        if self.is_applied() { "patch" } else { "create" }
    }

    /// What creating it has changed. Its uid is not known when no answer has come.
    pub(super) fn changed(&self, cx: &Context, effect: Option<&Effect>) -> Undo {
        if effect.is_some_and(|effect| effect.reason == APPLIED) {
            return Undo::Never("somebody else created it at the same time, so what it was before is not known");
        }
        let text = |pointer: &str| self.create.object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let first = text("/metadata/name").unwrap_or_default();
        Undo::of(Change {
            api_version: text("/apiVersion").unwrap_or_default(),
            kind: text("/kind").unwrap_or_default(),
            namespace: text("/metadata/namespace"),
            name: effect.map_or(first, |effect| effect.name.clone()),
            uid: effect.map(|effect| effect.uid.clone()).unwrap_or_default(),
            subresource: None,
            manager: if self.is_applied() { rule_manager(cx) } else { cx.manager() },
            unsure: effect.is_none(),
            back: Value::Null,
            made: cx.cause().into(),
        })
    }
}

/// Whether the change is that an object was created.
pub(super) fn is_creation(change: &Change) -> bool {
    change.back.is_null()
}

/// The request to delete what was created, if it is there.
pub(super) async fn take_back(cx: &Context, change: &Change) -> Result<Back, Failure> {
    let step = step(cx, change).await?;
    let found = match change.uid.is_empty() {
        true => find(&step, change).await?,
        false => {
            let read = step.api.get(&change.name).await;
            same(change, read, |error| step.failure(error, "read", step.right("get")))?
        }
    };
    Ok(match found {
        Ok(object) => {
            let (name, uid) = (object.metadata.name.unwrap_or_default(), object.metadata.uid.unwrap_or_default());
            let aim = Aim { name, ..step.aim.clone() };
            let request = deletion::Request::new(Object::new(&aim, uid, None), Propagation::Background);
            Back::Request(request.to_request()?)
        }
        Err(back) => back,
    })
}

/// The object that bears the step's mark, under one of the names that it may have got.
async fn find(step: &Step<'_>, change: &Change) -> Result<Result<DynamicObject, Back>, Failure> {
    for suffix in 1..=SUFFIXES {
        let name = name::with_suffix(&change.name, suffix);
        let found = step.api.get_opt(&name).await;
        let found = found.map_err(|error| step.failure(&error, "read", step.right("get")))?;
        let Some(object) = found else { break };
        if change.made.as_str().is_some_and(|cause| is_ours(&object, cause)) {
            // Whoever posts an object makes all of it.
            let whole = change.manager != rule_manager(step.cx) || reason(step.cx, &object) == CREATED;
            return Ok(if whole { Ok(object) } else { Err(Back::not_ours(change)) });
        }
    }
    Ok(Err(Back::unchanged(format!("{} was not created", named(change)))))
}

fn is_ours(object: &DynamicObject, cause: &str) -> bool {
    let said = object.metadata.annotations.as_ref().and_then(|all| all.get(CAUSED_BY));
    said.is_some_and(|said| said == cause)
}

/// Whether what was applied was created by that: somebody else may have done so a moment before.
fn reason(cx: &Context, applied: &DynamicObject) -> &'static str {
    let ours = rule_manager(cx);
    let mut entries = applied.metadata.managed_fields.iter().flatten();
    // A status is written as soon as there is an object.
    let all = entries.all(|entry| entry.manager.as_deref() == Some(&*ours) || entry.subresource.is_some());
    if all { CREATED } else { APPLIED }
}

fn done(step: &Step<'_>, first: &str, object: DynamicObject, reason: &'static str) -> Done {
    let DynamicObject { metadata, .. } = object;
    let name = metadata.name.unwrap_or_default();
    let taken = match name == *first {
        true => String::new(),
        false => format!(" (somebody else's has the name {first})"),
    };
    let (uid, version) = (metadata.uid.unwrap_or_default(), metadata.resource_version);
    let object = Object::new(&Aim { name, ..step.aim.clone() }, uid, None);
    let Object { api_version, kind, namespace, name, uid, .. } = &object;
    let result = json!({"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name, "uid": uid});
    let past = if reason == CREATED { "created" } else { "applied" };
    Done {
        outcome: ActionOutcome::Succeeded,
        message: format!("{past} {}{taken}", object.title()),
        result,
        effect: Some(object.effect(version, reason)),
        reason: None,
    }
}

#[cfg(test)]
mod tests;
