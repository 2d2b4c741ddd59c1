//! Objects that were deleted while nobody listened: of them only what was remembered is known.

use super::*;
use crate::{
    api::Operation,
    event::{
        Seen, Values,
        resource::{Change, from_memory},
    },
};

fn rule(more: Value) -> Value {
    let mut resource = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    for (key, value) in more.as_object().into_iter().flatten() {
        resource[key] = value.clone();
    }
    json!({"sources": [{"name": "s", "resource": resource}]})
}

fn front() -> Value {
    json!({"selector": {"matchLabels": {"tier": "front"}}})
}

/// A Deployment `shop/web` that is gone, with the answers of selectors that are remembered.
fn gone(last: Vec<(u64, u64)>) -> EventInput {
    let watch = watch("apps/v1", "Deployment", "shop");
    let seen_at = "2026-11-02T07:16:20Z".parse().expect("time");
    let change =
        Change { watch: &watch, source: "/apis/apps/v1/deployments", operation: Operation::Delete, gap: true, seen_at };
    let (event, origin) = from_memory("u", &Seen::new(7, 0, "shop/web"), Values::of(last), change);
    EventInput { origin, ..input(event, watch.clone()) }
}

fn followed(rule: Value) -> Vec<u64> {
    let engine = engine_with(rule);
    engine.interest().followed(&watch("apps/v1", "Deployment", "shop")).iter().map(|one| one.id).collect()
}

#[test]
fn it_is_told_with_what_is_remembered_and_no_more() {
    let input = gone(vec![]);
    let event = &input.event;
    assert_eq!(
        (event.id.as_str(), event.subject.as_deref(), event.type_.as_str()),
        ("u/deleted", Some("shop/Deployment/web"), "dev.signalbox.resource.deleted")
    );
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7"});
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata});
    assert_eq!(event.data, json!({"operation": "Delete", "gap": true, "object": object}));
    check(rule(json!({"operations": ["Delete"], "names": ["w*"]})), &[input], &["fired shop/Deployment/web by s"]);
    check(rule(json!({"names": ["x*"]})), &[gone(vec![])], &["."]);
    check(rule(json!({"operations": ["Create", "Update"]})), &[gone(vec![])], &["."]);
}

#[test]
fn a_selector_takes_it_if_it_matched_when_it_was_seen_last_and_what_is_not_known_is_an_error() {
    let id = followed(rule(front()))[0];
    let error = "error sources[s].resource.selector: an object that was deleted while nobody listened: its labels were \
                 not known";
    let inputs = [gone(vec![(id, 1)]), gone(vec![(id, 0)]), gone(vec![]), gone(vec![(id + 1, 1)])];
    check(rule(front()), &inputs, &["fired shop/Deployment/web by s", ".", error, error]);
    let engine = engine_with(rule(front()));
    let concerns = inputs.each_ref().map(|input| engine.interest().concern(&input.origin, &input.event).any);
    assert_eq!(concerns, [true, false, true, true]);
    let misses = engine.interest().near_misses(head(1, 0).stamp.timestamp(), &inputs[1], 0, || true);
    assert_eq!(misses[0].told.condition, "sources[s].resource.selector");
    assert_eq!(misses[0].told.saw, "the object did not match it when it was seen last");
}

#[test]
fn selectors_are_remembered_for_sources_that_take_updates_or_deletions() {
    let with = |operations: Value| {
        let mut source = front();
        source["operations"] = operations;
        followed(rule(source)).len()
    };
    assert_eq!((with(json!([])), with(json!(["Delete"])), with(json!(["Create", "Update"]))), (1, 1, 1));
    assert_eq!(with(json!(["Create"])), 0);
    assert_eq!(followed(rule(json!({}))), [0; 0], "without a selector there is nothing to remember");
    let same = json!({"sources": [
        {"name": "a", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "selector": front()["selector"]}},
        {"name": "b", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "selector": front()["selector"]}},
        {"name": "c", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "selector": {"matchLabels": {"tier": "back"}}}},
    ]});
    assert_eq!(followed(same).len(), 2, "the same selector is remembered once");
}

#[test]
fn a_condition_that_asks_for_what_is_not_remembered_never_fires_in_silence() {
    for (expression, expected) in [
        ("object.metadata.name == 'web' && event.data.gap", "fired shop/Deployment/web by s"),
        ("object.spec.replicas == 1", "error when[c]: no such field: object.spec"),
        ("!('x' in object.metadata.labels)", "error when[c]: no such field: object.metadata.labels"),
        ("object.?spec.?replicas.orValue(0) == 1", "-"),
    ] {
        let mut rule = rule(json!({}));
        rule["when"] = json!([{"name": "c", "expression": expression}]);
        check(rule, &[gone(vec![])], &[expected]);
    }
}

#[test]
fn a_source_that_skips_gaps_takes_none_of_what_is_found_by_comparison_and_all_else() {
    let skip = rule(json!({"onGap": "Skip", "selector": front()["selector"]}));
    let found = |operation: &str| {
        let mut input = change(operation, "Deployment", Some("shop"), "web", json!({"tier": "front"}));
        Arc::get_mut(&mut input.event).expect("one owner").data["gap"] = true.into();
        input
    };
    let live = |operation: &str| change(operation, "Deployment", Some("shop"), "web", json!({"tier": "front"}));
    let inputs = [found("Create"), found("Update"), gone(vec![]), live("Create"), live("Update"), live("Delete")];
    let fired = "fired shop/Deployment/web by s";
    check(skip.clone(), &inputs, &[".", ".", ".", fired, fired, fired]);
    check(rule(json!({"onGap": "NetChange"})), &inputs, &[fired; 6]);
    let mut deletions = skip.clone();
    deletions["sources"][0]["resource"]["operations"] = json!(["Delete"]);
    assert_eq!(followed(deletions), [0; 0], "nothing is to be remembered for it");
    let misses = engine_with(skip).interest().near_misses(head(1, 0).stamp.timestamp(), &inputs[0], 0, || true);
    assert_eq!(misses[0].told.condition, "sources[s].resource.onGap");
    assert_eq!(misses[0].told.saw, "the change was found by comparison after an outage");
}
