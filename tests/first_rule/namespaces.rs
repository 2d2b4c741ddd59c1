//! Whose events a rule takes: of which namespaces, and of objects without one.

use super::*;

#[tokio::test]
async fn namespaces_are_chosen_by_their_labels() {
    let (shop, near, far) = (shop("chooser").await, shop("near").await, shop("far").await);
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    view_everything(&shop).await;
    let plane = &site().await.plane;
    let label = ["label", "namespace", &near.name, &format!("chosen-by={}", shop.name)];
    assert!(plane.kubectl(&label).await.status.success());
    let namespaces = json!({"from": "Selector", "selector": {"matchLabels": {"chosen-by": shop.name}}});
    let sources = json!([{"name": "crash", "kubernetesEvent": {"reasons": ["Chosen"], "namespaces": namespaces}}]);
    let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.subject}"}});
    shop.rule("chosen", json!({"sources": sources, "actions": [text]})).await;
    for place in [&shop, &far, &near] {
        place.event("p.1", "p", "Chosen").await;
    }
    sink.await_requests(1).await;
    let status = shop.rule_status("chosen", "it is counted", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["counts"]["matched"], 1);
    assert_eq!(texts(&sink.requests()), [format!("{}/Pod/p", near.name)]);
}

#[tokio::test]
async fn one_event_that_two_watches_bring_fires_each_rule_once() {
    let shop = shop("twice").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    view_everything(&shop).await;
    for (name, from) in [("same", "Same"), ("all", "All")] {
        let sources =
            json!([{"name": "crash", "kubernetesEvent": {"reasons": ["Twice"], "namespaces": {"from": from}}}]);
        let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": format!("{name} ${{event.data.regarding.name}}")}});
        shop.rule(name, json!({"sources": sources, "actions": [text]})).await;
    }
    for pod in ["a", "b"] {
        shop.event(&format!("{pod}.1"), pod, "Twice").await;
        for rule in ["same", "all"] {
            let count = if pod == "a" { 1 } else { 2 };
            shop.rule_status(rule, "it is counted", |status| status["counts"]["succeeded"] == count).await;
        }
    }
    let mut told = texts(&sink.requests());
    told.sort();
    assert_eq!(told, ["all a", "all b", "same a", "same b"]);
}

/// Lets `signalbox-rules` see everything in the cluster.
async fn view_everything(shop: &Shop) {
    site().await.plane.apply(&format!("{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: view-{0}}}, \
        roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}, subjects: [{{kind: ServiceAccount, name: signalbox-rules, namespace: {0}}}]}}", shop.name)).await;
}

#[tokio::test]
async fn objects_without_a_namespace_are_seen_by_those_who_ask_for_them() {
    let shop = shop("scope").await;
    view_everything(&shop).await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let rule = async |name: &str, source: Value| {
        let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "title": name, "text": "${event.subject}"}});
        shop.rule(name, json!({"sources": [{"name": "s", "kubernetesEvent": source}], "actions": [text]})).await;
    };
    let reason = "NodeNotReadyHere";
    rule("own", json!({"reasons": [reason]})).await;
    rule("nodes", json!({"reasons": [reason], "regarding": {"kind": "Node"}, "namespaces": {"from": "All", "clusterScoped": "Include"}})).await;
    rule(
        "both",
        json!({"reasons": [reason], "namespaces": {"from": "Names", "names": [shop.name], "clusterScoped": "Include"}}),
    )
    .await;

    let node = json!({"metadata": {"name": format!("node-7.{}", shop.name), "namespace": "default"}, "involvedObject": {"kind": "Node", "name": "node-7", "uid": "node-7"},
        "reason": reason, "message": "m", "type": "Normal", "count": 1, "source": {"component": "node-controller"}});
    let default = Shop { name: "default".to_owned(), client: shop.client.clone() };
    default.create("v1", "Event", &format!("node-7.{}", shop.name), node).await;
    shop.event("p.1", "p", reason).await;

    let told = sink.await_requests(4).await;
    let mut words: Vec<_> = told
        .iter()
        .map(|request| request.json())
        .map(|alert| format!("{} {}", alert["title"], alert["text"]))
        .collect();
    words.sort();
    let pod = format!("{}/Pod/p", shop.name);
    assert_eq!(
        words,
        [
            "\"both\" \"Node/node-7\"".to_owned(),
            format!("\"both\" \"{pod}\""),
            "\"nodes\" \"Node/node-7\"".to_owned(),
            format!("\"own\" \"{pod}\"")
        ]
    );
}
