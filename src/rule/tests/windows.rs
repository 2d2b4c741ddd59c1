//! `activeWindows`, in simulated time. The line of time begins at 2026-09-21T14:13:20Z, a Monday.

use super::{timeline::Timeline, *};

/// Seconds from the beginning of the line to this time of its first day.
fn at(hour: i64, minute: i64) -> i64 {
    (hour - 14) * 3600 + (minute - 13) * 60 - 20
}

fn rule(from: &str, to: &str, more: Value) -> Value {
    let mut rule = json!({"activeWindows": [{"from": from, "to": to}]});
    more.as_object().into_iter().flatten().for_each(|(key, more)| rule[key] = more.clone());
    rule
}

fn event(reason: &str) -> EventInput {
    about("shop", "p", reason, json!({}))
}

fn held(more: Value) -> Value {
    let broken = json!([{"name": "broken", "expression": "event.data.reason == 'Broken'"}]);
    let mut body = rule("17:00", "18:00", json!({"when": broken, "trigger": {"held": {"for": "5m"}}}));
    more.as_object().into_iter().flatten().for_each(|(key, more)| body[key] = more.clone());
    body
}

#[test]
fn an_event_outside_of_the_windows_does_not_fire_and_status_says_until_when() {
    let mut line = Timeline::of(rule("16:00", "17:00", json!({})));
    assert_eq!(line.event(at(15, 40), &event("R")), ["outside shop/Pod/p"]);
    assert_eq!(line.event(at(15, 50), &event("R")), ["outside shop/Pod/p"]);
    let last = line.progress().last_suppressed.expect("it is told");
    assert_eq!(
        (last.reason.as_str(), last.until.map(|until| until.0.to_string())),
        ("outsideActiveWindow", Some("2026-09-21T16:00:00Z".to_owned()))
    );
    assert_eq!(line.event(at(16, 0), &event("R")), ["fired shop/Pod/p by any"]);
    assert_eq!(line.event(at(17, 0), &event("R")), ["outside shop/Pod/p"]);
    line.restart();
    let Progress { counts, last_suppressed, .. } = line.progress();
    assert_eq!((counts.suppressed.outside_active_window, counts.suppressed.total, counts.fired), (3, 3, 1));
    assert_eq!(
        last_suppressed.and_then(|last| last.until).map(|until| until.0.to_string()),
        Some("2026-09-22T16:00:00Z".to_owned())
    );
}

#[test]
fn what_a_count_has_counted_outside_counts_inside() {
    let mut line = Timeline::of(rule("16:00", "17:00", json!({"trigger": {"count": {"atLeast": 3, "within": "10m"}}})));
    for minute in [53, 56, 59] {
        let words = line.event(at(15, minute), &event("R"));
        assert_eq!(words, [if minute == 59 { "outside shop/Pod/p" } else { "counted shop/Pod/p" }]);
    }
    assert_eq!(line.event(at(16, 1), &event("R")), ["fired shop/Pod/p by any x4"]);
}

#[test]
fn what_is_held_when_a_window_begins_is_fired_for_then_and_its_end_is_told_at_any_time() {
    let tell = json!([{"name": "over", "notify": {"sinkRef": {"name": "oncall"}, "text": "over"}}]);
    let mut line = Timeline::of(held(json!({"resolveActions": tell})));
    let begun = line.event(at(16, 0), &event("Broken"));
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_eq!(line.tick(at(16, 30))[0], "outside shop/Pod/p");
    line.restart();
    assert_eq!(line.tick(at(16, 59)), [""; 0], "it is not asked again and again");
    assert_eq!(line.tick(at(17, 10)), ["fired shop/Pod/p by any"]);
    assert_eq!(line.fired[0].stamp.timestamp().to_string(), "2026-09-21T17:00:00Z");
    let ended = line.event(at(19, 0), &event("Mended"));
    assert!(ended.contains(&"resolves shop/Pod/p".to_owned()), "{ended:?}");
    assert_eq!(line.progress().counts.suppressed.outside_active_window, 1);
}

#[test]
fn what_is_over_when_a_window_begins_is_not_fired_for() {
    let mut line = Timeline::of(held(json!({})));
    line.event(at(16, 0), &event("Broken"));
    line.tick(at(16, 30));
    line.event(at(16, 50), &event("Mended"));
    assert_eq!(line.tick(at(17, 30)), [""; 0]);
    assert!(line.fired.is_empty());
}

#[test]
fn steps_of_what_has_fired_go_on_outside_and_repeats_wait_for_the_next_window() {
    let steps = json!([{"after": "30m", "actions": [{"name": "page", "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}]}]);
    let mut line = Timeline::of(held(json!({"repeat": "40m", "trigger": {"held": {"for": "5m", "steps": steps}}})));
    line.event(at(17, 40), &event("Broken"));
    assert_eq!(line.tick(at(17, 50)), ["fired shop/Pod/p by any"]);
    let later = line.tick(at(19, 0));
    assert_eq!(later[..2], ["step 0 shop/Pod/p".to_owned(), "outside shop/Pod/p".to_owned()]);
    assert_eq!(line.tick(at(24 + 17, 1)), ["repeated shop/Pod/p"]);
}

#[test]
fn an_edit_of_the_windows_lets_nothing_wait_for_one_that_is_no_more() {
    let mut line = Timeline::of(held(json!({})));
    line.event(at(16, 0), &event("Broken"));
    line.tick(at(16, 30));
    let mut other = held(json!({}));
    other["activeWindows"] = json!([{"from": "16:00", "to": "18:00"}]);
    line.put(at(16, 31), 2, other);
    line.event(at(16, 32), &event("Broken"));
    assert_eq!(line.tick(at(16, 40)), ["fired shop/Pod/p by any"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restarts_and_ticks_change_no_decision_of_a_rule_with_windows(
        happenings in prop::collection::vec((0i64..1500, 0u8..10, 0u8..3, 0i64..20), 1..60),
        trigger in properties::any_trigger(),
        (from, hours) in (0u8..24, 1u8..23),
    ) {
        let to = (from + hours) % 24;
        let body = rule(&format!("{from:02}:00"), &format!("{to:02}:00"), json!({"trigger": trigger}));
        let mut second = 0;
        let happenings: Vec<_> = happenings.into_iter().map(|(wait, what, which, v)| {
            second += wait;
            let reason = ["A", "B", "C"][usize::from(what % 3)];
            let at = head(0, second + v * 5).stamp.timestamp().to_string();
            let input = about("shop", &format!("p{which}"), reason, json!({"v": v, "at": at}));
            (wait, match what {
                0..6 => timeline::Happening::Event(Box::new(input)),
                6 | 7 => timeline::Happening::Nothing,
                _ => timeline::Happening::Restart,
            })
        }).collect();
        timeline::goes_on_the_same(&body, &happenings)?;
    }
}
