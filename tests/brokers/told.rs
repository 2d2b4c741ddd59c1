//! A rule that tells what an EventSource gives, and a sink that was told.

use serde_json::{Value, json};

use crate::{
    source_when,
    support::{
        PATIENCE, eventually,
        sink::Sink,
        site::{Shop, condition},
    },
};

pub const GROUP: &str = "signalbox.dev/v1alpha1";

/// A rule that tells each event of the EventSource `plant`, as text.
pub fn tells(text: &str) -> Value {
    json!({
        "sources": [{"name": "plant", "ref": {"name": "plant"}}],
        "concurrencyPolicy": "Allow",
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}}],
    })
}

pub fn connected(status: &Value) -> bool {
    condition(status, "Connected")["status"] == "True"
}

pub async fn listen(shop: &Shop, sink: &Sink, text: &str, source: Value) {
    shop.sink("oncall", &sink.url("/")).await;
    shop.create(GROUP, "EventSource", "plant", json!({"spec": source})).await;
    shop.rule("tell", tells(text)).await;
    source_when(shop, "plant", "connected", connected).await;
}

/// What the sink was told, sorted; what was sent again with the same key once.
pub fn texts(sink: &Sink) -> Vec<String> {
    let mut all: Vec<(String, String)> = sink
        .requests()
        .iter()
        .map(|request| {
            let key = request.header("idempotency-key").unwrap_or_default().to_owned();
            (key, request.json()["text"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    all.sort();
    all.dedup();
    let mut texts: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
    texts.sort();
    texts
}

pub async fn tell(sink: &Sink, wanted: &[&str]) {
    let mut wanted: Vec<&str> = wanted.to_vec();
    wanted.sort_unstable();
    let told = eventually("the sink is told", 2 * PATIENCE, async || (texts(sink) == wanted).then_some(()));
    // What was told instead is worth more than that it was not told in time.
    let _ = tokio::time::timeout(PATIENCE, told).await;
    assert_eq!(texts(sink), wanted);
}
