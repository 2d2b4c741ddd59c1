//! Taking a Job back: it is deleted, by its uid.

use kube::{
    api::{DeleteParams, Preconditions},
    core::DynamicObject,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Context, Done, Failure, Request, SUFFIXES, failure, jobs, manifest};
use crate::{
    actions::{
        CAUSED_BY, name,
        undo::{Back, Undo, named, same},
    },
    api::ActionOutcome,
    event::title,
    record::{Change, Effect},
};

/// What is recorded before the Job is deleted.
#[derive(Debug, Deserialize)]
pub(super) struct Delete {
    name: String,
    uid: String,
}

/// The request to delete a Job, if it is one.
pub(super) fn deletes(request: &Value) -> Option<Delete> {
    Delete::deserialize(request.get("delete")?).ok()
}

/// What creating the Job has changed. Its uid is not known when no answer has come.
pub(super) fn changed(cx: &Context, request: &Request, effect: Option<&Effect>) -> Undo {
    let first = manifest::name(&request.job).to_owned();
    Undo::of(Change {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        namespace: Some(cx.rule.namespace.clone()),
        name: effect.map_or(first, |effect| effect.name.clone()),
        uid: effect.map(|effect| effect.uid.clone()).unwrap_or_default(),
        subresource: None,
        manager: cx.manager(),
        unsure: effect.is_none(),
        back: Value::Null,
        made: cx.cause().into(),
    })
}

/// The request to delete it, if it is there.
pub(super) async fn take_back(cx: &Context, change: &Change) -> Result<Back, Failure> {
    let found = if change.uid.is_empty() { find(cx, change).await? } else { known(cx, change).await? };
    Ok(match found {
        Ok(job) => {
            let (name, uid) = (job.metadata.name.unwrap_or_default(), job.metadata.uid.unwrap_or_default());
            Back::Request(json!({"delete": {"name": name, "uid": uid}}))
        }
        Err(back) => back,
    })
}

async fn known(cx: &Context, change: &Change) -> Result<Result<DynamicObject, Back>, Failure> {
    same(change, jobs(cx).get(&change.name).await, |error| failure(cx, error, "read", &change.name, "get"))
}

/// The Job that bears the step's mark, under one of the names that it may have got.
async fn find(cx: &Context, change: &Change) -> Result<Result<DynamicObject, Back>, Failure> {
    for suffix in 1..=SUFFIXES {
        let name = name::with_suffix(&change.name, suffix);
        let job = jobs(cx).get_opt(&name).await.map_err(|error| failure(cx, &error, "read", &name, "get"))?;
        let Some(job) = job else { break };
        let cause = job.metadata.annotations.as_ref().and_then(|all| all.get(CAUSED_BY));
        if cause.map(String::as_str) == change.made.as_str() {
            return Ok(Ok(job));
        }
    }
    Ok(Err(Back::unchanged(format!("{} was not created", named(change)))))
}

/// Deletes the Job and, by Kubernetes' own means, its pods.
pub(super) async fn delete(cx: &Context, Delete { name, uid }: Delete) -> Result<Done, Failure> {
    let it = title("Job", Some(&cx.rule.namespace), &name);
    let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    let (outcome, message) = match jobs(cx).delete(&name, &params).await {
        Ok(_) => (ActionOutcome::Succeeded, format!("deleted {it}")),
        // By an earlier attempt, or by somebody else.
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            (ActionOutcome::Unchanged, format!("{it} is not there any more"))
        }
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            (ActionOutcome::Superseded, format!("{it} was deleted and created anew: it is left as it is"))
        }
        Err(error) => return Err(failure(cx, &error, "delete", &name, "delete")),
    };
    Ok(Done { outcome, message, result: Value::Null, effect: None, reason: None })
}
