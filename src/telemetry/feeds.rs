//! The metrics of sources that connect.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Name, Rejection};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    kind: &'static str,
    reason: Name<Rejection>,
}

/// Counts what becomes of messages.
#[derive(Debug, Default)]
pub struct Feeds {
    events: Family<EventLabels, Counter>,
    rejected: Family<RejectionLabels, Counter>,
}

impl Feeds {
    pub(super) fn register(&self, to: &mut Registry) {
        let events = "Events of sources that connect, by kind of source and result";
        to.register("feed_events", events, self.events.clone());
        let rejected =
            "Messages of sources that connect that are no events and were not taken, by kind of source and reason";
        to.register("feed_rejected", rejected, self.rejected.clone());
    }

    /// Events of a source of this kind were taken, and others that came before.
    pub fn received(&self, kind: &'static str, new: usize, duplicates: usize) {
        for (result, count) in [("Accepted", new), ("Duplicate", duplicates)] {
            self.events.get_or_create_owned(&EventLabels { kind, result }).inc_by(count as u64);
        }
    }

    /// A message was not taken.
    pub fn rejected(&self, kind: &'static str, reason: Rejection) {
        self.rejected.get_or_create_owned(&RejectionLabels { kind, reason: Name(reason) }).inc();
    }
}
