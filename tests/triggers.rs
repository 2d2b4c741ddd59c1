//! Triggers on a real API server: what fires though nothing happens, and what ends.

use std::time::Duration;

use kube::{
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use support::{
    eventually,
    sink::Sink,
    site::{Shop, Site},
};

mod support;

fn tell(text: &str) -> Value {
    json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}}])
}

/// Says of the Deployment how many replicas are unavailable, as its controller would.
async fn unavailable(shop: &Shop, name: &str, replicas: u32) {
    let status = Patch::Merge(json!({"status": {"unavailableReplicas": replicas}}));
    let api = shop.api("apps/v1", "Deployment");
    api.patch_status(name, &PatchParams::default(), &status).await.expect("a status");
}

async fn told(sink: &Sink, count: usize) -> Vec<String> {
    let requests = sink.await_requests(count).await;
    requests.iter().map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The notes of the Kubernetes Events of this reason about the rule.
async fn notes(shop: &Shop, reason: &str) -> Vec<String> {
    let events = shop.api("events.k8s.io/v1", "Event").list(&Default::default()).await.expect("events");
    let of_reason = |event: &DynamicObject| event.data["reason"] == reason;
    events.items.iter().filter(|event| of_reason(event)).map(|event| event.data["note"].to_string()).collect()
}

#[tokio::test]
async fn replicas_that_stay_unavailable_fire_across_a_kill_and_resolve_when_they_are_back() {
    let site = Site::start().await;
    let shop = site.namespace("held").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    // Their controller would say again what it sees.
    site.plane.stop_controller_manager();
    for name in ["old", "brief"] {
        shop.deployment(name, 1).await;
        unavailable(&shop, name, 1).await;
    }
    let operator = site.setup.start_ready().await;
    let spec = json!({
        "sources": [{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}],
        "when": [{"name": "down", "expression": "object.?status.unavailableReplicas.orValue(0) > 0"}],
        "trigger": {"held": {"for": "3s", "steps": [{"after": "5s", "actions": tell("still ${object.metadata.name}")}]}},
        "actions": tell("down ${object.metadata.name} ${string(object.status.unavailableReplicas)}"),
        "resolveActions": tell("up ${object.metadata.name}"),
    });
    shop.rule("held", spec).await;
    // What exists when the rule begins has begun with it; what has ended before its time does not fire.
    unavailable(&shop, "brief", 0).await;
    assert_eq!(told(&sink, 1).await, ["down old 1"]);
    let status = shop.rule_status("held", "one that lasts", |status| status["activeTotal"] == 1).await;
    assert!(status["active"][0]["group"].as_str().is_some_and(|group| group.ends_with("/Deployment/old")), "{status}");
    assert_eq!(told(&sink, 2).await, ["down old 1", "still old"]);
    shop.rule_status("held", "both are done", |status| status["counts"]["succeeded"] == 2).await;

    // While nobody listens one ends, and one begins.
    operator.kill();
    unavailable(&shop, "old", 0).await;
    unavailable(&shop, "brief", 2).await;
    let _operator = site.setup.start_ready().await;
    hears(&sink, "up old").await;
    hears(&sink, "down brief 2").await;
    shop.api("apps/v1", "Deployment").delete("brief", &Default::default()).await.expect("deleted");
    hears(&sink, "up brief").await;
    let status = shop.rule_status("held", "both have ended", |status| status["counts"]["resolved"] == 2).await;
    assert_eq!((&status["activeTotal"], &status["recent"][0]["kind"]), (&Value::Null, &json!("Resolved")));
    // Those that follow are told as a series of the first.
    eventually("an end is told", Duration::from_secs(30), async || {
        notes(&shop, "Resolved").await.iter().any(|note| note.contains("/Deployment/old")).then_some(())
    })
    .await;
}

/// Waits until this was told.
async fn hears(sink: &Sink, text: &str) {
    eventually(text, Duration::from_secs(60), async || {
        let said = |request: &support::sink::Request| request.json()["text"] == text;
        sink.requests().iter().any(said).then_some(())
    })
    .await;
}

/// How often this was told.
fn times(sink: &Sink, text: &str) -> usize {
    sink.requests().iter().filter(|request| request.json()["text"] == text).count()
}

async fn annotate(shop: &Shop, name: &str, annotations: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    shop.api("apps/v1", "Deployment").patch(name, &PatchParams::default(), &patch).await.expect("annotations");
}

#[tokio::test]
async fn silence_fires_and_ends_and_what_is_gathered_survives_a_kill() {
    let site = Site::start().await;
    let shop = site.namespace("silence").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let app = json!([{"name": "app", "expression": "event.data.regarding.name.split('-')[0]"}]);
    let source = |reasons: Value| json!([{"name": "events", "kubernetesEvent": {"reasons": reasons}}]);
    let absent = json!({"sources": source(json!(["Beat"])), "groupBy": app, "trigger": {"absent": {"for": "4s"}},
        "actions": tell("silent ${group.app}"), "resolveActions": tell("back ${group.app}")});
    shop.rule("absent", absent).await;
    let batch = json!({"sources": source(json!(["Many"])), "groupBy": app, "trigger": {"batch": {"wait": "5s", "maxEvents": 4}},
        "actions": tell("${group.app} ${string(count)}: ${events.map(one, one.data.regarding.name).join(' ')}")});
    shop.rule("batch", batch).await;
    let is = |reason: &str| json!([{"name": "is", "expression": format!("event.data.reason == '{reason}'")}]);
    let sequence = json!({"sources": source(json!([])), "groupBy": app,
        "trigger": {"sequence": {"within": "10m", "steps": [{"when": is("Begin")}, {"source": "events", "when": is("End")}]}},
        "actions": tell("sequence ${group.app} ${event.data.reason}")});
    shop.rule("sequence", sequence).await;

    for (pod, reason) in [("web-1", "Begin"), ("db-1", "End"), ("web-1", "Many"), ("web-2", "Many"), ("db-1", "Beat")] {
        shop.event(&format!("{pod}.{}", reason.to_lowercase()), pod, reason).await;
    }
    for (rule, matched) in [("batch", 2), ("sequence", 1), ("absent", 1)] {
        shop.rule_status(rule, "what was sent", |status| status["counts"]["matched"] == matched).await;
    }
    hears(&sink, "silent db").await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    hears(&sink, "web 2: web-1 web-2").await;
    for (pod, reason) in [("db-1", "Begin"), ("web-9", "End"), ("db-2", "Beat")] {
        shop.event(&format!("{pod}.{}", reason.to_lowercase()), pod, reason).await;
    }
    hears(&sink, "sequence web End").await;
    hears(&sink, "back db").await;
    assert_eq!((times(&sink, "sequence db End"), times(&sink, "sequence db Begin")), (0, 0));
    let full = ["a-1", "a-2", "a-3", "a-4"];
    for pod in full {
        shop.event(&format!("{pod}.many"), pod, "Many").await;
    }
    hears(&sink, "a 4: a-1 a-2 a-3 a-4").await;
}

#[tokio::test]
async fn a_number_of_an_object_and_a_time_that_it_names_fire() {
    let site = Site::start().await;
    let shop = site.namespace("value").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 1).await;
    let later = |seconds: i64| {
        let time = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_secs(seconds);
        time.to_string()
    };
    // One that was due before there was a rule, one to come, and one that will be gone.
    shop.deployment("past", 1).await;
    annotate(&shop, "past", json!({"at": later(-60)})).await;
    shop.deployment("gone", 1).await;
    annotate(&shop, "gone", json!({"at": later(8)})).await;
    let _operator = site.setup.start_ready().await;
    let source = json!([{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}]);
    let value = json!({"sources": source, "when": [{"name": "has", "expression": "'v' in object.metadata.annotations"}],
        "trigger": {"value": {"expression": "double(object.metadata.annotations.v)", "within": "10m", "above": "10", "clear": "5"}},
        "actions": tell("above ${string(int(value))}"), "resolveActions": tell("well ${string(int(value))}")});
    shop.rule("value", value).await;
    let due = json!({"sources": source, "when": [{"name": "has", "expression": "'at' in object.metadata.annotations"}],
        "trigger": {"due": {"atExpression": "timestamp(object.metadata.annotations.at)"}},
        "actions": tell("due ${object.metadata.name}")});
    shop.rule("due", due).await;

    hears(&sink, "due past").await;
    shop.api("apps/v1", "Deployment").delete("gone", &Default::default()).await.expect("deleted");
    annotate(&shop, "web", json!({"v": "11", "at": later(9)})).await;
    hears(&sink, "above 11").await;
    annotate(&shop, "web", json!({"v": "7"})).await;
    annotate(&shop, "web", json!({"v": "4"})).await;
    hears(&sink, "well 4").await;
    hears(&sink, "due web").await;
    assert_eq!((times(&sink, "due gone"), times(&sink, "due past"), times(&sink, "above 11")), (0, 1, 1));
}

#[tokio::test]
async fn a_number_that_is_unusual_and_what_belongs_together_fire_across_a_kill() {
    let site = Site::start().await;
    let shop = site.namespace("unusual").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 1).await;
    let operator = site.setup.start_ready().await;
    let resource = json!({"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Update"], "changedExpressions": ["object.metadata.annotations[?'v']"]});
    let anomaly = json!({"sources": [{"name": "deploy", "resource": resource}],
        "trigger": {"anomaly": {"expression": "double(object.metadata.annotations.v)", "deviations": 4, "warmup": 10}},
        "actions": tell("unusual ${string(int(value))}, usual are ${string(int(baseline))}"), "resolveActions": tell("usual ${string(int(value))}")});
    shop.rule("anomaly", anomaly).await;
    let is = |reason: &str| json!({"when": [{"name": "is", "expression": format!("event.data.reason == '{reason}'")}]});
    let all = json!({"sources": [{"name": "events", "kubernetesEvent": {"reasons": ["Left", "Right"]}}],
        "groupBy": [{"name": "app", "expression": "event.data.regarding.name.split('-')[0]"}],
        "trigger": {"all": {"within": "10m", "of": [is("Left"), is("Right")]}}, "actions": tell("all of ${group.app}")});
    shop.rule("all", all).await;

    // A great one is not unusual before enough is known.
    for (count, value) in (1..).zip([500, 100, 101, 99, 102, 98, 100, 101, 99, 100]) {
        annotate(&shop, "web", json!({"v": value.to_string()})).await;
        shop.rule_status("anomaly", "a sample", |status| status["counts"]["matched"] == count).await;
    }
    for (pod, reason) in [("web-1", "Right"), ("db-1", "Right"), ("web-2", "Right")] {
        shop.event(&format!("{pod}.{}", reason.to_lowercase()), pod, reason).await;
    }
    shop.rule_status("all", "what was sent", |status| status["counts"]["matched"] == 3).await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    annotate(&shop, "web", json!({"v": "5000"})).await;
    shop.event("web-3.left", "web-3", "Left").await;
    hears(&sink, "all of web").await;
    let said = eventually("it is unusual", Duration::from_secs(60), async || {
        let texts =
            sink.requests().into_iter().map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned());
        texts.into_iter().find(|text| text.starts_with("unusual 5000, usual are "))
    });
    said.await;
    annotate(&shop, "web", json!({"v": "101"})).await;
    hears(&sink, "usual 101").await;
    let texts: Vec<_> = sink.requests().iter().map(|request| request.json()["text"].clone()).collect();
    assert_eq!(texts.len(), 3, "nothing else was told: {texts:?}");
}
