//! The harness itself: a control plane that is real, private and gone afterwards.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use support::control_plane::{ControlPlane, shared};
use support::sink::{Answer, Sink};
use support::{PATIENCE, eventually};

mod support;

#[tokio::test]
async fn a_deployment_gets_a_replica_set_and_pods() {
    let plane = shared().await;
    let namespace = plane.namespace("deployment").await;
    let client = plane.client().await;
    Api::<Deployment>::namespaced(client.clone(), &namespace)
        .create(&PostParams::default(), &deployment("web"))
        .await
        .expect("create a Deployment");

    let sets = Api::<ReplicaSet>::namespaced(client.clone(), &namespace);
    let pods = Api::<Pod>::namespaced(client, &namespace);
    eventually("one ReplicaSet and two Pods", PATIENCE, async || {
        let sets = sets.list(&ListParams::default()).await.ok()?;
        let pods = pods.list(&ListParams::default()).await.ok()?;
        (sets.items.len() == 1 && pods.items.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rights_are_checked_for_tokens_and_for_impersonation() {
    let plane = shared().await;
    let namespace = plane.namespace("rights").await;
    let token = plane.service_account_token(&namespace, "default").await;
    let user = format!("system:serviceaccount:{namespace}:default");
    for client in [plane.client_for_token(&token).await, plane.client_as(&user, &[]).await] {
        let listed = Api::<Pod>::namespaced(client, &namespace).list(&ListParams::default()).await;
        let refused = listed.expect_err("the account has no rights").to_string();
        assert!(refused.contains(&user), "{refused}");
    }

    plane
        .apply(&format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, \
            metadata: {{name: view, namespace: {namespace}}}, \
            roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}, \
            subjects: [{{kind: ServiceAccount, name: default, namespace: {namespace}}}]}}"
        ))
        .await;
    let pods = Api::<Pod>::namespaced(plane.client_for_token(&token).await, &namespace);
    eventually("the right is given", PATIENCE, async || pods.list(&ListParams::default()).await.ok()).await;
}

#[tokio::test]
async fn an_api_server_can_be_killed_and_comes_back_with_its_data() {
    let plane = ControlPlane::start().await;
    let namespace = plane.namespace("kept").await;
    let client = plane.client().await;
    plane.stop_api_server();
    let pods = Api::<Pod>::namespaced(client, &namespace);
    assert!(pods.list(&ListParams::default()).await.is_err(), "nobody answers");
    plane.start_api_server().await;
    let output = plane.kubectl(&["get", "namespace", &namespace, "-o", "name"]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("namespace/{namespace}"));
}

#[tokio::test]
async fn two_run_side_by_side_and_leave_nothing_behind() {
    let (one, two) = tokio::join!(ControlPlane::start(), ControlPlane::start());
    assert_ne!(one.url(), two.url());
    let folders: BTreeSet<_> = [&one, &two].map(|plane| plane.kubeconfig().parent().map(Path::to_owned)).into();
    assert_eq!(folders.len(), 2);
    drop((one, two));
    for folder in folders.into_iter().flatten() {
        assert!(!folder.exists(), "{} is left", folder.display());
    }
}

#[tokio::test]
async fn the_sink_records_requests_and_answers_as_told() {
    let sink = Sink::start().await;
    sink.answer_next(Answer::status(503).retry_after("7").body("busy"));
    let (status, body) = support::http::get(&sink.address().to_string(), "/a?b=c").await.expect("an answer");
    assert_eq!((status, body.as_str()), (503, "busy"));
    let (status, _) = support::http::get(&sink.address().to_string(), "/d").await.expect("an answer");
    assert_eq!(status, 200);
    let paths: Vec<_> = sink.await_requests(2).await.into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/a?b=c", "/d"]);
}

fn deployment(name: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "example.invalid/app:1"}]},
            },
        },
    }))
    .expect("a valid Deployment")
}
