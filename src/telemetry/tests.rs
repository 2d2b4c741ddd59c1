use super::*;
use crate::record::{Position, RuleUid, SuppressedReason};

#[test]
fn what_has_not_failed_yet_is_written_as_zero() {
    let text = Metrics::default().encode();
    for line in [
        "signalbox_firings_total{outcome=\"Failed\"} 0",
        "signalbox_actions_total{outcome=\"Failed\"} 0",
        "signalbox_rule_decisions_total{decision=\"Errored\"} 0",
        "signalbox_status_writes_total{result=\"Failed\"} 0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
}

#[test]
fn every_metric_is_written_with_its_name_and_labels() {
    let metrics = Metrics::default();
    let rule = RuleUid("u".into());
    let decisions = [
        Decision::Suppressed {
            rule: rule.clone(),
            group: "g".into(),
            reason: SuppressedReason::Cooldown,
            occurrence: None,
        },
        Decision::Errored { rule, place: "when[a]".into(), message: "no".into(), poisoned: false },
    ];
    metrics.event_judged(crate::api::GROUP);
    metrics.decided(&decisions);
    metrics.firing_finished(FiringOutcome::Failed);
    metrics.action_settled(ActionOutcome::Succeeded, Duration::from_millis(3));
    metrics.action_settled(ActionOutcome::Failed, Duration::from_secs(100));
    metrics.open_firings(2);
    metrics.oldest_open_firing(Some(1_790_000_000_900_000));
    metrics.inputs_held(true);
    metrics.bus(Stats { appended: Position(9), folded: Position(4), syncs: 3, ..Stats::default() });
    metrics.bus(Stats { appended: Position(10), folded: Position(10), syncs: 4, ..Stats::default() });
    metrics.watch_moved(None, Some(WatchState::Starting));
    metrics.watch_moved(Some(WatchState::Starting), Some(WatchState::Established));
    metrics.object_unreadable();
    metrics.may_have_lost();
    metrics.status_written(StatusWrite::Written);
    metrics.kubernetes_events_dropped().inc();
    metrics.may_act(true);
    metrics.bus_lost();
    metrics.spans_dropped().inc();

    let text = metrics.encode();
    for line in [
        "signalbox_events_total{type=\"signalbox.dev\"} 1",
        "signalbox_rule_decisions_total{decision=\"SuppressedByCooldown\"} 1",
        "signalbox_rule_decisions_total{decision=\"Errored\"} 1",
        "signalbox_firings_total{outcome=\"Failed\"} 1",
        "signalbox_actions_total{outcome=\"Succeeded\"} 1",
        "signalbox_actions_total{outcome=\"Failed\"} 1",
        "signalbox_event_to_action_seconds_count 1",
        "signalbox_event_to_action_seconds_bucket{le=\"0.004\"} 1",
        "signalbox_open_firings 2",
        "signalbox_oldest_open_firing_timestamp_seconds 1790000000",
        "signalbox_inputs_held 1",
        "signalbox_bus_position{of=\"Appended\"} 10",
        "signalbox_bus_lag_records 0",
        "signalbox_bus_log_bytes 0",
        "signalbox_bus_syncs_total 4",
        "signalbox_watches{state=\"Starting\"} 0",
        "signalbox_watches{state=\"Established\"} 1",
        "signalbox_watch_objects_unreadable_total 1",
        "signalbox_watch_may_have_lost_total 1",
        "signalbox_status_writes_total{result=\"Written\"} 1",
        "signalbox_kubernetes_events_dropped_total 1",
        "signalbox_may_act 1",
        "signalbox_bus_lost 1",
        "signalbox_spans_dropped_total 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
}
