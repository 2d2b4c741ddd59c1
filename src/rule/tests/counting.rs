//! `groupBy`, `groups` and `trigger.count`, in simulated time.

use super::*;
use crate::event::{Seen, kubernetes_event::from_kubernetes_event};

/// Judges one event at that second and takes the decisions in.
fn at(engine: &mut Engine, seconds: i64, input: &EventInput) -> String {
    // Positions are in the order of times here; ten events a second are enough.
    let head = head(1000 + seconds.unsigned_abs() * 10, seconds);
    let judged = engine.judge(&head, input);
    engine.decide(&head, input, &judged.seen, &judged.decisions);
    judged.decisions.iter().map(word).collect::<Vec<_>>().join("; ")
}

fn counting(at_least: u32, within: &str, more: Value) -> Value {
    let mut rule = json!({"trigger": {"count": {"atLeast": at_least, "within": within}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        rule[key] = value.clone();
    }
    rule
}

fn web() -> EventInput {
    about("shop", "web", "R", json!({}))
}

/// An event that happened at that second, whenever it is accepted.
fn happened(seconds: i64) -> EventInput {
    let mut input = web();
    let event = Arc::get_mut(&mut input.event).expect("one owner");
    event.time = Some(head(0, seconds).stamp.timestamp());
    input
}

#[test]
fn enough_occurrences_within_the_window_fire_and_counting_begins_anew() {
    let mut engine = engine_with(counting(3, "10s", json!({})));
    let words: Vec<String> = (0..7).map(|second| at(&mut engine, second, &web())).collect();
    let (counted, fired) = ("counted shop/Pod/web", "fired shop/Pod/web by any x3");
    assert_eq!(words, [counted, counted, fired, counted, counted, fired, counted]);
    let counts = engine.progress(&rule_ref("web").uid).expect("progress").counts;
    assert_eq!((counts.matched, counts.fired, counts.suppressed.total), (7, 2, 0));
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let mut engine = engine_with(counting(2, "10s", json!({})));
    for (second, expected) in [
        (0, "counted shop/Pod/web"),
        (11, "counted shop/Pod/web"),
        (21, "fired shop/Pod/web by any x2"),
        (22, "counted shop/Pod/web"),
    ] {
        assert_eq!(at(&mut engine, second, &web()), expected, "second {second}");
    }
}

#[test]
fn a_kubernetes_event_counts_as_often_as_its_count_has_grown_and_a_change_once() {
    let mut engine = engine_with(counting(
        10,
        "1m",
        json!({"sources": [{"name": "any", "kubernetesEvent": {}}, {"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}]}),
    ));
    let grown = |delta: u32| about("shop", "web", "R", json!({"count": 50, "delta": delta}));
    assert_eq!(at(&mut engine, 0, &grown(9)), "counted shop/Pod/web");
    assert_eq!(at(&mut engine, 1, &grown(31)), "fired shop/Pod/web by any x40");
    let change = change("Update", "Deployment", Some("shop"), "web", json!({}));
    assert_eq!(at(&mut engine, 2, &change), "counted shop/Deployment/web");
}

/// The objects of hard case 2: the creation, a first repetition, and a series that the 30-minute heartbeat wrote.
#[test]
fn case_2_r2_ten_within_ten_minutes_fire_on_the_third_update_with_the_whole_delta() {
    let stalled = |version: u64, series: Value, labels: Value| {
        json!({
            "metadata": {"name": "p-1.18a1f0000000b001", "namespace": "orders", "uid": "e-1", "resourceVersion": version.to_string(),
                "creationTimestamp": "2026-11-02T07:31:00Z", "labels": labels},
            "eventTime": "2026-11-02T07:31:00.000000Z", "reportingComponent": "example.com/pump-controller",
            "reportingInstance": "pump-controller-0", "action": "Probing", "reason": "PumpStalled", "message": "pump p-1 stalled",
            "type": "Warning", "series": series, "firstTimestamp": null, "lastTimestamp": null, "source": {},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "api-7c9d-x1", "namespace": "orders"},
        })
    };
    let series = |count: u32, time: &str| json!({"count": count, "lastObservedTime": time});
    let last = || series(31, "2026-11-02T08:01:00.000000Z");
    let updates = [
        stalled(10, Value::Null, json!({})),
        stalled(11, series(2, "2026-11-02T07:32:10.000000Z"), json!({})),
        stalled(12, last(), json!({})),
        stalled(13, last(), json!({"seen": "yes"})),
    ];
    let namespaces = json!({"from": "Names", "names": ["orders"]});
    let sources = |namespaces| json!([{"name": "pump", "kubernetesEvent": {"reasons": ["PumpStalled"], "namespaces": namespaces}}]);
    // Accepted as they happen, and all at once, hours later.
    for late in [false, true] {
        let mut engine = engine_with(counting(10, "10m", json!({"sources": sources(namespaces.clone())})));
        let mut seen: Option<Seen> = None;
        let mut words = Vec::new();
        for (index, update) in updates.iter().enumerate() {
            let watch = watch("v1", "Event", "orders");
            let made = from_kubernetes_event(update.clone(), &watch, seen.as_ref()).expect("an Event");
            seen = made.origin.seen;
            let Some(event) = made.event else { continue };
            let wall =
                if late { 1_800_000_000_000_000 + index as i64 } else { event.time.expect("a time").as_microsecond() };
            let head = Head {
                position: Position(100 + index as u64),
                stamp: Stamp { at: wall - 1_700_000_000_000_000, wall },
            };
            let input = input(event, watch);
            let judged = engine.judge(&head, &input);
            engine.decide(&head, &input, &judged.seen, &judged.decisions);
            words.extend(judged.decisions.iter().map(word));
        }
        let counted = "counted orders/Pod/api-7c9d-x1";
        assert_eq!(words, [counted, counted, "fired orders/Pod/api-7c9d-x1 by pump x29"], "late: {late}");
    }
}

#[test]
fn a_backlog_is_counted_at_the_times_of_its_producer_and_never_back_in_time() {
    // Six events, two minutes apart, accepted within a second after an outage of an hour.
    let mut engine = engine_with(counting(3, "3m", json!({})));
    for number in 0..6 {
        assert_eq!(at(&mut engine, 3600, &happened(number * 120)), "counted shop/Pod/web", "event {number}");
    }
    let mut engine = engine_with(counting(3, "3m", json!({})));
    for (happened_at, expected) in [
        (600, "counted shop/Pod/web"),
        // Out of order: it counts with the one before it.
        (0, "counted shop/Pod/web"),
        (660, "fired shop/Pod/web by any x3"),
    ] {
        assert_eq!(at(&mut engine, 3600, &happened(happened_at)), expected);
    }
    // A producer whose clock is ahead or a little behind is not believed.
    let mut engine = engine_with(counting(2, "3s", json!({})));
    assert_eq!(at(&mut engine, 100, &happened(900)), "counted shop/Pod/web");
    assert_eq!(at(&mut engine, 102, &happened(95)), "fired shop/Pod/web by any x2");
}

#[test]
fn a_cooldown_does_not_stop_the_counting_and_lasts_by_the_clock() {
    let mut engine = engine_with(counting(2, "10s", json!({"throttle": {"cooldown": "20s"}})));
    for (second, expected) in [
        (0, "counted shop/Pod/web"),
        (1, "fired shop/Pod/web by any x2"),
        (2, "counted shop/Pod/web"),
        (16, "counted shop/Pod/web"),
        (17, "cooldown shop/Pod/web"),
        (18, "cooldown shop/Pod/web"),
        (21, "fired shop/Pod/web by any x4"),
    ] {
        assert_eq!(at(&mut engine, second, &web()), expected, "second {second}");
    }
    // A backlog of an hour fires once: what acts now is not to act again at once.
    let mut engine = engine_with(json!({"throttle": {"cooldown": "20s"}}));
    assert_eq!(at(&mut engine, 3600, &happened(0)), "fired shop/Pod/web by any");
    assert_eq!(at(&mut engine, 3600, &happened(1800)), "cooldown shop/Pod/web");
}

#[test]
fn no_more_times_are_kept_than_decide() {
    let mut engine = engine_with(counting(3, "1h", json!({"throttle": {"cooldown": "1h"}})));
    for second in 0..200 {
        at(&mut engine, second, &web());
    }
    let row = |engine: &mut Engine| {
        let row = engine.dirty().into_iter().find(|(table, ..)| *table == Table::Groups).expect("a row").2;
        serde_json::from_slice::<Value>(&row.expect("kept")).expect("JSON")
    };
    let kept = row(&mut engine);
    assert_eq!(kept["kept"]["Count"]["times"].as_array().map(Vec::len), Some(3), "{kept}");
    // As soon as it may, it fires; all of the hour are told.
    assert_eq!(at(&mut engine, 3602, &web()), "fired shop/Pod/web by any x198");
}

#[test]
fn groups_are_told_apart_by_the_values_of_their_expressions() {
    let keys =
        json!([{"name": "app", "expression": "variables.app"}, {"name": "big", "expression": "event.data.count > 5"}]);
    let mut engine = engine_with(counting(
        2,
        "1m",
        json!({"groupBy": keys, "variables": [{"name": "app", "expression": "event.data.regarding.name.split('-')[0]"}]}),
    ));
    let pod = |name: &str, count: u32| about("shop", name, "R", json!({"count": count}));
    for (name, count, expected) in [
        ("web-1", 1, "counted app=web, big=false"),
        ("db-1", 1, "counted app=db, big=false"),
        ("web-2", 9, "counted app=web, big=true"),
        ("we,b\\-1", 1, "counted app=we\\,b\\\\, big=false"),
        ("web-3", 1, "fired app=web, big=false by any x2"),
    ] {
        assert_eq!(at(&mut engine, 0, &pod(name, count)), expected, "{name}");
    }
}

#[test]
fn actions_see_the_group_and_the_count() {
    let action = json!([{"name": "tell", "ifExpression": "count > 1 && group.app == 'web'",
        "notify": {"sinkRef": {"name": "oncall"}, "text": "${group.app}: ${string(count)} times"}}]);
    let engine = engine_with(counting(
        2,
        "1m",
        json!({"groupBy": [{"name": "app", "expression": "event.data.regarding.name"}], "actions": action}),
    ));
    let input = about("shop", "web", "R", json!({"delta": 7}));
    let judged = engine.judge(&head(5, 0), &input);
    let [Decision::Fired(firing)] = judged.decisions.as_slice() else { panic!("{judged:?}") };
    let rule = engine.rule(&rule_ref("web").uid).expect("in force");
    let scope = super::cel::Scope::new(&input.event, "any", &rule.rule, head(5, 0).stamp.timestamp())
        .with_group(&firing.group_values, firing.count);
    let tell = rule.action("tell").expect("the action");
    assert_eq!(tell.if_expression.as_ref().expect("a condition").test(&scope), Ok(true));
    assert_eq!(tell.body.fill(&scope).expect("fills")["text"], "web: 7 times");
}

#[test]
fn an_expression_that_gives_no_group_is_an_error_of_its_place() {
    let rule = |expression: &str| json!({"groupBy": [{"name": "key", "expression": expression}]});
    for (expression, expected) in [
        ("event.data.regarding", "error groupBy[key]: gives a map, not a text, a number, or true or false"),
        ("event.data.nothing", "error groupBy[key]: no such field: event.data.nothing"),
        ("event.data.long", "error groupBy[key]: gives a text of 600 bytes; 512 are allowed"),
    ] {
        let mut engine = engine_with(rule(expression));
        let input = about("shop", "web", "R", json!({"long": "a".repeat(600)}));
        assert_eq!(at(&mut engine, 0, &input), expected);
    }
}

#[test]
fn a_group_too_many_is_counted_and_none_that_is_in_use_makes_room() {
    let mut engine = engine_with(counting(2, "10s", json!({"groups": {"max": 2}, "throttle": {"cooldown": "1m"}})));
    let pod = |name: &str| about("shop", name, "R", json!({"delta": 1}));
    for (second, name, expected) in [
        (0, "a", "counted shop/Pod/a"),
        (1, "a", "fired shop/Pod/a by any x2"),
        (2, "b", "counted shop/Pod/b"),
        (3, "c", "too many shop/Pod/c"),
        (4, "b", "fired shop/Pod/b by any x2"),
        // Both are in a cooldown.
        (30, "c", "too many shop/Pod/c"),
        (31, "a", "counted shop/Pod/a"),
        // That of a is over and nothing is counted for it any more.
        (62, "c", "counted shop/Pod/c"),
        (63, "d", "too many shop/Pod/d"),
        (64, "d", "counted shop/Pod/d"),
    ] {
        assert_eq!(at(&mut engine, second, &pod(name)), expected, "second {second}");
    }
    let suppressed = engine.progress(&rule_ref("web").uid).expect("progress").counts.suppressed;
    assert_eq!((suppressed.too_many_groups, suppressed.cooldown, suppressed.total), (3, 0, 3));
}

#[test]
fn a_quiet_group_is_forgotten_and_its_cooldown_is_not() {
    let mut engine =
        engine_with(counting(3, "1h", json!({"groups": {"forgetAfter": "1m"}, "throttle": {"cooldown": "10m"}})));
    for (second, delta, expected) in [
        (0, 3, "fired shop/Pod/web by any x3"),
        (10, 2, "counted shop/Pod/web"),
        (60, 1, "cooldown shop/Pod/web"),
        (121, 1, "counted shop/Pod/web"),
        (150, 2, "cooldown shop/Pod/web"),
    ] {
        let input = about("shop", "web", "R", json!({"delta": delta}));
        assert_eq!(at(&mut engine, second, &input), expected, "second {second}");
    }
}

#[test]
fn counts_outlive_an_edit_of_a_text_but_not_of_the_trigger_or_the_groups() {
    let base = counting(3, "1h", json!({}));
    let mut engine = engine_with(base.clone());
    let edit = |engine: &mut Engine, generation, body: &Value| {
        put(engine, "web", generation, &spec(body.clone()));
        listen(engine, "web", generation, "any", true);
    };
    at(&mut engine, 0, &web());
    let mut text = base.clone();
    text["actions"] = json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "other"}}]);
    text["groups"] = json!({"max": 7});
    edit(&mut engine, 2, &text);
    at(&mut engine, 1, &web());
    assert_eq!(at(&mut engine, 2, &web()), "fired shop/Pod/web by any x3");
    at(&mut engine, 3, &web());
    at(&mut engine, 4, &web());
    edit(&mut engine, 3, &counting(3, "2h", json!({})));
    assert_eq!(at(&mut engine, 5, &web()), "counted shop/Pod/web");
    at(&mut engine, 6, &web());
    edit(&mut engine, 4, &counting(3, "2h", json!({"groupBy": [{"name": "s", "expression": "event.subject"}]})));
    assert_eq!(at(&mut engine, 7, &web()), "counted shop/Pod/web");
}

#[test]
fn faults_of_groups_and_triggers_are_told_with_their_places() {
    let faults = |body: Value| -> Vec<String> {
        compile(&rule_ref("web"), 1, &spec(body)).expect_err("faults").iter().map(ToString::to_string).collect()
    };
    let tell = |text: &str| json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}}]);
    for (body, expected) in [
        (
            json!({"trigger": {}}),
            "spec.trigger:1:1: exactly one of count, held, absent, value, anomaly, sequence, all, batch and due must be set",
        ),
        (counting(0, "1m", json!({})), "spec.trigger.count.atLeast:1:1: must be at least 1"),
        (counting(1, "0s", json!({})), "spec.trigger.count.within:1:1: must be longer than 0s"),
        (
            counting(500, "1m", json!({})),
            "spec.trigger.count.atLeast:1:1: times groups.max, which is 10000, makes 5000000 times to keep; 1000000 are allowed: set groups.max to 2000 or less",
        ),
        (json!({"groups": {"max": 0}}), "spec.groups.max:1:1: must be at least 1"),
        (json!({"groups": {"forgetAfter": "0s"}}), "spec.groups.forgetAfter:1:1: must be longer than 0s"),
        (json!({"groupBy": [{"name": "a", "expression": "[1]"}]}), "spec.groupBy[0].expression:1:1: gives a list"),
        (
            json!({"groupBy": [{"name": "a", "expression": "evnt.id"}]}),
            "spec.groupBy[0].expression:1:1: unknown name `evnt`",
        ),
        (
            json!({"groupBy": [{"name": "a", "expression": "'x'"}, {"name": "a", "expression": "'y'"}]}),
            "spec.groupBy[1].name:1:1: there is another \"a\"",
        ),
        (
            json!({"actions": tell("${group.b}"), "groupBy": [{"name": "a", "expression": "'x'"}]}),
            "spec.actions[0].notify.text:1:3: `group` has no `b`: known are a",
        ),
    ] {
        let found = faults(body);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}\nis not\n{expected}");
    }
    let count = faults(json!({"actions": tell("${string(count)}")}));
    assert!(count[0].ends_with("`count` needs trigger.count or trigger.batch"), "{count:?}");
    let early = faults(json!({"when": [{"name": "w", "expression": "group.a == 'x'"}]}));
    assert!(early[0].ends_with("are known in actions"), "{early:?}");
}

#[test]
fn a_group_that_is_busy_does_not_fire_where_the_rule_forbids_it() {
    let mut engine = engine_with(json!({"concurrencyPolicy": "Forbid"}));
    let event = |name| about("shop", name, "R", json!({}));
    let words = run(&mut engine, &[event("web"), event("web"), event("db")]);
    assert_eq!(words, ["fired shop/Pod/web by any", "busy shop/Pod/web", "fired shop/Pod/db by any"]);
    let counts = engine.progress(&rule_ref("web").uid).expect("progress").counts;
    assert_eq!((counts.suppressed.concurrency, counts.suppressed.total), (1, 1));
    let firing = FiringId::derive(&log(), Position(10), &rule_ref("web").uid, "shop/Pod/web");
    let finished = Finished {
        firing,
        rule: rule_ref("web").uid,
        outcome: FiringOutcome::Failed,
        message: "m".into(),
        failed_at: None,
    };
    engine.fold(&head(20, 20), &Record::Finished(finished));
    assert_eq!(run(&mut engine, &[event("web"), event("db")]), ["fired shop/Pod/web by any", "busy shop/Pod/db"]);
}
