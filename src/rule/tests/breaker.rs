//! `breaker`, in simulated time.

use std::collections::BTreeSet;

use super::{timeline::Timeline, *};
use crate::api::RuleMode;

fn rule() -> Value {
    json!({"breaker": {"failures": 2, "resumeAfter": "60s"}})
}

/// What the line says of the rule's firings: `open`, `shut` or `trial`.
fn gate(line: &Timeline) -> &'static str {
    match line.progress().tripped {
        None => "open",
        Some(Trip { until: Some(_), .. }) => "shut",
        Some(Trip { until: None, .. }) => "trial",
    }
}

const FAILED: FiringOutcome = FiringOutcome::Failed;
const SUCCEEDED: FiringOutcome = FiringOutcome::Succeeded;

#[test]
fn a_rule_whose_firings_fail_one_after_the_other_trips_and_is_tried_again() {
    let mut line = Timeline::of(rule());
    let story = [
        (1, Some(FAILED), "open"),
        (2, Some(SUCCEEDED), "open"),
        (3, Some(FAILED), "open"),
        (4, Some(FAILED), "shut"),
        (5, Some(FAILED), "shut"),
        (63, None, "shut"),
        (64, None, "trial"),
        (70, Some(FAILED), "shut"),
        (129, None, "shut"),
        (130, None, "trial"),
        (131, Some(SUCCEEDED), "open"),
        (132, Some(FAILED), "open"),
    ];
    for (second, ended, expected) in story {
        match ended {
            Some(outcome) => drop(line.end(second, outcome, RuleMode::Enforce)),
            None => line.fold(second, &Record::Tick),
        }
        assert_eq!(gate(&line), expected, "second {second}");
        line.restart();
        assert_eq!(gate(&line), expected, "second {second}, after a restart");
    }
    assert_eq!(line.engine.tripped(), 0);
}

#[test]
fn a_trial_is_asked_for_when_its_time_comes_though_nothing_happens() {
    let mut line = Timeline::of(rule());
    line.end(1, FAILED, RuleMode::Enforce);
    assert_eq!(line.engine.next_deadline(), None);
    line.end(2, FAILED, RuleMode::Enforce);
    assert_eq!(line.engine.next_deadline(), Some(62 * SECOND));
    line.restart();
    assert_eq!((line.engine.next_deadline(), line.engine.tripped()), (Some(62 * SECOND), 1));
    line.fold(62, &Record::Tick);
    assert_eq!((line.engine.next_deadline(), line.engine.tripped()), (None, 1));
    line.fold(63, &Record::RuleRemove(rule_ref("web").uid));
    assert_eq!((line.engine.next_deadline(), line.engine.tripped()), (None, 0));
    assert_eq!(line.engine.take_gates(), [(rule_ref("web").uid, Gate::Open)]);
}

#[test]
fn what_was_observed_or_decided_by_another_version_tells_nothing_and_an_edit_resets() {
    let mut line = Timeline::of(rule());
    for second in 1..5 {
        line.end(second, FAILED, RuleMode::Observe);
    }
    assert_eq!(gate(&line), "open");
    line.end(6, FAILED, RuleMode::Enforce);
    line.end(7, FAILED, RuleMode::Enforce);
    assert_eq!(gate(&line), "shut");
    let told: Vec<_> = line.engine.take_trips().into_iter().map(|(_, trip)| trip.map(|trip| trip.failures)).collect();
    assert_eq!(told, [Some(2)]);
    let mut edited = rule();
    edited["historyLimit"] = json!(3);
    line.put(8, 2, edited);
    assert_eq!((gate(&line), line.engine.next_deadline()), ("open", None));
    assert_eq!(line.engine.take_trips().len(), 1, "that it acts again is told");
    line.end_of(9, FAILED, RuleMode::Enforce, 1);
    line.end_of(9, FAILED, RuleMode::Enforce, 1);
    assert_eq!(gate(&line), "open", "they were of the version before");
}

#[test]
fn what_somebody_runs_again_is_let_through_and_resets_the_breaker_when_it_succeeds() {
    let mut line = Timeline::of(rule());
    line.end(1, FAILED, RuleMode::Enforce);
    let letter = line.end(2, FAILED, RuleMode::Enforce);
    let replay = crate::record::Replay { of: letter.firing.id.clone(), open: Box::new(letter), unjudged: None };
    let head = head(999, 3);
    let open = line.engine.fire_again(&head, &replay).expect("it fires again");
    let shut = Gate::Shut(BTreeSet::from([open.firing.id.clone()]));
    assert_eq!(line.engine.take_gates(), [(rule_ref("web").uid, shut.clone())]);
    line.restart();
    assert_eq!(line.engine.take_gates(), [(rule_ref("web").uid, shut)]);
    let finished = Finished {
        firing: open.firing.id.clone(),
        rule: rule_ref("web").uid,
        outcome: SUCCEEDED,
        message: "done".into(),
        failed_at: None,
    };
    line.engine.ended(&head, &open, &finished);
    assert_eq!(gate(&line), "open");
    assert_eq!(line.engine.take_gates(), [(rule_ref("web").uid, Gate::Open)]);
}

#[test]
fn that_something_was_given_back_does_not_reset_it() {
    let mut line = Timeline::of(rule());
    let mut open = line.end(1, FAILED, RuleMode::Enforce);
    let change = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u", "manager": "m", "back": {}, "made": {}});
    open.firing.restores = Some(serde_json::from_value(change).expect("a change"));
    let (firing, uid) = (open.firing.id.clone(), rule_ref("web").uid);
    let finished = Finished { firing, rule: uid, outcome: SUCCEEDED, message: "done".into(), failed_at: None };
    line.engine.ended(&head(998, 2), &open, &finished);
    line.end(3, FAILED, RuleMode::Enforce);
    assert_eq!(gate(&line), "shut");
}

#[test]
fn a_breaker_that_says_nothing_is_a_fault() {
    let faults = |breaker: Value| -> Vec<String> {
        let spec = spec(json!({"breaker": breaker}));
        compile(&rule_ref("web"), 1, &spec).expect_err("faults").iter().map(ToString::to_string).collect()
    };
    assert_eq!(faults(json!({"failures": 0})), ["spec.breaker.failures:1:1: must be at least 1"]);
    let short = faults(json!({"failures": 1, "resumeAfter": "10ms"}));
    assert_eq!(short, ["spec.breaker.resumeAfter:1:1: must be at least 1s"]);
    assert_eq!(
        spec(json!({"breaker": {"failures": 1}})).breaker.as_ref().map(|one| one.resume_after().to_string()),
        Some("10m".to_owned())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restart_at_any_time_changes_nothing_of_what_a_breaker_says(
        happenings in prop::collection::vec((0i64..50, 0u8..6), 1..60),
    ) {
        let (mut one, mut other) = (Timeline::of(rule()), Timeline::of(rule()));
        let mut second = 0;
        for (wait, what) in happenings {
            second += wait;
            for line in [&mut one, &mut other] {
                match what {
                    0 | 1 => drop(line.end(second, FAILED, RuleMode::Enforce)),
                    2 => drop(line.end(second, SUCCEEDED, RuleMode::Enforce)),
                    3 => drop(line.end(second, FAILED, RuleMode::Observe)),
                    _ => line.fold(second, &Record::Tick),
                }
            }
            if what == 5 {
                other.restart();
            }
            prop_assert_eq!(one.progress().tripped, other.progress().tripped);
            prop_assert_eq!(one.engine.next_deadline(), other.engine.next_deadline());
            prop_assert_eq!(one.engine.tripped(), other.engine.tripped());
        }
    }
}
