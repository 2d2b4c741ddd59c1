//! EventSinks of kind `kafka`, before a real Apache Kafka.

use rdkafka::{
    Message as _,
    message::{Headers as _, OwnedMessage},
};
use serde_json::{Value, json};
use signalbox::sinks::{Publication, Retry};

use super::{
    kafka::server::{Kafka, PASSWORD, USER, shared},
    publishing::{Alone, delivered, ended, event, mend, not_delivering, publishes, sink},
    told::{GROUP, connected},
};
use crate::{secret, source_when, support::site::shop};

/// A key of the Secret `broker`.
fn key(key: &str) -> Value {
    json!({"name": "broker", "key": key})
}

fn login(mechanism: &str) -> Value {
    json!({"mechanism": mechanism, "username": USER, "passwordSecretRef": key("password")})
}

fn header(record: &OwnedMessage, name: &str) -> String {
    let headers = record.headers().expect("headers");
    let value = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

fn to(topic: &str) -> Publication {
    Publication { topic: Some(topic.to_owned()), ..event("1", json!(1)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_a_record_with_its_attributes_once_the_password_is_right() {
    let kafka = shared().await;
    kafka.topic("sink-orders", 3).await;
    let shop = shop("kafka-sink").await;
    secret(&shop, "broker", json!({"password": "not-the-password", "ca": kafka.authority.pem()})).await;
    let (tls, sasl) = (json!({"caSecretRef": key("ca")}), login("ScramSha256"));
    let allowed = json!(["sink-orders", "sink-none"]);
    sink(&shop, json!({"kafka": {"brokers": [kafka.scram()], "allowedTopics": allowed, "tls": tls, "sasl": sasl}}))
        .await;
    let publish = json!({"topic": "sink-orders", "type": "com.acme.größe", "key": "order/2", "data": {"a": 1}});
    shop.rule("say", publishes(publish)).await;
    shop.event("p1.1", "p1", "BackOff").await;
    let said = not_delivering(&shop).await;
    assert!(said.contains("credentials") && !said.contains("not-the-password"), "{said}");
    mend(&shop, "broker", json!({"password": PASSWORD})).await;
    shop.event("p2.1", "p2", "BackOff").await;
    delivered(&shop, 1).await;
    let record = kafka.records("sink-orders", 3, 1).await.remove(0);
    // As Java's clients do, whose hash is another one than that of librdkafka.
    assert_eq!((record.key(), record.partition()), (Some(&b"order/2"[..]), 1));
    assert_eq!(record.payload(), Some(&br#"{"a":1}"#[..]));
    assert_eq!(
        ["ce_specversion", "ce_type", "ce_partitionkey", "ce_signalboxhops", "content-type"]
            .map(|name| header(&record, name)),
        ["1.0", "com.acme.größe", "order/2", "1", "application/json"]
    );
    assert!(header(&record, "ce_id").ends_with("-say"), "{}", header(&record, "ce_id"));

    for (topic, words) in [("sink-none", "there is no topic sink-none: create it"), ("other", "kafka.allowedTopics")] {
        shop.rule(topic, publishes(json!({"topic": topic, "data": 1}))).await;
        shop.event(&format!("{topic}.1"), topic, "BackOff").await;
        let said = ended(&shop, topic, "Failed").await;
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_takes_the_record_as_the_same_event_and_a_chain_ends() {
    let kafka = shared().await;
    kafka.topic("sink-loop", 1).await;
    let shop = shop("kafka-loop").await;
    sink(&shop, json!({"kafka": {"brokers": [kafka.broker()], "topic": "sink-loop"}})).await;
    let source =
        json!({"brokers": [kafka.broker()], "topics": ["sink-loop"], "group": "sink-loop", "start": "Earliest"});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": {"kafka": source}})).await;
    let mut rule = publishes(json!({"type": "com.acme.loop", "data": 1}));
    rule["sources"] = json!([{"name": "plant", "ref": {"name": "plant"}}]);
    shop.rule("loop", rule).await;
    source_when(&shop, "plant", "connected", connected).await;
    kafka.tell("sink-loop", &["1"]).await;
    let status = source_when(&shop, "plant", "the chain ended", |status| status["rejected"]["total"] == 1).await;
    assert_eq!(status["received"], 9, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_brokers_refuse_harms_no_other_and_is_told() {
    let kafka = shared().await;
    kafka.topic("sink-many", 3).await;
    let spec = |broker: String| json!({"kafka": {"brokers": [broker], "topic": "sink-many", "mode": "Structured"}});
    let alone = Alone::new(spec(kafka.broker()), &[]);
    let keyed = |number: u32| Publication { key: Some("k".to_owned()), ..event(&number.to_string(), json!(number)) };
    let all = futures::future::join_all((0..20).map(|number| alone.publish(keyed(number))));
    let (all, missing) = futures::future::join(all, alone.publish(to("sink-missing"))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let large = alone.publish(event("large", json!("x".repeat(2 << 20)))).await;
    for (refused, words) in [(missing, "there is no topic sink-missing: create it"), (large, "max.message.bytes")] {
        let refused = refused.expect_err(words);
        assert_eq!((refused.retry, refused.message.contains(words)), (Retry::Never, true), "{refused}");
    }
    alone.publish(event("after", json!(1))).await.expect("by the same connection");
    assert_eq!(alone.connections.len(), 1);
    let mut ids = Vec::new();
    for record in kafka.records("sink-many", 3, 21).await {
        assert_eq!(header(&record, "content-type"), "application/cloudevents+json; charset=utf-8");
        let document: Value = serde_json::from_slice(record.payload().expect("a value")).expect("JSON");
        if record.key().is_some() {
            assert_eq!((record.partition(), &document["partitionkey"]), (2, &json!("k")));
        }
        ids.push(document["id"].as_str().expect("an id").to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 21, "{ids:?}");

    let elsewhere = Alone::new(spec(kafka.elsewhere()), &[]).publish(event("1", json!(1))).await;
    let elsewhere = elsewhere.expect_err("a cloud's metadata service");
    let told = elsewhere.message.contains("169.254.169.254 is link-local");
    assert_eq!((elsewhere.retry, told), (Retry::Never, true), "{elsewhere}");
    let guarded = Alone::new(spec(kafka.broker()), &[]).guarded().publish(event("1", json!(1))).await;
    assert_eq!(guarded.expect_err("loopback").retry, Retry::Never);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_is_another_connection_and_a_broker_that_is_away_is_waited_for() {
    let kafka = Kafka::start().await;
    kafka.topic("away", 1).await;
    let spec = json!({"kafka": {"brokers": [kafka.login()], "topic": "away", "sasl": login("Plain")}});
    let mut alone = Alone::new(spec.clone(), &[("password", "not-the-password")]);
    let wrong = alone.publish(event("0", json!(0))).await.expect_err("another password");
    assert_eq!((wrong.retry, wrong.message.contains("not-the-password")), (Retry::FreshSecrets, false), "{wrong}");
    alone.secrets(&[("password", PASSWORD)]);
    alone.publish(event("1", json!(1))).await.expect("taken");

    kafka.kill();
    let (sent, ()) = futures::future::join(alone.publish(event("2", json!(2))), kafka.start_again()).await;
    if let Err(error) = sent {
        // The machine was busy: that it is over is known, and another connection is made.
        assert_eq!(error.retry, Retry::After(None), "{error}");
        alone.publish(event("2", json!(2))).await.expect("by another connection");
    }
    let values: Vec<Vec<u8>> =
        kafka.records("away", 1, 2).await.iter().map(|record| record.payload().unwrap_or_default().to_vec()).collect();
    assert_eq!(values, [b"1", b"2"]);
    kafka.kill();
    let away = Alone::new(spec, &[("password", PASSWORD)]).publish(event("3", json!(3))).await.expect_err("nobody");
    assert_eq!((away.retry, away.message.contains("connect to 127.0.0.1")), (Retry::After(None), true), "{away}");
}
