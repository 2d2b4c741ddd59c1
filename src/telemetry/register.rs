//! The names of all metrics, what they tell, and which are there from the start.

use super::{
    Metrics, StatusWrite,
    labels::{DecisionLabels, Name, OutcomeLabels, OutcomeName, WriteLabels},
};

impl Metrics {
    /// Counters get the suffix `_total` when they are written.
    pub(super) fn register(&mut self) {
        self.register_rules();
        self.register_brakes();
        self.register_log();
        self.register_ways();
    }

    /// What becomes of events and firings.
    fn register_rules(&mut self) {
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
    }

    /// What holds rules up.
    fn register_brakes(&mut self) {
        let to = &mut self.registry;
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
    }

    fn register_log(&mut self) {
        let to = &mut self.registry;
        to.register("bus_position", "Positions in the log", self.position.clone());
        to.register("bus_lag_records", "Records appended and not folded yet", self.lag.clone());
        to.register("bus_log_bytes", "Bytes of log segments on disk", self.log_bytes.clone());
        to.register("bus_syncs", "Times the log was synced to disk", self.syncs.clone());
    }

    /// The ways in and out.
    fn register_ways(&mut self) {
        let to = &mut self.registry;
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
    pub(super) fn begin_at_zero(&self) {
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
}
