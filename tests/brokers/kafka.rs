//! Sources of kind `kafka` and `queueLag` on a real Apache Kafka and a real API server.

mod secure;
pub mod server;

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message as _,
    consumer::{Consumer as _, StreamConsumer},
};
use serde_json::{Value, json};

use super::told::GROUP;
use crate::{
    secret_in, source_within,
    support::{
        PATIENCE, eventually,
        sink::Sink,
        site::{Shop, Site, condition},
    },
};
use server::{Kafka, PASSWORD, Sent, USER, shared};

/// A rule that tells each event of the EventSource `orders` with this text, and is ready.
async fn telling(shop: &Shop, text: &str, when: Value) {
    shop.rule("tell", tells(text, &when)).await;
}

/// The same where the EventSource cannot connect: the rule is ready only when it can.
async fn telling_one_day(shop: &Shop) {
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("${event.data}", &json!([]))})).await;
}

fn tells(text: &str, when: &Value) -> Value {
    json!({
        "sources": [{"name": "order", "ref": {"name": "orders"}}],
        "when": when,
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}}],
    })
}

/// What the sink was told, sorted, each as often as it was told.
fn told(sink: &Sink) -> Vec<String> {
    let mut texts: Vec<String> =
        sink.requests().iter().map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned()).collect();
    texts.sort();
    texts
}

/// Waits until so many records were received since the operator began, and what they say was told, and nothing else.
async fn await_told(shop: &Shop, sink: &Sink, received: u64, wanted: &[&str]) {
    let all = |status: &Value| status["received"] == received;
    shop.status("EventSource", "orders", &format!("{received} received"), all).await;
    let mut wanted: Vec<String> = wanted.iter().map(|&text| text.to_owned()).collect();
    wanted.sort();
    eventually(&format!("{wanted:?} is told"), PATIENCE, async || (told(sink).len() >= wanted.len()).then_some(()))
        .await;
    assert_eq!(told(sink), wanted);
}

/// Waits until the source `orders` is connected, and gives its status.
async fn connected(shop: &Shop) -> Value {
    let up = |status: &Value| condition(status, "Connected")["status"] == "True";
    shop.status("EventSource", "orders", "Connected", up).await
}

async fn source(shop: &Shop, kafka: Value) {
    shop.create(GROUP, "EventSource", "orders", json!({"spec": {"kafka": kafka}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_15_every_record_is_what_it_is_and_none_holds_up_its_partition() {
    let (site, kafka) = (Site::start().await, shared().await);
    let _operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    kafka.topic("orders.state", 2).await;
    let (broker, group) = (kafka.broker(), "case-15");
    source(
        &shop,
        json!({"brokers": [broker], "topics": ["orders.state"], "group": group, "start": "Earliest", "headers": ["trace"]}),
    )
    .await;
    let text = "${event.partition} ${event.tombstone ? 'gone ' + event.key : 'paid ' + event.?key.orValue('-')} ${event.?trace.orValue('')}";
    let when = json!([{"name": "interesting", "expression": "event.tombstone && event.key == 'o-1' || event.data.status == 'paid'"}]);
    telling(&shop, text, when).await;
    let paid = br#"{"status":"paid"}"#;
    let traces: [(&str, Option<&[u8]>); 3] = [("trace", None), ("trace", Some(b"x")), ("trace", Some(b"y"))];
    let records = [
        Sent { key: Some(b"o-1"), value: Some(paid), headers: &[("trace", Some(b"abc"))], ..Sent::default() },
        Sent { key: Some(b"o-1"), value: None, ..Sent::default() },
        Sent { partition: 1, key: None, value: Some(paid), ..Sent::default() },
        Sent { partition: 1, key: Some(b"\xff\x01"), value: Some(b"not json"), headers: &traces },
        Sent {
            partition: 1,
            key: Some(b"o-2"),
            value: Some(br#"{"status":"refunded","amount":1e400}"#),
            ..Sent::default()
        },
        // It says of itself that it is JSON, and is none.
        Sent {
            partition: 1,
            value: Some(b"{"),
            headers: &[("content-type", Some(b"application/json"))],
            ..Sent::default()
        },
        Sent { partition: 1, key: Some(b""), value: Some(paid), headers: &traces },
    ];
    kafka.send("orders.state", &records).await;
    await_told(&shop, &sink, 6, &["0 paid o-1 abc", "0 gone o-1 ", "1 paid - ", "1 paid  , x, y"]).await;

    let done = |status: &Value| status["received"] == 6 && status["rejected"]["malformed"] == 1 && status["lag"] == 0;
    let status = shop.status("EventSource", "orders", "all is taken but what is none", done).await;
    assert_eq!(status["duplicates"], 0);
    let all = async || (kafka.committed(group, "orders.state", 1).await == Some(5)).then_some(());
    eventually("the group goes on after all of them", PATIENCE, all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_comes_whatever_its_producer_compressed_it_with() {
    let (site, kafka) = (Site::start().await, shared().await);
    let _operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    kafka.topic("squeezed", 1).await;
    source(
        &shop,
        json!({"brokers": [kafka.broker()], "topics": ["squeezed"], "group": "squeezed", "start": "Earliest"}),
    )
    .await;
    telling(&shop, "${event.data.by}", json!([])).await;
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let value = json!({"by": codec, "pad": "x".repeat(20_000)}).to_string();
        let record = Sent { value: Some(value.as_bytes()), ..Sent::default() };
        kafka.send_by(kafka.config().set("compression.type", codec), "squeezed", &[record]).await;
    }
    await_told(&shop, &sink, 5, &codecs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_takes_what_comes_from_now_on_also_when_that_comes_while_nobody_takes_it() {
    let (site, kafka) = (Site::start().await, shared().await);
    let operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    kafka.topic("latest", 1).await;
    kafka.tell("latest", &["1"]).await;
    source(&shop, json!({"brokers": [kafka.broker()], "topics": ["latest"], "group": "latest"})).await;
    telling(&shop, "${event.data}", json!([])).await;
    connected(&shop).await;
    operator.kill();
    kafka.tell("latest", &["2"]).await;
    let _operator = site.setup.start_ready().await;
    await_told(&shop, &sink, 1, &["2"]).await;

    // Made again, a topic counts from 0 again.
    kafka.delete_topic("latest").await;
    kafka.topic("latest", 1).await;
    kafka.tell("latest", &["3"]).await;
    await_told(&shop, &sink, 2, &["2", "3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_in_mid_stream_loses_no_record_and_takes_none_twice() {
    let (site, kafka) = (Site::start().await, shared().await);
    let mut operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    kafka.topic("stream", 3).await;
    source(&shop, json!({"brokers": [kafka.broker()], "topics": ["stream"], "group": "stream", "start": "Earliest"}))
        .await;
    let rule = json!({
        "sources": [{"name": "order", "ref": {"name": "orders"}}],
        "groupBy": [{"name": "all", "expression": "'all'"}],
        "groups": {"max": 10},
        "trigger": {"count": {"atLeast": 1000, "within": "1h"}},
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${count}"}}],
    });
    shop.rule("tell", rule).await;
    connected(&shop).await;
    let texts: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    for (round, part) in texts.chunks(250).enumerate() {
        let sent = |text| Sent {
            partition: i32::try_from(round % 3).unwrap_or_default(),
            value: Some(str::as_bytes(text)),
            ..Sent::default()
        };
        let records: Vec<Sent<'_>> = part.iter().map(|text| sent(text)).collect();
        kafka.send("stream", &records).await;
        if round < 3 {
            operator.kill();
            operator = site.setup.start_ready().await;
        }
    }
    // One too many would have told it with the last still to come, one too few never.
    let counted = |status: &Value| status["counts"]["matched"] == 1000;
    shop.rule_status("tell", "1000 records, each once", counted).await;
    eventually("it is told", PATIENCE, async || (!told(&sink).is_empty()).then_some(())).await;
    let all = async || {
        let mut sum = 0;
        for partition in 0..3 {
            sum += kafka.committed("stream", "stream", partition).await?;
        }
        (sum == 1000).then_some(())
    };
    eventually("the group goes on after all of them", PATIENCE, all).await;
    assert_eq!(told(&sink), ["1000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_broker_that_is_away_are_told_and_mended_without_a_restart() {
    let (site, kafka) = (Site::start().await, Kafka::start().await);
    let operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    kafka.topic("orders", 1).await;
    secret_in(&site.plane, &shop, "kafka", json!({"password": "not-the-password"})).await;
    let login =
        json!({"mechanism": "Plain", "username": USER, "passwordSecretRef": {"name": "kafka", "key": "password"}});
    source(&shop, json!({"brokers": [kafka.login()], "topics": ["orders"], "group": "login", "sasl": login})).await;
    telling_one_day(&shop).await;
    let refused = |status: &Value| condition(status, "Authenticated")["status"] == "False";
    let status = shop.status("EventSource", "orders", "not authenticated", refused).await;
    let words = condition(&status, "Authenticated")["message"].to_string();
    assert!(words.contains("Authentication failed") && !words.contains("not-the-password"), "{words}");

    let right = json!({"stringData": {"password": PASSWORD}});
    let patch = kube::api::Patch::Merge(right);
    shop.api("v1", "Secret").patch("kafka", &kube::api::PatchParams::default(), &patch).await.expect("mend the Secret");
    connected(&shop).await;
    kafka.tell("orders", &["1"]).await;
    await_told(&shop, &sink, 1, &["1"]).await;

    kafka.kill();
    let away = |status: &Value| condition(status, "Connected")["status"] == "False";
    let status = shop.status("EventSource", "orders", "not connected", away).await;
    assert_eq!(condition(&status, "Connected")["reason"], "Unreachable");
    kafka.start_again().await;
    kafka.tell("orders", &["2"]).await;
    // The pause between two attempts has grown.
    let up = |status: &Value| condition(status, "Connected")["status"] == "True";
    source_within(&shop, "orders", "it is connected again", 90, up).await;
    await_told(&shop, &sink, 2, &["1", "2"]).await;
    assert!(!operator.log().contains(PASSWORD), "a password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_where_nobody_may_connect_to_and_topics_that_are_not_there_are_told() {
    let (site, kafka) = (Site::start().await, shared().await);
    let _operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    source(&shop, json!({"brokers": [kafka.elsewhere()], "topics": ["missing"], "group": "astray"})).await;
    telling_one_day(&shop).await;
    let says = async |what: &str| {
        let refused = |status: &Value| {
            let connected = condition(status, "Connected");
            connected["reason"] == "Refused" && connected["message"].as_str().is_some_and(|words| words.contains(what))
        };
        shop.status("EventSource", "orders", what, refused).await;
    };
    says("there is no topic missing: create it").await;
    let spec = |brokers: String, topic: &str| json!({"spec": {"kafka": {"brokers": [brokers], "topics": [topic]}}});
    let edit = async |spec: Value| {
        let (api, patch) = (shop.api(GROUP, "EventSource"), kube::api::Patch::Merge(spec));
        api.patch("orders", &kube::api::PatchParams::default(), &patch).await.expect("edit the EventSource");
    };
    kafka.topic("astray", 1).await;
    edit(spec(kafka.elsewhere(), "astray")).await;
    says("address 169.254.169.254 is link-local").await;
    edit(spec(kafka.broker(), "astray")).await;
    connected(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_give_partitions_over_and_no_record_is_taken_by_two() {
    let (site, kafka) = (Site::start().await, shared().await);
    let _operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    kafka.topic("shared", 4).await;
    source(&shop, json!({"brokers": [kafka.broker()], "topics": ["shared"], "group": "shared", "start": "Earliest"}))
        .await;
    telling(&shop, "${event.data}", json!([])).await;
    connected(&shop).await;
    let send = async |numbers: std::ops::Range<i32>| {
        let texts: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let sent = |(at, text): (usize, &'_ String)| -> (i32, String) {
            (i32::try_from(at % 4).unwrap_or_default(), text.clone())
        };
        let all: Vec<(i32, String)> = texts.iter().enumerate().map(sent).collect();
        let records: Vec<Sent<'_>> = all
            .iter()
            .map(|(partition, text)| Sent { partition: *partition, value: Some(text.as_bytes()), ..Sent::default() })
            .collect();
        kafka.send("shared", &records).await;
    };
    send(0..20).await;
    eventually("20 are told", PATIENCE, async || (told(&sink).len() == 20).then_some(())).await;

    let mut config: ClientConfig = kafka.config();
    config.set("group.id", "shared").set("partition.assignment.strategy", "cooperative-sticky");
    config.set("auto.offset.reset", "error").set("session.timeout.ms", "10000");
    let other: StreamConsumer = config.create().expect("a client");
    other.subscribe(&["shared"]).expect("subscribe");
    let mut theirs = Vec::new();
    let joined = async || {
        let polled = tokio::time::timeout(Duration::from_millis(100), other.recv()).await;
        if let Ok(Ok(message)) = &polled {
            theirs.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
        (other.assignment().is_ok_and(|list| list.count() == 2)).then_some(())
    };
    eventually("the other has two partitions", PATIENCE, joined).await;
    assert_eq!(theirs, Vec::<String>::new(), "what was taken before is not taken again");
    send(20..60).await;
    let all = async || {
        while let Ok(Ok(message)) = tokio::time::timeout(Duration::from_millis(100), other.recv()).await {
            theirs.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
        (told(&sink).len() + theirs.len() >= 60).then_some(())
    };
    eventually("both have taken theirs", PATIENCE, all).await;
    let (ours, both) = (told(&sink), 20);
    assert_eq!((ours.len(), theirs.len()), (40, both), "each has its half, and nobody the other's");
    assert!(!theirs.iter().any(|one| ours.contains(one)));

    // What the other took goes on here when it leaves.
    drop(other);
    send(60..80).await;
    eventually("the rest is told", PATIENCE, async || (told(&sink).len() == 60).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_scaled_by_what_waits_in_its_topic_and_to_nothing_when_nothing_does() {
    let (site, kafka) = (Site::start().await, shared().await);
    let _operator = site.setup.start_ready().await;
    let shop = site.namespace("kafka").await;
    kafka.topic("work", 2).await;
    shop.deployment("worker", 0).await;
    let lag = json!({"queueLag": {"interval": "1s", "kafka": {"brokers": [kafka.broker()], "topics": ["work"], "group": "workers"}}});
    shop.create(GROUP, "EventSource", "backlog", json!({"spec": lag})).await;
    let scale = |to: i32| json!({"target": {"kind": "Deployment", "name": "worker"}, "to": to});
    let rule = json!({
        "sources": [{"name": "depth", "ref": {"name": "backlog", "types": ["dev.signalbox.queue.lag"]}}],
        "trigger": {"value": {"expression": "double(event.data.lag)", "within": "10s", "above": "0", "for": "2s"}},
        "actions": [{"name": "grow", "scale": scale(3)}],
        "resolveActions": [{"name": "rest", "scale": scale(0)}],
    });
    shop.rule("worker", rule).await;
    let sampled = |status: &Value| status["received"].as_u64().is_some_and(|count| count >= 2) && status["lag"] == 0;
    shop.status("EventSource", "backlog", "samples", sampled).await;
    assert_eq!(shop.replicas("worker").await, 0, "nothing waits");

    let texts: Vec<String> = (0..25).map(|number| number.to_string()).collect();
    kafka.tell("work", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    shop.await_replicas("worker", 3).await;
    let status = shop.status("EventSource", "backlog", "lag", |status| status["lag"] == 25).await;
    assert_eq!(condition(&status, "Connected")["status"], "True");

    // The worker has done it all.
    let worker: StreamConsumer =
        kafka.config().set("group.id", "workers").set("auto.offset.reset", "earliest").create().expect("a client");
    worker.subscribe(&["work"]).expect("subscribe");
    for _ in 0..25 {
        tokio::time::timeout(PATIENCE, worker.recv()).await.expect("a record in time").expect("a record");
    }
    worker.commit_consumer_state(rdkafka::consumer::CommitMode::Sync).expect("commit");
    shop.await_replicas("worker", 0).await;
}
