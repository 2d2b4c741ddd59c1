//! `kubectl signalbox rbac`: what it prints is what an account needs, on a real API server.

use std::process::Output;

use serde_json::json;
use support::site::{Site, condition};

mod support;

const RULE: &str = r#"
apiVersion: signalbox.dev/v1alpha1
kind: EventRule
metadata: {name: many}
spec:
  serviceAccountName: bare
  sources:
    - {name: crash, kubernetesEvent: {regarding: {kind: Pod, selector: {matchLabels: {app: web}}}}}
    - {name: nodes, resource: {apiVersion: v1, kind: Node, namespaces: {clusterScoped: Include}}}
    - {name: push, ref: {name: github}}
  actions:
    - {name: grow, scale: {target: {kind: Deployment, name: web}, by: "1", max: 3}}
    - {name: back, rollout: {target: {kind: Deployment, name: "${event.data.regarding.name}"}, operation: Undo}}
    - {name: mark, patch: {target: {kind: ConfigMap, name: state}, patch: {data: {a: b}}}, waitFor: {expression: "true"}}
    - {name: look, job: {script: {image: busybox, run: "true"}, ttl: 1h}}
    - {name: call, http: {url: "http://127.0.0.1/", authSecretRef: {name: api, key: token}}}
    - {name: tell, notify: {sinkRef: {name: oncall}, text: hello}}
"#;

#[tokio::test]
async fn a_bare_account_that_is_granted_what_is_printed_may_do_all_that_its_rule_does() {
    let site = Site::start().await;
    let _operator = site.setup.start_ready().await;
    let shop = site.namespace("rbac").await;
    let labels = json!({"metadata": {"name": "bare", "labels": {"signalbox.dev/usable-by-rules": "true"}}});
    shop.create("v1", "ServiceAccount", "bare", labels).await;
    shop.source("github", json!({"webhook": {"auth": {"none": {}}}})).await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("rule.yaml");
    std::fs::write(&file, RULE).expect("write the rule");
    let file = file.to_string_lossy().into_owned();
    let applied = site.plane.kubectl(&["apply", "-n", &shop.name, "-f", &file]).await;
    assert!(applied.status.success(), "{applied:?}");
    shop.rule_status("many", "the account lacks rights", |status| condition(status, "Authorized")["status"] == "False")
        .await;

    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-signalbox"));
    command.args(["rbac", "-f", &file, "-n", &shop.name, "--kubeconfig"]).arg(site.plane.kubeconfig());
    let Output { status, stdout, stderr } = command.output().await.expect("run the program");
    let printed = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert!(!printed.contains('#') && !printed.contains("'*'"), "{printed}");
    site.plane.apply(&printed).await;
    let whole = |status: &serde_json::Value| {
        ["Authorized", "Listening"].iter().all(|type_| condition(status, type_)["status"] == "True")
    };
    shop.rule_status("many", "the account may do all", whole).await;

    // Minimal: each of these is one that no part of the rule needs.
    let user = format!("system:serviceaccount:{}:bare", shop.name);
    for (verb, what) in [
        ("patch", "deployments.apps/other --subresource=scale"),
        ("get", "secrets/other"),
        ("delete", "jobs.batch"),
        ("patch", "configmaps/other"),
        ("get", "pods --subresource=log"),
    ] {
        let words = format!("auth can-i {verb} {what} -n {} --as {user}", shop.name);
        let answer = site.plane.kubectl(&words.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no", "{words}");
    }
}
