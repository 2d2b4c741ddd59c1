//! Traces as a collector gets them, from an operator on a real API server.

use serde_json::{Value, json};

use support::{
    PATIENCE, eventually,
    sink::{Answer, Sink},
    site::Site,
};

mod support;

/// The spans that the collector was sent.
fn spans(collector: &Sink) -> Vec<Value> {
    let of = |request: &support::sink::Request| {
        assert_eq!(request.path, "/v1/traces");
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("x-tenant"), Some("shop one"));
        let resource = &request.json()["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "signalbox");
        resource["scopeSpans"][0]["spans"].as_array().cloned().unwrap_or_default()
    };
    collector.requests().iter().flat_map(of).collect()
}

async fn span(collector: &Sink, name: &str) -> Value {
    eventually(&format!("the collector has the span {name}"), PATIENCE, async || {
        spans(collector).into_iter().find(|span| span["name"] == name)
    })
    .await
}

#[tokio::test]
async fn a_firing_is_one_trace_also_across_a_kill() {
    let site = Site::start().await;
    let shop = site.namespace("traced").await;
    let (sink, collector) = (Sink::start().await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    let setup = site.another().args(&["--otlp-endpoint", &collector.url("/"), "--otlp-headers=x-tenant=shop%20one"]);
    // A collector that is away for a moment loses nothing.
    collector.answer_next(Answer::status(503));
    sink.answer(Answer::status(503));
    let operator = setup.start_ready().await;
    let actions = json!([
        {"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}},
        {"name": "tell", "retry": {"limit": 100, "backoff": "100ms", "maxBackoff": "1s"},
            "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.regarding.name}"}},
    ]);
    let sources = json!([{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}]);
    shop.rule("traced", json!({"sources": sources, "actions": actions})).await;
    shop.event("p.1", "p", "BackOff").await;
    let receive = span(&collector, "receive").await;
    let (judge, grow) = (span(&collector, "judge").await, span(&collector, "act grow").await);
    sink.await_requests(2).await;
    operator.kill();

    sink.answer(Answer::status(200));
    let _operator = setup.start_ready().await;
    let root = span(&collector, &format!("fire {}/traced", shop.name)).await;
    let tell = span(&collector, "act tell").await;
    for child in [&receive, &judge, &grow, &tell] {
        assert_eq!((&child["traceId"], &child["parentSpanId"]), (&root["traceId"], &root["spanId"]), "{child:#}");
        let time =
            |field: &str| child[field].as_str().and_then(|nanos| nanos.parse::<u64>().ok()).expect("nanoseconds");
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{child:#}");
    }
    // Whoever was told can say that what he did was part of it.
    let (trace, parent) = (root["traceId"].as_str().expect("an id"), tell["spanId"].as_str().expect("an id"));
    let told = sink.requests();
    assert!(
        told.len() > 1 && told.iter().all(|one| one.header("traceparent") == Some(&*format!("00-{trace}-{parent}-01")))
    );
    let attributes = root["attributes"].as_array().expect("a list");
    assert!(
        attributes.contains(&json!({"key": "signalbox.outcome", "value": {"stringValue": "Succeeded"}})),
        "{root:#}"
    );
}
