//! The metrics of webhooks.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::Name;

const ACCEPTED: &str = "Accepted";
const DUPLICATE: &str = "Duplicate";

/// Why a request to a webhook was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// It is not from who may send (401).
    Unauthenticated,
    /// It is not what the EventSource's preset says, or for no EventSource (400, 404, 405, 415).
    Malformed,
    /// It is larger than is taken (413).
    TooLarge,
    /// There are more than the EventSource's limit allows (429).
    RateLimited,
    /// It cannot be stored or checked now (503).
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    reason: Name<Rejection>,
}

/// Counts what becomes of requests to webhooks.
#[derive(Debug, Default)]
pub struct Webhooks {
    events: Family<EventLabels, Counter>,
    rejected: Family<RejectionLabels, Counter>,
    ids_evicted: Counter,
    connections_cut: Counter,
    lost: Counter,
    truncated: Counter,
}

impl Webhooks {
    /// Registers the metrics; counters of known labels begin at 0.
    pub(super) fn register(&self, to: &mut Registry) {
        to.register("webhook_events", "Events that came to webhooks and were taken, by result", self.events.clone());
        to.register("webhook_rejected", "Requests to webhooks that were not taken, by reason", self.rejected.clone());
        to.register(
            "event_ids_evicted",
            "Ids of events of EventSources that were forgotten before 24 hours were over, because there were too many",
            self.ids_evicted.clone(),
        );
        to.register(
            "webhook_connections_cut",
            "Connections of senders that were cut because there were too many, those first that had waited longest",
            self.connections_cut.clone(),
        );
        to.register(
            "webhook_lost",
            "Requests that could not be stored, of senders that do not send again: GitHub, Falco, Docker Hub",
            self.lost.clone(),
        );
        to.register(
            "webhook_truncated_alerts",
            "Alerts that senders left out of their notifications, as they say",
            self.truncated.clone(),
        );
        self.received(0, 0);
        for reason in [
            Rejection::Unauthenticated,
            Rejection::Malformed,
            Rejection::TooLarge,
            Rejection::RateLimited,
            Rejection::Unavailable,
        ] {
            self.rejected.get_or_create_owned(&RejectionLabels { reason: Name(reason) });
        }
    }

    /// Events were taken, and others that came before.
    pub fn received(&self, new: usize, duplicates: usize) {
        for (result, count) in [(ACCEPTED, new), (DUPLICATE, duplicates)] {
            self.events.get_or_create_owned(&EventLabels { result }).inc_by(count as u64);
        }
    }

    /// A request was not taken.
    pub fn rejected(&self, reason: Rejection) {
        self.rejected.get_or_create_owned(&RejectionLabels { reason: Name(reason) }).inc();
    }

    /// So many ids of accepted events were forgotten before their time.
    pub fn ids_evicted(&self, count: usize) {
        self.ids_evicted.inc_by(count as u64);
    }

    /// A request that nobody sends again could not be stored.
    pub fn lost(&self) {
        self.lost.inc();
    }

    /// A sender says that it left out so many alerts.
    pub fn truncated(&self, alerts: u64) {
        self.truncated.inc_by(alerts);
    }

    /// A connection was cut to make room for another.
    pub fn connection_cut(&self) {
        self.connections_cut.inc();
    }
}
