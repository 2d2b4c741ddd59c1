//! What the operator asks of a real API server as itself and as accounts, and what it writes there about rules.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use signalbox::{
    api::{EventRule, Reason},
    kubernetes::{Cluster, Note, NoteType, ResolveError, Right, SecretError, Unusable, event_channel},
    record::{Account, RuleRef, RuleUid},
    status::{Part, StatusQueue, Writer},
    telemetry::Metrics,
};
use support::{PATIENCE, control_plane::shared, eventually, install_definitions};
use tokio_util::sync::CancellationToken;

mod support;

async fn cluster() -> Cluster {
    Cluster::connect_with(shared().await.config().await).expect("a way to the API server")
}

async fn account(namespace: &str, labels: &str) -> Account {
    let manifest = format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: ops, namespace: {namespace}, labels: {{{labels}}}}}}}"
    );
    shared().await.apply(&manifest).await;
    Account { namespace: namespace.to_owned(), name: "ops".to_owned() }
}

#[tokio::test]
async fn an_account_acts_with_its_own_rights_and_reviews_agree() {
    let plane = shared().await;
    let (cluster, namespace) = (cluster().await, plane.namespace("account").await);
    let account = account(&namespace, "").await;
    let pods: Api<Pod> = Api::namespaced(cluster.as_account(&account), &namespace);
    let refused = pods.list(&ListParams::default()).await.expect_err("no right yet").to_string();
    assert!(refused.contains(&account.to_string()), "{refused}");
    let right = Right::new("list", "", "pods").within(Some(&namespace));
    assert!(!cluster.may(&account, &right).await.expect("a review"));

    // The lines of the message do what they say.
    let lines = right.clone().missing_for(&account).to_string();
    let lines = lines.split_once("grant it with: ").expect("lines").1;
    for line in lines.split(" && ") {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let output = plane.kubectl(&words).await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    eventually("the right is seen", PATIENCE, async || cluster.may(&account, &right).await.ok()?.then_some(())).await;
    eventually("and can be used", PATIENCE, async || pods.list(&ListParams::default()).await.ok()).await;
}

#[tokio::test]
async fn an_account_is_usable_by_its_label() {
    let namespace = shared().await.namespace("usable").await;
    let cluster = cluster().await;
    let absent = Account { namespace: namespace.clone(), name: "absent".into() };
    assert!(matches!(cluster.usable(&absent).await, Err(Unusable::NotFound(_))));
    let ops = account(&namespace, "").await;
    assert!(matches!(cluster.usable(&ops).await, Err(Unusable::NotLabelled { .. })));
    account(&namespace, "signalbox.dev/usable-by-rules: \"true\"").await;
    eventually("the label is seen", PATIENCE, async || cluster.usable(&ops).await.ok()).await;
}

#[tokio::test]
async fn kinds_are_resolved_with_scope_and_scale() {
    let cluster = cluster().await;
    let deployment = cluster.resolve(None, "Deployment").await.expect("Deployment");
    assert_eq!(
        (deployment.api.api_version.as_str(), deployment.namespaced, deployment.scalable),
        ("apps/v1", true, true)
    );
    let node = cluster.resolve(Some("v1"), "Node").await.expect("Node");
    assert_eq!((node.api.plural.as_str(), node.namespaced, node.scalable), ("nodes", false, false));
    assert_eq!(cluster.resolve(None, "Event").await.expect("Event").api.api_version, "v1");
    assert!(matches!(cluster.resolve(Some("no.example.com/v1"), "Thing").await, Err(ResolveError::Unknown { .. })));
}

#[tokio::test]
async fn a_secret_is_read_with_the_accounts_rights() {
    let plane = shared().await;
    let (cluster, namespace) = (cluster().await, plane.namespace("secret").await);
    let account = account(&namespace, "").await;
    plane.apply(&format!("{{apiVersion: v1, kind: Secret, metadata: {{name: slack, namespace: {namespace}}}, stringData: {{url: hi}}}}")).await;
    assert!(matches!(cluster.secret(&account, "slack").await, Err(SecretError::Forbidden(_))));
    plane
        .apply(&format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: edit, namespace: {namespace}}}, \
            roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}}, \
            subjects: [{{kind: ServiceAccount, name: ops, namespace: {namespace}}}]}}"
        ))
        .await;
    let data = eventually("the Secret", PATIENCE, async || cluster.secret(&account, "slack").await.ok()).await;
    assert_eq!(data.get("url").map(Vec::as_slice), Some(b"hi".as_slice()));
    assert!(matches!(cluster.secret(&account, "other").await, Err(SecretError::NotFound { .. })));
}

#[tokio::test]
async fn what_repeats_is_one_kubernetes_event_with_a_series() {
    let (cluster, namespace) = (cluster().await, shared().await.namespace("told").await);
    let dropped = Counter::default();
    let (recorder, writer) = event_channel(cluster.own().clone(), "signalbox-0", dropped.clone());
    let shutdown = CancellationToken::new();
    let writer = tokio::spawn(writer.run(shutdown.clone()));
    let regarding = ObjectReference {
        api_version: Some("apps/v1".into()),
        kind: Some("Deployment".into()),
        namespace: Some(namespace.clone()),
        name: Some("web".into()),
        uid: Some("8a7bd36d-1f5f-4d0b-a7a2-5f5a2f7d0f7e".into()),
        ..ObjectReference::default()
    };
    for count in 1..=3 {
        recorder.record(Note {
            regarding: regarding.clone(),
            type_: NoteType::Normal,
            reason: "ScaledByRule".into(),
            action: "Act".into(),
            note: format!("from {count}"),
            times: 1,
            related: None,
        });
    }
    shutdown.cancel();
    writer.await.expect("the writer ends");
    assert_eq!(dropped.get(), 0);
    let kind = cluster.resolve(Some("events.k8s.io/v1"), "Event").await.expect("Event").api;
    let events: Api<DynamicObject> = Api::namespaced_with(cluster.own().clone(), &namespace, &kind);
    let events = events.list(&ListParams::default()).await.expect("list Events").items;
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0].data["note"], &events[0].data["series"]["count"]), (&json!("from 1"), &json!(3)));
}

async fn create_rule(cluster: &Cluster, namespace: &str) -> (Api<DynamicObject>, RuleRef) {
    let kind = ApiResource::erase::<EventRule>(&());
    let rules: Api<DynamicObject> = Api::namespaced_with(cluster.own().clone(), namespace, &kind);
    let rule: DynamicObject = serde_json::from_value(json!({
        "apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "web", "namespace": namespace},
        "spec": {"sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
            "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "down"}}]}}))
    .expect("a rule");
    let created = eventually("the definition is served", PATIENCE, async || {
        rules.create(&PostParams::default(), &rule).await.ok()
    })
    .await;
    let uid = RuleUid(created.metadata.uid.expect("a uid").into());
    (rules, RuleRef { uid, namespace: namespace.to_owned(), name: "web".to_owned() })
}

fn status_of(rule: &DynamicObject) -> Value {
    rule.data.get("status").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_status_is_written_beside_edits_of_the_spec_and_never_to_a_namesake() {
    let plane = shared().await;
    install_definitions(plane).await;
    let (cluster, namespace) = (cluster().await, plane.namespace("status").await);
    let (rules, rule) = create_rule(&cluster, &namespace).await;
    let (recorder, _events) = event_channel(cluster.own().clone(), "signalbox-0", Counter::default());
    let queue = StatusQueue::new(recorder);
    let metrics = Arc::new(Metrics::default());
    let writer = Writer::new(queue.clone(), cluster.own().clone(), metrics.clone());
    let shutdown = CancellationToken::new();
    let writer = tokio::spawn(writer.run(shutdown.clone()));

    queue.publish(&rule, Part::Spec { generation: 1, faults: Vec::new(), suspended: false, timetables: Vec::new() });
    let usable = Err((Reason::AccountNotFound, "make it".to_owned()));
    queue.publish(&rule, Part::Account { generation: 1, usable });
    let ready = async |wanted: &str| {
        eventually(wanted, PATIENCE, async || {
            let status = status_of(&rules.get("web").await.ok()?);
            (status["conditions"][0]["reason"] == wanted).then_some(status)
        })
        .await
    };
    let status = ready("AccountNotFound").await;
    assert_eq!((&status["observedGeneration"], &status["counts"]["fired"]), (&json!(1), &json!(0)));

    let edit = Patch::Merge(json!({"spec": {"suspend": true}}));
    rules.patch("web", &PatchParams::default(), &edit).await.expect("edit the rule");
    queue.publish(&rule, Part::Spec { generation: 2, faults: Vec::new(), suspended: true, timetables: Vec::new() });
    let status = ready("Suspended").await;
    assert_eq!(status["observedGeneration"], 2);
    assert_eq!(rules.get("web").await.expect("the rule").data["spec"]["suspend"], true);

    rules.delete("web", &Default::default()).await.expect("delete the rule");
    let (rules, namesake) = create_rule(&cluster, &namespace).await;
    assert_ne!(rule.uid, namesake.uid);
    queue.publish(
        &rule,
        Part::Spec { generation: 3, faults: vec!["old".into()], suspended: false, timetables: Vec::new() },
    );
    eventually("the refusal", PATIENCE, async || {
        metrics.encode().contains("signalbox_status_writes_total{result=\"Gone\"} 1").then_some(())
    })
    .await;
    assert_eq!(status_of(&rules.get("web").await.expect("the rule")), Value::Null);
    shutdown.cancel();
    writer.await.expect("the writer ends");
}
