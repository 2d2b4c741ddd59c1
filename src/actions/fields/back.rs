//! Giving back what a patch has changed.
//!
//! Whatever the type of the patch, what it changes is found by a dry run, and given back as a merge patch; of lists that is the whole list.

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Fields, Verb, as_json, difference::BOOKS, touched};
use crate::{
    actions::{
        Back, Context, Failure,
        undo::{is_witnessed, named, same, step},
        write::{Change as _, Step},
    },
    api::PatchType,
    record::{Change, Standing},
};

/// What may be kept of one object: it is in the log, and as long as it is to be given back in memory.
const MOST: usize = 16 * 1024;

/// What a patch changes, as [`Change::back`] and [`Change::made`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::actions) struct Kept {
    pub(in crate::actions) back: Value,
    pub(in crate::actions) made: Value,
}

impl Kept {
    pub(super) fn of(request: &Fields, before: &Value, after: &Value) -> Result<Self, Failure> {
        let changed = Change::between(before, after, &|path| BOOKS.contains(&path));
        let (back, made) = changed.unwrap_or_else(|| (json!({}), json!({})));
        let size = back.to_string().len() + made.to_string().len();
        if size > MOST {
            return Err(Failure::last(format!(
                "{} {}: what it changes takes {size} bytes as it was and as it becomes; {MOST} can be kept to be given back. Change less, \
                 or do without restore and onError: Undo",
                request.words().present,
                request.object.title()
            )));
        }
        Ok(Self { back, made })
    }
}

/// The patch that gives back what the object was, if it still is what it was made.
pub(in crate::actions) async fn take_back(cx: &Context, change: &Change, verb: Verb) -> Result<Back, Failure> {
    let step = step(cx, change).await?;
    let read = step.api.get(&step.aim.name).await;
    let now = match same(change, read, |error| step.failure(error, "read", step.right("get")))? {
        Ok(now) => now,
        Err(back) => return Ok(back),
    };
    let held = as_json(&now);
    let entries = now.metadata.managed_fields.as_deref();
    match change.standing(&held) {
        Standing::Back => return Ok(Back::unchanged(format!("{} is as it was already", named(change)))),
        Standing::Other => return Ok(Back::theirs(change, "was changed by somebody else")),
        // What only takes fields away leaves no mark.
        Standing::Made if change.unsure && !touched::only_removes(&change.made) && !is_witnessed(change, entries) => {
            return Ok(Back::not_ours(change));
        }
        Standing::Made => {}
    }
    give_back(&step, &now, verb, change)
}

/// The request that makes the object again what it was.
pub(in crate::actions) fn give_back(
    step: &Step<'_>,
    now: &DynamicObject,
    verb: Verb,
    change: &Change,
) -> Result<Back, Failure> {
    let patch = Fields::new(step, now, verb, PatchType::Merge, change.back.clone());
    Fields { subresource: change.subresource.clone(), ..patch }.to_request().map(Back::Request)
}
