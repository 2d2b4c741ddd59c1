//! `throttle.budget`, in simulated time.

use super::*;

fn judged(engine: &mut Engine, second: i64, pod: &str) -> String {
    let head = head(1000 + second.unsigned_abs(), second);
    let input = about("shop", pod, "R", json!({}));
    let judged = engine.judge(&head, &input);
    engine.decide(&head, &input, &judged.seen, &judged.decisions);
    let words: Vec<String> = judged.decisions.iter().map(word).collect();
    words.join("; ").replace(" by any", "").replace("shop/Pod/", "")
}

#[track_caller]
fn story(rule: Value, expected: &[(i64, &str, &str)]) -> Engine {
    let mut engine = engine_with(rule);
    for (second, pod, expected) in expected {
        assert_eq!(judged(&mut engine, *second, pod), format!("{expected} {pod}"), "second {second}");
    }
    engine
}

#[test]
fn a_group_fires_no_more_often_than_its_budget_allows_within_the_time() {
    let engine = story(
        json!({"throttle": {"budget": {"firings": 2, "per": "10s"}}}),
        &[
            (0, "a", "fired"),
            (4, "a", "fired"),
            (5, "a", "budget"),
            (5, "b", "fired"),
            (9, "a", "budget"),
            (10, "a", "fired"),
            (11, "a", "budget"),
            (14, "a", "fired"),
        ],
    );
    let suppressed = engine.progress(&rule_ref("web").uid).expect("progress").counts.suppressed;
    assert_eq!((suppressed.budget, suppressed.total), (3, 3));
}

#[test]
fn a_budget_of_the_rule_is_one_for_all_groups_and_outlives_an_edit_of_a_text() {
    let body = json!({"throttle": {"budget": {"firings": 2, "per": "10s", "scope": "Rule"}, "cooldown": "3s"}});
    let mut engine = story(
        body.clone(),
        &[(0, "a", "fired"), (1, "a", "cooldown"), (2, "b", "fired"), (4, "a", "budget"), (5, "c", "budget")],
    );
    let mut text = body;
    text["actions"] = json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "other"}}]);
    put(&mut engine, "web", 2, &spec(text.clone()));
    listen(&mut engine, "web", 2, "any", true);
    assert_eq!(judged(&mut engine, 9, "a"), "budget a");
    text["throttle"]["budget"]["firings"] = json!(3);
    put(&mut engine, "web", 3, &spec(text));
    listen(&mut engine, "web", 3, "any", true);
    assert_eq!(judged(&mut engine, 9, "a"), "fired a", "another budget begins anew");
}

#[test]
fn what_the_budget_suppresses_is_counted_all_the_same() {
    let throttle = json!({"budget": {"firings": 1, "per": "10s"}});
    let rule = json!({"throttle": throttle, "trigger": {"count": {"atLeast": 2, "within": "1m"}}});
    let mut engine = story(rule, &[(0, "a", "counted")]);
    for (second, expected) in [(1, "fired a x2"), (2, "counted a"), (3, "budget a"), (11, "fired a x3")] {
        assert_eq!(judged(&mut engine, second, "a"), expected);
    }
}

#[test]
fn a_budget_that_says_nothing_or_keeps_too_much_is_a_fault() {
    let faults = |throttle: Value| -> Vec<String> {
        let spec = spec(json!({"throttle": throttle}));
        compile(&rule_ref("web"), 1, &spec).expect_err("faults").iter().map(ToString::to_string).collect()
    };
    let path = "spec.throttle.budget";
    assert_eq!(faults(json!({})), ["spec.throttle:1:1: cooldown or budget must be set"]);
    let nothing = faults(json!({"budget": {"firings": 0, "per": "0s"}}));
    assert_eq!(
        nothing,
        [format!("{path}.firings:1:1: must be at least 1"), format!("{path}.per:1:1: must be longer than 0s")]
    );
    let large = faults(json!({"budget": {"firings": 200, "per": "1h"}}));
    assert!(large[0].ends_with("set groups.max to 5000 or less"), "{large:?}");
    let whole = spec(json!({"throttle": {"budget": {"firings": 1000, "per": "1h", "scope": "Rule"}}}));
    assert!(compile(&rule_ref("web"), 1, &whole).is_ok());
}
