//! Rules that publish through an EventSink of a broker, and deliveries by the sink alone.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use signalbox::{
    api::{EventSinkSpec, SecretKeyRef},
    event::Event,
    net::{Guard, Http},
    sinks::{Connections, Delivered, Parcel, Publication, Reach, Secrets, Sink, SinkError, Threads, build},
};

use super::told::GROUP;
use crate::support::{
    eventually,
    site::{Shop, condition},
};

/// How long what is tried again may take.
const PATIENT: Duration = Duration::from_secs(90);

/// A rule that publishes so for each Pod that keeps crashing, through the sink `broker`.
pub fn publishes(mut publish: Value) -> Value {
    publish["sinkRef"] = json!({"name": "broker"});
    json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "concurrencyPolicy": "Allow",
        "actions": [{"name": "say", "publish": publish, "retry": {"limit": 30, "backoff": "500ms", "maxBackoff": "2s"}}],
    })
}

/// The EventSink `broker`.
pub async fn sink(shop: &Shop, spec: Value) {
    shop.create(GROUP, "EventSink", "broker", json!({"spec": spec})).await;
    shop.status("EventSink", "broker", "Ready", |status| condition(status, "Ready")["status"] == "True").await;
}

/// The status of the EventSink `broker`, once it is as wanted.
pub async fn sink_when(shop: &Shop, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    shop.status("EventSink", "broker", what, wanted).await
}

/// What the EventSink `broker` says of the last delivery, once it did not work.
pub async fn not_delivering(shop: &Shop) -> String {
    let failed = |status: &Value| condition(status, "Delivering")["status"] == "False";
    let status = sink_when(shop, "a delivery failed", failed).await;
    condition(&status, "Delivering")["message"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the EventSink `broker` has delivered so many, however often it had to try.
pub async fn delivered(shop: &Shop, count: u64) {
    let api = shop.api(GROUP, "EventSink");
    eventually("it is delivered", PATIENT, async || {
        let status = api.get("broker").await.ok()?.data["status"].clone();
        (status["delivered"].as_u64() == Some(count)).then_some(())
    })
    .await;
}

/// The rule's last firing, once it has ended so: what it says of its action.
pub async fn ended(shop: &Shop, rule: &str, outcome: &str) -> String {
    let done = |status: &Value| status["recent"][0]["outcome"] == outcome;
    let status = shop.rule_status(rule, &format!("a firing that is {outcome}"), done).await;
    status["recent"][0].to_string()
}

/// Puts other values into a Secret.
pub async fn mend(shop: &Shop, secret: &str, values: Value) {
    let patch = Patch::Merge(json!({"stringData": values}));
    shop.api("v1", "Secret").patch(secret, &PatchParams::default(), &patch).await.expect("patched");
}

/// A sink by itself, whose connections are its own.
pub struct Alone {
    sink: Sink,
    secrets: Secrets,
    http: Http,
    pub connections: Connections,
}

impl Alone {
    /// `values` are those of the Secret `broker` by key.
    pub fn new(spec: Value, values: &[(&str, &str)]) -> Self {
        let spec: EventSinkSpec = serde_json::from_value(spec).expect("a spec");
        let sink = build(&spec).unwrap_or_else(|error| unreachable!("{error}"));
        let guard = Guard::new(vec!["127.0.0.0/8".parse().expect("a range"), "::1".parse().expect("a range")], vec![]);
        let mut alone =
            Self { sink, secrets: Secrets::default(), http: Http::new(guard), connections: Connections::default() };
        alone.secrets(values);
        alone
    }

    /// Others from now on.
    pub fn secrets(&mut self, values: &[(&str, &str)]) {
        for (key, value) in values {
            self.secrets.insert(SecretKeyRef { name: "broker".into(), key: (*key).into() }, value.as_bytes());
        }
    }

    /// With the guard as it is where nothing was set.
    pub fn guarded(self) -> Self {
        Self { http: Http::new(Guard::default()), ..self }
    }

    pub async fn publish(&self, publication: Publication) -> Result<Delivered, SinkError> {
        let reach = Reach { http: &self.http, connections: &self.connections, threads: &Threads::default() };
        self.sink.deliver(&Parcel::Publication(Box::new(publication)), &self.secrets, reach).await
    }
}

/// An event with this id and data, for the sink's own topic.
pub fn event(id: &str, data: Value) -> Publication {
    let mut event = Event::new(id, "/rules/a", "com.acme.paid", data);
    event.subject = Some("order/7".into());
    event.extensions.insert("datacontenttype".into(), "application/json".into());
    Publication { event, topic: None, key: None, hops: 1 }
}
