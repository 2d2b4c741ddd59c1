//! `trigger.absent`: silence of a group that has reported.

use super::{timeline::Timeline, *};

fn absent(more: Value) -> Value {
    let mut body = json!({"trigger": {"absent": {"for": "10m"}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

fn pod(name: &str) -> EventInput {
    about("shop", name, "Beat", json!({}))
}

fn tell() -> Value {
    json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}])
}

#[test]
fn a_group_that_falls_silent_fires_once_and_ends_when_it_reports_again() {
    let mut line = Timeline::of(absent(json!({"resolveActions": tell()})));
    line.event(0, &pod("a"));
    line.event(300, &pod("a"));
    line.event(500, &pod("b"));
    assert_eq!(line.tick(899), [""; 0]);
    assert_eq!(line.tick(900), ["fired shop/Pod/a by any"]);
    assert_eq!(line.tick(1100), ["fired shop/Pod/b by any"]);
    assert_eq!(line.tick(5000), [""; 0]);
    assert_eq!(
        line.event(5001, &pod("a")),
        ["resolved shop/Pod/a", "heard(5001000000) shop/pod/a", "resolves shop/Pod/a"]
    );
    assert_eq!(line.progress().active_total, 1);
    assert_eq!(line.tick(5601), ["fired shop/Pod/a by any"], "and may fall silent again");
}

#[test]
fn a_group_that_never_reported_is_not_missed() {
    let mut line = Timeline::of(absent(json!({"when": [{"name": "a", "expression": "event.data.reason == 'Beat'"}]})));
    line.event(0, &about("shop", "a", "Other", json!({})));
    assert_eq!(line.tick(100_000), [""; 0]);
}

#[test]
fn a_group_that_is_silent_for_too_long_is_forgotten_and_what_it_fired_for_is_closed() {
    let mut line = Timeline::of(absent(json!({"groups": {"forgetAfter": "1h", "max": 1}, "resolveActions": tell()})));
    line.event(0, &pod("a"));
    line.tick(600);
    assert_eq!(line.event(3599, &pod("b")), ["too many shop/Pod/b"], "none that lasts makes room");
    // It is not back: resolveActions are not done.
    assert_eq!(line.tick(3600), ["resolved shop/Pod/a", "ended(3600000000) shop/pod/a"]);
    assert_eq!((line.progress().active_total, line.engine.next_deadline()), (0, None));
    assert_eq!(line.event(3601, &pod("b")), ["heard(3601000000) shop/pod/b"]);
}

#[test]
fn a_time_to_forget_that_is_too_short_is_refused() {
    let body = absent(json!({"groups": {"forgetAfter": "10m"}}));
    let faults = compile(&rule_ref("web"), 1, &spec(body)).expect_err("too short");
    assert_eq!(faults[0].path, "spec.groups.forgetAfter");
}
