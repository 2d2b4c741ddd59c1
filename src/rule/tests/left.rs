//! Objects that leave a source's selector: an update that says so, to this source only.

use super::*;
use crate::rule::filter::Selector;

const FIRED: &str = "fired shop/Deployment/web by s";

fn source(name: &str, tier: Option<&str>, more: Value) -> Value {
    let mut resource = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    if let Some(tier) = tier {
        resource["selector"] = json!({"matchLabels": {"tier": tier}});
    }
    for (key, value) in more.as_object().into_iter().flatten() {
        resource[key] = value.clone();
    }
    json!({"name": name, "resource": resource})
}

fn rule(more: Value) -> Value {
    json!({"sources": [source("s", Some("front"), more)]})
}

/// A Deployment that has the label no more, which it had before.
fn leaving(engine: &Engine) -> EventInput {
    let mut input = change("Update", "Deployment", Some("shop"), "web", json!({"tier": "back"}));
    let rule = engine.rule(&rule_ref("web").uid).expect("in force");
    let selectors = rule.sources.iter().filter_map(|source| source.filter.remembered_selector());
    input.origin.changed = selectors.map(Selector::id).collect();
    input
}

#[test]
fn it_is_an_update_that_says_so_and_what_was_outside_before_is_nothing() {
    let asks = |expression: &str| {
        let mut rule = rule(json!({}));
        rule["when"] = json!([{"name": "c", "expression": expression}]);
        rule
    };
    let staying = || change("Update", "Deployment", Some("shop"), "web", json!({"tier": "front"}));
    let outside = || change("Update", "Deployment", Some("shop"), "web", json!({"tier": "back"}));
    for (rule, expected) in [
        (rule(json!({})), [FIRED, FIRED, "."]),
        (asks("event.data.?selector.orValue('') == 'Left'"), [FIRED, "-", "."]),
        (asks("!has(event.data.selector)"), ["-", FIRED, "."]),
        (rule(json!({"operations": ["Update"]})), [FIRED, FIRED, "."]),
        (rule(json!({"operations": ["Create", "Delete"]})), [".", ".", "."]),
    ] {
        let mut engine = engine_with(rule.clone());
        let inputs = [leaving(&engine), staying(), outside()];
        let concerns = inputs.each_ref().map(|input| engine.interest().concern(&input.origin, &input.event).any);
        assert_eq!(concerns, expected.map(|one| one != "."), "{rule}");
        assert_eq!(run(&mut engine, &inputs), expected, "{rule}");
    }
}

#[test]
fn another_source_of_the_same_rule_sees_the_update_as_it_is() {
    let body = json!({"sources": [source("back", Some("back"), json!({})), source("s", Some("front"), json!({}))],
        "when": [{"name": "c", "expression": "source.name == 's'"}]});
    let engine = engine_with(body);
    let (mut input, uid) = (leaving(&engine), rule_ref("web").uid);
    input.origin.changed.remove(0);
    let flag = |source: &str| engine.event_for(&uid, source, &input).data.get("selector").cloned();
    assert_eq!((flag("s"), flag("back")), (Some(json!("Left")), None));
    let judged = engine.judge(&head(10, 0), &input);
    assert_eq!(judged.decisions.iter().map(word).collect::<Vec<_>>(), [FIRED]);
    let Decision::Fired(firing) = &judged.decisions[0] else { panic!("{judged:?}") };
    assert_eq!(engine.event_of(firing, Some(&input)).expect("an event").data["selector"], json!("Left"));
}

#[test]
fn what_skips_gaps_takes_none_that_left_in_one_and_of_changed_expressions_one_has_to_change() {
    let engine = engine_with(rule(json!({"onGap": "Skip"})));
    let mut found = leaving(&engine);
    Arc::get_mut(&mut found.event).expect("one owner").data["gap"] = true.into();
    check(rule(json!({"onGap": "Skip"})), &[leaving(&engine), found.clone()], &[FIRED, "."]);
    check(rule(json!({})), &[found], &[FIRED]);
    let watched = rule(json!({"changedExpressions": ["object.metadata.labels.tier"]}));
    let mut engine = engine_with(watched);
    let mut both = leaving(&engine);
    both.origin.changed.extend(
        engine.interest().followed(&both.origin.watch).iter().filter(|one| !one.is_selector()).map(|one| one.id),
    );
    assert_eq!(run(&mut engine, &[both]), [FIRED]);
}

#[test]
fn a_near_miss_of_one_that_has_left_is_told_of_the_condition() {
    let mut body = rule(json!({}));
    body["when"] = json!([{"name": "never", "expression": "event.data.?selector.orValue('') == 'Entered'"}]);
    let engine = engine_with(body);
    let misses = engine.interest().near_misses(head(1, 0).stamp.timestamp(), &leaving(&engine), 0, || true);
    assert_eq!(misses[0].told.condition, "when[never]");
}
