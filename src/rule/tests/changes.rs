//! `changedExpressions`: which updates a source takes.

use super::*;
use crate::{event::Seen, rule::values};

const REPLICAS: &str = "object.?spec.?replicas";

fn rule(expressions: &[&str], more: Value) -> Value {
    let mut resource = json!({"apiVersion": "apps/v1", "kind": "Deployment", "changedExpressions": expressions});
    for (key, value) in more.as_object().into_iter().flatten() {
        resource[key] = value.clone();
    }
    json!({"sources": [{"name": "s", "resource": resource}]})
}

/// An update as its watch tells it: with the values that it follows, of which these changed.
fn update(engine: &Engine, replicas: Value, changed: &[usize]) -> EventInput {
    let mut input = change("Update", "Deployment", Some("shop"), "web", json!({}));
    let event = Arc::get_mut(&mut input.event).expect("one owner");
    event.data["object"]["spec"] = replicas;
    let followed = engine.interest().followed(&input.origin.watch);
    let values = values(&followed, &input.event.data["object"]);
    input.origin.seen = Some(Seen { values, ..Seen::new(7, 0, "shop/web") });
    input.origin.changed = changed.iter().map(|index| followed[*index].id).collect();
    input
}

#[test]
fn of_updates_only_those_that_change_a_value_are_taken() {
    let mut engine = engine_with(rule(&[REPLICAS, "object.metadata.name"], json!({})));
    let other = spec(rule(&["object.metadata.name"], json!({})));
    put(&mut engine, "zother", 1, &other);
    listen(&mut engine, "zother", 1, "s", true);
    let one = json!({"replicas": 1});
    let inputs = [
        update(&engine, one.clone(), &[]),
        update(&engine, one.clone(), &[0]),
        update(&engine, one, &[1]),
        change("Create", "Deployment", Some("shop"), "web", json!({})),
        change("Delete", "Deployment", Some("shop"), "web", json!({})),
    ];
    assert_eq!(engine.interest().followed(&inputs[0].origin.watch).len(), 2, "what two rules ask for is followed once");
    let concerns: Vec<bool> =
        inputs.iter().map(|input| engine.interest().concern(&input.origin, &input.event).any).collect();
    assert_eq!(concerns, [false, true, true, true, true]);
    let fired = "fired shop/Deployment/web by s";
    assert_eq!(run(&mut engine, &inputs), [".", fired, fired, fired, fired, fired, fired, fired]);
}

#[test]
fn an_expression_that_fails_is_counted_where_no_other_tells() {
    let mut engine = engine_with(rule(&["object.spec.replicas", "object.metadata.name"], json!({})));
    let inputs = [update(&engine, json!({}), &[]), update(&engine, json!({}), &[1])];
    let error = "error sources[s].resource.changedExpressions[0]: no such field: object.spec.replicas";
    assert_eq!(run(&mut engine, &inputs), [error, "fired shop/Deployment/web by s"]);
}

#[test]
fn an_update_that_changes_nothing_of_that_is_a_near_miss() {
    let engine = engine_with(rule(&[REPLICAS], json!({})));
    let input = update(&engine, json!({"replicas": 1}), &[]);
    let misses = engine.interest().near_misses(head(1, 0).stamp.timestamp(), &input, 0, || true);
    assert_eq!(misses[0].told.condition, "sources[s].resource.changedExpressions");
    assert_eq!(misses[0].told.saw, "none of the values changed");
}

#[test]
fn what_asks_for_no_update_or_uses_other_names_is_a_fault() {
    let faults = |body: Value| -> Vec<String> {
        compile(&rule_ref("web"), 1, &spec(body)).expect_err("faults").iter().map(ToString::to_string).collect()
    };
    let path = "spec.sources[0].resource.changedExpressions";
    assert_eq!(
        faults(rule(&[REPLICAS], json!({"operations": ["Create"]}))),
        [format!("{path}:1:1: is about updates, which operations leave out")]
    );
    assert_eq!(
        faults(rule(&[REPLICAS], json!({"apiVersion": "v1", "kind": "Event"}))),
        [format!("{path}:1:1: is not for Kubernetes Events")]
    );
    let both = faults(rule(&["object.spec.x", "event.id", "object +"], json!({})));
    assert!(both.len() == 2 && both[0].starts_with(&format!("{path}[1]:1:1: unknown name `event`")), "{both:?}");
    assert!(both[1].starts_with(&format!("{path}[2]:1:")), "{both:?}");
}
