//! What a watch may have missed, for status: it works again, and still somebody may want to look.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::event::WatchKey;

/// How long an API server keeps Events unless its flag `--event-ttl` says otherwise.
pub const EVENT_TTL: Duration = Duration::from_hours(1);

/// The last thing that may have been missed. A clone is the same: the watch tells, the supervisor asks.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct Notice(Arc<Mutex<Option<(Instant, String)>>>);

impl Notice {
    pub(super) fn tell(&self, message: String) {
        *self.0.lock() = Some((Instant::now(), message));
    }

    /// What was told at this instant or later.
    pub(in crate::sources) fn since(&self, began: Instant) -> Option<String> {
        self.0.lock().as_ref().filter(|(at, _)| *at >= began).map(|(_, message)| message.clone())
    }
}

/// Events that came and went while nobody listened cannot be found any more.
pub(super) fn may_have_lost(watch: &WatchKey, unheard: Duration) -> String {
    let minutes = unheard.as_secs() / 60;
    format!(
        "watch {watch} may have lost events: until {} it heard nothing for {minutes} minutes, and the API server keeps Events for an hour by default",
        now()
    )
}

/// Versions were greater before.
pub(super) fn gone_back(watch: &WatchKey, known: u64, version: u64) -> String {
    format!(
        "watch {watch} may have lost events: at {} the versions of the API server had gone back from {known} to {version}, as after a restore of \
         etcd; what existed then is taken as known",
        now()
    )
}

fn now() -> String {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string()
}
