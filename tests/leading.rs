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

#[tokio::test]
async fn a_target_that_is_both_named_and_found_or_neither_is_refused() {
    for (target, said) in [
        (json!({"from": "EventOwner", "kind": "Deployment"}), "from stands in the place of"),
        (json!({"kind": "Deployment"}), "kind and name must be set, or from"),
        (json!({"from": "EventUsers"}), "Unsupported value"),
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
