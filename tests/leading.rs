//! Targets that the event leads to, on a real API server whose controllers make the ReplicaSets and Pods.

use std::time::Duration;

use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use support::{
    eventually,
    site::{Shop, condition, shared as site, shop},
};

mod support;

const GROUP: &str = "signalbox.dev/v1alpha1";

/// The name of a Pod of the Deployment.
async fn pod_of(shop: &Shop, deployment: &str) -> String {
    let pods = shop.api("v1", "Pod");
    let params = ListParams::default().labels(&format!("app={deployment}"));
    let found = async || pods.list(&params).await.ok()?.items.first().map(|pod| pod.name_any());
    eventually("a Pod of the Deployment", Duration::from_secs(60), found).await
}

fn rule(action: Value) -> Value {
    json!({"sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}], "actions": [action]})
}

#[tokio::test]
async fn what_a_crashing_pod_belongs_to_is_scaled_and_restarted() {
    let shop = shop("owner").await;
    shop.deployment("web", 1).await;
    let pod = pod_of(&shop, "web").await;
    shop.rule("grow", rule(json!({"name": "grow", "scale": {"target": {"from": "EventOwner"}, "by": "1"}}))).await;
    shop.rule("restart", rule(json!({"name": "restart", "rollout": {"target": {"from": "EventOwner"}}}))).await;
    shop.event("web.1", &pod, "BackOff").await;
    for name in ["grow", "restart"] {
        let status = shop.rule_status(name, "1 succeeded", |status| status["counts"]["succeeded"] == 1).await;
        let said = status["recent"][0]["message"].to_string();
        assert!(said.contains(&format!("Deployment {}/web", shop.name)), "{said}");
    }
    assert_eq!(shop.replicas("web").await, 2);
    let deployment = shop.api("apps/v1", "Deployment").get("web").await.expect("get the Deployment");
    let annotations = &deployment.data["spec"]["template"]["metadata"]["annotations"];
    assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_string(), "{annotations}");
    shop.event("gone.1", "gone-1", "BackOff").await;
    let status = shop.rule_status("grow", "1 failed", |status| status["counts"]["failed"] == 1).await;
    let said = status["lastError"]["message"].as_str().unwrap_or_default();
    assert!(said.contains(&format!("no target: Pod {}/gone-1 is gone", shop.name)), "{said}");
}

#[tokio::test]
async fn a_rule_changes_the_object_that_its_event_is_about_once() {
    let shop = shop("about").await;
    shop.deployment("web", 1).await;
    let resource = json!({"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Update"], "changedExpressions": ["object.spec.replicas"]});
    let patch = json!({"target": {"from": "Event"}, "patch": {"metadata": {"annotations": {"asked": "${object.spec.replicas}"}}}});
    let spec =
        json!({"sources": [{"name": "changed", "resource": resource}], "actions": [{"name": "note", "patch": patch}]});
    shop.rule("note", spec).await;
    let api = shop.api("apps/v1", "Deployment");
    let set = Patch::Merge(json!({"spec": {"replicas": 3}}));
    api.patch("web", &PatchParams::default(), &set).await.expect("set replicas");
    shop.rule_status("note", "1 succeeded", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(api.get("web").await.expect("get").annotations()["asked"], "3");
}

/// The operator and the rules of the shop may watch ConfigMaps.
async fn let_watch_config_maps(shop: &Shop) {
    let may = |resource: Value| json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": resource}]);
    let label = json!({"signalbox.dev/aggregate-to-watch": "true"});
    let everywhere = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "watch-config-maps", "labels": label}, "rules": may(json!(["list", "watch"]))});
    let plane = &site().await.plane;
    plane.apply(&everywhere.to_string()).await;
    let metadata = json!({"name": "config-maps", "namespace": shop.name});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
        "rules": may(json!(["get", "list", "watch"]))});
    plane.apply(&role.to_string()).await;
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let binding = ["create", "rolebinding", "config-maps", "-n", &shop.name, "--role=config-maps", &account];
    assert!(plane.kubectl(&binding).await.status.success());
}

#[tokio::test]
async fn what_uses_a_changed_config_map_is_restarted_and_nothing_else() {
    let shop = shop("users").await;
    let_watch_config_maps(&shop).await;
    let maps = shop.api("v1", "ConfigMap");
    let settings =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}});
    maps.create(&Default::default(), &serde_json::from_value(settings).expect("a ConfigMap")).await.expect("create it");
    for name in ["web", "other"] {
        shop.deployment(name, 1).await;
    }
    let deployments = shop.api("apps/v1", "Deployment");
    let volumes = json!([{"name": "settings", "configMap": {"name": "settings"}}]);
    let mount = Patch::Merge(json!({"spec": {"template": {"spec": {"volumes": volumes}}}}));
    deployments.patch("web", &PatchParams::default(), &mount).await.expect("mount it");
    let agent = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
        "selector": {"matchLabels": {"app": "db"}}, "serviceName": "db", "template": {"metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [{"name": "db", "image": "db", "envFrom": [{"configMapRef": {"name": "settings"}}]}]}}}});
    let sets = shop.api("apps/v1", "StatefulSet");
    sets.create(&Default::default(), &serde_json::from_value(agent).expect("a StatefulSet")).await.expect("create it");
    let resource = json!({"apiVersion": "v1", "kind": "ConfigMap", "operations": ["Update"]});
    let restart = |target: Value| json!({"sources": [{"name": "settings", "resource": resource}], "actions": [{"name": "restart", "rollout": {"target": target}}]});
    shop.rule("restart", restart(json!({"from": "EventUsers"}))).await;
    shop.rule("too-many", restart(json!({"from": "EventUsers", "max": 1}))).await;
    let change = Patch::Merge(json!({"data": {"a": "2"}}));
    maps.patch("settings", &PatchParams::default(), &change).await.expect("change it");
    let status = shop.rule_status("restart", "1 succeeded", |status| status["counts"]["succeeded"] == 1).await;
    let at = async |api: &kube::Api<kube::core::DynamicObject>, name: &str| {
        let object = api.get(name).await.expect("get a workload");
        object.data["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].clone()
    };
    assert!(at(&deployments, "web").await.is_string() && at(&sets, "db").await.is_string(), "{status:#}");
    assert!(at(&deployments, "other").await.is_null());
    let (actions, name) = (&status["recent"][0]["actions"], &shop.name);
    let said = format!("restarted Deployment {name}/web; restarted StatefulSet {name}/db");
    assert_eq!(*actions, json!([{"name": "restart", "outcome": "Succeeded", "message": said}]));
    let status = shop.rule_status("too-many", "1 failed", |status| status["counts"]["failed"] == 1).await;
    let said = status["lastError"]["message"].as_str().unwrap_or_default();
    assert_eq!(said, format!("2 workloads use ConfigMap {name}/settings, and target.max allows 1: none was changed"));
}

#[tokio::test]
async fn a_target_that_is_both_named_and_found_or_neither_is_refused() {
    for (target, said) in [
        (json!({"from": "EventOwner", "kind": "Deployment"}), "from stands in the place of"),
        (json!({"kind": "Deployment"}), "kind and name must be set, or kind and selector, or from"),
        (json!({"kind": "Deployment", "name": "a", "selector": {}}), "kind and name must be set, or kind and selector"),
        (json!({"from": "Event", "selector": {}}), "from stands in the place of"),
        (json!({"kind": "Deployment", "name": "a", "filterExpression": "true"}), "filterExpression is for selector"),
        (json!({"from": "EventThings"}), "Unsupported value"),
        (json!({"from": "EventOwner", "max": 3}), "max is for selector and for from: EventUsers"),
        (json!({"from": "EventUsers", "max": 33}), "should be less than or equal to 32"),
    ] {
        let spec = rule(json!({"name": "grow", "scale": {"target": target, "to": 1}}));
        let object = json!({"apiVersion": GROUP, "kind": "EventRule", "metadata": {"name": "tried", "namespace": "default"}, "spec": spec});
        let output = site().await.plane.try_apply(&object.to_string()).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(said), "{target}: {told}");
    }
    let shop = shop("named").await;
    let pause = json!({"name": "pause", "rollout": {"target": {"from": "Event"}, "operation": "Pause"}});
    shop.rule("pause", rule(pause)).await;
    shop.event("web.1", "web", "BackOff").await;
    let status = shop.rule_status("pause", "1 failed", |status| status["counts"]["failed"] == 1).await;
    assert!(status["lastError"]["message"].to_string().contains("has no rollout"), "{status:#}");
    assert_eq!(condition(&status, "Acting")["reason"], "ActionFailed");
}
