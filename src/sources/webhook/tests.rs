//! What becomes of requests, up to the log.

use std::sync::atomic::Ordering;

use futures::poll;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{
    bus::Bus,
    clock::Clock,
    event::{Origin, Seen, WatchKey},
    telemetry::Metrics,
};

mod cases;
mod secrets;
mod stage;

use stage::{BATCH, NOW, Stage};

fn spec(webhook: Value) -> EventSourceSpec {
    let mut webhook = webhook;
    if webhook.get("auth").is_none() {
        webhook["auth"] = json!({"none": {}});
    }
    serde_json::from_value(json!({"webhook": webhook})).expect("a spec")
}

fn header_map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn event(id: &str, type_: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/sensors", "type": type_, "data": 1})
}

fn taken(new: usize, duplicates: usize) -> Result<Received, Refusal> {
    Ok(Received { new, duplicates })
}

fn cloud_events() -> Value {
    json!({"preset": "CloudEvents"})
}

#[tokio::test]
async fn a_batch_is_stored_event_by_event_and_one_that_comes_again_is_not() {
    let stage = Stage::new(cloud_events());
    assert_eq!(stage.batch(&["m-1", "m-2", "m-3", "m-1"]).await, taken(3, 1));
    assert_eq!(stage.stored(), ["m-1", "m-2", "m-3"]);
    assert_eq!(stage.batch(&["m-2"]).await, taken(0, 1));
    assert_eq!(stage.batch(&[]).await, taken(0, 0));
    let one_bad = json!([event("m-4", "t"), {"specversion": "1.0", "source": "/x", "type": "t"}]).to_string();
    let refused = stage.send(&[("content-type", BATCH)], &one_bad).await;
    assert_eq!(refused, Err(Refusal::Malformed("event 1 of the batch: id is missing".to_owned())));
    assert_eq!(stage.stored().len(), 3, "all or nothing");
    let figures = stage.hook().figures();
    assert_eq!((figures.received, figures.duplicates, figures.rejected.malformed), (3, 2, 1));
    assert_eq!(figures.last_event.map(|time| time.as_microsecond()), Some(NOW));
    let told = stage.metrics.encode();
    for line in ["webhook_events_total{result=\"Accepted\"} 3", "webhook_rejected_total{reason=\"Malformed\"} 1"] {
        assert!(told.contains(line), "{told}");
    }
}

#[tokio::test]
async fn what_a_signature_does_not_cover_makes_no_event() {
    let auth = json!({"hmac": {"header": "X-Signature", "secretRefs": [{"name": "a", "key": "k"}]}});
    let stage = Stage::new(json!({"preset": "CloudEvents", "auth": auth}));
    let verifier = &stage.hook().webhook().expect("a webhook").verifier.clone();
    assert!(verifier.signs());
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "x2"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
    ];
    let decoded =
        stage.hooks.decode(&stage.hook(), stage.hook().webhook().expect("a webhook"), &header_map(&binary), b"1");
    assert!(matches!(decoded, Err(Refusal::Malformed(why)) if why.contains("structured")));
    let whole = event("x2", "t").to_string();
    let structured = header_map(&[("content-type", "application/cloudevents+json")]);
    let decoded =
        stage.hooks.decode(&stage.hook(), stage.hook().webhook().expect("a webhook"), &structured, whole.as_bytes());
    assert_eq!(decoded.expect("an event").len(), 1);
}

#[tokio::test]
async fn what_came_before_a_restart_is_known_after_it_and_not_for_another_source() {
    let stage = Stage::new(cloud_events());
    assert_eq!(stage.batch(&["m-1"]).await, taken(1, 0));
    let again = Stage::after(&stage.bus.log.origins(), cloud_events());
    assert_eq!(again.batch(&["m-1", "m-2"]).await, taken(1, 1));
    assert_eq!(again.stored(), ["m-2"]);
    again.hooks.set("shop", "github", "u-2", 1, &spec(cloud_events())).expect("made anew");
    assert_eq!(again.batch(&["m-1"]).await, taken(1, 0));
}

#[tokio::test]
async fn a_plain_request_is_one_event_told_by_the_id_that_its_sender_gave_it() {
    let stage = Stage::new(json!({}));
    let json = ("content-type", "application/json");
    assert_eq!(stage.send(&[json, ("Idempotency-Key", "k-1")], r#"{"ref": "main"}"#).await, taken(1, 0));
    assert_eq!(stage.send(&[json, ("Idempotency-Key", "k-1"), ("webhook-id", "w-1")], "{}").await, taken(0, 1));
    assert_eq!(stage.send(&[json, ("webhook-id", "w-1")], "{}").await, taken(1, 0));
    for _ in 0..2 {
        assert_eq!(stage.send(&[json], "{}").await, taken(1, 0), "no id: each is one of its own");
    }
    let inputs = stage.bus.log.events();
    let first = &inputs[0].event;
    assert_eq!((first.id.as_str(), first.type_.as_str()), ("k-1", "dev.signalbox.webhook"));
    assert_eq!(first.source, "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventsources/github");
    assert_eq!((&first.data, first.time.map(|time| time.as_microsecond())), (&json!({"ref": "main"}), Some(NOW)));
    assert_ne!(inputs[2].event.id, inputs[3].event.id);
    assert_eq!(inputs[2].origin.uid, inputs[3].origin.uid, "the log remembers no id for them");
    let twice = stage.send(&[json, ("webhook-id", "a"), ("webhook-id", "b")], "{}").await;
    assert!(matches!(twice, Err(Refusal::Malformed(_))), "{twice:?}");

    let named = Stage::new(json!({"idHeader": "X-Delivery", "type": "com.acme.push"}));
    assert_eq!(named.send(&[json, ("x-delivery", "d"), ("idempotency-key", "k-1")], "{}").await, taken(1, 0));
    assert_eq!(named.send(&[json, ("x-delivery", "d"), ("idempotency-key", "k-2")], "{}").await, taken(0, 1));
    assert_eq!(named.bus.log.events()[0].event.type_, "com.acme.push");
}

#[tokio::test]
async fn what_no_rule_asks_for_is_taken_and_neither_stored_nor_remembered() {
    let stage = Stage::new(cloud_events());
    let headers = [("content-type", "application/cloudevents+json")];
    for _ in 0..2 {
        let sent = stage.send(&headers, &event("m-1", "com.example.unwanted").to_string()).await;
        assert_eq!(sent, taken(1, 0));
    }
    assert_eq!(stage.bus.log.short(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_before_it_is_on_the_disk_not_even_that_it_came_before() {
    let stage = Stage::new(cloud_events());
    stage.bus.durable.send_replace(false);
    {
        let mut first = Box::pin(stage.batch(&["m-1"]));
        let mut second = Box::pin(stage.batch(&["m-1"]));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        stage.bus.durable.send_replace(true);
        assert_eq!((first.await, second.await), (taken(1, 0), taken(0, 1)));
    }
    stage.bus.durable.send_replace(false);
    let begun = Instant::now();
    assert!(matches!(stage.batch(&["m-2"]).await, Err(Refusal::Unavailable(_))));
    assert_eq!(begun.elapsed(), Duration::from_secs(8));
    assert!(matches!(stage.batch(&["m-2"]).await, Err(Refusal::Unavailable(_))), "it waits like the first");
    stage.bus.durable.send_replace(true);
    assert_eq!(stage.batch(&["m-2"]).await, taken(0, 1));
    assert_eq!(stage.stored(), ["m-1", "m-2"]);
}

#[tokio::test(start_paused = true)]
async fn without_room_the_sender_is_asked_to_come_again_and_nothing_is_remembered() {
    let stage = Stage::new(cloud_events());
    stage.bus.room.send_replace(false);
    let begun = Instant::now();
    assert!(matches!(stage.batch(&["m-1"]).await, Err(Refusal::Unavailable(_))));
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    {
        // The same event, while the first is under way; then the sender of the first goes.
        let mut first = Box::pin(stage.batch(&["m-1"]));
        assert!(poll!(&mut first).is_pending());
        assert!(matches!(stage.batch(&["m-1"]).await, Err(Refusal::Unavailable(_))));
    }
    stage.bus.room.send_replace(true);
    assert_eq!(stage.batch(&["m-1"]).await, taken(1, 0));
    stage.bus.full.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    assert!(matches!(stage.batch(&["m-2"]).await, Err(Refusal::Unavailable(_))));
    assert_eq!((begun.elapsed(), stage.stored().len()), (Duration::ZERO, 1));
    assert_eq!(stage.hook().figures().rejected.unavailable, 3, "who has gone was told nothing");
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_room_no_longer_than_one_event() {
    let stage = Stage::new(cloud_events());
    *stage.bus.pace.lock() = Duration::from_millis(1500);
    let begun = Instant::now();
    assert!(matches!(stage.batch(&["m-1", "m-2", "m-3"]).await, Err(Refusal::Unavailable(_))));
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    *stage.bus.pace.lock() = Duration::ZERO;
    assert_eq!(stage.batch(&["m-1", "m-2", "m-3"]).await, taken(2, 1), "sent again, it is whole");
}

#[tokio::test(start_paused = true)]
async fn beyond_the_rate_senders_are_told_when_to_come_again() {
    let stage = Stage::new(json!({"preset": "CloudEvents", "rateLimit": {"events": 2, "per": "4s"}}));
    assert_eq!(stage.batch(&["m-1", "m-2", "m-3"]).await, taken(3, 0), "what is too much is owed");
    assert_eq!(stage.batch(&["m-4"]).await, Err(Refusal::RateLimited(Duration::from_secs(4))));
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(stage.batch(&["m-4"]).await, taken(1, 0));
    assert_eq!(stage.hook().figures().rejected.rate_limited, 1);
}

#[tokio::test]
async fn a_request_that_brings_a_panic_out_is_refused_and_counted_and_others_are_taken() {
    let stage = Stage::new(cloud_events());
    crate::poison::bait::lay(0);
    let refused = stage.batch(&["m-1"]).await.expect_err("it panics").to_string();
    assert!(refused.contains("please report it"), "{refused}");
    assert_eq!(stage.hook().figures().rejected.malformed, 1);
    assert_eq!(stage.batch(&["m-1"]).await, taken(1, 0));
}

#[tokio::test]
async fn what_could_not_be_read_out_of_the_log_again_is_refused() {
    let stage = Stage::new(json!({}));
    let nested = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let json = [("content-type", "application/json")];
    for levels in [crate::event::MAX_LEVELS + 1, 124, 127, 10_000] {
        let refused = stage.send(&json, &nested(levels)).await;
        assert!(matches!(refused, Err(Refusal::Malformed(_))), "{levels}: {refused:?}");
    }
    assert_eq!(stage.send(&json, &nested(crate::event::MAX_LEVELS)).await, taken(1, 0));
}

#[test]
fn headers_that_show_who_may_send_and_names_that_mean_something_cannot_be_kept() {
    let hmac = json!({"hmac": {"header": "X-Mine", "secretRefs": [{"name": "a", "key": "k"}]}});
    let faults = |webhook: Value| Webhook::new(&spec(webhook)).expect_err("faults").0;
    let proofs = ["Authorization", "x-hub-signature-256", "X-Gitlab-Token", "Cookie", "X-Mine", "X-Api-Key"];
    let told = faults(json!({"auth": hmac, "headers": proofs}));
    assert!(told.len() == proofs.len() && told.iter().all(|fault| fault.contains("who may send")), "{told:?}");
    let told = faults(json!({"headers": ["Type", "X-A", "x-a", "a b", "--"]}));
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(faults(json!({"preset": "CloudEvents", "headers": ["X-A"]})).len(), 1);
}

#[tokio::test]
async fn a_signed_id_is_the_deliverys_id_whatever_other_headers_say() {
    let auth = json!({"standardWebhooks": {"secretRefs": [{"name": "a", "key": "k"}]}});
    let webhook = Webhook::new(&spec(json!({"auth": auth}))).expect("a spec");
    assert_eq!(webhook.id_headers, ["webhook-id"]);
    let told = Webhook::new(&spec(json!({"auth": auth, "idHeader": "X-Id"}))).expect_err("a fault").0;
    assert!(told[0].contains("webhook-id is the delivery's id"), "{told:?}");
}

#[tokio::test]
async fn chosen_headers_are_kept_with_the_event() {
    let stage = Stage::new(json!({"headers": ["X-GitHub-Event"]}));
    let sent = [("content-type", "application/json"), ("x-github-event", "push"), ("x-other", "1")];
    assert_eq!(stage.send(&sent, "{}").await, taken(1, 0));
    let extensions = &stage.bus.log.events()[0].event.extensions;
    assert_eq!(json!(extensions), json!({"datacontenttype": "application/json", "xgithubevent": "push"}));
}

#[tokio::test]
async fn too_many_ids_are_forgotten_before_their_time_and_counted() {
    let stage = Stage::new(cloud_events());
    let ids: Vec<String> = (0..8).map(|id| format!("m-{id}")).collect();
    assert_eq!(stage.batch(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await, taken(8, 0));
    assert!(stage.metrics.encode().contains("event_ids_evicted_total 4"));
    let again = Stage::after(&stage.bus.log.origins(), cloud_events());
    assert_eq!(again.batch(&["m-0", "m-7"]).await, taken(1, 1), "the log forgot the same");
}

#[test]
fn all_faults_of_a_spec_are_told_and_the_version_before_goes_on() {
    let stage = Stage::new(json!({}));
    let odd = json!({"maxBodyBytes": 10, "type": "dev.signalbox.rule.failed", "idHeader": "a b", "auth": {},
        "rateLimit": {"events": 1, "per": "48h"}});
    let faults = stage.hooks.set("shop", "github", "u-1", 2, &spec(odd.clone())).expect_err("faults").0;
    assert_eq!(faults.len(), 5, "{faults:?}");
    assert_eq!((stage.hook().generation, stage.hooks.admits(&stage.hook())), (1, Ok(1 << 20)));
    stage.hooks.set("shop", "other", "u-2", 1, &spec(odd)).expect_err("faults");
    let other = stage.hooks.get("shop", "other").expect("it is known");
    assert!(matches!(stage.hooks.admits(&other), Err(Refusal::Unavailable(_))));
    assert!(stage.hooks.fault(&other).is_some_and(|fault| fault.contains("maxBodyBytes")));
    stage.hooks.remove("shop", "other");
    assert!(stage.hooks.get("shop", "other").is_none());
}

#[tokio::test]
async fn what_is_held_takes_nothing_whatever_is_set() {
    let stage = Stage::new(json!({}));
    stage.hooks.hold("shop", "github", Some("the account may not be used".to_owned()));
    stage.hooks.set("shop", "github", "u-1", 2, &spec(json!({}))).expect("a spec");
    assert!(matches!(stage.send(&[], "{}").await, Err(Refusal::Unavailable(_))));
    assert_eq!(stage.hooks.fault(&stage.hook()).as_deref(), Some("the account may not be used"));
    stage.hooks.hold("shop", "github", None);
    assert_eq!(stage.send(&[], "{}").await, taken(1, 0));
    assert_eq!(stage.hook().figures().rejected.unavailable, 1, "figures go on");
}

#[tokio::test(start_paused = true)]
async fn what_came_by_too_many_steps_of_rules_is_refused_and_the_number_stays_with_the_event() {
    for preset in ["Generic", "CloudEvents"] {
        let stage = Stage::new(json!({"preset": preset, "auth": {"none": {}}}));
        let (kind, body) = match preset {
            "Generic" => ("application/json", json!({})),
            _ => ("application/cloudevents+json", event("m-1", "com.example.temp")),
        };
        let sent = async |hops: &str| {
            let headers = [("content-type", kind), ("signalbox-hops", hops)];
            stage.send(&headers, &body.to_string()).await
        };
        for hops in ["9", "x", "-1", "18446744073709551616"] {
            let refused = sent(hops).await;
            assert!(
                matches!(&refused, Err(Refusal::Malformed(why)) if why.contains("hops") || why.contains("8 are taken")),
                "{refused:?}"
            );
        }
        sent("8").await.expect("8 are taken");
        let events = stage.bus.log.events();
        let extensions = &events[0].event.extensions;
        assert_eq!(
            (extensions["signalboxhops"].clone(), extensions.get("signalboxrules")),
            (json!(8), None),
            "{preset}"
        );
    }
}
