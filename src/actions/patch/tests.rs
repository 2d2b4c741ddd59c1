use serde_json::json;

use super::*;
use crate::{
    actions::{
        FailureKind,
        testing::{action, common, context},
    },
    api::ActionOutcome,
    kubernetes::fake::{Fake, failure as status},
};

const PATH: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

/// A Deployment that has changed since the request was rendered, as `now`; dry runs of patches give `tried`.
fn serve(now: Value, tried: (u16, Value)) -> Fake {
    Fake::new(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", PATH) => (200, now.clone()),
        ("PATCH", PATH) if seen.query.contains("dryRun=All") => tried.clone(),
        ("PATCH", PATH) => (200, with(now.clone(), "/metadata/resourceVersion", "9")),
        _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not there")),
    })
}

fn with(mut object: Value, pointer: &str, value: &str) -> Value {
    *object.pointer_mut(pointer).expect("a place") = value.into();
    object
}

fn web(labels: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {}, "metadata": {"name": "web", "namespace": "shop", "uid": "u1",
        "resourceVersion": "8", "labels": labels}})
}

fn spec(type_: &str, patch: Value) -> Box<dyn Action> {
    action(
        json!({"name": "act", "patch": {"target": {"kind": "Deployment", "name": "web"}, "type": type_, "patch": patch}}),
    )
}

/// Renders on a Deployment without labels.
async fn render(type_: &str, patch: Value) -> Result<Value, Failure> {
    let fake = serve(with(web(json!({})), "/metadata/resourceVersion", "7"), (500, Value::Null));
    let filled = json!({"target": {"name": "web"}, "patch": patch});
    spec(type_, patch).render(&context(&fake), &filled).await
}

async fn execute(fake: &Fake, request: &Value, attempt: Attempt) -> Result<Done, Failure> {
    spec("Merge", json!({"spec": {}})).execute(&context(fake), request, attempt, Permit::for_test()).await
}

fn tier(value: Value) -> Value {
    json!({"metadata": {"labels": {"tier": value}}})
}

#[tokio::test]
async fn every_type_is_sent_with_what_the_object_must_be() {
    let fields = json!({"metadata": {"labels": {"tier": "2"}, "uid": "u1", "resourceVersion": "7"}});
    let mut applied = fields.clone();
    applied["apiVersion"] = "apps/v1".into();
    applied["kind"] = "Deployment".into();
    applied["metadata"]["name"] = "web".into();
    let add = json!([{"op": "add", "path": "/metadata/labels/tier", "value": 2}]);
    let operations = json!([{"op": "add", "path": "/metadata/uid", "value": "u1"},
        {"op": "add", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/metadata/labels/tier", "value": "2"}]);
    let step = "fieldManager=signalbox-0123456789abcdef0123-act";
    for (type_, patch, media, body, manager) in [
        ("Merge", tier(json!(2)), "application/merge-patch+json", fields.clone(), step),
        ("Strategic", tier(json!(2)), "application/strategic-merge-patch+json", fields, step),
        ("JSON", add, "application/json-patch+json", operations, step),
        ("Apply", tier(json!(2)), "application/apply-patch+yaml", applied, "fieldManager=signalbox%2Frule-uid%2Fact"),
    ] {
        let request = render(type_, patch).await.expect("a request");
        let fake = serve(web(json!({})), (500, Value::Null));
        let done = execute(&fake, &request, Attempt::First).await.expect("written");
        assert_eq!((done.outcome, &*done.message), (ActionOutcome::Succeeded, "patched Deployment shop/web"));
        assert_eq!(done.effect.expect("an effect").reason, "PatchedByRule");
        let write = fake.requests().pop().expect("a write");
        assert_eq!((write.headers["content-type"].to_str().expect("text"), &write.body), (media, &body));
        assert!(write.query.contains(manager) && write.query.contains("fieldValidation=Strict"), "{}", write.query);
        assert_eq!(write.user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
    }
}

#[tokio::test]
async fn a_repetition_that_finds_the_change_there_writes_nothing() {
    let front = || web(json!({"tier": "front"}));
    let manager = |mut object: Value| {
        object["metadata"]["managedFields"] = json!([{"manager": "signalbox/rule-uid/act", "operation": "Apply"}]);
        object
    };
    for (type_, patch, now, outcome) in [
        ("Merge", tier(json!("front")), front(), ActionOutcome::Unchanged),
        ("Merge", json!({"metadata": {"labels": null}}), front(), ActionOutcome::Succeeded),
        ("Apply", tier(json!("front")), manager(front()), ActionOutcome::Succeeded),
    ] {
        let request = render(type_, patch).await.expect("a request");
        let fake = serve(now.clone(), (200, now));
        let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
        assert_eq!(done.outcome, outcome, "{type_}: {}", done.message);
        // Without a mark of the step, only the version tells which change was its own.
        assert!(done.effect.is_none_or(|effect| !effect.found && effect.resource_version.as_deref() == Some("8")));
        assert!(fake.requests().iter().all(|seen| seen.method != "PATCH" || seen.query.contains("dryRun=All")));
    }
}

#[tokio::test]
async fn an_applied_patch_takes_part_in_what_somebody_else_has_set_to_the_same() {
    let request = render("Apply", tier(json!("front"))).await.expect("a request");
    let now = web(json!({"tier": "front"}));
    let fake = serve(now.clone(), (200, now));
    let done = execute(&fake, &request, Attempt::Again).await.expect("written");
    assert_eq!(done.outcome, ActionOutcome::Succeeded);
    assert!(fake.requests().last().is_some_and(|seen| seen.method == "PATCH" && !seen.query.contains("dryRun")));
}

#[tokio::test]
async fn a_repetition_leaves_alone_what_has_changed_meanwhile() {
    let theirs = || web(json!({"tier": "theirs"}));
    let request = render("Merge", tier(json!("front"))).await.expect("a request");
    let fake = serve(theirs(), (200, web(json!({"tier": "front"}))));
    let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
    assert_eq!(done.outcome, ActionOutcome::Superseded, "{}", done.message);

    let remove = json!([{"op": "add", "path": "/metadata/labels/tier", "value": "x"}]);
    let request = render("JSON", remove).await.expect("a request");
    let unfit = status(422, "Invalid", "the server rejected our request due to an error in our request");
    let done = execute(&serve(theirs(), unfit), &request, Attempt::Again).await.expect("looked");
    assert_eq!(done.outcome, ActionOutcome::Superseded, "{}", done.message);

    // What the API server does not let through is no change of somebody else.
    let denied = status(403, "Forbidden", "deployments.apps \"web\" is forbidden: User \"x\" cannot patch");
    let failure = execute(&serve(theirs(), denied), &request, Attempt::Again).await.expect_err("denied");
    assert_eq!(failure.kind, FailureKind::Final);
}

#[tokio::test]
async fn what_was_filled_in_is_looked_at_again() {
    let failure = render("Merge", json!({"metadata": {"name": "other"}})).await.expect_err("another object");
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Final, "patch.metadata.name: cannot be patched"));
    let failure = render("Merge", tier(json!({"a": null}))).await.map(|request| request["patch"].clone());
    assert_eq!(failure, Ok(tier(json!("{\"a\":null}"))));
    assert_eq!(render("Merge", tier(Value::Null)).await.map(|request| request["patch"].clone()), Ok(tier(Value::Null)));
}
