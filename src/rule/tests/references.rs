//! What sources take of EventSources.

use super::*;
use crate::event::event_source;

/// An event that an EventSource of `namespace` accepted.
pub(super) fn sent(namespace: &str, name: &str, type_: &str, subject: Option<&str>, data: Value) -> EventInput {
    let event = Event {
        subject: subject.map(str::to_owned),
        ..Event::new("1", event_source::event_source(namespace, name), type_, data)
    };
    let origin = event_source::origin(namespace, name, "u/1".into(), 7);
    EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() }
}

fn pushed(namespace: &str, name: &str, type_: &str) -> EventInput {
    sent(namespace, name, type_, Some("acme/shop"), json!({}))
}

fn rule(reference: Value) -> Value {
    json!({"sources": [{"name": "push", "ref": reference}]})
}

#[test]
fn a_source_takes_events_of_its_event_source_in_its_own_namespace_only() {
    let taken = "fired acme/shop by push";
    check(
        rule(json!({"name": "github"})),
        &[
            pushed("shop", "github", "com.github.push"),
            pushed("shop", "github", "dev.signalbox.webhook"),
            pushed("shop", "gitlab", "com.github.push"),
            pushed("other", "github", "com.github.push"),
        ],
        &[taken, taken, ".", "."],
    );
}

#[test]
fn types_are_names_with_wildcards() {
    let taken = "fired acme/shop by push";
    check(
        rule(json!({"name": "github", "types": ["com.github.push", "com.github.pull_request.*"]})),
        &[
            pushed("shop", "github", "com.github.push"),
            pushed("shop", "github", "com.github.pull_request.opened"),
            pushed("shop", "github", "com.github.pushed"),
        ],
        &[taken, taken, "."],
    );
}

#[test]
fn what_was_sent_tells_neither_a_namespace_nor_an_object() {
    let data = json!({"object": {"kind": "Pod", "metadata": {"namespace": "other", "name": "p"}}, "regarding": {"namespace": "other"}});
    let when = json!([{"name": "none", "expression": "object == null && source.name == 'push' && event.data.object.kind == 'Pod'"}]);
    let mut body = rule(json!({"name": "github"}));
    body["when"] = when;
    let input = sent("shop", "github", "dev.signalbox.webhook", Some("s"), data.clone());
    check(body, &[input], &["fired s by push"]);
    // A rule that looks at objects or Events is not concerned, whatever an event says that it is.
    for type_ in ["dev.signalbox.resource.created", "dev.signalbox.kubernetes.event"] {
        let input = sent("shop", "github", type_, Some("s"), data.clone());
        let pods = json!({"sources": [{"name": "pods", "resource": {"apiVersion": "v1", "kind": "Pod", "namespaces": {"from": "All"}}},
            {"name": "events", "kubernetesEvent": {"namespaces": {"from": "All"}}}]});
        check(pods, &[input], &["."]);
    }
}

#[test]
fn events_without_a_subject_are_one_group() {
    let mut body = rule(json!({"name": "github"}));
    body["throttle"] = json!({"cooldown": "1h"});
    let without = || sent("shop", "github", "t", None, json!({}));
    check(body.clone(), &[without(), without()], &["fired  by push", "cooldown "]);
    let long = "s".repeat(513);
    let told = "error groupBy: event.subject has 513 bytes; 512 are allowed: say groupBy";
    check(body, &[sent("shop", "github", "t", Some(&long), json!({}))], &[told]);
}

#[test]
fn extensions_are_known_where_a_source_is_an_event_source() {
    let when = json!([{"name": "w", "expression": "event.traceparent == '00'"}]);
    let mut body = rule(json!({"name": "github"}));
    body["when"] = when.clone();
    let mut input = pushed("shop", "github", "t");
    Arc::get_mut(&mut input.event).expect("one owner").extensions.insert("traceparent".to_owned(), json!("00"));
    check(body, &[input], &["fired acme/shop by push"]);
    let faults = compile(&rule_ref("web"), 1, &spec(json!({"when": when}))).expect_err("Kubernetes Events have none");
    assert!(faults[0].to_string().contains("`event` has no `traceparent`"), "{faults:?}");
}

#[test]
fn the_index_finds_the_rules_of_one_event_source_without_looking_at_others() {
    let mut engine = Engine::new(log());
    for index in 0..100 {
        let name = format!("r{index}");
        put(&mut engine, &name, 1, &spec(rule(json!({"name": format!("evs{}", index % 50)}))));
        listen(&mut engine, &name, 1, "push", true);
    }
    let judged = engine.judge(&head(2, 0), &pushed("shop", "evs7", "t"));
    assert_eq!(engine.seen_by(&judged.seen), [rule_ref("r57").uid, rule_ref("r7").uid]);
}

#[test]
fn an_event_source_is_heard_from_when_the_first_rule_that_refers_to_it_is_in_force_until_the_last_is_gone() {
    let mut engine = Engine::new(log());
    let heard = |engine: &Engine| engine.interest().hears("shop", "github");
    put(&mut engine, "a", 1, &spec(rule(json!({"name": "github"}))));
    assert!(!heard(&engine), "nothing that comes now would be judged");
    listen(&mut engine, "a", 1, "push", false);
    assert!(!heard(&engine), "its account may not listen");
    listen(&mut engine, "a", 1, "push", true);
    assert!(
        heard(&engine) && !engine.interest().hears("other", "github") && !engine.interest().hears("shop", "gitlab")
    );
    put(&mut engine, "b", 1, &spec(rule(json!({"name": "github", "types": ["com.acme.*"]}))));
    listen(&mut engine, "b", 1, "push", true);
    put(&mut engine, "a", 2, &spec(rule(json!({"name": "gitlab"}))));
    listen(&mut engine, "a", 2, "push", true);
    assert!(heard(&engine) && engine.interest().hears("shop", "gitlab"));
    engine.fold(&head(9, 9), &Record::RuleRemove(rule_ref("b").uid));
    assert!(!heard(&engine) && engine.interest().hears("shop", "gitlab"));
}

#[test]
fn a_type_that_was_not_wanted_is_a_near_miss_and_another_event_source_is_none() {
    let engine = engine_with(rule(json!({"name": "github", "types": ["com.github.push"]})));
    let told = |input: EventInput| {
        let misses = engine.interest().near_misses(head(1, 0).stamp.timestamp(), &input, 0, || true);
        misses.into_iter().map(|miss| format!("{}: {}", miss.told.condition, miss.told.saw)).collect::<Vec<_>>()
    };
    assert_eq!(
        told(pushed("shop", "github", "com.github.ping")),
        ["sources[push].ref.types: event.type = com.github.ping; wanted com.github.push"]
    );
    assert!(told(pushed("shop", "gitlab", "com.github.ping")).is_empty());
    assert!(told(pushed("shop", "github", "com.github.push")).is_empty(), "it matches");
}
