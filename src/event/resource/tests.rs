use serde_json::json;

use super::*;

fn watch(api_version: &str, kind: &str) -> WatchKey {
    WatchKey { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace: None }
}

fn read(raw: Value, watch: &WatchKey, operation: Operation) -> (Event, Origin) {
    let seen_at = "2026-11-05T12:00:00Z".parse().expect("a time");
    let change = Change { watch, source: "/apis/apps/v1/deployments", operation, gap: false, seen_at };
    from_object(raw, change).expect("a readable object")
}

fn deployment() -> Value {
    json!({"metadata": {
        "name": "web", "namespace": "garden", "uid": "u-1", "resourceVersion": "41", "creationTimestamp": "2026-11-05T10:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
    }, "spec": {"replicas": 2}})
}

#[test]
fn a_creation_has_the_time_of_creation_and_an_id_of_uid_and_version() {
    let (event, origin) = read(deployment(), &watch("apps/v1", "Deployment"), Operation::Create);
    assert_eq!((event.id.as_str(), event.type_.as_str()), ("u-1/41", TYPE_RESOURCE_CREATED));
    assert_eq!(event.time.expect("a time").to_string(), "2026-11-05T10:00:00Z");
    assert_eq!(event.subject.as_deref(), Some("garden/Deployment/web"));
    assert_eq!(event.data["operation"], "Create");
    assert_eq!(event.data["gap"], false);
    assert_eq!(origin.seen, Some(Seen::new(41, 0, "garden/web".to_owned())));
}

#[test]
fn updates_and_deletions_have_the_time_at_which_they_were_seen_and_a_deletion_leaves_no_memory() {
    let (event, _) = read(deployment(), &watch("apps/v1", "Deployment"), Operation::Update);
    assert_eq!(
        (event.type_.as_str(), event.time.expect("a time").to_string().as_str()),
        (TYPE_RESOURCE_UPDATED, "2026-11-05T12:00:00Z")
    );
    let (event, origin) = read(deployment(), &watch("apps/v1", "Deployment"), Operation::Delete);
    assert_eq!(
        (event.type_.as_str(), event.time.expect("a time").to_string().as_str()),
        (TYPE_RESOURCE_DELETED, "2026-11-05T12:00:00Z")
    );
    assert_eq!(origin.seen, None);
}

#[test]
fn labels_and_annotations_are_always_maps_and_managed_fields_are_gone() {
    let (event, _) = read(deployment(), &watch("apps/v1", "Deployment"), Operation::Create);
    let object = &event.data["object"];
    assert_eq!(
        (&object["apiVersion"], &object["kind"]),
        (&json!("apps/v1"), &json!("Deployment")),
        "items of lists come without"
    );
    assert_eq!((&object["metadata"]["labels"], &object["metadata"]["annotations"]), (&json!({}), &json!({})));
    assert!(object["metadata"].get("managedFields").is_none());
    assert_eq!(object["spec"]["replicas"], 2);

    let mut labelled = deployment();
    labelled["metadata"]["labels"] = json!({"app.kubernetes.io/name": "web", "a.b": "1"});
    labelled["metadata"]["annotations"] = Value::Null;
    let (event, _) = read(labelled, &watch("apps/v1", "Deployment"), Operation::Create);
    assert_eq!(event.data["object"]["metadata"]["labels"], json!({"app.kubernetes.io/name": "web", "a.b": "1"}));
    assert_eq!(event.data["object"]["metadata"]["annotations"], json!({}));
}

#[test]
fn a_secret_is_told_by_a_hash_of_its_content_never_by_the_content() {
    let secret = |value: &str| {
        json!({"metadata": {"name": "s", "namespace": "garden", "uid": "u-2", "resourceVersion": "3",
            "annotations": {LAST_APPLIED: format!("{{\"data\":\"{value}\"}}"), "kept": "yes"}},
            "type": "Opaque", "data": {"a": value, "b": "eA=="}, "stringData": {"c": value}})
    };
    let event = |value: &str| read(secret(value), &watch("v1", "Secret"), Operation::Update).0;
    let (one, other) = (event("aHVudGVyMg=="), event("Y2hhbmdlZA=="));
    assert!(!one.data.to_string().contains("aHVudGVyMg=="), "{}", one.data);
    let object = &one.data["object"];
    assert_eq!((&object["type"], &object["metadata"]["annotations"]), (&json!("Opaque"), &json!({"kept": "yes"})));
    assert_eq!(object["contentHash"], event("aHVudGVyMg==").data["object"]["contentHash"]);
    assert_ne!(object["contentHash"], other.data["object"]["contentHash"]);
}

#[test]
fn an_object_without_identity_is_malformed() {
    let missing = origin(&json!({"metadata": {"name": "web", "resourceVersion": "1"}}), &watch("v1", "ConfigMap"));
    assert_eq!(missing, Err(Malformed::Missing("metadata.uid")));
}
