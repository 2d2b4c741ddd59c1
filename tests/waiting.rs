//! `waitFor`, by the operator on a real API server whose controllers run; the tests are the kubelet.

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use support::{
    PATIENCE, eventually,
    site::{Shop, Site, condition, shared as site, shop},
};

mod support;

const GROUP: &str = "signalbox.dev/v1alpha1";

/// A rule that does this when a pod backs off.
fn rule(reason: &str, actions: Value) -> Value {
    json!({"sources": [{"name": "crash", "kubernetesEvent": {"reasons": [reason]}}], "actions": actions})
}

fn scale(to: i64, wait_for: Value) -> Value {
    let target = json!({"kind": "Deployment", "name": "web"});
    json!({"name": "grow", "scale": {"target": target, "to": to}, "waitFor": wait_for})
}

/// Waits until a rule's only firing has ended; gives its outcome and its message.
async fn ended(shop: &Shop, rule: &str) -> (String, String) {
    let done = |status: &Value| !["Running", ""].contains(&status["recent"][0]["outcome"].as_str().unwrap_or_default());
    let status = shop.rule_status(rule, "a firing that has ended", done).await;
    let text = |field: &str| status["recent"][0][field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("message"))
}

async fn is_running(shop: &Shop, rule: &str) -> bool {
    let rule = shop.api(GROUP, "EventRule").get(rule).await.expect("get the rule");
    let counts = &rule.data["status"]["counts"];
    counts["succeeded"] == 0 && counts["failed"] == 0
}

/// Waits until the Deployment has so many pods, and runs them as a kubelet would.
async fn run_pods(shop: &Shop, count: usize) {
    let pods = shop.api("v1", "Pod");
    let found = eventually(&format!("{count} pods"), PATIENCE, async || {
        let found = pods.list(&ListParams::default().labels("app=web")).await.ok()?.items;
        (found.len() == count).then_some(found)
    })
    .await;
    for pod in found {
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": now});
        let status = Patch::Merge(json!({"status": {"phase": "Running", "conditions": [ready]}}));
        let name = pod.metadata.name.expect("a name");
        pods.patch_status(&name, &PatchParams::default(), &status).await.expect("the pod runs");
    }
}

async fn available(shop: &Shop) -> i64 {
    let web = shop.api("apps/v1", "Deployment").get("web").await.expect("get the Deployment");
    web.data["status"]["availableReplicas"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn an_action_is_done_when_its_rollout_is_and_others_go_on_meanwhile() {
    let shop = shop("rollout").await;
    shop.deployment("web", 1).await;
    let look = json!({"name": "look", "ifExpression": "actions.grow.to == 2",
        "rollout": {"target": {"kind": "Deployment", "name": "web"}, "operation": "Pause"}});
    shop.rule("waits", rule("BackOff", json!([scale(2, json!({"rollout": {}})), look]))).await;
    let other = json!([{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}}]);
    shop.rule("other", rule("Other", other)).await;
    shop.event("web.1", "web", "BackOff").await;
    shop.await_replicas("web", 2).await;
    run_pods(&shop, 2).await;
    // Before that is known, another rule changes the same target.
    shop.event("web.2", "web", "Other").await;
    assert_eq!(ended(&shop, "other").await.0, "Succeeded");
    run_pods(&shop, 3).await;
    let (outcome, message) = ended(&shop, "waits").await;
    assert_eq!(outcome, "Succeeded", "{message}");
    let web = format!("Deployment {}/web", shop.name);
    assert_eq!(message, format!("scaled {web} from 1 to 2; its rollout is complete; paused {web}"));
    assert!(available(&shop).await >= 2);
}

#[tokio::test]
async fn a_rollout_that_is_stuck_fails_the_action_at_once() {
    let shop = shop("stuck").await;
    shop.deployment("web", 1).await;
    let short = Patch::Merge(json!({"spec": {"progressDeadlineSeconds": 2, "minReadySeconds": 1}}));
    shop.api("apps/v1", "Deployment").patch("web", &PatchParams::default(), &short).await.expect("a deadline");
    shop.rule("stuck", rule("BackOff", json!([scale(2, json!({"rollout": {}, "timeout": "1h"}))]))).await;
    shop.event("web.1", "web", "BackOff").await;
    let (outcome, message) = ended(&shop, "stuck").await;
    assert_eq!(outcome, "Failed");
    let scaled = format!("scaled Deployment {}/web from 1 to 2, but it exceeded its progress deadline: ", shop.name);
    assert!(message.starts_with(&scaled), "{message}");
}

#[tokio::test]
async fn a_custom_resource_is_waited_for_by_an_expression_and_with_the_right_to_read_it() {
    let shop = shop("expression").await;
    site().await.plane.apply("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: pools.waiting.example.com}, \
        spec: {group: waiting.example.com, scope: Namespaced, names: {plural: pools, singular: pool, kind: Pool}, versions: [{name: v1, served: true, storage: true, \
        subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}, \
        schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {replicas: {type: integer}}}, \
        status: {type: object, properties: {replicas: {type: integer}, phase: {type: string}}}}}}}]}}").await;
    let pool = format!(
        "{{apiVersion: waiting.example.com/v1, kind: Pool, metadata: {{name: main, namespace: {}}}, spec: {{replicas: 1}}}}",
        shop.name
    );
    eventually("the kind is served", PATIENCE, async || {
        site().await.plane.try_apply(&pool).await.status.success().then_some(())
    })
    .await;
    site().await.plane.apply(&pool).await;
    let target = json!({"apiVersion": "waiting.example.com/v1", "kind": "Pool", "name": "main"});
    let grow = |timeout: &str, to: i64| {
        let wait_for =
            json!({"expression": "target.status.phase == 'Ready' && target.spec.replicas == 3", "timeout": timeout});
        json!([{"name": "grow", "scale": {"target": target, "to": to}, "waitFor": wait_for}])
    };
    shop.create(GROUP, "EventRule", "pool", json!({"spec": rule("BackOff", grow("10m", 3))})).await;
    let lacks = |status: &Value| {
        condition(status, "Authorized")["message"].to_string().contains("get pools.waiting.example.com main")
    };
    shop.rule_status("pool", "a missing right to read it", lacks).await;
    let role = [
        "create",
        "role",
        "pools",
        "-n",
        &shop.name,
        "--verb=get,patch",
        "--resource=pools.waiting.example.com,pools.waiting.example.com/scale",
    ];
    assert!(site().await.plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let binding = ["create", "rolebinding", "pools", "-n", &shop.name, "--role=pools", &account];
    assert!(site().await.plane.kubectl(&binding).await.status.success());
    shop.rule_status("pool", "the right", |status| condition(status, "Authorized")["status"] == "True").await;
    let pools = shop.api("waiting.example.com/v1", "Pool");
    let phase = async |phase: &str| {
        let status = Patch::Merge(json!({"status": {"phase": phase}}));
        pools.patch_status("main", &PatchParams::default(), &status).await.expect("a status");
    };
    // A field that is not there yet is waited for.
    shop.event("p.1", "p", "BackOff").await;
    eventually("it is scaled", PATIENCE, async || {
        (pools.get("main").await.ok()?.data["spec"]["replicas"] == 3).then_some(())
    })
    .await;
    phase("Resizing").await;
    assert!(is_running(&shop, "pool").await);
    phase("Ready").await;
    let (outcome, message) = ended(&shop, "pool").await;
    assert_eq!(outcome, "Succeeded");
    assert!(message.ends_with("from 1 to 3; waitFor.expression gives true"), "{message}");

    phase("Broken").await;
    shop.rule("late", rule("Late", grow("2s", 4))).await;
    shop.event("p.2", "p", "Late").await;
    let (outcome, message) = ended(&shop, "late").await;
    assert_eq!(outcome, "Failed");
    let seen = "did not give true within 2s: target.status.phase = Broken; target.spec.replicas = 4";
    assert!(message.ends_with(seen), "{message}");

    let wait_for = json!({"expression": "target.status.phase == 'Ready'", "failExpression": "target.status.phase == 'Broken'", "timeout": "10m"});
    let actions = json!([{"name": "grow", "scale": {"target": target, "to": 5}, "waitFor": wait_for},
        {"name": "tell", "wait": {"for": "10m"}}]);
    shop.rule("broken", rule("Broken", actions)).await;
    shop.event("p.3", "p", "Broken").await;
    let (outcome, message) = ended(&shop, "broken").await;
    assert_eq!(outcome, "Failed");
    let before = format!("from 4 to 5; EventRule {}/late had scaled it less than 10 minutes before", shop.name);
    let seen = "but waitFor.failExpression gives true: target.status.phase = Broken";
    assert!(message.ends_with(&format!("{before}, {seen}")), "{message}");
}

#[tokio::test]
async fn what_was_patched_is_waited_for_as_well() {
    let shop = shop("patched").await;
    shop.create("v1", "ConfigMap", "settings", json!({"data": {"mode": "calm"}})).await;
    let role = ["create", "role", "settings", "-n", &shop.name, "--verb=get,patch", "--resource=configmaps"];
    assert!(site().await.plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let binding = ["create", "rolebinding", "settings", "-n", &shop.name, "--role=settings", &account];
    assert!(site().await.plane.kubectl(&binding).await.status.success());
    let patch = json!({"target": {"kind": "ConfigMap", "name": "settings"}, "patch": {"data": {"mode": "busy"}}});
    let seen = json!({"expression": "target.data.mode == 'busy' && target.metadata.labels['seen'] == 'busy'"});
    shop.rule("patched", rule("BackOff", json!([{"name": "act", "patch": patch, "waitFor": seen}]))).await;
    shop.event("web.1", "web", "BackOff").await;
    let settings = shop.api("v1", "ConfigMap");
    eventually("it is patched", PATIENCE, async || {
        (settings.get("settings").await.ok()?.data["data"]["mode"] == "busy").then_some(())
    })
    .await;
    assert!(is_running(&shop, "patched").await);
    let label = Patch::Merge(json!({"metadata": {"labels": {"seen": "busy"}}}));
    settings.patch("settings", &PatchParams::default(), &label).await.expect("a label");
    let (outcome, message) = ended(&shop, "patched").await;
    assert_eq!(outcome, "Succeeded", "{message}");
    assert!(message.ends_with("; waitFor.expression gives true"), "{message}");
}

#[tokio::test]
async fn a_killed_operator_goes_on_waiting_and_writes_nothing_again() {
    let site = Site::start().await;
    let shop = site.namespace("killed").await;
    let operator = site.setup.start_ready().await;
    shop.deployment("web", 1).await;
    for (name, timeout) in [("waits", "10m"), ("late", "3s")] {
        shop.rule(name, rule(name, json!([scale(2, json!({"rollout": {}, "timeout": timeout}))]))).await;
    }
    shop.event("web.1", "web", "waits").await;
    shop.await_replicas("web", 2).await;
    // It needs no write, and waits all the same.
    shop.event("web.2", "web", "late").await;
    shop.rule_status("late", "a firing", |status| status["counts"]["fired"] == 1).await;
    let written = shop.api("apps/v1", "Deployment").get("web").await.expect("get the Deployment").metadata.generation;
    // Whatever of the first three seconds is left when it is back, the same instant ends it.
    operator.kill();
    let _operator = site.setup.start_ready().await;
    let (outcome, message) = ended(&shop, "late").await;
    assert_eq!(outcome, "Failed");
    let seen = format!(
        "Deployment {}/web has 2 replicas already, but its rollout was not complete within 3s: 0 of 2 updated replicas are available",
        shop.name
    );
    assert_eq!(message, seen);
    assert!(is_running(&shop, "waits").await);
    run_pods(&shop, 2).await;
    let (outcome, message) = ended(&shop, "waits").await;
    assert_eq!(outcome, "Succeeded", "{message}");
    assert!(message.ends_with("from 1 to 2; its rollout is complete"), "{message}");
    let web = shop.api("apps/v1", "Deployment").get("web").await.expect("get the Deployment");
    assert_eq!((web.metadata.generation, available(&shop).await), (written, 2));
}

#[tokio::test]
async fn waiting_for_what_is_not_changed_is_refused() {
    let actions = |wait_for: Value| {
        json!([
            scale(2, wait_for),
            {"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}, "waitFor": {"rollout": {}}},
        ])
    };
    let tried = async |wait_for: Value| {
        let object = json!({"apiVersion": GROUP, "kind": "EventRule", "metadata": {"name": "tried", "namespace": "default"},
            "spec": rule("BackOff", actions(wait_for))});
        let output = site().await.plane.try_apply(&object.to_string()).await;
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = tried(json!({"rollout": {}, "expression": "true"})).await;
    for part in [
        "spec.actions[0].waitFor",
        "exactly one of rollout and expression must be set",
        "spec.actions[1]: ",
        "waitFor is for actions that change or create an object: scale, rollout, setImage, patch, apply, create",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let shop = shop("refused").await;
    let spec = rule("BackOff", json!([scale(2, json!({"expression": "target.status.replicas = 2"}))]));
    shop.create(GROUP, "EventRule", "wrong", json!({"spec": spec})).await;
    let invalid = |status: &Value| condition(status, "Ready")["reason"] == "InvalidSpec";
    let status = shop.rule_status("wrong", "its fault", invalid).await;
    let told = condition(&status, "Ready")["message"].to_string();
    assert!(told.contains("spec.actions[0].waitFor.expression:1:24: "), "{told}");
}
