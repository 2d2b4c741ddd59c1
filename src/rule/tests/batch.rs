//! `trigger.batch`: many events, one firing.

use super::{timeline::Timeline, *};

fn batch(body: Value) -> Timeline {
    Timeline::of(json!({"trigger": {"batch": body}, "groupBy": [{"name": "all", "expression": "'all'"}]}))
}

fn pod(name: &str) -> EventInput {
    about("shop", name, "R", json!({}))
}

#[test]
fn it_is_full_when_nothing_more_comes() {
    let mut line = batch(json!({"wait": "30s"}));
    line.event(0, &pod("a"));
    line.event(20, &pod("b"));
    assert_eq!(line.tick(49), [""; 0]);
    assert_eq!(line.tick(50), ["fired all by any x2"]);
    assert_eq!(line.events, [["shop/Pod/a", "shop/Pod/b"]]);
    assert_eq!((line.progress().counts.matched, line.progress().counts.fired), (2, 1));
}

#[test]
fn events_that_never_stop_do_not_starve_it() {
    let mut line = batch(json!({"wait": "30s", "maxWait": "1m"}));
    for second in 0..=120 {
        line.event(second, &pod("a"));
    }
    let at: Vec<i64> = line.fired.iter().map(|firing| firing.stamp.at / SECOND).collect();
    assert_eq!((at, line.fired[0].count), (vec![60, 120], Some(60)));
}

#[test]
fn it_is_full_with_so_many_events_or_bytes() {
    let mut line = batch(json!({"wait": "30s", "maxEvents": 3}));
    line.event(0, &pod("a"));
    line.event(1, &pod("b"));
    assert_eq!(line.event(2, &pod("c")), ["fired all by any x3"]);
    assert_eq!(line.events, [["shop/Pod/a", "shop/Pod/b", "shop/Pod/c"]]);
    assert_eq!((line.tick(100), line.engine.next_deadline()), (vec![], None), "the next begins anew");
    let mut line = batch(json!({"wait": "30s"}));
    let large = about("shop", "a", "R", json!({"message": "x".repeat(100 << 10)}));
    line.event(0, &large);
    line.event(1, &large);
    assert_eq!(line.event(2, &large), ["fired all by any x3"]);
}

#[test]
fn one_that_is_held_back_is_dropped_and_counted_once() {
    let mut line = Timeline::of(json!({"trigger": {"batch": {"wait": "10s"}}, "throttle": {"cooldown": "1m"}}));
    line.event(0, &pod("a"));
    assert_eq!(line.tick(10), ["fired shop/Pod/a by any x1"]);
    line.event(11, &pod("a"));
    line.event(12, &pod("a"));
    let dropped = line.tick(22);
    assert_eq!((dropped.len(), &*dropped[0]), (2, "cooldown shop/Pod/a"));
    assert_eq!((line.progress().counts.suppressed.cooldown, line.engine.next_deadline()), (1, None));
}

#[test]
fn what_is_wrong_with_it_is_said() {
    let body = json!({"trigger": {"batch": {"wait": "30s", "maxWait": "10s", "maxEvents": 501}}});
    let faults = compile(&rule_ref("web"), 1, &spec(body)).expect_err("faults");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, ["spec.trigger.batch.maxWait", "spec.trigger.batch.maxEvents"]);
    let action = json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${string(events.size())} ${events[0].data.reason}"}}]);
    compile(&rule_ref("web"), 1, &spec(json!({"trigger": {"batch": {"wait": "30s"}}, "actions": action})))
        .expect("events are known");
    let faults = compile(&rule_ref("web"), 1, &spec(json!({"actions": action}))).expect_err("they are not");
    assert!(faults[0].message.contains("trigger.batch"), "{}", faults[0].message);
}

#[test]
fn it_is_full_when_the_groups_of_the_namespace_take_all_they_may() {
    let mut line = Timeline::of(json!({"trigger": {"batch": {"wait": "1h"}}}));
    let large = json!({"message": "x".repeat(200 << 10)});
    let mut said = Vec::new();
    for number in 0..400 {
        said = line.event(number, &about("shop", &format!("p{number}"), "R", large.clone()));
        if said[0].starts_with("too much") {
            break;
        }
    }
    assert_eq!(said.len(), 1, "a new one finds no room");
    assert!(said[0].starts_with("too much"), "{said:?}");
    assert_eq!(line.event(500, &pod("p0")), ["fired shop/Pod/p0 by any x2"]);
}
