//! `existing: Fire`: what exists when a rule begins, as created, for that rule's source only.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::watch::{Api, Backoff, Emitter, Failure};
use crate::{
    api::Operation,
    bus::BusError,
    event::{
        WatchKey,
        resource::{Change, from_object},
    },
    record::SourceRef,
};

/// Takes a list of its own and appends an event for each object that may concern the source. Tries until it has all of it.
pub(super) async fn fire(api: Api, watch: WatchKey, only: SourceRef, mut emitter: Emitter) -> Result<(), BusError> {
    let mut backoff = Backoff::default();
    let mut done = HashSet::new();
    let only = Arc::new(only);
    loop {
        match list(&api, &watch, &only, &mut emitter, &mut done).await? {
            Ok(()) => return Ok(()),
            Err(failure) => {
                tracing::warn!(%watch, %failure, "what exists could not be listed, will try again");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

async fn list(
    api: &Api,
    watch: &WatchKey,
    only: &SourceRef,
    emitter: &mut Emitter,
    done: &mut HashSet<String>,
) -> Result<Result<(), Failure>, BusError> {
    let mut token = None;
    loop {
        let page = match api.page(token.as_deref(), None).await {
            Ok(page) => page,
            Err(failure) => return Ok(Err(failure)),
        };
        for item in &page.items {
            let Ok(raw) = serde_json::from_str::<Value>(item.get()) else { continue };
            let change = Change {
                watch,
                source: api.source(),
                operation: Operation::Create,
                gap: false,
                seen_at: Timestamp::now(),
            };
            // What cannot be read was counted and logged by the watch.
            let Ok((event, origin)) = from_object(raw, change) else { continue };
            if done.insert(origin.uid.clone()) {
                emitter.event_for(only, event, origin).await?;
            }
        }
        match page.next {
            Some(next) => token = Some(next),
            None => return Ok(Ok(())),
        }
    }
}
