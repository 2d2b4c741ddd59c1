//! Case 20, `scale` of what an autoscaler manages and of custom resources; and case 21, a StatefulSet that cannot go back by itself.

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use signalbox::api::FiringOutcome;

use super::{
    Stage,
    common::{api, meddle, resource, theirs},
    support::{PATIENCE, control_plane::shared, eventually},
};

const RULES: &str = r#"[{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["get", "list", "patch"]},
    {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["get", "patch"]},
    {"apiGroups": ["scaling.example.com"], "resources": ["pools/scale"], "verbs": ["get", "patch"]}]"#;

fn scale(target: Value, more: Value) -> Value {
    let mut scale = json!({"target": target});
    scale.as_object_mut().expect("a map").extend(more.as_object().cloned().expect("a map"));
    json!([{"name": "grow", "scale": scale}])
}

fn web() -> Value {
    json!({"kind": "Deployment", "name": "web"})
}

fn hpas(stage: &Stage) -> Api<DynamicObject> {
    let mut kind = resource("autoscaling", "HorizontalPodAutoscaler");
    kind.version = "v2".to_owned();
    kind.api_version = "autoscaling/v2".to_owned();
    Api::namespaced_with(stage.client.clone(), &stage.namespace, &kind)
}

async fn managed(stage: &Stage, owner: Value) -> Api<DynamicObject> {
    let hpas = hpas(stage);
    let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web-hpa", "ownerReferences": owner},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 10}});
    theirs(&hpas, "web-hpa", object).await;
    hpas
}

fn bounds(hpa: &DynamicObject) -> (Value, Value) {
    (hpa.data["spec"]["minReplicas"].clone(), hpa.data["spec"]["maxReplicas"].clone())
}

#[tokio::test]
async fn what_an_autoscaler_manages_is_left_to_it_unless_the_rule_says_otherwise() {
    let mut stage = Stage::new("hpa", RULES).await;
    let hpas = managed(&stage, json!([])).await;
    let open = stage.firing("s0", scale(web(), json!({"to": 8})));
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    let named = format!("HorizontalPodAutoscaler {}/web-hpa manages it", stage.namespace);
    assert!(
        finished.message.contains(&named) && finished.message.contains("autoscaler: Adjust"),
        "{}",
        finished.message
    );
    assert_eq!(stage.replicas().await, Some(2));

    let open = stage.firing("s1", scale(web(), json!({"to": 8, "autoscaler": "Adjust"})));
    let finished = stage.run(open.clone()).await;
    assert!(finished.message.contains(" from 2..10 to 8..10 for Deployment"), "{}", finished.message);
    assert_eq!(bounds(&hpas.get("web-hpa").await.expect("get")), (json!(8), json!(10)));
    assert_eq!(stage.replicas().await, Some(2), "it is the autoscaler that scales");
    let version = hpas.get("web-hpa").await.expect("get").metadata.generation;
    let finished = stage.again(open, &["grow"]).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    assert_eq!(hpas.get("web-hpa").await.expect("get").metadata.generation, version);

    let mut undone = scale(web(), json!({"by": "-1", "autoscaler": "Adjust"}));
    undone.as_array_mut().expect("a list").push(
        json!({"name": "fail", "scale": {"target": {"kind": "Deployment", "name": "no"}, "to": 1}, "onError": "Undo"}),
    );
    let open = stage.firing("s2", undone);
    let finished = stage.run(open).await;
    assert!(finished.message.contains("undone: adjusted"), "{}", finished.message);
    assert_eq!(bounds(&hpas.get("web-hpa").await.expect("get")), (json!(8), json!(10)));
    let open = stage.firing("s3", scale(web(), json!({"to": 0, "autoscaler": "Adjust"})));
    let finished = stage.run(open).await;
    assert!(finished.message.contains("cannot be told to scale to 0"), "{}", finished.message);

    let open = stage.firing("s4", scale(web(), json!({"to": 4, "autoscaler": "Ignore"})));
    let finished = stage.run(open).await;
    assert_eq!((finished.outcome, stage.replicas().await), (FiringOutcome::Succeeded, Some(4)), "{}", finished.message);
    // That another rule ignores it is nothing to one that does not.
    let open = stage.firing("s5", scale(web(), json!({"to": 5})));
    assert_eq!(stage.run(open).await.outcome, FiringOutcome::Failed);
    assert_eq!(stage.replicas().await, Some(4));
}

#[tokio::test]
async fn as_many_replicas_as_an_expression_gives_are_set_and_taken_back() {
    let mut stage = Stage::new("evaluated", RULES).await;
    let mut actions = scale(web(), json!({"toExpression": "size(event.data.message)", "max": 7}));
    let then = json!({"name": "more", "scale": {"target": web(), "toExpression": "actions.grow.to + 1"}});
    actions.as_array_mut().expect("a list").push(then);
    let open = stage.firing("s8", actions);
    let finished = stage.run(open).await;
    assert_eq!((finished.outcome, stage.replicas().await), (FiringOutcome::Succeeded, Some(8)), "{}", finished.message);
    assert_eq!(stage.intent("grow").request["to"], 7);

    let wrong = json!([{"name": "less", "scale": {"target": web(), "to": 1}},
        {"name": "fail", "scale": {"target": web(), "toExpression": "event.data.message"}, "onError": "Undo"}]);
    let open = stage.firing("s9", wrong);
    let finished = stage.run(open).await;
    let told = "toExpression gave no whole number, but a text";
    assert!(finished.outcome == FiringOutcome::Failed && finished.message.contains(told), "{}", finished.message);
    assert_eq!(stage.replicas().await, Some(8), "it is taken back");
}

#[tokio::test]
async fn an_account_that_may_not_see_autoscalers_scales_unless_the_rule_insists() {
    let rules = r#"[{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]}]"#;
    let mut stage = Stage::new("blind", rules).await;
    let open = stage.firing("s6", scale(web(), json!({"to": 3})));
    assert_eq!(stage.run(open).await.outcome, FiringOutcome::Succeeded);
    let open = stage.firing("s7", scale(web(), json!({"to": 4, "autoscaler": "Refuse"})));
    let finished = stage.run(open).await;
    assert!(finished.message.contains("may not list horizontalpodautoscalers.autoscaling"), "{}", finished.message);
    assert_eq!(stage.replicas().await, Some(3));
}

/// A kind of its own, namespaced.
async fn kind(name: &str, group: &str, version: &str, kind: &str, more: Value) {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut served = json!({"name": version, "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}}});
    served.as_object_mut().expect("a map").extend(more.as_object().cloned().expect("a map"));
    shared()
        .await
        .apply(
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{name}.{group}")},
                "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": name}, "versions": [served]}})
            .to_string(),
        )
        .await;
}

#[tokio::test]
async fn a_scaled_object_of_keda_is_named_and_adjusted_in_place_of_its_autoscaler() {
    let mut stage = Stage::new("keda", RULES).await;
    kind("scaledobjects", "keda.sh", "v1alpha1", "ScaledObject", json!({})).await;
    let mut so = resource("keda.sh", "ScaledObject");
    so.version = "v1alpha1".to_owned();
    so.api_version = "keda.sh/v1alpha1".to_owned();
    let objects: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &so);
    let object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web-so"},
        "spec": {"scaleTargetRef": {"name": "web"}, "maxReplicaCount": 6}});
    let made = eventually("a ScaledObject is taken", PATIENCE, async || {
        objects.patch("web-so", &PatchParams::apply("tests"), &Patch::Apply(&object)).await.ok()
    })
    .await;
    let owner = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web-so", "uid": made.metadata.uid, "controller": true}]);
    let hpas = managed(&stage, owner).await;
    let open = stage.firing("s8", scale(web(), json!({"to": 8})));
    let finished = stage.run(open).await;
    assert!(
        finished.message.contains(&format!("ScaledObject {}/web-so manages it", stage.namespace)),
        "{}",
        finished.message
    );
    let open = stage.firing("s9", scale(web(), json!({"to": 8, "autoscaler": "Adjust"})));
    let finished = stage.run(open).await;
    assert!(
        finished.message.contains("adjusted ScaledObject") && finished.message.contains("from 0..6 to 8..8"),
        "{}",
        finished.message
    );
    let spec = objects.get("web-so").await.expect("get").data["spec"].clone();
    assert_eq!((&spec["minReplicaCount"], &spec["maxReplicaCount"]), (&json!(8), &json!(8)));
    assert_eq!(bounds(&hpas.get("web-hpa").await.expect("get")), (json!(2), json!(10)), "that is KEDA's");
}

#[tokio::test]
async fn a_custom_resource_is_scaled_from_nothing_and_nothing_else_of_it_is_written() {
    let mut stage = Stage::new("pool", RULES).await;
    let sub =
        json!({"subresources": {"scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}}});
    kind("pools", "scaling.example.com", "v1", "Pool", sub).await;
    let pools = api(&stage, "scaling.example.com", "Pool");
    let object = json!({"apiVersion": "scaling.example.com/v1", "kind": "Pool", "metadata": {"name": "p"}, "spec": {"image": "x", "size": 0}});
    eventually("a Pool is taken", PATIENCE, async || {
        pools.patch("p", &PatchParams::apply("tests"), &Patch::Apply(&object)).await.ok()
    })
    .await;
    let target = json!({"apiVersion": "scaling.example.com/v1", "kind": "Pool", "name": "p"});
    let open = stage.firing("s10", scale(target.clone(), json!({"to": 0})));
    assert!(stage.run(open).await.message.ends_with("has 0 replicas already"));
    let bare =
        json!({"apiVersion": "scaling.example.com/v1", "kind": "Pool", "metadata": {"name": "bare"}, "spec": {}});
    theirs(&pools, "bare", bare).await;
    let mut without = target.clone();
    without["name"] = json!("bare");
    let open = stage.firing("s13", scale(without, json!({"by": "1"})));
    let finished = stage.run(open).await;
    assert!(
        finished.message.ends_with("\".spec.size\" does not exist: set it once, or give it a default"),
        "{}",
        finished.message
    );
    let open = stage.firing("s11", scale(target, json!({"by": "1"})));
    let finished = stage.run(open.clone()).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    assert_eq!(pools.get("p").await.expect("get").data["spec"], json!({"image": "x", "size": 1}));
    stage.again(open, &["grow"]).await;
    assert_eq!(pools.get("p").await.expect("get").data["spec"], json!({"image": "x", "size": 1}));
}

#[tokio::test]
async fn a_stateful_set_goes_back_and_its_stuck_pods_are_deleted_when_asked_to() {
    let rules = r#"[{"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get", "patch"]},
        {"apiGroups": ["apps"], "resources": ["controllerrevisions"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]}]"#;
    let mut stage = Stage::new("stuck", rules).await;
    let sets = api(&stage, "apps", "StatefulSet");
    let image = |image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db",
            "labels": {"kustomize.toolkit.fluxcd.io/name": "data"}},
        "spec": {"replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": {"metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "db", "image": image}]}}}})
    };
    theirs(&sets, "db", image("example.invalid/db:1")).await;
    let pods = api(&stage, "", "Pod");
    let pod_of = async |what: &str, revision: &str, other: bool| {
        eventually(what, PATIENCE, async || {
            let pod = pods.get_opt("db-0").await.expect("get")?;
            let is = pod.metadata.labels.as_ref()?.get("controller-revision-hash").is_some_and(|hash| hash == revision);
            (is != other && pod.metadata.deletion_timestamp.is_none()).then_some(pod)
        })
        .await
    };
    let first = eventually("the first revision", PATIENCE, async || {
        sets.get("db").await.expect("get").data["status"]["updateRevision"].as_str().map(str::to_owned)
    })
    .await;
    let pod = pod_of("a Pod of the first revision", &first, false).await;
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status(&pod.metadata.name.expect("a name"), &PatchParams::default(), &Patch::Merge(ready))
        .await
        .expect("patch");
    meddle(&sets, "db", json!({"spec": {"template": {"spec": {"containers": [{"name": "db", "image": "example.invalid/nonexistent:2"}]}}}})).await;
    // The controller replaces the Pod by one that never gets ready.
    pod_of("a Pod of the bad revision", &first, true).await;

    let undo = json!([{"name": "back", "rollout": {"target": {"kind": "StatefulSet", "name": "db"}, "operation": "Undo", "deleteStuckPods": true}}]);
    let open = stage.firing("s12", undo);
    let finished = stage.run(open).await;
    let message = format!(
        "rolled back StatefulSet {}/db to revision 1; Flux Kustomization data manages it and may change it back; deleted 1 stuck Pod",
        stage.namespace
    );
    assert_eq!(finished.message, message);
    pod_of("a Pod of the first revision again", &first, false).await;
}
