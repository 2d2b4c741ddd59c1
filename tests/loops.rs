//! Rules and what they do themselves, on a real API server: a rule that hears of its own doing does not answer it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use support::{
    eventually,
    proxy::{Fate, Proxy, Seen},
    site::{Shop, Site, condition, shared as site, shop},
};

mod support;

/// A rule that makes a Deployment one larger whenever somebody changes how large it is to be.
fn one_more() -> Value {
    let resource = json!({"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Update"], "changedExpressions": ["object.spec.replicas"]});
    let scale = json!({"target": {"kind": "Deployment", "name": "${object.metadata.name}"}, "by": "1"});
    json!({"sources": [{"name": "changed", "resource": resource}], "actions": [{"name": "grow", "scale": scale}]})
}

async fn set(shop: &Shop, name: &str, replicas: u32) {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    shop.api("apps/v1", "Deployment").patch(name, &PatchParams::default(), &patch).await.expect("set replicas");
}

/// Waits until the rule has heard of so many changes of its own and has fired so often.
async fn own(shop: &Shop, rule: &str, own: u64, fired: u64) {
    let told = |status: &Value| {
        let counts = &status["counts"];
        counts["suppressed"]["ownWrite"] == own && counts["succeeded"] == fired && counts["fired"] == fired
    };
    shop.rule_status(rule, &format!("{own} own and {fired} firings"), told).await;
}

#[tokio::test]
async fn what_a_rule_scales_does_not_set_it_off_again_and_what_others_do_does() {
    let shop = shop("own").await;
    shop.deployment("web", 1).await;
    shop.rule("one-more", one_more()).await;
    set(&shop, "web", 5).await;
    own(&shop, "one-more", 1, 1).await;
    set(&shop, "web", 2).await;
    own(&shop, "one-more", 2, 2).await;
    assert_eq!(shop.replicas("web").await, 3);
}

#[tokio::test]
async fn a_watch_that_is_faster_than_the_answer_does_not_set_a_rule_off() {
    let site = Site::start().await;
    let shop = site.namespace("slow").await;
    let hold = |seen: Seen| {
        let fate = if seen.patches("scale") { Fate::Hold(Duration::from_secs(1)) } else { Fate::Pass };
        async move { fate }
    };
    let proxy = Proxy::start(&site.plane, hold).await;
    let setup = site.setup_behind(&proxy);
    let operator = setup.start_ready().await;
    shop.deployment("web", 1).await;
    shop.rule("one-more", one_more()).await;
    set(&shop, "web", 5).await;
    own(&shop, "one-more", 1, 1).await;
    let waited = "signalbox_rule_decisions_total{decision=\"Deferred\"} ";
    let metrics = operator.metrics().await;
    let waited = metrics.lines().find_map(|line| line.strip_prefix(waited)).expect("the metric");
    assert_ne!(waited, "0", "its change came before the answer");
    assert_eq!(shop.replicas("web").await, 6);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_with_a_kill_does_not_set_the_rule_off() {
    let site = Site::start().await;
    let shop = site.namespace("killed").await;
    let held = Arc::new(AtomicBool::new(true));
    let swallows = Arc::clone(&held);
    let decide = move |seen: Seen| {
        let fate = if seen.patches("scale") && swallows.load(Ordering::Relaxed) { Fate::Swallow } else { Fate::Pass };
        async move { fate }
    };
    let proxy = Proxy::start(&site.plane, decide).await;
    let setup = site.setup_behind(&proxy);
    let operator = setup.start_ready().await;
    shop.deployment("web", 1).await;
    shop.deployment("db", 1).await;
    shop.rule("one-more", one_more()).await;
    set(&shop, "web", 5).await;
    let deferred = async || {
        let metrics = operator.metrics().await;
        metrics.contains("signalbox_rule_decisions_total{decision=\"Deferred\"} 1").then_some(())
    };
    support::eventually("its own change waits", Duration::from_secs(60), deferred).await;
    operator.kill();
    set(&shop, "db", 3).await;
    held.store(false, Ordering::Relaxed);
    let _operator = setup.start_ready().await;
    shop.rule_status("one-more", "both were answered", |status| status["counts"]["succeeded"] == 2).await;
    set(&shop, "db", 7).await;
    own(&shop, "one-more", 3, 3).await;
    assert_eq!((shop.replicas("web").await, shop.replicas("db").await), (6, 8));
}

#[tokio::test]
async fn the_job_that_a_rule_launches_does_not_make_it_launch_another() {
    let shop = shop("jobs").await;
    let created = json!({"apiVersion": "batch/v1", "kind": "Job", "operations": ["Create"]});
    let script = json!({"image": "example.invalid/tools:1", "run": "true"});
    let actions = json!([{"name": "follow", "job": {"script": script}}]);
    shop.rule("follower", json!({"sources": [{"name": "made", "resource": created}], "actions": actions})).await;
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/tools:1"}]});
    for name in ["first", "second"] {
        shop.create("batch/v1", "Job", name, json!({"spec": {"template": {"spec": pod}}})).await;
    }
    own(&shop, "follower", 2, 2).await;
    let jobs = shop.api("batch/v1", "Job").list(&ListParams::default()).await.expect("list Jobs");
    assert_eq!(jobs.items.len(), 4);
}

#[tokio::test]
async fn the_pods_that_a_rule_drains_do_not_make_it_drain_again() {
    let shop = shop("drained").await;
    let (plane, node) = (&site().await.plane, format!("{}-node", shop.name));
    let rules = r#"[{apiGroups: [""], resources: [nodes], verbs: [get, patch]}, {apiGroups: [""], resources: [pods], verbs: [list]},
        {apiGroups: [""], resources: [pods/eviction], verbs: [create]}]"#;
    let kind =
        |kind: &str| format!("apiVersion: rbac.authorization.k8s.io/v1, kind: {kind}, metadata: {{name: {node}}}");
    let subject = format!("{{kind: ServiceAccount, name: signalbox-rules, namespace: {}}}", shop.name);
    plane
        .apply(&format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {node}}}}}\n---\n{{{}, rules: {rules}}}\n---\n\
             {{{}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {node}}}, subjects: [{subject}]}}",
            kind("ClusterRole"),
            kind("ClusterRoleBinding")
        ))
        .await;
    let pod = |node: Value| json!({"spec": {"nodeName": node, "containers": [{"name": "main", "image": "example.invalid/tools:1"}]}});
    for name in ["web-1", "web-2", "web-3"] {
        shop.create("v1", "Pod", name, pod(json!(node))).await;
    }
    shop.create("v1", "Pod", "other", pod(Value::Null)).await;
    let source = json!([{"name": "went", "resource": {"apiVersion": "v1", "kind": "Pod", "operations": ["Delete"]}}]);
    let drain = json!([{"name": "drain", "timeout": "1m", "drain": {"node": node, "force": true}}]);
    shop.rule("drainer", json!({"sources": source, "actions": drain})).await;
    let authorized = |status: &Value| condition(status, "Authorized")["status"] == "True";
    shop.rule_status("drainer", "Authorized", authorized).await;
    let pods = shop.api("v1", "Pod");
    pods.delete("other", &DeleteParams::default()).await.expect("delete a Pod");
    // In place of a kubelet.
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    eventually("the Node is empty", Duration::from_secs(60), async || {
        let left = pods.list(&ListParams::default()).await.ok()?.items;
        for pod in left.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
            let _ = pods.delete(&pod.name_any(), &at_once).await;
        }
        left.is_empty().then_some(())
    })
    .await;
    own(&shop, "drainer", 3, 1).await;
}

#[tokio::test]
async fn what_a_rule_patches_does_not_set_it_off_again_and_what_others_do_does() {
    let shop = shop("patches").await;
    for type_ in ["Merge", "Strategic", "JSON", "Apply"] {
        let name = type_.to_lowercase();
        shop.deployment(&name, 1).await;
        let resource = json!({"apiVersion": "apps/v1", "kind": "Deployment", "names": [name], "operations": ["Update"],
            "changedExpressions": ["object.spec.?minReadySeconds"]});
        let next = "${object.spec.minReadySeconds + 1}";
        let patch = match type_ {
            "JSON" => json!([{"op": "replace", "path": "/spec/minReadySeconds", "value": next}]),
            _ => json!({"spec": {"minReadySeconds": next}}),
        };
        let target = json!({"kind": "Deployment", "name": name});
        let act = json!({"target": target, "type": type_, "force": type_ == "Apply", "patch": patch});
        let spec = json!({"sources": [{"name": "changed", "resource": resource}], "actions": [{"name": "next", "patch": act}]});
        shop.rule(&name, spec).await;
        let api = shop.api("apps/v1", "Deployment");
        for (round, seconds) in [(1, 5), (2, 20)] {
            // Whoever says that it was us is not believed.
            let ours = format!("{}/{name}/0123456789abcdef0123/next", shop.name);
            let stamp = json!({"annotations": {"signalbox.dev/caused-by": ours}});
            let set = Patch::Merge(json!({"metadata": stamp, "spec": {"minReadySeconds": seconds}}));
            let params = PatchParams { field_manager: Some("signalbox/next".into()), ..PatchParams::default() };
            api.patch(&name, &params, &set).await.expect("set minReadySeconds");
            own(&shop, &name, round, round).await;
            assert_eq!(api.get(&name).await.expect("get").data["spec"]["minReadySeconds"], seconds + 1);
        }
    }
}

#[tokio::test]
async fn thirty_crashing_pods_of_one_deployment_make_one_firing_that_tells_of_thirty() {
    let shop = shop("thirty").await;
    shop.deployment("web", 30).await;
    shop.deployment("api", 1).await;
    let owner = "event.data.regarding.owner.kind + '/' + event.data.regarding.owner.name";
    let target = json!({"kind": "Deployment", "name": "${group.owner.split('/')[1]}"});
    let note = json!({"target": target, "patch": {"metadata": {"annotations": {"crashes": "${string(count)}"}}}});
    let rule = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"], "regarding": {"kind": "Pod"}}}],
        "groupBy": [{"name": "owner", "expression": owner}],
        "trigger": {"count": {"atLeast": 30, "within": "10m"}},
        "actions": [{"name": "note", "patch": note}],
    });
    shop.rule("by-owner", rule).await;
    let pods = shop.api("v1", "Pod");
    let pods_of = async |app: &str| -> Vec<String> {
        let params = ListParams::default().labels(&format!("app={app}"));
        pods.list(&params).await.expect("list Pods").iter().map(|pod| pod.name_any()).collect()
    };
    let both = eventually("the Pods", Duration::from_secs(60), async || {
        let (web, api) = (pods_of("web").await, pods_of("api").await);
        (web.len() == 30 && api.len() == 1).then_some([api, web].concat())
    });
    for pod in both.await {
        shop.event(&format!("{pod}.1"), &pod, "BackOff").await;
    }
    let status = shop.rule_status("by-owner", "1 succeeded", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["recent"][0]["group"], "Deployment/web");
    let web = shop.api("apps/v1", "Deployment").get("web").await.expect("get the Deployment");
    assert_eq!(web.annotations()["crashes"], "30");
    let counts = &status["counts"];
    assert_eq!((&counts["matched"], &counts["fired"], &counts["errors"]), (&json!(31), &json!(1), &json!(0)));
}

#[tokio::test]
async fn two_rules_that_set_each_other_off_are_slowed_down_and_hold_up_no_other() {
    let mut site = Site::start().await;
    site.setup = site.setup.args(&["--firings-per-minute=4"]);
    let shop = site.namespace("pair").await;
    let _operator = site.setup.start_ready().await;
    for name in ["a", "b", "other"] {
        shop.deployment(name, 0).await;
    }
    let restarts = |on: &str, target: &str| {
        let restarted = "object.spec.template.metadata.?annotations[?'kubectl.kubernetes.io/restartedAt']";
        let resource = json!({"apiVersion": "apps/v1", "kind": "Deployment", "names": [on], "operations": ["Update"], "changedExpressions": [restarted]});
        let rollout = json!({"target": {"kind": "Deployment", "name": target}});
        json!({"sources": [{"name": "restarted", "resource": resource}], "actions": [{"name": "restart", "rollout": rollout}]})
    };
    shop.rule("a-restarts-b", restarts("a", "b")).await;
    shop.rule("b-restarts-a", restarts("b", "a")).await;
    shop.rule("other", restarts("other", "other")).await;
    let restart = |at: &str| {
        Patch::Merge(
            json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": at}}}}}),
        )
    };
    let deployments = shop.api("apps/v1", "Deployment");
    deployments.patch("a", &PatchParams::default(), &restart("2026-11-29T10:00:00Z")).await.expect("restart a");
    // The other one has nothing to answer while this one waits.
    let runs_away = |status: &Value| condition(status, "Acting")["reason"] == "RunawayRule";
    let status = shop.rule_status("a-restarts-b", "slowed down", runs_away).await;
    let counts = &status["counts"];
    assert_eq!((&counts["succeeded"], &counts["suppressed"]["ownWrite"]), (&json!(4), &json!(0)), "{status:#}");
    let status = shop.rule_status("b-restarts-a", "4 succeeded", |status| status["counts"]["succeeded"] == 4).await;
    assert_eq!(status["counts"]["fired"], 4);
    deployments.patch("other", &PatchParams::default(), &restart("2026-11-29T10:00:00Z")).await.expect("restart other");
    shop.rule_status("other", "another rule acts", |status| status["counts"]["succeeded"] == 1).await;
}

#[tokio::test]
async fn two_rules_that_set_each_other_off_by_what_they_write_end_and_are_named() {
    let shop = shop("ends").await;
    for name in ["a", "b"] {
        shop.deployment(name, 0).await;
    }
    let follows = |on: &str, target: &str| {
        let resource = json!({"apiVersion": "apps/v1", "kind": "Deployment", "names": [on], "operations": ["Update"],
            "changedExpressions": ["object.metadata.annotations[?'seen']"]});
        let seen = json!({"metadata": {"annotations": {"seen": "${object.metadata.annotations.seen + '.'}"}}});
        let act = json!({"target": {"kind": "Deployment", "name": target}, "patch": seen});
        json!({"sources": [{"name": "seen", "resource": resource}], "actions": [{"name": "tell", "patch": act}]})
    };
    shop.rule("a-tells-b", follows("a", "b")).await;
    shop.rule("b-tells-a", follows("b", "a")).await;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"seen": "x"}}}));
    let deployments = shop.api("apps/v1", "Deployment");
    deployments.patch("a", &PatchParams::default(), &patch).await.expect("annotate a");

    let counts = async |rule: &str, what: &str, wanted: fn(&Value) -> bool| {
        shop.rule_status(rule, what, |status| wanted(&status["counts"])).await["counts"].clone()
    };
    // With none to eight steps before it; where a watch is faster than an answer, a step or two more.
    let ended = eventually("the chain ends", Duration::from_secs(60), async || {
        let all = |_: &Value| true;
        let (one, other) = (counts("a-tells-b", "counts", all).await, counts("b-tells-a", "counts", all).await);
        let number = |counts: &Value| counts["suppressed"]["loop"].as_u64().unwrap_or(0);
        (number(&one) + number(&other) == 1).then_some([one, other])
    });
    let fired: u64 = ended.await.iter().map(|counts| counts["fired"].as_u64().unwrap_or(0)).sum();
    assert!((9..=11).contains(&fired), "{fired}");
    let named = async || {
        let events = shop.api("events.k8s.io/v1", "Event").list(&ListParams::default()).await.expect("list Events");
        let notes = events.items.iter().map(|event| event.data["note"].to_string());
        notes.into_iter().find(|note| note.contains("a-tells-b → b-tells-a")).map(|_| ())
    };
    eventually("both are named", Duration::from_secs(60), named).await;
    // What somebody else does begins anew.
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"seen": "y"}}}));
    deployments.patch("a", &PatchParams::default(), &patch).await.expect("annotate a");
    counts("a-tells-b", "it fires again", |counts| counts["fired"].as_u64().unwrap_or(0) > 6).await;
}
