//! Giving a number of replicas back.

use serde_json::Value;

use super::{Known, Request, SCALE, replicas};
use crate::{
    actions::{
        Back, Context, Failure,
        undo::{is_witnessed, named, same, step},
        write::{Change as _, Object, Step},
    },
    record::Change,
};

/// The request that gives back what the scale was, if it still is what it was made.
pub(super) async fn take_back(cx: &Context, change: &Change) -> Result<Back, Failure> {
    let step = step(cx, change).await?;
    let read = step.api.get_subresource(SCALE, &step.aim.name).await;
    let failure = |error: &kube::Error| step.failure(error, "read the scale of", step.right("get").on(SCALE));
    let now = match same(change, read, failure)? {
        Ok(now) => now,
        Err(back) => return Ok(back),
    };
    let (from, to) = (number(&change.made), number(&change.back));
    match replicas(&now) {
        is if is == to => return Ok(Back::unchanged(format!("{} has {to} replicas already", named(change)))),
        is if is != from => return Ok(Back::theirs(change, &format!("was set to {is} by somebody else"))),
        _ if change.unsure && !is_ours(&step, change).await? => return Ok(Back::not_ours(change)),
        _ => {}
    }
    let object = Object::new(&step.aim, now.metadata.uid.unwrap_or_default(), now.metadata.resource_version);
    Request { object, from, to, autoscaler: Known::default() }.to_request().map(Back::Request)
}

fn number(part: &Value) -> i32 {
    part["replicas"].as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or(0)
}

/// Whether the firing has written it. Without the right to read that it is not known, and left alone.
async fn is_ours(step: &Step<'_>, change: &Change) -> Result<bool, Failure> {
    match step.api.get_metadata(&step.aim.name).await {
        Ok(object) => Ok(is_witnessed(change, object.metadata.managed_fields.as_deref())),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(false),
        Err(error) => Err(step.failure(&error, "read", step.right("get"))),
    }
}
