//! Restarts on a real API server: what happened before is not done again, what happened meanwhile is not lost.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use support::{
    eventually,
    sink::{Answer, Sink},
    site::{Shop, Site},
};

mod support;

fn rule(reason: &str) -> Value {
    json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"types": ["Warning"], "reasons": [reason]}}],
        "actions": [
            {"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}},
            {"name": "collect", "job": {"script": {"image": "example.invalid/tools:1", "run": "true"}}},
            {"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.regarding.name} ${event.data.count}"}},
        ],
    })
}

/// Alerts by text, and the different keys that each came with.
fn alerts(sink: &Sink) -> BTreeMap<String, Vec<String>> {
    let mut alerts = BTreeMap::<String, Vec<String>>::new();
    for request in sink.requests() {
        let key = request.header("idempotency-key").expect("every alert has a key").to_owned();
        let text = request.json()["text"].as_str().expect("a text").to_owned();
        let keys = alerts.entry(text).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    alerts
}

async fn jobs(shop: &Shop) -> usize {
    shop.api("batch/v1", "Job").list(&ListParams::default()).await.expect("list Jobs").items.len()
}

#[tokio::test]
async fn a_restart_acts_on_what_happened_meanwhile_and_on_nothing_else() {
    let site = Site::start().await;
    let shop = site.namespace("restart").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    for number in 0..50 {
        shop.event(&format!("old{number}.1"), &format!("old{number}"), "BackOff").await;
    }
    // A first install acts on nothing that existed.
    let operator = site.setup.start_ready().await;
    shop.rule("restarted", rule("BackOff")).await;
    shop.event("new.1", "new", "BackOff").await;
    sink.await_requests(1).await;
    assert_eq!(alerts(&sink).keys().collect::<Vec<_>>(), ["new 1"]);

    let mut expected = 1;
    let mut operator = Some(operator);
    for (round, gently) in [(1, true), (2, false)] {
        let running = operator.take().expect("an operator runs");
        if gently {
            assert!(running.terminate().await.success(), "it stops cleanly");
        } else {
            running.kill();
        }
        for number in 0..5 {
            shop.event(&format!("gap{round}-{number}.1"), &format!("gap{round}-{number}"), "BackOff").await;
        }
        let again = json!({"count": 1 + round});
        for number in 0..3 {
            let name = format!("old{number}.1");
            let events = shop.api("v1", "Event");
            events.patch(&name, &PatchParams::default(), &Patch::Merge(&again)).await.expect("count again");
        }
        expected += 8;
        operator = Some(site.setup.start_ready().await);
        sink.await_requests(expected).await;
        shop.rule_status("restarted", "all are done", |status| status["counts"]["succeeded"] == expected).await;
    }
    shop.event("last.1", "last", "BackOff").await;
    shop.rule_status("restarted", "the last is done", |status| status["counts"]["succeeded"] == expected + 1).await;
    assert_eq!(alerts(&sink).len(), expected + 1, "{:?}", alerts(&sink));
    assert_eq!(shop.replicas("web").await, i64::try_from(expected + 1).expect("small"));
    assert_eq!(jobs(&shop).await, expected + 1);
}

#[tokio::test]
async fn an_operator_killed_in_mid_stream_loses_nothing_and_does_nothing_twice() {
    const EVENTS: usize = 120;
    let site = Site::start().await;
    let shop = site.namespace("killed").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    let mut operator = site.setup.start_ready().await;
    shop.rule("killed", rule("BackOff")).await;
    for number in 0..EVENTS {
        shop.event(&format!("p{number}.1"), &format!("p{number}"), "BackOff").await;
        if number % 30 == 17 {
            operator.kill();
            operator = site.setup.start();
        }
    }
    operator.ready().await;
    let status =
        shop.rule_status("killed", "every event is done", |status| status["counts"]["succeeded"] == EVENTS).await;
    assert_eq!(status["counts"]["fired"], EVENTS);
    assert_eq!(status["counts"]["failed"], 0);
    assert_eq!(shop.replicas("web").await, i64::try_from(EVENTS).expect("small"), "each event added one");
    assert_eq!(jobs(&shop).await, EVENTS, "each event made one Job");
    let alerts = alerts(&sink);
    assert_eq!(alerts.len(), EVENTS, "each event was told");
    assert!(alerts.values().all(|keys| keys.len() == 1), "what was told again has the same key");
}

#[tokio::test]
async fn an_alert_that_could_not_be_delivered_is_delivered_after_a_restart() {
    let site = Site::start().await;
    let shop = site.namespace("retry").await;
    let sink = Sink::start().await;
    sink.answer(Answer::status(503));
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let mut spec = rule("BackOff");
    spec["actions"] = json!([{"name": "tell", "retry": {"limit": 100, "backoff": "100ms", "maxBackoff": "1s"},
        "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.message}"}}]);
    shop.rule("retried", spec).await;
    shop.event("p.1", "p", "BackOff").await;
    sink.await_requests(2).await;
    operator.kill();
    sink.answer(Answer::status(200));
    let _operator = site.setup.start_ready().await;
    shop.rule_status("retried", "delivered", |status| status["counts"]["succeeded"] == 1).await;
    let keys: Vec<_> =
        sink.requests().iter().map(|request| request.header("idempotency-key").map(str::to_owned)).collect();
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
}

/// Takes up to two minutes: a timetable's finest step is one.
#[tokio::test]
async fn a_timetable_tells_of_each_minute_once_across_a_kill() {
    let site = Site::start().await;
    let shop = site.namespace("timetable").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let spec = json!({
        "sources": [{"name": "minutely", "schedule": {"cron": "* * * * *", "timeZone": "Asia/Kathmandu"}}],
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.scheduledTime}"}}],
    });
    shop.rule("minutely", spec).await;
    let told = async |count: usize| {
        let api = shop.api("signalbox.dev/v1alpha1", "EventRule");
        let done =
            async || api.get("minutely").await.ok().filter(|rule| rule.data["status"]["counts"]["succeeded"] == count);
        eventually("the next minute", Duration::from_secs(75), done).await
    };
    told(1).await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    let rule = told(2).await;
    let minutes: Vec<Timestamp> = alerts(&sink).keys().map(|minute| minute.parse().expect("an instant")).collect();
    assert_eq!(minutes.len(), 2, "{minutes:?}");
    assert_eq!(
        minutes[1].duration_since(minutes[0]).as_secs(),
        60,
        "none is left out and none comes twice: {minutes:?}"
    );
    let event = &rule.data["status"]["recent"][0]["event"];
    assert_eq!(event["subject"], json!(format!("{}/EventRule/minutely", shop.name)));
    let next: Timestamp = serde_json::from_value(rule.data["status"]["nextScheduleTime"].clone()).expect("an instant");
    assert_eq!(next.duration_since(minutes[1]).as_secs(), 60);
}
