//! Giving back what a patch has changed.
//!
//! Whatever the type of the patch, what it changes is found by a dry run, and given back as a merge patch; of lists that is the whole list.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Request, difference::BOOKS, json as as_json, touched};
use crate::{
    actions::{
        Back, Context, Failure,
        undo::{is_witnessed, named, same, step},
        write::{self, Change as _, Object},
    },
    api::PatchType,
    record::{Change, Standing},
};

/// What may be kept of one object: it is in the log, and as long as it is to be given back in memory.
const MOST: usize = 16 * 1024;

/// What a patch changes, as [`Change::back`] and [`Change::made`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) back: Value,
    pub(super) made: Value,
}

impl Kept {
    pub(super) fn of(request: &Request, before: &Value, after: &Value) -> Result<Self, Failure> {
        let changed = Change::between(before, after, &|path| BOOKS.contains(&path));
        let (back, made) = changed.unwrap_or_else(|| (json!({}), json!({})));
        let size = back.to_string().len() + made.to_string().len();
        if size > MOST {
            return Err(Failure::last(format!(
                "patch {}: what it changes takes {size} bytes as it was and as it becomes; {MOST} can be kept to be given back. Patch less, \
                 or without restore and onError: Undo",
                request.object.title()
            )));
        }
        Ok(Self { back, made })
    }
}

/// The patch that gives back what the object was, if it still is what it was made.
pub(super) async fn take_back(cx: &Context, change: &Change) -> Result<Back, Failure> {
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
    let request = Request {
        object: Object::new(&step.aim, now.metadata.uid.unwrap_or_default(), now.metadata.resource_version),
        type_: PatchType::Merge,
        from: write::digest(&touched::by(&change.back, &held)),
        patch: change.back.clone(),
        subresource: change.subresource.clone(),
        force: false,
        kept: None,
    };
    request.to_request().map(Back::Request)
}
