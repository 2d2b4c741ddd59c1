//! Events of rules: who hears of them, and where chains end.

use super::*;
use crate::event::{
    rule_event,
    trail::{MAX_HOPS, Trail},
};

/// An event that the rule has emitted, or that tells of it, after these hops and rules.
fn made(namespace: &str, rule: &str, type_: &str, hops: u64, rules: &[&str]) -> EventInput {
    let source = rule_event::event_source(namespace, rule);
    let mut event = Event { subject: Some("order/7".into()), ..Event::new("f-tell", source, type_, json!({"sum": 3})) };
    Trail { hops, rules: rules.iter().map(|rule| format!("uid-{rule}")).collect() }.mark(&mut event);
    let origin = rule_event::origin(namespace, "f-tell");
    EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() }
}

fn hears(types: &[&str]) -> Value {
    json!({"sources": [{"name": "chained", "events": {"types": types}}]})
}

#[test]
fn a_source_takes_the_types_it_names_of_rules_of_its_own_namespace_only() {
    check(
        hears(&["com.acme.*", "dev.signalbox.rule.failed"]),
        &[
            made("shop", "other", "com.acme.paid", 1, &["other"]),
            made("shop", "other", "dev.signalbox.rule.failed", 1, &["other"]),
            made("shop", "other", "dev.signalbox.rule.fired", 1, &["other"]),
            made("shop", "other", "com.acmepaid", 1, &["other"]),
            made("elsewhere", "other", "com.acme.paid", 1, &["other"]),
            references::sent("shop", "github", "com.acme.paid", Some("s"), json!({})),
            change("Update", "Deployment", Some("shop"), "web", json!({})),
        ],
        &["fired order/7 by chained", "fired order/7 by chained", ".", ".", ".", ".", "."],
    );
}

#[test]
fn a_rule_does_not_hear_how_it_fares_and_does_not_fire_for_what_it_led_to() {
    check(
        hears(&["*"]),
        &[
            made("shop", "web", "dev.signalbox.rule.fired", 1, &["web"]),
            made("shop", "web", "com.acme.paid", 1, &["web"]),
            made("shop", "other", "dev.signalbox.rule.fired", 2, &["web", "other"]),
            made("shop", "other", "com.acme.paid", MAX_HOPS, &["other"]),
            made("shop", "other", "com.acme.paid", MAX_HOPS + 1, &["other"]),
        ],
        &[".", "loop order/7", "loop order/7", "fired order/7 by chained", "loop order/7"],
    );
}

#[test]
fn what_was_a_loop_is_counted_under_its_name() {
    let mut engine = engine_with(hears(&["*"]));
    run(&mut engine, &[made("shop", "web", "com.acme.paid", 1, &["web"])]);
    let counts = engine.progress(&rule_ref("web").uid).expect("the rule").counts;
    let counts = serde_json::to_value(counts).expect("JSON");
    assert_eq!((&counts["matched"], &counts["fired"]), (&json!(1), &json!(0)));
    assert_eq!((&counts["suppressed"]["loop"], &counts["suppressed"]["total"]), (&json!(1), &json!(1)));
}

#[test]
fn the_extensions_of_events_of_rules_are_known_to_conditions() {
    let mut body = hears(&["com.acme.*"]);
    body["when"] = json!([{"name": "near", "expression": "event.signalboxhops < 3 && event.data.sum == 3"}]);
    check(
        body,
        &[made("shop", "a", "com.acme.paid", 2, &["a"]), made("shop", "a", "com.acme.paid", 3, &["a"])],
        &["fired order/7 by chained", "-"],
    );
}

#[test]
fn an_emit_of_a_type_of_ours_is_refused_where_it_stands() {
    let fault = |type_: &str| {
        let body = json!({"actions": [{"name": "a", "emit": {"type": type_, "data": {"x": "${event.id}"}}}]});
        compile(&rule_ref("web"), 1, &spec(body)).err().map(|faults| faults[0].to_string())
    };
    let refused = fault("dev.signalbox.rule.failed").expect("refused");
    assert!(refused.starts_with("spec.actions[0].emit.type:1:1: must not begin with dev.signalbox."), "{refused}");
    assert!(fault("dev.signalbox.${event.id}").is_some());
    assert_eq!(fault("com.acme.${event.id}"), None);
    assert_eq!(fault("${event.data.type}"), None, "what it becomes is looked at when it is there");
}

fn open(rule: &str, mode: &str, hops: u64) -> OpenFiring {
    let spec = spec(json!({"mode": mode}));
    let mut engine = Engine::new(log());
    let mut cause = (*about("shop", "p", "BackOff", json!({})).event).clone();
    Trail { hops, rules: Vec::new() }.mark(&mut cause);
    put(&mut engine, rule, 1, &spec);
    listen(&mut engine, rule, 1, "any", true);
    let input = EventInput { event: Arc::new(cause), ..about("shop", "p", "BackOff", json!({})) };
    let judged = engine.judge(&head(5, 5), &input);
    let Decision::Fired(firing) = judged.decisions[0].clone() else { panic!("it fires") };
    OpenFiring { firing, event: Arc::clone(&input.event), events: Vec::new(), spec, steps: Default::default() }
}

#[test]
fn how_rules_fare_is_told_where_a_rule_hears_of_it_and_nowhere_else() {
    let engine = engine_with(hears(&["dev.signalbox.rule.fired"]));
    let told = engine.tells_fired(&open("other", "Enforce", 2)).expect("it is heard");
    assert_eq!((told.event.type_.as_str(), told.event.id.ends_with("/fired")), ("dev.signalbox.rule.fired", true));
    assert_eq!(told.event.subject.as_deref(), Some("shop/EventRule/other"));
    assert_eq!(Trail::of([&*told.event]), Trail { hops: 3, rules: vec!["uid-other".into()] });
    let data = &told.event.data;
    assert_eq!(
        (&data["rule"]["name"], &data["group"], &data["firing"]["kind"]),
        (&json!("other"), &json!("shop/Pod/p"), &json!("Fired"))
    );
    assert_eq!(engine.tells_fired(&open("web", "Enforce", 0)), None, "its own");
    assert_eq!(engine.tells_fired(&open("other", "Observe", 0)), None, "nothing was done");
    let finished = |outcome| Finished {
        firing: open("other", "Enforce", 0).firing.id,
        rule: rule_ref("other").uid,
        outcome,
        message: "forbidden".into(),
        failed_at: Some("actions[tell]".into()),
    };
    let failed = finished(FiringOutcome::Failed);
    assert_eq!(engine.tells_failed(&head(9, 9), &open("other", "Enforce", 0), &failed), None, "nobody hears of that");
    let engine = engine_with(hears(&["dev.signalbox.rule.*"]));
    let told = engine.tells_failed(&head(9, 9), &open("other", "Enforce", 0), &failed).expect("it is heard").event;
    assert_eq!((&told.data["place"], &told.data["message"]), (&json!("actions[tell]"), &json!("forbidden")));
    let done = finished(FiringOutcome::Succeeded);
    assert_eq!(engine.tells_failed(&head(9, 9), &open("other", "Enforce", 0), &done), None);
    let asleep = engine_with(json!({"suspend": true, "sources": [{"name": "chained", "events": {"types": ["*"]}}]}));
    assert_eq!(asleep.tells_fired(&open("other", "Enforce", 0)), None);
}

#[test]
fn an_end_is_told_with_the_trail_of_what_ended_it() {
    let mut engine = engine_with(hears(&["dev.signalbox.rule.resolved"]));
    let held = spec(json!({"trigger": {"held": {"for": "1s"}},
        "sources": [{"name": "any", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}]}));
    put(&mut engine, "other", 1, &held);
    listen(&mut engine, "other", 1, "any", true);
    let input = change("Update", "Deployment", Some("shop"), "web", json!({}));
    let since = head(3, 3).stamp;
    let told = |engine: &Engine, because| {
        let of = (&rule_ref("other").uid, "shop/Deployment/web", since);
        engine.tells_resolved(&head(8, 8), because, of).expect("it is heard").event
    };
    let by_event = told(&engine, Ok(&input));
    assert_eq!(by_event.type_, "dev.signalbox.rule.resolved");
    assert_eq!(
        (&by_event.data["group"], &by_event.data["since"]),
        (&json!("shop/Deployment/web"), &json!(since.timestamp().to_string()))
    );
    let deadline =
        Deadline { at: 7 * SECOND, rule: rule_ref("other").uid, group: "shop/Deployment/web".into(), remembered: None };
    let by_time = told(&engine, Err(&deadline));
    assert_ne!(by_event.id, by_time.id);
    assert_eq!(by_time.time, Some(deadline.stamp(&head(8, 8)).timestamp()));
    assert_eq!(Trail::of([&*by_time]).hops, 1);
}
