//! What the operator tells about itself: every metric with its name, unit and labels in one place, and the log lines' shape.

mod feeds;
mod labels;
pub mod logs;
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
    record::{Decision, SuppressedReason},
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
    /// Counters get the suffix `_total` when they are written.
    fn register(&mut self) {
        let to = &mut self.registry;
        to.register("events", "Events judged, by CloudEvents type", self.events.clone());
        to.register("rule_decisions", "Decisions of rules about events that concerned them", self.decisions.clone());
        to.register("firings", "Firings that ended, by outcome", self.firings.clone());
        to.register("actions", "Actions that have an outcome", self.actions.clone());
        to.register(
            "event_to_action_seconds",
            "Time from the event's entry into the log to the outcome of an action that was carried out",
            self.event_to_action.clone(),
        );
        to.register("open_firings", "Firings that wait or are being carried out", self.open_firings.clone());
        to.register(
            "oldest_open_firing_timestamp_seconds",
            "When the oldest of the open firings was decided, in seconds since 1970; 0 while none is open",
            self.oldest_open_firing.clone(),
        );
        to.register(
            "inputs_held",
            "1 while no events are taken because as many firings are open as may be",
            self.inputs_held.clone(),
        );
        to.register(
            "dead_letters",
            "Firings that failed for good and events that could not be judged, which are kept",
            self.dead_letters.clone(),
        );
        to.register(
            "dead_letters_evicted",
            "Dead letters that had to go for newer ones",
            self.dead_letters_evicted.clone(),
        );
        to.register(
            "slowed_rules",
            "Rules that fire faster than the limit and are slowed down",
            self.slowed_rules.clone(),
        );
        to.register(
            "tripped_rules",
            "Rules whose breaker is tripped: their firings are only observed",
            self.tripped_rules.clone(),
        );
        to.register(
            "stopped",
            "1 while nothing new is acted upon because the switch for all rules is set",
            self.stopped.clone(),
        );
        to.register("bus_position", "Positions in the log", self.position.clone());
        to.register("bus_lag_records", "Records appended and not folded yet", self.lag.clone());
        to.register("bus_log_bytes", "Bytes of log segments on disk", self.log_bytes.clone());
        to.register("bus_syncs", "Times the log was synced to disk", self.syncs.clone());
        to.register("watches", "Watches, by state", self.watches.clone());
        to.register(
            "watch_objects_unreadable",
            "Objects that a watch left out because they could not be read",
            self.unreadable.clone(),
        );
        to.register(
            "watch_may_have_lost",
            "Times a watch may have lost events: they expired unseen, or the versions of the API server went back",
            self.may_have_lost.clone(),
        );
        to.register("status_writes", "Writes of status, by result", self.status_writes.clone());
        to.register(
            "kubernetes_events_dropped",
            "Kubernetes Events that were not written, because of the rate limit or an error",
            self.events_dropped.clone(),
        );
        to.register("spans_dropped", "Spans of traces that the endpoint did not take", self.spans_dropped.clone());
        to.register("may_act", "1 while actions may be started: the Lease is this log's", self.may_act.clone());
        self.webhooks.register(to);
        self.feeds.register(to);
        to.register(
            "bus_lost",
            "1 when this process took over from another log, which is not here",
            self.bus_lost.clone(),
        );
    }

    /// Writes counters of known labels from the start: Prometheus sees no increase in one that begins at 1, so an alert
    /// would miss the first failure.
    fn begin_at_zero(&self) {
        let suppressed = [
            "SuppressedByCooldown",
            "SuppressedByTooManyGroups",
            "SuppressedByTooMuchState",
            "SuppressedByBudget",
            "SuppressedByOwnWrite",
            "SuppressedByConcurrency",
            "SuppressedByDedupe",
            "SuppressedOutsideActiveWindow",
            "SuppressedByStop",
            "SuppressedByLoop",
        ];
        let others = ["Fired", "Counted", "Noted", "Passed", "Resolved", "Deferred", "Errored"];
        for decision in others.into_iter().chain(suppressed) {
            self.decisions.get_or_create_owned(&DecisionLabels { decision });
        }
        for outcome in [OutcomeName::Succeeded, OutcomeName::Failed] {
            self.firings.get_or_create_owned(&OutcomeLabels { outcome: Name(outcome) });
            self.actions.get_or_create_owned(&OutcomeLabels { outcome: Name(outcome) });
        }
        for result in [StatusWrite::Written, StatusWrite::Failed, StatusWrite::Gone] {
            self.status_writes.get_or_create_owned(&WriteLabels { result: Name(result) });
        }
    }

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
            let decision = match decision {
                Decision::Fired(_) => "Fired",
                Decision::Counted { .. } => "Counted",
                Decision::Noted { .. } => "Noted",
                Decision::Passed { .. } => "Passed",
                Decision::Resolved { .. } => "Resolved",
                Decision::Suppressed { reason: SuppressedReason::Cooldown, .. } => "SuppressedByCooldown",
                Decision::Suppressed { reason: SuppressedReason::TooManyGroups, .. } => "SuppressedByTooManyGroups",
                Decision::Suppressed { reason: SuppressedReason::TooMuchState, .. } => "SuppressedByTooMuchState",
                Decision::Suppressed { reason: SuppressedReason::Budget, .. } => "SuppressedByBudget",
                Decision::Suppressed { reason: SuppressedReason::Backlog, .. } => "SuppressedByBacklog",
                Decision::Suppressed { reason: SuppressedReason::OwnWrite, .. } => "SuppressedByOwnWrite",
                Decision::Suppressed { reason: SuppressedReason::Concurrency, .. } => "SuppressedByConcurrency",
                Decision::Suppressed { reason: SuppressedReason::Dedupe, .. } => "SuppressedByDedupe",
                Decision::Suppressed { reason: SuppressedReason::OutsideActiveWindow, .. } => {
                    "SuppressedOutsideActiveWindow"
                }
                Decision::Suppressed { reason: SuppressedReason::Stopped, .. } => "SuppressedByStop",
                Decision::Suppressed { reason: SuppressedReason::Loop, .. } => "SuppressedByLoop",
                Decision::Suppressed { reason: SuppressedReason::Silence, .. } => "SuppressedBySilence",
                Decision::Deferred { .. } => "Deferred",
                Decision::Errored { .. } => "Errored",
            };
            self.decisions.get_or_create_owned(&DecisionLabels { decision }).inc();
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
