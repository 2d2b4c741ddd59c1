//! Signalbox as a user installs it, on a cluster with real kubelets.
//!
//! Knows a kubeconfig (`KUBECONFIG`), `helm` in the path, and the names of the images that the cluster has: the operator's
//! (`SIGNALBOX_IMAGE`), one with busybox and one with the servers of the use cases. `make e2e` provides all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    time::Duration,
};

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use on_kind::cluster::{
    OPERATOR, PATIENCE, RELEASE, SYSTEM, alerts, demo, found, helm_ok, in_force, installed, kubectl, kubectl_ok, shop,
    upgrade, within, words,
};
use support::{
    eventually,
    site::{Shop, condition},
};

#[path = "../tests/support/mod.rs"]
mod support;

mod on_kind {
    pub mod cluster;
    mod first_steps;
    mod pod_logs;
    mod use_cases;
}

#[tokio::test]
async fn a_crash_that_a_kubelet_reports_scales_launches_and_tells() {
    let (shop, _release) = shop("e2e-story").await;
    kubectl_ok(&["apply", "-f", "-"], &demo("rule.yaml", &shop.name));
    in_force(&shop, "canary-crash").await;
    let canary = kubectl_ok(&["create", "-o", "name", "-f", "-"], &demo("canary.yaml", &shop.name));
    let canary = canary.trim().trim_start_matches("pod/");

    let status =
        within(&shop, "canary-crash", "the firing succeeded", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["recent"][0]["event"]["subject"], format!("{}/Pod/{canary}", shop.name));
    assert_eq!(shop.replicas("web").await, 3);
    let jobs = shop.api("batch/v1", "Job").list(&ListParams::default()).await.expect("list Jobs");
    assert_eq!(jobs.items.len(), 1);
    assert_eq!(jobs.items[0].data["status"]["succeeded"], 1);
    let alerts = alerts(&shop).await;
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0]["title"], format!("{canary} keeps crashing"));
    assert_eq!(alerts[0]["fields"][0]["value"], "exit code 0, evidence:");

    let described = kubectl_ok(&["describe", "er", "canary-crash", "-n", &shop.name], "");
    for part in ["Fired", "Succeeded", canary, "Ready", "Listening", "Authorized", "Acting"] {
        assert!(described.contains(part), "{part} is not in\n{described}");
    }
    let listed = kubectl_ok(&["get", "er", "-n", &shop.name], "");
    for column in ["NAME", "READY", "MATCHED", "FIRED", "FAILED", "LAST", "AGE"] {
        assert!(listed.contains(column), "{column} is not in\n{listed}");
    }
    let told = kubectl_ok(&["get", "events", "-n", &shop.name, "--field-selector=reason=ScaledByRule"], "");
    assert!(told.contains("deployment/web") && told.contains("canary-crash"), "{told}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_granted_without_a_restart() {
    let (shop, _release) = shop("e2e-rights").await;
    let account = json!({"metadata": {"name": "weak", "labels": {"signalbox.dev/usable-by-rules": "true"}}});
    shop.create("v1", "ServiceAccount", "weak", account).await;
    let spec = json!({"serviceAccountName": "weak",
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["Probe"]}}],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 1}}]});
    shop.create("signalbox.dev/v1alpha1", "EventRule", "weak", json!({"spec": spec})).await;
    let status = within(&shop, "weak", "the missing right is told", |status| {
        condition(status, "Authorized")["status"] == "False"
    })
    .await;
    let message = condition(&status, "Authorized")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("events") && message.contains("weak"), "{message}");
    let described = kubectl_ok(&["describe", "er", "weak", "-n", &shop.name], "");
    let command = described.split_once("kubectl create").map(|(_, rest)| rest.lines().next().unwrap_or_default());
    assert!(command.is_some_and(|line| line.contains("--verb=")), "{described}");

    for (role, resource, verbs) in
        [("watcher", "events", "list,watch"), ("scaler", "deployments.apps/scale", "get,patch")]
    {
        kubectl_ok(
            &["create", "role", role, "-n", &shop.name, &format!("--resource={resource}"), &format!("--verb={verbs}")],
            "",
        );
        let account = format!("--serviceaccount={}:weak", shop.name);
        kubectl_ok(&["create", "rolebinding", role, "-n", &shop.name, &format!("--role={role}"), &account], "");
    }
    in_force(&shop, "weak").await;
    shop.event("probe.1", "probe", "Probe").await;
    within(&shop, "weak", "it acts", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(shop.replicas("web").await, 1);
}

/// A rule `stream` that adds one to a number and tells of it for each event of reason `Stream`.
async fn stream(shop: &Shop) {
    // Its first pod never gets a node, so that it never makes a second: a number to count on, and no load.
    let spec = json!({"spec": {"replicas": 0, "serviceName": "dial", "selector": {"matchLabels": {"app": "dial"}},
        "template": {"metadata": {"labels": {"app": "dial"}}, "spec": {"nodeSelector": {"no": "node"},
            "containers": [{"name": "dial", "image": "signalbox-demo/tools:1"}]}}}});
    shop.create("apps/v1", "StatefulSet", "dial", spec).await;
    shop.sink("oncall", &format!("http://alerts.{}.svc:8080/cgi-bin/alert", shop.name)).await;
    let spec = json!({
    "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["Stream"]}}],
    "actions": [
        {"name": "grow", "scale": {"target": {"kind": "StatefulSet", "name": "dial"}, "by": "1"}},
        {"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.regarding.name}"}},
    ]});
    shop.create("signalbox.dev/v1alpha1", "EventRule", "stream", json!({"spec": spec})).await;
    in_force(shop, "stream").await;
}

/// Waits until every event of the stream is dealt with: none is lost, nothing is done twice.
async fn all_done_once(shop: &Shop, events: usize) {
    let status = within(shop, "stream", "all are done", |status| status["counts"]["succeeded"] == events).await;
    assert_eq!(status["counts"]["fired"], events);
    let dial = shop.api("apps/v1", "StatefulSet").get("dial").await.expect("get");
    assert_eq!(dial.data["spec"]["replicas"], events, "each event added one");
    let mut told = BTreeMap::<String, BTreeSet<String>>::new();
    for alert in alerts(shop).await {
        told.entry(alert["text"].to_string()).or_default().insert(alert["firing"]["id"].to_string());
    }
    assert_eq!(told.len(), events, "each event was told");
    assert!(told.values().all(|firings| firings.len() == 1), "each by one firing: {told:?}");
    // Let the pods of the StatefulSet go before the namespace does.
    let none = json!({"spec": {"replicas": 0}});
    let sets = shop.api("apps/v1", "StatefulSet");
    sets.patch("dial", &PatchParams::default(), &Patch::Merge(&none)).await.expect("scale down");
}

#[tokio::test]
async fn an_operator_pod_that_is_deleted_in_mid_stream_loses_nothing_and_does_nothing_twice() {
    const EVENTS: usize = 60;
    let (shop, _release) = shop("e2e-stream").await;
    stream(&shop).await;
    let _alone = OPERATOR.lock().await;
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(shop.client.clone(), SYSTEM);
    let (first, _) = operators_pod(&shop).await;
    for number in 0..EVENTS {
        shop.event(&format!("p{number}.1"), &format!("p{number}"), "Stream").await;
        match number {
            20 => drop(pods.delete("signalbox-0", &DeleteParams::default()).await.expect("delete the pod")),
            40 => {
                // From a running one, without a moment to tidy up.
                eventually("another pod is ready", PATIENCE, async || {
                    let pod = pods.get("signalbox-0").await.ok()?;
                    let ready = pod.status?.conditions?.iter().any(|at| at.type_ == "Ready" && at.status == "True");
                    (ready && pod.metadata.uid? != first).then_some(())
                })
                .await;
                pods.delete("signalbox-0", &DeleteParams::default().grace_period(0)).await.expect("kill the pod");
            }
            _ => {}
        }
    }
    all_done_once(&shop, EVENTS).await;
}

#[tokio::test]
async fn an_upgrade_in_mid_stream_loses_nothing_and_does_nothing_twice() {
    let (shop, _release) = shop("e2e-upgrade").await;
    stream(&shop).await;
    let alone = OPERATOR.lock().await;
    let before = operators_pod(&shop).await;
    // The pod is made anew, twice, for a value that it carries; meanwhile events do not cease.
    let upgrades = tokio::task::spawn_blocking(|| {
        for version in ["one", "two"] {
            upgrade(&["--reuse-values".to_owned(), format!("--set=podAnnotations.e2e={version}")]);
        }
    });
    let (mut pace, mut events) = (tokio::time::interval(Duration::from_millis(200)), 0);
    let mut after = 10;
    while after > 0 {
        pace.tick().await;
        shop.event(&format!("p{events}.1"), &format!("p{events}"), "Stream").await;
        events += 1;
        after -= usize::from(upgrades.is_finished());
    }
    upgrades.await.expect("both upgrades succeed");
    assert!(events > 20, "the stream was there before, during and after");
    let now = operators_pod(&shop).await;
    assert_ne!(now.0, before.0, "another pod");
    assert_eq!(now.1, "two");
    drop(alone);
    all_done_once(&shop, events).await;
}

/// Uid of the operator's pod, and the annotation of the upgrade.
async fn operators_pod(shop: &Shop) -> (String, String) {
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(shop.client.clone(), SYSTEM);
    let meta = pods.get("signalbox-0").await.expect("the operator's pod").metadata;
    let version = meta.annotations.and_then(|all| all.get("e2e").cloned());
    (meta.uid.unwrap_or_default(), version.unwrap_or_default())
}

#[tokio::test]
async fn helm_test_says_that_the_installation_works() {
    let _release = installed().await;
    let _alone = OPERATOR.lock().await;
    let said = helm_ok(&["test", "signalbox", "--timeout=120s"]);
    assert!(said.contains("signalbox-check") && said.contains("Succeeded"), "{said}");
}

/// Tests begin in the order of their names. This one is the last, so that the release need not be installed twice.
#[tokio::test]
async fn what_an_uninstallation_leaves_is_the_definitions_and_the_claim_and_nothing_else() {
    drop(installed().await);
    let mut there = RELEASE.write().await;
    if *there {
        helm_ok(&["uninstall", "signalbox", "--wait"]);
        *there = false;
    }
    let kinds = kubectl_ok(&["api-resources", "--namespaced=true", "--verbs=list", "-o", "name"], "");
    let kinds: Vec<_> = kinds.lines().filter(|kind| !["events", "events.events.k8s.io"].contains(kind)).collect();
    let kinds = kinds.join(",");
    let claim = "persistentvolumeclaim/data-signalbox-0";
    // With the release's label, anywhere; and without it, what the operator may have made by itself.
    eventually("only the claim is left", PATIENCE, async || {
        let labelled = found(&[&kinds, "-A", "-l", "app.kubernetes.io/instance=signalbox"]);
        let own = found(&[&kinds, "-n", SYSTEM]);
        let expected = ["configmap/kube-root-ca.crt", "serviceaccount/default", claim].map(str::to_owned);
        (labelled == BTreeSet::from([claim.to_owned()]) && own == BTreeSet::from(expected)).then_some(())
    })
    .await;
    let of_the_cluster = "customresourcedefinitions,clusterroles,clusterrolebindings,priorityclasses,\
        validatingadmissionpolicies,validatingadmissionpolicybindings,validatingwebhookconfigurations,mutatingwebhookconfigurations";
    let left: Vec<_> = found(&[of_the_cluster]).into_iter().filter(|name| name.contains("signalbox")).collect();
    let definition = |kind: &str| format!("customresourcedefinition.apiextensions.k8s.io/{kind}.signalbox.dev");
    assert_eq!(left, ["eventrules", "eventsinks", "eventsources"].map(definition));
}

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let chart = ["template", "signalbox", "charts/signalbox", "-n", SYSTEM, "--include-crds", "--skip-tests"];
    let output = Command::new("helm").args(chart).output().expect("run helm");
    assert!(output.status.success(), "helm: {}", words(&output));
    let stored = fs::read_to_string("deploy/manifests/signalbox.yaml").expect("the rendered chart");
    assert!(stored == String::from_utf8_lossy(&output.stdout), "deploy/manifests is out of date: run `make chart`");
}

#[tokio::test]
async fn the_operator_has_no_rights_on_workloads_and_none_on_secrets() {
    let _release = installed().await;
    let account = format!("--as=system:serviceaccount:{SYSTEM}:signalbox");
    for (verb, resource) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("patch", "deployments.apps/scale"),
        ("create", "jobs.batch"),
        ("delete", "pods"),
    ] {
        let output = kubectl(&["auth", "can-i", verb, resource, "-A", &account], "");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "no", "{verb} {resource}");
    }
}
