//! `dedupe`, in simulated time.

use super::{timeline::Timeline, *};

fn told(message: &str) -> EventInput {
    about("shop", "p", "R", json!({"message": message}))
}

/// What each event, at its second and with its message, makes the rule decide.
#[track_caller]
fn story(rule: Value, expected: &[(i64, &str, &str)]) -> Timeline {
    let mut line = Timeline::of(rule);
    for (second, message, expected) in expected {
        let words = line.event(*second, &told(message)).join("; ").replace(" by any", "").replace(" shop/Pod/p", "");
        assert_eq!(words, *expected, "second {second}");
        line.restart();
    }
    line
}

fn rule(more: Value) -> Value {
    let mut rule = json!({"dedupe": {"keyExpression": "event.data.message", "within": "10s"}});
    more.as_object().into_iter().flatten().for_each(|(key, more)| rule[key] = more.clone());
    rule
}

fn faults(body: Value) -> Vec<String> {
    compile(&rule_ref("web"), 1, &spec(body)).expect_err("faults").iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_the_same_fires_once_and_again_when_the_time_has_passed_since() {
    let line = story(
        rule(json!({})),
        &[
            (0, "a", "passed; fired"),
            (4, "a", "same"),
            (5, "b", "passed; fired"),
            (9, "a", "same"),
            (10, "a", "passed; fired"),
            (14, "b", "same"),
            (19, "a", "same"),
        ],
    );
    let counts = line.progress().counts;
    assert_eq!((counts.suppressed.dedupe, counts.suppressed.total, counts.matched, counts.fired), (4, 4, 7, 3));
}

#[test]
fn what_a_cooldown_suppressed_was_not_let_through() {
    story(
        rule(json!({"throttle": {"cooldown": "5s"}})),
        &[
            (0, "a", "passed; fired"),
            (2, "b", "cooldown"),
            (3, "a", "same"),
            (6, "b", "passed; fired"),
            (8, "b", "same"),
        ],
    );
}

#[test]
fn the_same_again_is_counted_once_and_not_put_into_a_batch() {
    let counts = json!({"trigger": {"count": {"atLeast": 3, "within": "1m"}}});
    let story_of =
        [(0, "a", "passed; counted"), (1, "a", "same"), (2, "b", "passed; counted"), (3, "c", "passed; fired x3")];
    story(rule(counts), &story_of);
    let mut line = Timeline::of(rule(json!({"trigger": {"batch": {"wait": "5s"}}})));
    assert_eq!(line.event(0, &told("a"))[0], "passed shop/Pod/p");
    assert_eq!(line.event(1, &told("a")), ["same shop/Pod/p"]);
    assert_eq!(line.tick(20), ["fired shop/Pod/p by any x1"]);
}

#[test]
fn what_a_count_takes_within_a_cooldown_is_known_too() {
    story(
        rule(json!({"trigger": {"count": {"atLeast": 1, "within": "1m"}}, "throttle": {"cooldown": "8s"}})),
        &[(0, "a", "passed; fired x1"), (2, "b", "passed; cooldown"), (3, "b", "same"), (9, "c", "passed; fired x2")],
    );
}

#[test]
fn normalised_keys_are_the_same_and_groups_have_keys_of_their_own() {
    let mut body = rule(json!({}));
    body["dedupe"]["normalize"] = json!(["Numbers", "Durations", "Hashes"]);
    let mut line = story(
        body,
        &[
            (0, "pod web-6d4b75cb6d-x7k2p failed 3 times in 5m0s", "passed; fired"),
            (1, "pod web-6d4b75cb6d-zz2kq failed 17 times in 12s", "same"),
            (2, "pod db-6d4b75cb6d-x7k2p failed 3 times in 5m0s", "passed; fired"),
        ],
    );
    let other = about("shop", "q", "R", json!({"message": "pod web-6d4b75cb6d-x7k2p failed 3 times in 5m0s"}));
    assert_eq!(line.event(3, &other), ["passed shop/Pod/q", "fired shop/Pod/q by any"]);
}

#[test]
fn a_group_knows_so_many_keys_and_no_more() {
    let mut body = rule(json!({"groups": {"max": 100_000}}));
    body["dedupe"]["within"] = json!("1h");
    let mut line = Timeline::of(body);
    for number in 0..11 {
        let words = line.event(number, &told(&number.to_string()));
        assert_eq!(words.len(), 2, "{words:?}");
    }
    assert_eq!(line.event(20, &told("10")), ["same shop/Pod/p"]);
    assert_eq!(line.event(21, &told("1")), ["same shop/Pod/p"], "ten are known");
    assert_eq!(line.event(22, &told("0")).len(), 2, "the oldest is not");
}

#[test]
fn a_key_that_cannot_be_told_is_an_error_and_senseless_ones_are_faults() {
    let mut line = Timeline::of(json!({"dedupe": {"keyExpression": "event.data.nothing", "within": "10s"}}));
    let words = line.event(0, &told("a"));
    assert!(words[0].starts_with("error dedupe.keyExpression: "), "{words:?}");
    let never = faults(json!({"dedupe": {"keyExpression": "[1]", "within": "0s"}}));
    assert!(never.iter().any(|fault| fault == "spec.dedupe.within:1:1: must be longer than 0s"), "{never:?}");
    assert!(never.iter().any(|fault| fault.contains("gives a list")), "{never:?}");
    for trigger in [json!({"held": {"for": "5m"}}), json!({"absent": {"for": "5m"}})] {
        let senseless = faults(rule(json!({"trigger": trigger})));
        assert!(senseless[0].contains("set repeat or throttle.cooldown instead"), "{senseless:?}");
    }
}

#[test]
fn another_dedupe_begins_anew_and_another_text_does_not() {
    let mut line = story(rule(json!({})), &[(0, "a", "passed; fired")]);
    line.put(1, 2, rule(json!({"historyLimit": 3})));
    assert_eq!(line.event(2, &told("a")), ["same shop/Pod/p"]);
    let mut other = rule(json!({}));
    other["dedupe"]["within"] = json!("1h");
    line.put(3, 3, other);
    assert_eq!(line.event(4, &told("a")).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restarts_and_ticks_change_no_decision_of_a_rule_with_brakes(
        happenings in prop::collection::vec((0i64..30, 0u8..10, 0u8..3, 0u8..4), 1..80),
        trigger in prop::sample::select(vec![
            Value::Null,
            json!({"count": {"atLeast": 2, "within": "40s"}}),
            json!({"batch": {"wait": "20s", "maxEvents": 3}}),
            json!({"all": {"within": "60s", "of": [{"when": [{"name": "is", "expression": "event.data.message == '0'"}]}, {}]}}),
        ]),
        cooldown in prop::option::of(1i64..80),
        (within, max) in (1i64..120, 1u32..4),
    ) {
        let mut body = json!({"groups": {"max": max}, "dedupe": {"keyExpression": "event.data.message", "within": format!("{within}s")}});
        if !trigger.is_null() {
            body["trigger"] = trigger;
        }
        if let Some(cooldown) = cooldown {
            body["throttle"] = json!({"cooldown": format!("{cooldown}s"), "budget": {"firings": 2, "per": "90s", "scope": "Rule"}});
        }
        let happenings: Vec<_> = happenings.into_iter().map(|(wait, what, pod, key)| {
            let input = about("shop", &format!("p{pod}"), "R", json!({"message": key.to_string()}));
            (wait, match what {
                0..7 => timeline::Happening::Event(Box::new(input)),
                7 => timeline::Happening::Nothing,
                _ => timeline::Happening::Restart,
            })
        }).collect();
        timeline::goes_on_the_same(&body, &happenings)?;
    }
}
