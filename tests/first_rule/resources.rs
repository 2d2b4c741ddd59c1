//! Changes of objects of any kind as events.

use super::*;

#[tokio::test]
async fn changes_of_resources_are_events_and_what_existed_is_not() {
    let shop = shop("resource").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("old", 1).await;
    let sources = json!([{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Create", "Delete"],
        "selector": {"matchExpressions": [{"key": "quiet", "operator": "DoesNotExist"}]}}}]);
    let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "title": "${event.data.operation}",
        "text": "${object.metadata.name} ${'x' in object.metadata.labels}"}});
    shop.rule("watch", json!({"sources": sources, "actions": [text]})).await;

    shop.deployment("new", 1).await;
    sink.await_requests(1).await;
    shop.api("apps/v1", "Deployment").delete("old", &DeleteParams::default()).await.expect("delete");
    let told = sink.await_requests(2).await;
    let words: Vec<_> = told
        .iter()
        .map(|request| request.json())
        .map(|alert| format!("{} {}", alert["title"], alert["text"]))
        .collect();
    assert_eq!(words, ["\"Create\" \"new false\"", "\"Delete\" \"old false\""]);
}

#[tokio::test]
async fn existing_objects_fire_when_the_rule_asks_for_it() {
    let shop = shop("existing").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("one", 1).await;
    shop.deployment("two", 1).await;
    let sources = json!([{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Create"], "existing": "Fire"}}]);
    shop.rule("all", json!({"sources": sources, "actions": [tell_object()]})).await;
    let mut names: Vec<_> =
        sink.await_requests(2).await.iter().map(|request| request.json()["text"].clone().to_string()).collect();
    names.sort();
    assert_eq!(names, ["\"one\"", "\"two\""]);
}

fn tell_object() -> Value {
    json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${object.metadata.name}"}})
}

#[tokio::test]
async fn a_kind_that_comes_later_starts_working() {
    let shop = shop("later").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let sources = json!([{"name": "w", "resource": {"apiVersion": "late.example.com/v1", "kind": "Widget", "operations": ["Create"]}}]);
    let spec = json!({"sources": sources, "actions": [tell_object()]});
    shop.create("signalbox.dev/v1alpha1", "EventRule", "later", json!({"spec": spec})).await;
    let status = shop
        .rule_status("later", "the kind is not there", |status| {
            condition(status, "Listening")["reason"] == "KindNotFound"
        })
        .await;
    assert!(condition(&status, "Listening")["message"].to_string().contains("Widget"));

    let plane = &site().await.plane;
    plane.apply("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: widgets.late.example.com}, \
        spec: {group: late.example.com, scope: Namespaced, names: {plural: widgets, singular: widget, kind: Widget}, \
        versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}").await;
    plane.apply(&format!("{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {{name: watch-widgets, labels: {{signalbox.dev/aggregate-to-watch: \"true\"}}}}, \
        rules: [{{apiGroups: [late.example.com], resources: [widgets], verbs: [list, watch]}}]}}\n---\n\
        {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: widgets, namespace: {0}}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: watch-widgets}}, \
        subjects: [{{kind: ServiceAccount, name: signalbox-rules, namespace: {0}}}]}}", shop.name)).await;
    shop.rule_ready("later").await;
    shop.create("late.example.com/v1", "Widget", "first", json!({})).await;
    assert_eq!(sink.await_requests(1).await[0].json()["text"], "first");
}
