//! `patch` on a real API server: what is written, with whose rights, and that nothing is written twice.

use std::sync::Arc;

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use signalbox::{
    api::{FiringOutcome, RuleMode},
    record::{Finished, OpenFiring},
};
use support::{PATIENCE, control_plane::shared, eventually, stage::Stage};

mod support;

const RULES: &str = r#"[{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]},
    {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get", "patch"]},
    {"apiGroups": ["patching.example.com"], "resources": ["widgets", "widgets/status"], "verbs": ["get", "patch"]}]"#;

fn patch(target: Value, type_: &str, patch: Value) -> Value {
    json!([{"name": "mend", "patch": {"target": target, "type": type_, "patch": patch}}])
}

fn web() -> Value {
    json!({"kind": "Deployment", "name": "web"})
}

/// The objects of a kind in the stage's namespace.
fn api(stage: &Stage, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource)
}

/// Runs a firing of which nothing is written: its request is recorded, as by a process that dies just then.
async fn observed(stage: &mut Stage, open: &OpenFiring) -> Finished {
    let mut open = open.clone();
    Arc::make_mut(&mut open.spec).mode = RuleMode::Observe;
    stage.run(open).await
}

/// Somebody else changes the object.
async fn meddle(api: &Api<DynamicObject>, name: &str, patch: Value) -> DynamicObject {
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch")
}

#[tokio::test]
async fn a_deployment_gets_an_annotation_once_also_after_a_crash() {
    let mut stage = Stage::new("merge", RULES).await;
    let merge = json!({"metadata": {"annotations": {"example.com/seen": "${size(event.id)}", "example.com/last": "${event.id}"}}});
    let open = stage.firing("p0", patch(web(), "Merge", merge));
    let finished = stage.run(open.clone()).await;
    let title = format!("Deployment {}/web", stage.namespace);
    assert_eq!(finished.message, format!("patched {title}"));
    let deployments = api(&stage, "apps", "Deployment");
    let annotations = deployments.get("web").await.expect("get").metadata.annotations.expect("annotations");
    assert_eq!((&*annotations["example.com/seen"], &*annotations["example.com/last"]), ("7", "uid-1/3"));

    let finished = stage.again(open.clone(), &["mend"]).await;
    assert_eq!(finished.message, format!("patched {title}"));
    let mut next = open;
    next.firing.id = signalbox::record::FiringId("p1".into());
    let finished = stage.run(next).await;
    assert_eq!(finished.message, format!("{title} is as the patch makes it already"));
}

#[tokio::test]
async fn what_was_not_written_before_a_crash_is_unless_somebody_else_has_changed_it() {
    let mut stage = Stage::new("late", RULES).await;
    let deployments = api(&stage, "apps", "Deployment");
    let args = |finished: DynamicObject| finished.data["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    let start = json!([{"name": "web", "image": "example.invalid/web:1", "args": ["a"]}]);
    let containers = |containers: Value| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    meddle(&deployments, "web", containers(start)).await;
    let add = json!([{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "${event.id}"}]);
    let open = stage.firing("p2", patch(web(), "JSON", add));
    observed(&mut stage, &open).await;

    // Another part of the object changes, and then the process is there again.
    meddle(&deployments, "web", json!({"metadata": {"labels": {"other": "1"}}})).await;
    for _ in 0..2 {
        let finished = stage.again(open.clone(), &["mend"]).await;
        assert!(finished.message.starts_with("patched "), "{}", finished.message);
        assert_eq!(args(deployments.get("web").await.expect("get")), json!(["a", "uid-1/3"]));
    }
    // Once more, though somebody has written the list since and the step's mark has gone.
    let other = json!([{"name": "web", "image": "example.invalid/web:1", "args": ["b", "uid-1/3"]}]);
    meddle(&deployments, "web", containers(other)).await;
    let finished = stage.again(open, &["mend"]).await;
    assert!(
        finished.message.contains("was changed by somebody else meanwhile, it was not patched"),
        "{}",
        finished.message
    );
    assert_eq!(args(deployments.get("web").await.expect("get")), json!(["b", "uid-1/3"]));
}

#[tokio::test]
async fn what_does_not_fit_the_object_ends_the_firing_in_words() {
    let mut stage = Stage::new("unfit", RULES).await;
    let long = json!({"metadata": {"labels": {"x": "not a label"}}});
    for (index, (type_, body, words)) in [
        ("JSON", json!([{"op": "remove", "path": "/spec/paused"}]), "an operation does not fit the object"),
        ("JSON", json!([{"op": "test", "path": "/spec/replicas", "value": 9}]), "or a test that fails"),
        ("Merge", json!({"spec": {"replica": 3}}), "unknown field \"spec.replica\""),
        ("Merge", long, "a valid label must be"),
    ]
    .into_iter()
    .enumerate()
    {
        let open = stage.firing(&format!("p3-{index}"), patch(web(), type_, body));
        let finished = stage.run(open).await;
        assert_eq!(finished.outcome, FiringOutcome::Failed, "{}", finished.message);
        assert!(finished.message.contains(words), "{}", finished.message);
    }
}

/// A kind of its own with a status, and a `Widget` named `w`.
async fn widget(stage: &Stage) -> Api<DynamicObject> {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let properties = json!({"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}, "status": open});
    shared()
        .await
        .apply(
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "widgets.patching.example.com"},
                "spec": {"group": "patching.example.com", "scope": "Namespaced",
                    "names": {"kind": "Widget", "plural": "widgets"},
                    "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}]}})
            .to_string(),
        )
        .await;
    let widgets = api(stage, "patching.example.com", "Widget");
    let object = json!({"apiVersion": "patching.example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}});
    eventually("a Widget is taken", PATIENCE, async || {
        widgets.patch("w", &PatchParams::apply("tests"), &Patch::Apply(&object)).await.ok()
    })
    .await;
    widgets
}

#[tokio::test]
async fn a_custom_resource_and_its_status_are_patched_but_not_strategically() {
    let mut stage = Stage::new("custom", RULES).await;
    let widgets = widget(&stage).await;
    let target = json!({"apiVersion": "patching.example.com/v1", "kind": "Widget", "name": "w"});
    let open = stage.firing("p4", patch(target.clone(), "Merge", json!({"spec": {"size": "${1 + 2}"}})));
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);

    let mut status = patch(target.clone(), "Merge", json!({"status": {"phase": "Mended"}}));
    status[0]["patch"]["subresource"] = json!("status");
    let open = stage.firing("p5", status);
    let finished = stage.run(open.clone()).await;
    assert!(finished.message.ends_with("/w (status)"), "{}", finished.message);
    let written = widgets.get("w").await.expect("get");
    assert_eq!((&written.data["spec"]["size"], &written.data["status"]["phase"]), (&json!(3), &json!("Mended")));
    stage.again(open, &["mend"]).await;
    let again = widgets.get("w").await.expect("get");
    assert_eq!(again.metadata.resource_version, written.metadata.resource_version);

    let open = stage.firing("p6", patch(target.clone(), "Strategic", json!({"spec": {"size": 4}})));
    let finished = stage.run(open).await;
    assert!(
        finished.message.ends_with("Widget has no Strategic patches, which are for built-in kinds: use type Merge"),
        "{}",
        finished.message
    );
    let mut missing = patch(target, "Merge", json!({"spec": {"size": 4}}));
    missing[0]["patch"]["subresource"] = json!("sizes");
    let open = stage.firing("p7", missing);
    let finished = stage.run(open).await;
    // Whoever has no right on it is told that instead.
    assert!(finished.message.contains("may not patch widgets.patching.example.com/sizes"), "{}", finished.message);
}

#[tokio::test]
async fn an_applied_patch_owns_its_fields_and_leaves_those_of_others_unless_forced() {
    let mut stage = Stage::new("apply", RULES).await;
    let deployments = api(&stage, "apps", "Deployment");
    let theirs = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 4}});
    let force = PatchParams { force: true, ..PatchParams::apply("their-tool") };
    deployments.patch("web", &force, &Patch::Apply(theirs)).await.expect("apply");

    let both = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"replicas": 6}});
    let mut actions = patch(web(), "Apply", both);
    let open = stage.firing("p8", actions.clone());
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    for part in ["\"their-tool\"", ".spec.replicas", "force: true"] {
        assert!(finished.message.contains(part), "{part}: {}", finished.message);
    }
    actions[0]["patch"]["force"] = json!(true);
    let open = stage.firing("p9", actions.clone());
    let finished = stage.run(open.clone()).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    let written = deployments.get("web").await.expect("get");
    assert_eq!(written.data["spec"]["replicas"], 6);
    let finished = stage.again(open, &["mend"]).await;
    assert!(finished.message.starts_with("patched "), "{}", finished.message);
    assert_eq!(deployments.get("web").await.expect("get").metadata.generation, written.metadata.generation);

    // The next firing names one label less: it goes.
    actions[0]["patch"]["patch"] = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 6}});
    let open = stage.firing("p10", actions);
    stage.run(open).await;
    let labels = deployments.get("web").await.expect("get").metadata.labels.expect("labels");
    assert!(labels.contains_key("a") && !labels.contains_key("b"), "{labels:?}");
}

#[tokio::test]
async fn an_observed_patch_tells_what_would_change_and_changes_nothing() {
    let mut stage = Stage::new("watched", RULES).await;
    let deployments = api(&stage, "apps", "Deployment");
    let before = deployments.get("web").await.expect("get").metadata.generation;
    let open = stage.firing(
        "p11",
        patch(
            web(),
            "Strategic",
            json!({"spec": {"replicas": 5, "template": {"spec": {
        "containers": [{"name": "web", "image": "example.invalid/web:2"}]}}}}),
        ),
    );
    let finished = observed(&mut stage, &open).await;
    let title = format!("Deployment {}/web", stage.namespace);
    assert_eq!(
        finished.message,
        format!(
            "would patch {title}: spec.replicas: 2 → 5; \
                 spec.template.spec.containers[0].image: \"example.invalid/web:1\" → \"example.invalid/web:2\""
        )
    );
    assert_eq!(deployments.get("web").await.expect("get").metadata.generation, before);
}

#[tokio::test]
async fn no_value_of_a_secret_is_told() {
    let mut stage = Stage::new("secret", RULES).await;
    let secrets = api(&stage, "", "Secret");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "old-hunter2"}});
    secrets.patch("s", &PatchParams::apply("tests"), &Patch::Apply(secret)).await.expect("apply");
    let target = json!({"kind": "Secret", "name": "s"});
    let good = json!({"stringData": {"password": "new-hunter2"}, "data": {"other": "aHVudGVyMg=="}});
    let open = stage.firing("p12", patch(target.clone(), "Merge", good));
    let observed = observed(&mut stage, &open).await.message;
    assert!(observed.ends_with("data.password changes; data.other changes"), "{observed}");
    let written = stage.run(open).await.message;
    let bad = json!({"data": {"hunter2 is no key": "aHVudGVyMg=="}, "type": "hunter2"});
    let open = stage.firing("p13", patch(target, "Merge", bad));
    let refused = stage.run(open).await;
    assert_eq!(refused.outcome, FiringOutcome::Failed);
    for told in [observed, written, refused.message] {
        assert!(!told.contains("hunter2") && !told.contains("aHVudGVy"), "{told}");
    }
}

#[tokio::test]
async fn an_object_in_no_namespace_is_patched_by_whoever_may() {
    let mut stage = Stage::new("wide", "[]").await;
    let (class, name) = (format!("{}-class", stage.namespace), format!("{}-classes", stage.namespace));
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": class}, "value": 7},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": ["get", "patch"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "ops", "namespace": stage.namespace}]}]});
    shared().await.apply(&objects.to_string()).await;
    let target = json!({"kind": "PriorityClass", "name": class});
    let body = json!({"metadata": {"labels": {"seen": "true"}}});
    // The API server's authorizer learns of a new binding by a watch of its own.
    let mut attempt = 0;
    loop {
        let open = stage.firing(&format!("p14-{attempt}"), patch(target.clone(), "Merge", body.clone()));
        let finished = stage.run(open).await;
        if finished.outcome == FiringOutcome::Succeeded {
            assert_eq!(finished.message, format!("patched PriorityClass {class}"));
            break;
        }
        attempt += 1;
        assert!(attempt < 50, "{}", finished.message);
    }
    let mut elsewhere = target;
    elsewhere["namespace"] = json!("default");
    let open = stage.firing("p15", patch(elsewhere, "Merge", body));
    let finished = stage.run(open).await;
    assert!(finished.message.contains("a PriorityClass is in no namespace"), "{}", finished.message);
}

#[tokio::test]
async fn the_sample_works_with_the_rights_that_it_grants() {
    let sample = std::fs::read_to_string("deploy/samples/patch.yaml").expect("the sample");
    let documents = sample.split("\n---\n").filter_map(|one| serde_saphyr::from_str::<Value>(one).ok());
    let of = |kind: &str| documents.clone().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("a {kind}"));
    let mut stage = Stage::new("sample", &of("Role")["rules"].to_string()).await;
    let settings = api(&stage, "", "ConfigMap");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web-settings"}, "data": {"page": "full", "other": "1"}});
    settings.patch("web-settings", &PatchParams::apply("tests"), &Patch::Apply(object)).await.expect("apply");
    stage.compile(&of("EventRule")["spec"]);
    let open = stage.firing("p16", of("EventRule")["spec"]["actions"].clone());
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    let settings = settings.get("web-settings").await.expect("get");
    assert_eq!(settings.data["data"], json!({"page": "plain", "other": "1"}));
    let because = &settings.metadata.annotations.expect("annotations")["example.com/plain-because"];
    assert_eq!(*because, format!("{}/Pod/web-1: Back-off \"web\"\n", stage.namespace));
}
