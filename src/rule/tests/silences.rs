//! Silences, in simulated time. The line of time begins at 2026-09-21T14:13:20Z.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{timeline::Timeline, *};
use crate::{api::Silence, record::Control};

/// A silence that is over at this second.
fn silence(name: &str, until: i64, expression: Option<&str>) -> Silence {
    let until = Some(Time(head(0, until).stamp.timestamp()));
    let expression = expression.map(str::to_owned);
    Silence { name: name.into(), author: "jane".into(), until, comment: "moving".into(), expression, message: None }
}

fn silences(silences: &[Silence]) -> Record {
    Record::Control(Control::Silences { rule: rule_ref("web").uid, silences: silences.to_vec() })
}

fn event(reason: &str) -> EventInput {
    about("shop", "p", reason, json!({}))
}

fn held(more: Value) -> Value {
    let broken = json!([{"name": "broken", "expression": "event.data.reason == 'Broken'"}]);
    let mut body = json!({"when": broken, "trigger": {"held": {"for": "10s"}}});
    more.as_object().into_iter().flatten().for_each(|(key, more)| body[key] = more.clone());
    body
}

#[test]
fn a_silenced_rule_does_not_fire_and_it_ends_by_itself() {
    let mut line = Timeline::of(json!({}));
    line.fold(1, &silences(&[silence("a", 100, None)]));
    assert_eq!(line.event(2, &event("R")), ["silenced shop/Pod/p"]);
    line.restart();
    assert_eq!(line.event(99, &event("R")), ["silenced shop/Pod/p"]);
    let Progress { counts, last_suppressed, .. } = line.progress();
    assert_eq!((counts.suppressed.silence, counts.suppressed.total, counts.fired, counts.matched), (2, 2, 0, 2));
    let last = last_suppressed.expect("it is told");
    let until = last.until.map(|until| until.0);
    assert_eq!((last.reason.as_str(), until), ("silence", Some(head(0, 100).stamp.timestamp())));
    assert_eq!(line.event(100, &event("R")), ["fired shop/Pod/p by any"]);
}

#[test]
fn an_expression_says_what_is_silenced() {
    let rule = json!({"groupBy": [{"name": "pod", "expression": "event.data.regarding.name"}], "variables": [{"name": "why", "expression": "event.data.reason"}]});
    let mut line = Timeline::of(rule);
    line.fold(1, &silences(&[silence("a", 100, Some("group.pod.startsWith('p') && variables.why == 'R'"))]));
    assert_eq!(line.event(2, &event("R")), ["silenced p"]);
    assert_eq!(line.event(3, &event("Q")), ["fired p by any"]);
    assert_eq!(line.event(4, &about("shop", "q", "R", json!({}))), ["fired q by any"]);
}

#[test]
fn what_cannot_be_evaluated_silences_nothing_and_is_told() {
    let mut line = Timeline::of(json!({}));
    line.fold(1, &silences(&[silence("a", 100, Some("event.data.nothing == 1"))]));
    let words = line.event(2, &event("R"));
    assert!(words[0].starts_with("error silences[a]: ") && words[1] == "fired shop/Pod/p by any", "{words:?}");
    assert_eq!(line.progress().counts.errors, 1);
    // Of another version, or of another program, it may not even compile.
    line.fold(3, &silences(&[silence("a", 100, Some("group.nobody == 1")), silence("b", 4, None)]));
    assert_eq!(line.event(3, &event("R")), ["silenced shop/Pod/p"], "the other is in force");
    assert_eq!(line.event(5, &event("R")), ["fired shop/Pod/p by any"]);
}

#[test]
fn a_count_goes_on_counting_and_a_cooldown_does_not_begin() {
    let count = json!({"trigger": {"count": {"atLeast": 2, "within": "10m"}}, "throttle": {"cooldown": "1h"}});
    let mut line = Timeline::of(count);
    line.fold(1, &silences(&[silence("a", 100, None)]));
    let words: Vec<_> = [2, 3, 101].into_iter().flat_map(|second| line.event(second, &event("R"))).collect();
    assert_eq!(words, ["counted shop/Pod/p", "silenced shop/Pod/p", "fired shop/Pod/p by any x3"]);
}

#[test]
fn what_lasts_when_the_silence_is_over_is_fired_for_then_and_once() {
    let mut line = Timeline::of(held(json!({})));
    line.fold(1, &silences(&[silence("a", 100, None)]));
    line.event(2, &event("Broken"));
    assert_eq!(line.tick(50)[0], "silenced shop/Pod/p");
    line.restart();
    assert_eq!(line.tick(99), [""; 0], "it is not asked again and again");
    assert_eq!(line.tick(150), ["fired shop/Pod/p by any"]);
    assert_eq!(line.fired[0].stamp.at, 100 * SECOND);
    assert_eq!(line.progress().counts.suppressed.silence, 1);
}

#[test]
fn a_silence_that_is_ended_early_holds_nothing_back_any_longer() {
    let mut line = Timeline::of(held(json!({})));
    line.fold(1, &silences(&[silence("a", 10_000, None), silence("b", 5000, Some("false"))]));
    line.event(2, &event("Broken"));
    line.event(45, &about("shop", "q", "Broken", json!({})));
    line.tick(50);
    line.fold(51, &silences(&[silence("b", 5000, Some("false"))]));
    line.restart();
    assert_eq!(line.tick(52), ["fired shop/Pod/p by any"]);
    assert_eq!(line.tick(54), [""; 0], "nothing is early");
    assert_eq!(line.tick(56), ["fired shop/Pod/q by any"]);
}

#[test]
fn the_end_of_what_has_fired_is_told_under_a_silence_and_steps_and_repeats_wait() {
    let tell = |name: &str| json!([{"name": name, "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}]);
    let steps = json!([{"after": "30s", "actions": tell("page")}]);
    let trigger = json!({"held": {"for": "10s", "steps": steps}});
    let body = held(json!({"trigger": trigger, "repeat": "40s", "resolveActions": tell("over")}));
    let mut line = Timeline::of(body.clone());
    line.event(1, &event("Broken"));
    assert_eq!(line.tick(12), ["fired shop/Pod/p by any"]);
    line.fold(13, &silences(&[silence("a", 200, None)]));
    let words = line.tick(150);
    assert_eq!(
        (words[0].as_str(), words.iter().filter(|word| word.starts_with("silenced")).count()),
        ("silenced shop/Pod/p", 1),
        "{words:?}"
    );
    let later = line.tick(201);
    assert!(
        later.contains(&"step 0 shop/Pod/p".to_owned()) && later.contains(&"repeated shop/Pod/p".to_owned()),
        "{later:?}"
    );

    let mut line = Timeline::of(body);
    line.event(1, &event("Broken"));
    line.tick(12);
    line.fold(13, &silences(&[silence("a", 200, None)]));
    line.tick(60);
    let ended = line.event(61, &event("Mended"));
    assert!(ended.contains(&"resolves shop/Pod/p".to_owned()), "an incident that was opened is closed: {ended:?}");
    assert_eq!(line.tick(300), [""; 0]);
}

#[test]
fn silences_are_kept_over_edits_and_those_of_other_rules_are_none_of_its() {
    let mut line = Timeline::of(json!({}));
    line.fold(1, &silences(&[silence("a", 100, None)]));
    let other = Record::Control(Control::Silences { rule: rule_ref("other").uid, silences: Vec::new() });
    line.fold(2, &other);
    line.put(3, 2, json!({"historyLimit": 1}));
    assert_eq!(line.event(4, &event("R")), ["silenced shop/Pod/p"]);
    assert_eq!(line.engine.silences(&rule_ref("web").uid).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restarts_and_ticks_change_no_decision_of_rules_that_are_silenced(
        happenings in prop::collection::vec((0i64..30, 0u8..12, 0u8..3, 0i64..20), 1..60),
        trigger in properties::any_trigger(),
    ) {
        let mut second = 0;
        let happenings: Vec<_> = happenings.into_iter().map(|(wait, what, which, v)| {
            second += wait;
            let reason = ["A", "B", "C"][usize::from(what % 3)];
            let at = head(0, second + v * 5).stamp.timestamp().to_string();
            let input = about("shop", &format!("p{which}"), reason, json!({"v": v, "at": at}));
            let only = format!("event.subject == 'shop/Pod/p{which}'");
            (wait, match what {
                0..6 => timeline::Happening::Event(Box::new(input)),
                6 | 7 => timeline::Happening::Nothing,
                8 => timeline::Happening::Record(Box::new(silences(&[silence("a", second + 5 * v, None)]))),
                9 => timeline::Happening::Record(Box::new(silences(&[silence("a", second + 50 * v, Some(&only))]))),
                10 => timeline::Happening::Record(Box::new(silences(&[]))),
                _ => timeline::Happening::Restart,
            })
        }).collect();
        timeline::goes_on_the_same(&json!({"trigger": trigger}), &happenings)?;
    }
}
