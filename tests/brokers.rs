//! Sources that connect, before real brokers and a real API server.

use std::time::Duration;

use serde_json::{Value, json};

use support::{
    control_plane::ControlPlane,
    eventually,
    site::{Shop, shared},
};

mod support;

mod brokers {
    mod amqp;
    mod amqp_sink;
    mod kafka;
    mod kafka_sink;
    mod mosquitto;
    mod mqtt;
    mod mqtt_sink;
    mod nats;
    mod nats_jobs;
    mod nats_sink;
    mod publishing;
    mod queue_lag;
    mod rabbitmq;
    mod redis;
    mod redis_sink;
    mod servers;
    mod told;
}

/// A Secret, and the right of `signalbox-rules` on it.
async fn secret(shop: &Shop, name: &str, values: Value) {
    secret_in(&shared().await.plane, shop, name, values).await;
}

async fn secret_in(plane: &ControlPlane, shop: &Shop, name: &str, values: Value) {
    shop.create("v1", "Secret", name, json!({"stringData": values})).await;
    let only = format!("--resource-name={name}");
    let role = ["create", "role", name, "-n", &shop.name, "--verb=get", "--resource=secrets", &only];
    assert!(plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let binding = ["create", "rolebinding", name, "-n", &shop.name, &format!("--role={name}"), &account];
    assert!(plane.kubectl(&binding).await.status.success());
}

/// The status of an EventSource, once it is as wanted.
async fn source_when(shop: &Shop, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    shop.status("EventSource", name, what, wanted).await
}

/// The same, of what takes longer.
async fn source_within(shop: &Shop, name: &str, what: &str, seconds: u64, wanted: impl Fn(&Value) -> bool) -> Value {
    let api = shop.api("signalbox.dev/v1alpha1", "EventSource");
    eventually(what, Duration::from_secs(seconds), async || {
        let status = api.get(name).await.ok()?.data["status"].clone();
        wanted(&status).then_some(status)
    })
    .await
}
