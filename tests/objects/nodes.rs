//! `cordon`, `uncordon`, `taint`, `evict` and `drain`.

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use signalbox::api::FiringOutcome;

use super::{
    Stage,
    common::{api, granted_everywhere, meddle, observed, resource, theirs},
    support::{PATIENCE, eventually},
};

const RULES: &str = r#"[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}, {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}]"#;
const WIDE: &str = r#"[{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}, {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}]"#;

/// A stage with a Node of its own, which the account may change.
async fn stage(prefix: &str) -> (Stage, Api<DynamicObject>, String) {
    let mut stage = Stage::new(prefix, RULES).await;
    granted_everywhere(&stage, WIDE).await;
    let nodes: Api<DynamicObject> = Api::all_with(stage.client.clone(), &resource("", "Node"));
    let name = format!("{}-node", stage.namespace);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    theirs(&nodes, &name, node).await;
    // The API server's authorizer learns of a new binding by a watch of its own.
    let mut attempt = 0;
    loop {
        let open = stage.firing(&format!("ready-{attempt}"), json!([{"name": "look", "uncordon": {"node": name}}]));
        if stage.run(open).await.outcome == FiringOutcome::Succeeded {
            return (stage, nodes, name);
        }
        attempt += 1;
        assert!(attempt < 50, "the account may change Nodes");
    }
}

/// How a Pod came to be.
enum Origin {
    /// Something would make it anew.
    Managed,
    /// Nothing would.
    Alone,
    /// Nothing would, and it has ended.
    Ended,
    /// The Node itself made it.
    Static,
}

/// A Pod on the Node, as its kubelet would tell of it.
async fn pod(stage: &Stage, node: &str, name: &str, origin: Origin) -> DynamicObject {
    let pods = api(stage, "", "Pod");
    let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "serviceAccountName": "ops", "containers": [{"name": "c", "image": "example.invalid/c:1"}]}});
    match origin {
        // The garbage collector knows whether there is such an owner; no controller is to look after it.
        Origin::Managed => {
            let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}});
            let uid = theirs(&api(stage, "", "ConfigMap"), "owner", owner).await.metadata.uid;
            object["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": true}]);
        }
        Origin::Alone => {}
        Origin::Ended => object["metadata"]["labels"] = json!({}),
        Origin::Static => {
            object["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "0"});
            object["metadata"]["labels"] = json!({});
            object["spec"]["serviceAccountName"] = Value::Null;
        }
    }
    let phase = if matches!(origin, Origin::Ended) { "Succeeded" } else { "Running" };
    theirs(&pods, name, object).await;
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let status = json!({"status": {"phase": phase, "conditions": ready}});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("patch the status")
}

/// A budget of which so many are to be left, and that allows so many disruptions now.
async fn budget(budgets: &Api<DynamicObject>, least: i64, allowed: i64) {
    let object = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}}});
    let generation = theirs(budgets, "web", object).await.metadata.generation;
    eventually("the budget is counted", PATIENCE, async || {
        let status = budgets.get("web").await.expect("get").data["status"].clone();
        let counted = status["observedGeneration"].as_i64() == generation && status["disruptionsAllowed"] == allowed;
        counted.then_some(())
    })
    .await;
}

/// Does what a kubelet does: what is to go goes.
async fn kubelet(pods: &Api<DynamicObject>) {
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for pod in pods.list(&Default::default()).await.expect("list").items {
        if pod.metadata.deletion_timestamp.is_some() {
            pods.delete(&pod.metadata.name.expect("a name"), &now).await.ok();
        }
    }
}

#[tokio::test]
async fn a_node_is_cordoned_and_tainted_and_gets_back_what_it_had() {
    let (mut stage, nodes, name) = stage("cordon").await;
    meddle(&nodes, &name, json!({"spec": {"taints": [{"key": "example.com/theirs", "effect": "NoSchedule"}]}})).await;
    let cordon = json!({"name": "cordon", "cordon": {"node": name}});
    let taint = json!({"name": "taint", "taint": {"node": name, "key": "example.com/ours", "value": "1", "effect": "NoExecute"}});
    let open = stage.firing("n0", json!([cordon, taint]));
    let seen = observed(&mut stage, &open).await.message;
    assert!(seen.contains("spec.unschedulable: none → true"), "{seen}");
    let finished = stage.run(open.clone()).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    let spec = nodes.get(&name).await.expect("get").data["spec"].clone();
    assert_eq!(spec["unschedulable"], true);
    // Controllers have taints of their own.
    let keys = |spec: &Value| {
        let keys = spec["taints"].as_array().into_iter().flatten().map(|taint| taint["key"].clone());
        keys.filter(|key| key.as_str().is_some_and(|key| key.starts_with("example.com/"))).collect::<Vec<_>>()
    };
    assert!(
        keys(&spec).contains(&json!("example.com/theirs")) && keys(&spec).contains(&json!("example.com/ours")),
        "{spec}"
    );
    let finished = stage.again(open, &["cordon", "taint"]).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);

    // What was so before is not taken back; what was not is.
    let fail = json!({"name": "fail", "evict": {"target": {"kind": "Pod", "name": "no", "namespace": "default"}}, "onError": "Undo"});
    let untaint = json!({"name": "untaint", "taint": {"node": name, "key": "example.com/ours", "remove": true}});
    let open = stage.firing("n1", json!([cordon, untaint, fail]));
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    let spec = nodes.get(&name).await.expect("get").data["spec"].clone();
    assert_eq!((&spec["unschedulable"], keys(&spec).len()), (&json!(true), 2), "{}: {spec}", finished.message);

    let open = stage.firing("n2", json!([{"name": "uncordon", "uncordon": {"node": name}}, untaint, fail]));
    let finished = stage.run(open).await;
    assert_eq!(finished.message.matches("undone: ").count(), 2, "{}", finished.message);
    let open = stage.firing("n3", json!([{"name": "uncordon", "uncordon": {"node": name}}, untaint]));
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    let spec = nodes.get(&name).await.expect("get").data["spec"].clone();
    assert_eq!((&spec["unschedulable"], keys(&spec)), (&Value::Null, vec![json!("example.com/theirs")]));
}

#[tokio::test]
async fn a_taint_is_set_after_a_restart_although_a_controller_has_set_another_meanwhile() {
    let (mut stage, nodes, name) = stage("taint").await;
    let keys = async || {
        let taints = nodes.get(&name).await.expect("get").data["spec"]["taints"].clone();
        let keys = taints.as_array().into_iter().flatten().filter_map(|taint| taint["key"].as_str().map(str::to_owned));
        let mut keys: Vec<String> = keys.filter(|key| key.starts_with("example.com/")).collect();
        keys.sort();
        keys
    };
    let open = stage.firing("n12", json!([{"name": "taint", "taint": {"node": name, "key": "example.com/ours"}}]));
    observed(&mut stage, &open).await;
    meddle(&nodes, &name, json!({"spec": {"taints": [{"key": "example.com/theirs", "effect": "NoSchedule"}]}})).await;
    let finished = stage.again(open, &["taint"]).await;
    assert_eq!(finished.message, format!("tainted Node {name} (example.com/ours:NoSchedule)"));
    assert_eq!(keys().await, ["example.com/ours", "example.com/theirs"]);
    let open = stage.firing(
        "n13",
        json!([{"name": "untaint", "taint": {"node": name, "key": "example.com/ours", "remove": true}}]),
    );
    observed(&mut stage, &open).await;
    let theirs = json!([{"key": "example.com/ours", "effect": "NoSchedule"}, {"key": "example.com/more", "effect": "NoSchedule"}]);
    meddle(&nodes, &name, json!({"spec": {"taints": theirs}})).await;
    let finished = stage.again(open, &["untaint"]).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    assert_eq!(keys().await, ["example.com/more"]);
}

#[tokio::test]
async fn a_pod_is_evicted_as_its_budget_allows_and_no_other_of_its_name() {
    let (mut stage, _, node) = stage("evict").await;
    let pods = api(&stage, "", "Pod");
    pod(&stage, &node, "web-1", Origin::Managed).await;
    let budgets = api(&stage, "policy", "PodDisruptionBudget");
    budget(&budgets, 1, 0).await;
    let evict = json!([{"name": "go", "evict": {"target": {"kind": "Pod", "name": "web-1"}}, "retry": {"limit": 1, "backoff": "10ms"}}]);
    let open = stage.firing("n4", evict.clone());
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    assert!(
        finished.message.contains("disruption budget") && finished.message.contains("after 2 attempts"),
        "{}",
        finished.message
    );

    budget(&budgets, 0, 1).await;
    let open = stage.firing("n5", evict.clone());
    assert_eq!(observed(&mut stage, &open).await.message, format!("would evict Pod {}/web-1", stage.namespace));
    // It went, and another one has its name, before the attempt.
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("web-1", &now).await.expect("delete");
    pod(&stage, &node, "web-1", Origin::Managed).await;
    budget(&budgets, 0, 1).await;
    let finished = stage.again(open, &["go"]).await;
    let another = "; another one has its name by now, which is left as it is";
    assert!(finished.message.ends_with(another), "{}", finished.message);
    assert!(pods.get("web-1").await.expect("get").metadata.deletion_timestamp.is_none());

    let open = stage.firing("n6", evict.clone());
    let finished = stage.run(open.clone()).await;
    assert_eq!(finished.message, format!("evicted Pod {}/web-1", stage.namespace));
    assert!(pods.get("web-1").await.expect("get").metadata.deletion_timestamp.is_some());
    kubelet(&pods).await;
    assert_eq!(stage.again(open, &["go"]).await.message, finished.message);
    let open = stage.firing("n7", evict);
    assert_eq!(stage.run(open).await.message, format!("Pod {}/web-1 is gone already", stage.namespace));
}

#[tokio::test]
async fn a_node_is_drained_of_all_that_can_go_and_the_budget_is_waited_for() {
    let (mut stage, nodes, node) = stage("drain").await;
    let pods = api(&stage, "", "Pod");
    pod(&stage, &node, "web-1", Origin::Managed).await;
    pod(&stage, &node, "web-2", Origin::Managed).await;
    pod(&stage, &node, "agent", Origin::Static).await;
    pod(&stage, &node, "done", Origin::Ended).await;
    let budgets = api(&stage, "policy", "PodDisruptionBudget");
    budget(&budgets, 1, 1).await;
    let open = stage.firing("n8", json!([{"name": "drain", "drain": {"node": node}, "timeout": "25s"}]));
    let seen = observed(&mut stage, &open).await.message;
    assert!(seen.ends_with("; would evict 3 Pods"), "{seen}");
    let rest = async {
        let left = async || pods.list(&Default::default()).await.expect("list").items;
        eventually("one is evicted and the other waits for its budget", PATIENCE, async || {
            let web = left().await.into_iter().filter(|pod| pod.metadata.labels.is_some());
            let going = web.filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
            (going == 1).then_some(())
        })
        .await;
        kubelet(&pods).await;
        budget(&budgets, 0, 1).await;
        eventually("all are gone", PATIENCE, async || {
            kubelet(&pods).await;
            (left().await.len() == 1).then_some(())
        })
        .await;
        std::future::pending::<()>().await
    };
    let finished = tokio::select! {
        finished = stage.run(open.clone()) => finished,
        () = rest => unreachable!("it never ends"),
    };
    assert_eq!(finished.message, format!("cordoned Node {node}; 3 Pods went"));
    assert_eq!(nodes.get(&node).await.expect("get").data["spec"]["unschedulable"], true);
    assert!(pods.get_opt("agent").await.expect("get").is_some(), "what belongs to the Node stays");
    assert_eq!(stage.again(open, &["drain"]).await.message, finished.message);
}

#[tokio::test]
async fn a_drain_that_does_not_end_in_time_fails_and_lets_the_node_go_again() {
    let (mut stage, nodes, node) = stage("late").await;
    let pods = api(&stage, "", "Pod");
    pod(&stage, &node, "web-1", Origin::Managed).await;
    let budgets = api(&stage, "policy", "PodDisruptionBudget");
    budget(&budgets, 1, 0).await;
    let drain = json!([{"name": "drain", "drain": {"node": node}, "timeout": "1s", "onError": "Undo"}]);
    let open = stage.firing("n9", drain);
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    for part in ["was not drained in time, 1 Pod left", "disruption budget", "undone: uncordoned Node"] {
        assert!(finished.message.contains(part), "{part}: {}", finished.message);
    }
    assert_eq!(nodes.get(&node).await.expect("get").data["spec"]["unschedulable"], Value::Null);

    // Nothing would make this one anew.
    pod(&stage, &node, "alone", Origin::Alone).await;
    let open = stage.firing("n10", json!([{"name": "drain", "drain": {"node": node}, "timeout": "1s"}]));
    let finished = stage.run(open).await;
    assert!(
        finished.message.contains(&format!("such as Pod {}/alone; none was evicted", stage.namespace)),
        "{}",
        finished.message
    );
    assert!(pods.get("alone").await.expect("get").metadata.deletion_timestamp.is_none());
    assert_eq!(nodes.get(&node).await.expect("get").data["spec"]["unschedulable"], Value::Null);
}

#[tokio::test]
async fn a_node_that_the_event_leads_to_is_that_of_its_pod() {
    let (mut stage, nodes, node) = stage("led").await;
    pod(&stage, &node, "web-1", Origin::Managed).await;
    let mut open = stage.firing("n11", json!([{"name": "cordon", "cordon": {}}]));
    let regarding = json!({"apiVersion": "v1", "kind": "Pod", "namespace": stage.namespace, "name": "web-1"});
    std::sync::Arc::make_mut(&mut open.event).data = json!({"regarding": regarding});
    let finished = stage.run(open.clone()).await;
    assert_eq!(finished.message, format!("cordoned Node {node}"));
    assert_eq!(nodes.get(&node).await.expect("get").data["spec"]["unschedulable"], true);
    // Whoever may write an Event could claim a Pod of others in it.
    let theirs = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "kube-system", "name": "web-1"});
    std::sync::Arc::make_mut(&mut open.event).data = json!({"regarding": theirs});
    open.firing.id = signalbox::record::FiringId("n12".into());
    let finished = stage.run(open).await;
    assert!(finished.message.contains("is in another namespace than the rule: set node"), "{}", finished.message);
}
