//! The switch for all rules, in simulated time.

use super::{timeline::Timeline, *};
use crate::record::Control;

fn stop() -> Record {
    Record::Control(Control::Stop { by: "ConfigMap a/b".into(), why: "a drill".into() })
}

fn release() -> Record {
    Record::Control(Control::Release)
}

fn event(reason: &str) -> EventInput {
    about("shop", "p", reason, json!({}))
}

#[test]
fn while_it_is_set_nothing_fires_and_it_is_counted() {
    let mut line = Timeline::of(json!({}));
    assert_eq!(line.event(1, &event("R")), ["fired shop/Pod/p by any"]);
    line.fold(2, &stop());
    assert_eq!(line.event(3, &event("R")), ["stopped shop/Pod/p"]);
    line.restart();
    assert_eq!(line.event(4, &event("R")), ["stopped shop/Pod/p"]);
    let Progress { counts, stopped, last_suppressed, .. } = line.progress();
    assert_eq!((counts.suppressed.stopped, counts.suppressed.total, counts.fired), (2, 2, 1));
    let stopped = stopped.expect("it is told");
    assert_eq!((stopped.since, &*stopped.by, &*stopped.why), (head(0, 2).stamp, "ConfigMap a/b", "a drill"));
    assert_eq!(last_suppressed.expect("it is told").reason, "stopped");
    line.fold(5, &release());
    line.restart();
    assert_eq!(
        (line.event(6, &event("R")), line.progress().stopped),
        (vec!["fired shop/Pod/p by any".to_owned()], None)
    );
}

#[test]
fn every_rule_is_told_and_saying_it_again_changes_the_reason_only() {
    let mut line = Timeline::of(json!({}));
    line.engine.dirty_rules();
    line.fold(1, &release());
    assert!(line.engine.dirty_rules().is_empty(), "it was not set");
    line.fold(2, &stop());
    assert_eq!(line.engine.dirty_rules(), [rule_ref("web").uid]);
    line.fold(9, &Record::Control(Control::Stop { by: "ConfigMap a/b".into(), why: "no drill".into() }));
    let stopped = line.engine.stopped().expect("stopped");
    assert_eq!((stopped.since.at, &*stopped.why), (2 * SECOND, "no drill"));
    assert_eq!(line.engine.dirty_rules(), [rule_ref("web").uid]);
}

#[test]
fn what_is_due_waits_for_the_release_and_is_judged_then() {
    let broken = json!([{"name": "broken", "expression": "event.data.reason == 'Broken'"}]);
    let over = json!([{"name": "over", "notify": {"sinkRef": {"name": "oncall"}, "text": "over"}}]);
    let rule = json!({"when": broken, "trigger": {"held": {"for": "10s"}}, "resolveActions": over});
    let mut line = Timeline::of(rule);
    let other = |reason: &str| about("shop", "q", reason, json!({}));
    line.event(1, &event("Broken"));
    line.event(1, &other("Broken"));
    line.fold(2, &stop());
    assert_eq!(line.tick(50), [""; 0]);
    assert_eq!(line.engine.next_deadline(), None, "nothing is asked for");
    line.event(60, &other("Mended"));
    line.fold(100, &release());
    assert_eq!(line.engine.next_deadline(), Some(100 * SECOND));
    line.restart();
    assert_eq!(line.engine.next_deadline(), Some(100 * SECOND), "after a restart too");
    assert_eq!(line.tick(101), ["fired shop/Pod/p by any"], "the other is over");
    assert_eq!(line.fired[0].stamp.at, 100 * SECOND, "it is no older than the release");
    line.fold(102, &stop());
    let ended = line.event(103, &event("Mended"));
    assert!(
        ended.contains(&"resolves shop/Pod/p".to_owned()),
        "what it does at the end waits with the runner: {ended:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restarts_and_ticks_change_no_decision_of_rules_that_are_stopped_and_released(
        happenings in prop::collection::vec((0i64..30, 0u8..12, 0u8..3, 0i64..20), 1..60),
        trigger in properties::any_trigger(),
    ) {
        let mut second = 0;
        let happenings: Vec<_> = happenings.into_iter().map(|(wait, what, which, v)| {
            second += wait;
            let reason = ["A", "B", "C"][usize::from(what % 3)];
            let at = head(0, second + v * 5).stamp.timestamp().to_string();
            let input = about("shop", &format!("p{which}"), reason, json!({"v": v, "at": at}));
            (wait, match what {
                0..6 => timeline::Happening::Event(Box::new(input)),
                6 | 7 => timeline::Happening::Nothing,
                8 => timeline::Happening::Record(Box::new(stop())),
                9 => timeline::Happening::Record(Box::new(release())),
                _ => timeline::Happening::Restart,
            })
        }).collect();
        timeline::goes_on_the_same(&json!({"trigger": trigger}), &happenings)?;
    }
}
