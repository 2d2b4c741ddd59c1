//! How rules judge, on a real API server: what is counted, and what a user is told of events that did not fire.

use std::collections::BTreeSet;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use support::{
    sink::{Request, Sink},
    site::{Shop, Site},
};

mod support;

fn texts(requests: &[Request]) -> BTreeSet<String> {
    requests.iter().map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

fn tell(text: &str) -> Value {
    json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}}])
}

async fn matched(shop: &Shop, rule: &str, count: u64) -> Value {
    shop.rule_status(rule, &format!("{count} matched"), |status| status["counts"]["matched"] == count).await
}

#[tokio::test]
async fn occurrences_are_counted_for_each_group_across_a_kill() {
    let site = Site::start().await;
    let shop = site.namespace("count").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let spec = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "groupBy": [{"name": "app", "expression": "event.data.regarding.name.split('-')[0]"}],
        "trigger": {"count": {"atLeast": 3, "within": "10m"}},
        "actions": tell("${group.app} ${string(count)}"),
    });
    shop.rule("apps", spec).await;

    for pod in ["web-1", "db-1", "web-2"] {
        shop.event(&format!("{pod}.1"), pod, "BackOff").await;
    }
    let status = matched(&shop, "apps", 3).await;
    assert_eq!((&status["counts"]["fired"], &status["lastFiringTime"]), (&json!(0), &Value::Null));
    operator.kill();
    let operator = site.setup.start_ready().await;
    shop.event("web-3.1", "web-3", "BackOff").await;
    sink.await_requests(1).await;
    let again = Patch::Merge(json!({"count": 3}));
    shop.api("v1", "Event").patch("db-1.1", &PatchParams::default(), &again).await.expect("count again");
    let told = texts(&sink.await_requests(2).await);
    assert_eq!(told, BTreeSet::from(["web 3".to_owned(), "db 3".to_owned()]));
    let status = shop.rule_status("apps", "2 succeeded", |status| status["counts"]["succeeded"] == 2).await;
    assert_eq!((&status["counts"]["matched"], &status["recent"][0]["group"]), (&json!(5), &json!("db")));
    assert!(
        operator.metrics().await.contains("signalbox_rule_decisions_total{decision=\"Counted\"} 0"),
        "since the start"
    );
}

/// Hard case 2, as it is stored and patched by the senders of events.k8s.io/v1.
#[tokio::test]
async fn a_series_that_jumps_is_counted_whole_when_it_was_last_observed() {
    let site = Site::start().await;
    let shop = site.namespace("series").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let _operator = site.setup.start_ready().await;
    let rule = |trigger: Value, text: &str| {
        let mut spec = json!({"sources": [{"name": "pump", "kubernetesEvent": {"reasons": ["PumpStalled"]}}], "actions": tell(text)});
        if !trigger.is_null() {
            spec["trigger"] = trigger;
        }
        spec
    };
    shop.rule("r1", rule(Value::Null, "r1 ${string(event.data.delta)}")).await;
    shop.rule("r2", rule(json!({"count": {"atLeast": 10, "within": "10m"}}), "r2 ${string(count)}")).await;

    let regarding = json!({"apiVersion": "v1", "kind": "Pod", "name": "api-7c9d-x1", "namespace": shop.name});
    let event = json!({
        "eventTime": "2026-11-02T07:31:00.000000Z", "reportingController": "example.com/pump-controller",
        "reportingInstance": "pump-controller-0", "action": "Probing", "reason": "PumpStalled", "note": "pump p-1 stalled",
        "type": "Warning", "regarding": regarding,
    });
    shop.create("events.k8s.io/v1", "Event", "p-1.18a1f0000000b001", event).await;
    for (round, patch) in [
        json!({"series": {"count": 2, "lastObservedTime": "2026-11-02T07:32:10.000000Z"}}),
        json!({"series": {"count": 31, "lastObservedTime": "2026-11-02T08:01:00.000000Z"}}),
        json!({"metadata": {"labels": {"seen": "yes"}}}),
    ]
    .into_iter()
    .enumerate()
    {
        // A watch may take two changes for one.
        matched(&shop, "r2", round.min(2) as u64 + 1).await;
        let events = shop.api("events.k8s.io/v1", "Event");
        events.patch("p-1.18a1f0000000b001", &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch");
    }
    shop.event("last.1", "last", "PumpStalled").await;
    matched(&shop, "r2", 4).await;
    sink.await_requests(5).await;
    let told = sink.requests();
    assert_eq!(told.len(), 5);
    let expected = ["r1 1", "r1 29", "r2 29"].map(str::to_owned);
    assert_eq!(texts(&told), BTreeSet::from(expected));
}
