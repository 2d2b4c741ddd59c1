//! What the operator tells about itself: every metric with its name, unit and labels in one place, and the log lines' shape.

mod feeds;
mod labels;
pub mod logs;
mod register;
pub mod traces;
mod webhooks;

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

pub use feeds::Feeds;
pub use labels::{StatusWrite, WatchState};
pub use webhooks::{Rejection, Webhooks};

use labels::{DecisionLabels, EventLabels, Name, OutcomeLabels, OutcomeName, PositionLabels, WatchLabels, WriteLabels};

use crate::{
    api::{ActionOutcome, FiringOutcome},
    bus::Stats,
    record::Decision,
};

/// Content type of [`Metrics::encode`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Handles of all metrics.
pub struct Metrics {
    registry: Registry,
    events: Family<EventLabels, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    firings: Family<OutcomeLabels, Counter>,
    actions: Family<OutcomeLabels, Counter>,
    event_to_action: Histogram,
    open_firings: Gauge,
    oldest_open_firing: Gauge,
    inputs_held: Gauge,
    dead_letters: Gauge,
    dead_letters_evicted: Counter,
    slowed_rules: Gauge,
    tripped_rules: Gauge,
    stopped: Gauge,
    position: Family<PositionLabels, Gauge<u64, AtomicU64>>,
    lag: Gauge<u64, AtomicU64>,
    log_bytes: Gauge<u64, AtomicU64>,
    syncs: Counter,
    watches: Family<WatchLabels, Gauge>,
    unreadable: Counter,
    may_have_lost: Counter,
    status_writes: Family<WriteLabels, Counter>,
    events_dropped: Counter,
    may_act: Gauge,
    bus_lost: Gauge,
    spans_dropped: Counter,
    webhooks: Webhooks,
    feeds: Feeds,
}

impl Default for Metrics {
    fn default() -> Self {
        // 1 ms to 65 s, doubling: the goal is tens of milliseconds, and a minute is the default retry's longest wait.
        let event_to_action = Histogram::new(exponential_buckets(0.001, 2.0, 17));
        let mut metrics = Self {
            registry: Registry::with_prefix("signalbox"),
            events: Family::default(),
            decisions: Family::default(),
            firings: Family::default(),
            actions: Family::default(),
            event_to_action,
            open_firings: Gauge::default(),
            oldest_open_firing: Gauge::default(),
            inputs_held: Gauge::default(),
            dead_letters: Gauge::default(),
            dead_letters_evicted: Counter::default(),
            slowed_rules: Gauge::default(),
            tripped_rules: Gauge::default(),
            stopped: Gauge::default(),
            position: Family::default(),
            lag: Gauge::default(),
            log_bytes: Gauge::default(),
            syncs: Counter::default(),
            watches: Family::default(),
            unreadable: Counter::default(),
            may_have_lost: Counter::default(),
            status_writes: Family::default(),
            events_dropped: Counter::default(),
            may_act: Gauge::default(),
            bus_lost: Gauge::default(),
            spans_dropped: Counter::default(),
            webhooks: Webhooks::default(),
            feeds: Feeds::default(),
        };
        metrics.register();
        metrics.begin_at_zero();
        metrics
    }
}

impl Metrics {
    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a String takes everything");
        out
    }

    /// An event was judged.
    pub fn event_judged(&self, type_: &str) {
        self.events.get_or_create_owned(&EventLabels { r#type: type_.to_owned() }).inc();
    }

    /// Rules have decided.
    pub fn decided(&self, decisions: &[Decision]) {
        for decision in decisions {
            self.decisions.get_or_create_owned(&DecisionLabels::of(decision)).inc();
        }
    }

    /// A firing has ended.
    pub fn firing_finished(&self, outcome: FiringOutcome) {
        let outcome = match outcome {
            FiringOutcome::Running => OutcomeName::Running,
            FiringOutcome::Succeeded => OutcomeName::Succeeded,
            FiringOutcome::Observed => OutcomeName::Observed,
            FiringOutcome::Failed => OutcomeName::Failed,
            FiringOutcome::Expired => OutcomeName::Expired,
        };
        self.firings.get_or_create_owned(&OutcomeLabels { outcome: Name(outcome) }).inc();
    }

    /// An action has an outcome, so long after the event.
    pub fn action_settled(&self, outcome: ActionOutcome, after: Duration) {
        let name = match outcome {
            ActionOutcome::Running => OutcomeName::Running,
            ActionOutcome::Succeeded => OutcomeName::Succeeded,
            ActionOutcome::Observed => OutcomeName::Observed,
            ActionOutcome::Unchanged => OutcomeName::Unchanged,
            ActionOutcome::Skipped => OutcomeName::Skipped,
            ActionOutcome::Superseded => OutcomeName::Superseded,
            ActionOutcome::Failed => OutcomeName::Failed,
        };
        self.actions.get_or_create_owned(&OutcomeLabels { outcome: Name(name) }).inc();
        if matches!(outcome, ActionOutcome::Succeeded | ActionOutcome::Unchanged) {
            self.event_to_action.observe(after.as_secs_f64());
        }
    }

    /// So many firings are open.
    pub fn open_firings(&self, count: usize) {
        self.open_firings.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// When the oldest open firing was decided, in microseconds since 1970; nothing while none is open.
    pub fn oldest_open_firing(&self, since: Option<i64>) {
        self.oldest_open_firing.set(since.unwrap_or(0) / 1_000_000);
    }

    /// Whether inputs wait because too many firings are open.
    pub fn inputs_held(&self, held: bool) {
        self.inputs_held.set(i64::from(held));
    }

    /// So many dead letters are kept, and so many more had to go for newer ones.
    pub fn dead_letters(&self, kept: usize, evicted: u64) {
        self.dead_letters.set(i64::try_from(kept).unwrap_or(i64::MAX));
        self.dead_letters_evicted.inc_by(evicted);
    }

    /// How many rules are slowed down.
    pub fn slowed_rules(&self, count: usize) {
        self.slowed_rules.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many rules are tripped.
    pub fn tripped_rules(&self, count: usize) {
        self.tripped_rules.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether the switch for all rules is set.
    pub fn stopped(&self, stopped: bool) {
        self.stopped.set(i64::from(stopped));
    }

    /// The log's figures.
    pub fn bus(&self, stats: Stats) {
        let positions = [
            ("Appended", stats.appended),
            ("Durable", stats.durable),
            ("Folded", stats.folded),
            ("Committed", stats.committed),
        ];
        for (of, position) in positions {
            self.position.get_or_create_owned(&PositionLabels { of }).set(position.0);
        }
        self.lag.set(stats.appended.0.saturating_sub(stats.folded.0));
        self.log_bytes.set(stats.log_bytes);
        self.syncs.inner().store(stats.syncs, std::sync::atomic::Ordering::Relaxed);
    }

    /// A watch went from one state to another; nothing before it was there, and after it is gone.
    pub fn watch_moved(&self, from: Option<WatchState>, to: Option<WatchState>) {
        let gauge = |state| self.watches.get_or_create_owned(&WatchLabels { state: Name(state) });
        if let Some(from) = from {
            gauge(from).dec();
        }
        if let Some(to) = to {
            gauge(to).inc();
        }
    }

    /// A watch left out an object that it could not read.
    pub fn object_unreadable(&self) {
        self.unreadable.inc();
    }

    /// A watch may have lost events.
    pub fn may_have_lost(&self) {
        self.may_have_lost.inc();
    }

    /// A status was written, or not.
    pub fn status_written(&self, result: StatusWrite) {
        self.status_writes.get_or_create_owned(&WriteLabels { result: Name(result) }).inc();
    }

    /// Whether actions may be started.
    pub fn may_act(&self, may: bool) {
        self.may_act.set(i64::from(may));
    }

    /// Another log acted before, and is not here.
    pub fn bus_lost(&self) {
        self.bus_lost.set(1);
    }

    /// What becomes of messages of sources that connect.
    pub fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// What becomes of requests to webhooks.
    pub fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// Counts spans that were not sent.
    pub fn spans_dropped(&self) -> Counter {
        self.spans_dropped.clone()
    }

    /// Counts Kubernetes Events that were not written.
    pub fn kubernetes_events_dropped(&self) -> Counter {
        self.events_dropped.clone()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
