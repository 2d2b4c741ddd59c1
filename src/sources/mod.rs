//! Sources: what makes events and appends them to the log.
//!
//! To add a kind of EventSource that connects: see [`feeds`]. To add another kind: its field in the union in `api/source.rs`, its arm in `plan::plan` (the compiler names it), and a folder or file here
//! whose task the [`Supervisor`] owns. A task appends through the bus and asks the current [`crate::rule::Interest`] what anybody wants;
//! it never decides what fires. Sources know nothing of actions.

mod accept;
mod event_sources;
mod existing;
pub mod feeds;
mod figures;
mod ids;
mod lookups;
mod near;
mod plan;
mod report;
mod schedule;
mod supervisor;
#[cfg(test)]
mod testing;
mod watch;
pub mod webhook;

use std::{sync::Arc, time::Duration};

pub use accept::{Accept, Wanted as WantedEvents};
#[cfg(test)]
pub(crate) use event_sources::EventSourceState;
pub use event_sources::EventSources;
pub use figures::Figures;
pub use near::NearMisses;
pub use plan::{Plan, WatchPlan, plan, rights};
pub use report::{Listening, SourceReport};
pub use supervisor::{Handle, Supervisor, SupervisorError, Wanted};
pub use watch::{EVENT_TTL, Memory, Observed, Sight};

use crate::{
    bus::{Bus, BusError},
    record::{Head, Record},
};

/// How long to wait before a full disk is tried again; every watch of the process may be waiting.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Appends a record, and waits while the disk is full: what sources have seen is not given up for that.
async fn append(bus: &Arc<dyn Bus>, record: Record) -> Result<Head, BusError> {
    loop {
        match bus.append(record.clone()).await {
            Err(BusError::Full) => {
                tracing::warn!("sources wait: the log's disk is full");
                tokio::time::sleep(FULL_PAUSE).await;
            }
            other => return other,
        }
    }
}
