//! `onError: Undo` of what is done with whole objects and images.

use serde_json::{Value, json};
use signalbox::api::FiringOutcome;

use super::{
    Stage,
    common::{api, meddle, theirs},
    support::{PATIENCE, eventually},
};

const RULES: &str = r#"[{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}]"#;

fn settings(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// These actions, and one that fails.
fn then_fails(mut actions: Vec<Value>) -> Value {
    let target = json!({"kind": "ConfigMap", "name": "missing"});
    actions
        .push(json!({"name": "fail", "patch": {"target": target, "patch": {"data": {"a": "b"}}}, "onError": "Undo"}));
    actions.into()
}

#[tokio::test]
async fn what_was_created_and_applied_is_removed_and_given_back() {
    let mut stage = Stage::new("undone", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    theirs(&maps, "kept", settings("kept", json!({"a": "theirs"}))).await;
    let mut generated = settings("x", json!({}));
    generated["metadata"] = json!({"generateName": "made-"});
    let open = stage.firing(
        "u0",
        then_fails(vec![
            json!({"name": "one", "create": {"manifest": generated}}),
            json!({"name": "two", "apply": {"manifest": settings("new", json!({"b": "1"}))}}),
            json!({"name": "three", "apply": {"manifest": settings("kept", json!({"a": "ours", "b": "1"})), "force": true}}),
        ]),
    );
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    assert_eq!(finished.message.matches("undone: ").count(), 3, "{}", finished.message);
    let names: Vec<String> = maps
        .list(&Default::default())
        .await
        .expect("list")
        .items
        .into_iter()
        .filter_map(|one| one.metadata.name)
        .collect();
    assert_eq!(names, ["kept", "kube-root-ca.crt"], "{}", finished.message);
    assert_eq!(maps.get("kept").await.expect("get").data["data"], json!({"a": "theirs"}));
}

#[tokio::test]
async fn an_image_is_given_back_unless_somebody_else_has_set_another() {
    let mut stage = Stage::new("image", RULES).await;
    let deployments = api(&stage, "apps", "Deployment");
    let target = json!({"kind": "Deployment", "name": "web"});
    let set =
        json!({"name": "set", "setImage": {"target": target, "container": "web", "image": "example.invalid/web:2"}});
    let image = async || {
        deployments.get("web").await.expect("get").data["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    let open = stage.firing("u1", then_fails(vec![set.clone()]));
    let finished = stage.run(open).await;
    assert!(finished.message.contains("undone: set the image of Deployment"), "{}", finished.message);
    assert_eq!(image().await, "example.invalid/web:1");

    // Somebody else sets another image before the step that fails.
    let target = json!({"kind": "ConfigMap", "name": "missing"});
    let wait = json!({"name": "wait", "wait": {"target": {"kind": "Deployment", "name": "web"}, "timeout": "20s",
        "expression": "target.spec.template.spec.containers[0].image == 'example.invalid/web:9'"}});
    let fail = json!({"name": "fail", "patch": {"target": target, "patch": {"data": {"a": "b"}}}, "onError": "Undo"});
    let open = stage.firing("u2", json!([set, wait, fail]));
    let somebody = async {
        eventually("the image is set", PATIENCE, async || (image().await == "example.invalid/web:2").then_some(()))
            .await;
        let theirs = json!([{"name": "web", "image": "example.invalid/web:9"}]);
        meddle(&deployments, "web", json!({"spec": {"template": {"spec": {"containers": theirs}}}})).await;
    };
    let (finished, ()) = tokio::join!(stage.run(open), somebody);
    assert!(
        finished.message.contains("was set to image example.invalid/web:9 by somebody else"),
        "{}",
        finished.message
    );
    assert_eq!(image().await, "example.invalid/web:9");
}

#[tokio::test]
async fn a_deletion_is_not_undone_and_that_is_told() {
    let mut stage = Stage::new("lost", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    theirs(&maps, "old", settings("old", json!({}))).await;
    let open = stage.firing(
        "u4",
        then_fails(vec![json!({"name": "drop", "delete": {"target": {"kind": "ConfigMap", "name": "old"}}})]),
    );
    let finished = stage.run(open).await;
    assert!(finished.message.contains("not undone: drop: a deletion cannot be undone"), "{}", finished.message);
}
