use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::controller::testing::{Site, Statuses, condition, object};

fn sink(generation: i64, spec: &Value) -> Object {
    object(json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventSink", "spec": spec,
        "metadata": {"namespace": "shop", "name": "oncall", "uid": "s1", "generation": generation}}))
}

fn slack() -> Value {
    json!({"serviceAccountName": "ops", "slack": {"urlSecretRef": {"name": "slack", "key": "url"}}})
}

fn controller(site: &Site) -> (Sinks, Registry, Statuses) {
    let (status, registry) = (site.status(), Registry::default());
    let sinks = Sinks::new(site.cluster(), registry.clone(), status.queue.clone(), site.synced.clone());
    (sinks, registry, status)
}

#[tokio::test(start_paused = true)]
async fn a_sink_is_ready_when_its_secret_has_the_key() {
    let site = Site::with_account("ops");
    let (mut sinks, registry, status) = controller(&site);
    sinks.apply(sink(1, &slack())).await.expect("apply");
    assert!(registry.get("shop", "oncall").is_some());
    let told = status.of("oncall").await;
    let ready = condition(&told, "Ready");
    assert_eq!(ready["reason"], "SecretNotFound");
    let message = ready["message"].as_str().expect("message");
    assert!(message.contains("shop/slack") && message.contains("url"), "{message}");

    site.secrets.lock().insert("slack".into(), json!({"other": "aGk="}));
    tokio::time::advance(NOT_READY).await;
    sinks.tick().await.expect("tick");
    let told = status.of("oncall").await;
    assert!(condition(&told, "Ready")["message"].as_str().expect("message").contains("under the key url"), "{told}");

    site.secrets.lock().insert("slack".into(), json!({"url": "aGk="}));
    tokio::time::advance(NOT_READY).await;
    sinks.tick().await.expect("tick");
    assert_eq!(condition(&status.of("oncall").await, "Ready")["reason"], "InForce");

    site.secrets.lock().clear();
    tokio::time::advance(READY).await;
    sinks.tick().await.expect("tick");
    assert_eq!(condition(&status.of("oncall").await, "Ready")["reason"], "SecretNotFound");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_may_not_be_used_is_told() {
    let site = Site::default();
    let (mut sinks, _registry, status) = controller(&site);
    sinks.apply(sink(1, &slack())).await.expect("apply");
    assert_eq!(condition(&status.of("oncall").await, "Ready")["reason"], "AccountNotFound");
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_cannot_be_read_leaves_the_sink_before_it_in_use() {
    let site = Site::with_account("ops");
    site.secrets.lock().insert("slack".into(), json!({"url": "aGk="}));
    let (mut sinks, registry, status) = controller(&site);
    sinks.apply(sink(1, &slack())).await.expect("apply");
    let odd = json!({"slack": {"urlSecretRef": {"name": 7}}});
    sinks.apply(sink(2, &odd)).await.expect("apply");
    let told = status.of("oncall").await;
    let ready = condition(&told, "Ready");
    assert_eq!((&ready["reason"], &told["observedGeneration"]), (&json!("InvalidSpec"), &json!(2)));
    assert!(ready["message"].as_str().expect("message").contains("the version before is used"), "{ready}");
    assert_eq!(registry.get("shop", "oncall").map(|entry| entry.generation), Some(1));
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_told_when_they_change() {
    let site = Site::with_account("ops");
    site.secrets.lock().insert("slack".into(), json!({"url": "aGk="}));
    let (mut sinks, registry, status) = controller(&site);
    sinks.apply(sink(1, &slack())).await.expect("apply");
    registry.get("shop", "oncall").expect("there").delivered(Timestamp::UNIX_EPOCH);
    sinks.tick().await.expect("tick");
    let told = status.of("oncall").await;
    assert_eq!((&told["delivered"], &condition(&told, "Delivering")["reason"]), (&json!(1), &json!("Delivered")));
    registry.get("shop", "oncall").expect("there").failed("slack answered 404");
    sinks.tick().await.expect("tick");
    let told = status.of("oncall").await;
    assert_eq!((&told["failed"], &condition(&told, "Delivering")["reason"]), (&json!(1), &json!("DeliveryFailed")));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_gone_is_not_used() {
    let site = Site::with_account("ops");
    let (mut sinks, registry, _status) = controller(&site);
    sinks.apply(sink(1, &slack())).await.expect("apply");
    sinks.listed(&HashSet::new()).await.expect("listed");
    assert!(registry.get("shop", "oncall").is_none());
    assert!(site.synced.get());
}
