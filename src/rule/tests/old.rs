//! `oldObject`: what an object was like before an update or a deletion, in the values that a rule names.

use super::*;
use crate::{
    event::{Old, Seen},
    rule::values,
};

const FIRED: &str = "fired shop/Deployment/web by s";

fn rule(expression: &str) -> Value {
    json!({"sources": [{"name": "s", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}],
        "when": [{"name": "c", "expression": expression}]})
}

fn deployment(operation: &str, spec: Value) -> EventInput {
    let mut input = change(operation, "Deployment", Some("shop"), "web", json!({"team": "a"}));
    Arc::get_mut(&mut input.event).expect("one owner").data["object"]["spec"] = spec;
    input
}

/// What the watch keeps of the object while these rules are in force.
fn kept(engine: &Engine, object: &EventInput) -> Option<Box<Old>> {
    let followed = engine.interest().followed(&object.origin.watch);
    values(&followed, &object.event.data["object"]).and_then(|values| values.old)
}

/// A change of the object from one spec to another, as its watch tells it.
fn from_to(engine: &Engine, operation: &str, old: Value, new: Value) -> EventInput {
    let mut input = deployment(operation, new);
    input.origin.old = kept(engine, &deployment("Update", old));
    input.origin.seen = Some(Seen::new(7, 0, "shop/web"));
    input
}

fn faults(body: Value) -> Vec<String> {
    let found = compile(&rule_ref("web"), 1, &spec(body)).expect_err("faults");
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn an_update_is_compared_with_what_was_before_and_what_was_not_there_is_not_there() {
    let two = |expression: &str| {
        let mut engine = engine_with(rule(expression));
        let inputs = [
            from_to(&engine, "Update", json!({"replicas": 2, "other": 1}), json!({"replicas": 0})),
            from_to(&engine, "Update", json!({"replicas": 0}), json!({"replicas": 0})),
            from_to(&engine, "Update", json!({}), json!({"replicas": 0})),
            deployment("Create", json!({"replicas": 0})),
            from_to(&engine, "Delete", json!({"replicas": 3}), json!({"replicas": 3})),
        ];
        run(&mut engine, &inputs)
    };
    let was = "error when[c]: no such field: oldObject.spec.replicas";
    let null = |words: &[String]| words[3].starts_with("error when[c]: ") && words[3].contains("null");
    let words = two("oldObject.spec.replicas > object.spec.replicas");
    assert_eq!((&words[..3], &words[4]), (&[FIRED, "-", was].map(str::to_owned)[..], &"-".to_owned()));
    assert!(null(&words), "{words:?}");
    assert_eq!(two("oldObject != null && oldObject.spec.?replicas.orValue(1) > 0"), [FIRED, "-", FIRED, "-", FIRED]);
    assert_eq!(two("oldObject != null && !has(oldObject.spec.replicas)"), ["-", "-", FIRED, "-", "-"]);
    assert_eq!(two("event.data.?oldObject.?spec.?replicas.orValue(0) == 2"), [FIRED, "-", "-", "-", "-"]);
    assert_eq!(
        two("oldObject != null && oldObject.metadata.labels == {'team': 'a'}"),
        [FIRED, FIRED, FIRED, "-", FIRED]
    );
}

#[test]
fn elements_of_lists_are_named_by_their_place_and_variables_and_texts_see_them_too() {
    let mut body = rule("oldObject != null && variables.was != object.spec.containers[1].image");
    body["variables"] = json!([{"name": "was", "expression": "oldObject.spec.containers[1].image"}]);
    body["actions"] =
        json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${oldObject.spec.paused}"}}]);
    let mut engine = engine_with(body);
    let spec = |image: &str| json!({"paused": true, "containers": [{"image": "a"}, {"image": image, "more": 1}]});
    let input = from_to(&engine, "Update", spec("b:1"), spec("b:2"));
    assert_eq!(run(&mut engine, std::slice::from_ref(&input)), [FIRED]);
    let seen = engine.event_for(&rule_ref("web").uid, "s", &input);
    assert_eq!(
        seen.data["oldObject"],
        json!({"spec": {"paused": true, "containers": [null, {"image": "b:1"}]}}),
        "what nobody asks for is not kept"
    );
    assert_eq!(input.event.data.get("oldObject"), None, "what is kept for one rule is told to no other");
}

#[test]
fn what_has_no_bound_is_refused_with_what_to_write_instead() {
    let says = |expression: &str, part: &str| {
        let found = faults(rule(expression));
        assert!(found.len() == 1 && found[0].contains(part), "{expression}: {found:?}");
    };
    let named = "spec.when[0].expression:1:1: only values that are named here are kept of `oldObject`";
    says("oldObject[source.name] == 1", named);
    says("oldObject == object", named);
    says("oldObject.spec == object.spec", "`oldObject.spec` is too much to be kept of every object: write which field");
    says("event.data.oldObject == object", "only values that are named here");
    says("has(oldObject.status)", "`oldObject.status` is too much");
    says("object.kind == 'x' || size(oldObject) > 1", ":1:28: only values that are named here");
    says("oldObject.sepc.replicas == 1", "no such field `sepc`: perhaps `spec` is meant");
    let many: Vec<String> = (0..17).map(|number| format!("oldObject.spec.a{number} == 1")).collect();
    says(&many.join(" || "), "read 17 values of oldObject; 16 are allowed");
    let part_of_another =
        format!("{} || oldObject.metadata.labels.x == oldObject.metadata.labels.y", many[..15].join(" || "));
    assert!(
        compile(&rule_ref("web"), 1, &spec(rule(&format!("{part_of_another} || oldObject.metadata.labels == {{}}"))))
            .is_ok()
    );
    for trigger in [
        json!({"held": {"for": "1m"}}),
        json!({"due": {"atExpression": "timestamp(object.metadata.creationTimestamp)"}}),
    ] {
        let mut body = rule("oldObject != null");
        body["trigger"] = trigger;
        let found = faults(body);
        assert!(found[0].contains("is known in rules whose trigger is neither held nor due"), "{found:?}");
    }
}

#[test]
fn what_is_too_large_or_was_not_kept_is_an_error_that_is_counted_and_never_taken_for_nothing() {
    let mut engine = engine_with(rule("oldObject != null && oldObject.spec.?text.orValue('none') == 'none'"));
    let text = |bytes: usize| json!({"text": "x".repeat(bytes)});
    let mut unknown = from_to(&engine, "Update", text(1), text(1));
    unknown.origin.old = None;
    let inputs =
        [from_to(&engine, "Update", text(1022), text(1)), from_to(&engine, "Update", text(1023), text(1)), unknown];
    let words = run(&mut engine, &inputs);
    assert_eq!(words[0], "-");
    assert!(
        words[1].starts_with("error sources[s].resource: oldObject.spec.text was too large to be kept"),
        "{words:?}"
    );
    assert!(words[2].starts_with("error sources[s].resource: oldObject.spec.text is not known"), "{words:?}");
    let all: Vec<String> = (0..5).map(|number| format!("oldObject.spec.t{number} == ''")).collect();
    let engine = engine_with(rule(&all.join(" || ")));
    let large: serde_json::Map<String, Value> =
        (0..5).map(|number| (format!("t{number}"), json!("x".repeat(1000)))).collect();
    let kept = kept(&engine, &deployment("Update", large.into())).expect("kept");
    let bytes = serde_json::to_string(&kept).expect("JSON").len();
    assert!(bytes < 4400, "4 KiB of one object, and five values take more: {bytes}");
}

#[test]
fn rules_that_filter_alike_and_read_other_values_are_each_told_theirs_and_no_more_is_followed_when_they_go() {
    let mut engine = engine_with(rule("oldObject != null && oldObject.spec.a == 1"));
    put(&mut engine, "zother", 1, &spec(rule("oldObject != null && oldObject.spec.b == 2")));
    listen(&mut engine, "zother", 1, "s", true);
    let followed = |engine: &Engine| engine.interest().followed(&watch("apps/v1", "Deployment", "shop")).len();
    assert_eq!(followed(&engine), 2);
    let input = from_to(&engine, "Update", json!({"a": 1, "b": 2}), json!({}));
    assert_eq!(run(&mut engine, &[input]), [FIRED, FIRED]);
    engine.fold(&head(1, 0), &Record::RuleRemove(rule_ref("web").uid));
    assert_eq!(followed(&engine), 1);
    engine.fold(&head(1, 0), &Record::RuleRemove(rule_ref("zother").uid));
    assert_eq!(followed(&engine), 0);
}
