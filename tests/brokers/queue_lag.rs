//! EventSources of kind `queueLag`, before real servers. Groups of Kafka: in `kafka`.

use async_nats::jetstream::consumer;
use futures::StreamExt as _;
use lapin::BasicProperties;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use super::{
    nats::Server as Nats,
    rabbitmq::{self, USER, get, publish, queue},
    redis::{Server as Redis, add, ask},
    told::{GROUP, tells},
};
use crate::{
    secret, source_when, source_within,
    support::{
        PATIENCE, eventually,
        sink::Sink,
        site::{Shop, condition, shop},
    },
};

/// An EventSource of this place that samples every second, and a rule that tells each sample so.
async fn sampling(shop: &Shop, place: Value, text: &str) -> Sink {
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let (mut lag, fields) = (json!({"interval": "1s"}), place.as_object().cloned().unwrap_or_default());
    lag.as_object_mut().expect("a map").extend(fields);
    shop.create(GROUP, "EventSource", "plant", json!({"spec": {"queueLag": lag}})).await;
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells(text)})).await;
    sink
}

/// Waits until a sample that is taken from now on says so. Where there was no connection, the next attempt may take a while.
async fn sampled(sink: &Sink, wanted: &str) {
    let before = sink.requests().len();
    eventually(&format!("a sample says {wanted}"), 2 * PATIENCE, async || {
        sink.requests().iter().skip(before).any(|request| request.json()["text"] == wanted).then_some(())
    })
    .await;
}

/// Whether there is no connection, and why.
fn refused(said: &'static str) -> impl Fn(&Value) -> bool {
    move |status| {
        let connected = condition(status, "Connected");
        connected["reason"] == "Refused" && connected["message"].as_str().is_some_and(|why| why.contains(said))
    }
}

#[tokio::test]
async fn what_a_consumer_of_a_stream_has_before_it_and_in_hand_is_its_lag() {
    let (shop, server) = (shop("lag-nats").await, Nats::start("", &[]).await);
    let place = json!({"jetStream": {"servers": [server.address()], "stream": "JOBS", "consumer": "workers"}});
    let sink = sampling(&shop, place, "${event.data.queue} ${event.data.lag} ${event.data.unacknowledged}").await;
    source_when(&shop, "plant", "no stream", refused("there is no such stream: make it (nats stream add JOBS)")).await;
    let context = server.stream().await;
    let stream = context.get_stream("JOBS").await.expect("the stream");
    source_within(&shop, "plant", "no consumer", 60, refused("nats consumer add JOBS workers")).await;
    let config = consumer::pull::Config { durable_name: Some("workers".into()), ..consumer::pull::Config::default() };
    let worker = stream.create_consumer(config).await.expect("a consumer");
    for n in ["1", "2", "3"] {
        context.publish("jobs.run", n.into()).await.expect("published").await.expect("stored");
    }
    sampled(&sink, "workers 3 0").await;
    let mut fetched = worker.fetch().max_messages(2).messages().await.expect("asked");
    let mut held = Vec::new();
    while let Some(one) = fetched.next().await {
        held.push(one.expect("a message"));
    }
    sampled(&sink, "workers 3 2").await;
    for one in &held {
        one.ack().await.expect("acknowledged");
    }
    sampled(&sink, "workers 1 0").await;
    source_when(&shop, "plant", "lag", |status| status["lag"] == 1).await;
}

/// A stream, and the entries taken of it: their ids and texts.
type Taken = (String, Vec<(String, Vec<String>)>);

/// Another member of the group takes so many entries; whether it acknowledges them.
async fn take(client: &mut MultiplexedConnection, count: usize) -> Vec<String> {
    let count = count.to_string();
    let words = ["XREADGROUP", "GROUP", "workers", "w", "COUNT", &count, "STREAMS", "jobs", ">"];
    let read: Vec<Taken> = redis::from_redis_value(ask(client, &words).await).expect("entries");
    read.into_iter().flat_map(|(_, entries)| entries).map(|(id, _)| id).collect()
}

async fn work(client: &mut MultiplexedConnection, count: usize) {
    let ids = take(client, count).await;
    let words: Vec<&str> = ["XACK", "jobs", "workers"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    ask(client, &words).await;
}

fn group(server: &Redis) -> Value {
    json!({"redis": {"server": server.address(), "stream": "jobs", "group": "workers"}})
}

#[tokio::test]
async fn what_a_group_of_a_stream_of_redis_has_not_done_is_its_lag_and_at_most_all_where_nobody_knows() {
    let (shop, server) = (shop("lag-redis").await, Redis::plain().await);
    let sink = sampling(
        &shop,
        group(&server),
        "${event.data.queue} ${event.data.lag} ${event.data.unacknowledged} ${event.data.estimated}",
    )
    .await;
    source_when(&shop, "plant", "no stream", refused("XGROUP CREATE jobs workers 0 MKSTREAM")).await;
    let mut client = server.client().await;
    for n in ["1", "2", "3", "4", "5"] {
        add(&mut client, &["n", n]).await;
    }
    source_within(&shop, "plant", "no group", 60, refused("stream jobs has no group workers")).await;
    ask(&mut client, &["XGROUP", "CREATE", "jobs", "workers", "0"]).await;
    sampled(&sink, "workers 5 0 false").await;
    let taken = take(&mut client, 2).await;
    sampled(&sink, "workers 5 2 false").await;
    ask(&mut client, &["XACK", "jobs", "workers", &taken[0], &taken[1]]).await;
    sampled(&sink, "workers 3 0 false").await;

    // One of the three that nobody has read is deleted: from then on Redis does not know how many there are.
    let entries: Vec<(String, Vec<String>)> =
        redis::from_redis_value(ask(&mut client, &["XRANGE", "jobs", "-", "+"]).await).expect("entries");
    ask(&mut client, &["XDEL", "jobs", &entries[3].0]).await;
    sampled(&sink, "workers 4 0 true").await;
    let told = |status: &Value| {
        condition(status, "Connected")["message"]
            .as_str()
            .is_some_and(|said| said.contains("until it has read the last"))
    };
    source_when(&shop, "plant", "it is told", told).await;
    work(&mut client, 10).await;
    sampled(&sink, "workers 0 0 false").await;

    // A stream is trimmed while nobody works: what is left of it waits.
    for n in 0..6 {
        add(&mut client, &["n", &n.to_string()]).await;
    }
    ask(&mut client, &["XTRIM", "jobs", "MAXLEN", "2"]).await;
    sampled(&sink, "workers 2 0 false").await;
}

/// Looks that a worker is scaled up when more than four messages wait for 8 s, to nothing when none does for as long, and up again; and by nothing that
/// lasts a moment. `fill` has so many more wait, `work` has so many done.
async fn scaled(shop: &Shop, place: Value, mut fill: impl AsyncFnMut(usize), mut work: impl AsyncFnMut(usize)) {
    shop.deployment("worker", 0).await;
    let sink = sampling(shop, place, "${event.data.lag}").await;
    let scale = |to: i32| json!({"target": {"kind": "Deployment", "name": "worker"}, "to": to});
    let rule = json!({
        "sources": [{"name": "depth", "ref": {"name": "plant", "types": ["dev.signalbox.queue.lag"]}}],
        "trigger": {"value": {"expression": "double(event.data.lag)", "within": "10s", "above": "4", "clear": "0", "for": "8s", "noData": "Hold"}},
        "actions": [{"name": "grow", "scale": scale(3)}],
        "resolveActions": [{"name": "rest", "scale": scale(0)}],
    });
    shop.rule("worker", rule).await;
    sampled(&sink, "0").await;
    fill(6).await;
    sampled(&sink, "6").await;
    work(5).await;
    sampled(&sink, "1").await;
    assert_eq!(shop.replicas("worker").await, 0, "six waited for a moment");
    fill(5).await;
    shop.await_replicas("worker", 3).await;
    work(5).await;
    sampled(&sink, "1").await;
    assert_eq!(shop.replicas("worker").await, 3, "it is not done");
    work(1).await;
    shop.await_replicas("worker", 0).await;
    fill(5).await;
    shop.await_replicas("worker", 3).await;
}

#[tokio::test]
async fn a_worker_of_redis_is_scaled_up_and_to_nothing_and_back_and_not_by_a_moment() {
    let (shop, server) = (shop("lag-scale").await, Redis::plain().await);
    let (mut client, mut worker) = (server.client().await, server.client().await);
    ask(&mut client, &["XGROUP", "CREATE", "jobs", "workers", "0", "MKSTREAM"]).await;
    let fill = async |count: usize| {
        for n in 0..count {
            add(&mut client, &["n", &n.to_string()]).await;
        }
    };
    scaled(&shop, group(&server), fill, async |count| work(&mut worker, count).await).await;
}

#[tokio::test]
async fn a_worker_of_a_stream_is_scaled_up_and_to_nothing_and_back_and_not_by_a_moment() {
    let (shop, server) = (shop("lag-scale-nats").await, Nats::start("", &[]).await);
    let context = server.stream().await;
    let stream = context.get_stream("JOBS").await.expect("the stream");
    let config = consumer::pull::Config { durable_name: Some("workers".into()), ..consumer::pull::Config::default() };
    let worker = stream.create_consumer(config).await.expect("a consumer");
    let fill = async |count: usize| {
        for _ in 0..count {
            context.publish("jobs.run", "1".into()).await.expect("published").await.expect("stored");
        }
    };
    let work = async |count: usize| {
        let mut fetched = worker.fetch().max_messages(count).messages().await.expect("asked");
        while let Some(one) = fetched.next().await {
            one.expect("a message").double_ack().await.expect("acknowledged");
        }
    };
    let place = json!({"jetStream": {"servers": [server.address()], "stream": "JOBS", "consumer": "workers"}});
    scaled(&shop, place, fill, work).await;
}

#[tokio::test]
async fn a_worker_of_a_queue_is_scaled_up_and_to_nothing_and_back_and_not_by_a_moment() {
    let broker = rabbitmq::shared().await;
    let (_connection, channel) = broker.channel().await;
    let shop = shop("lag-scale-amqp").await;
    secret(&shop, "rabbit", json!({"password": USER.1})).await;
    queue(&channel, "scale", &[]).await;
    let fill = async |count: usize| {
        for _ in 0..count {
            publish(&channel, ("", "scale"), b"1", BasicProperties::default()).await;
        }
    };
    let work = async |count: usize| {
        for _ in 0..count {
            get(&channel, "scale").await.expect("a message");
        }
    };
    scaled(&shop, amqp(broker, "scale"), fill, work).await;
}

fn amqp(broker: &rabbitmq::Rabbit, queue: &str) -> Value {
    let login = json!({"username": USER.0, "passwordSecretRef": {"name": "rabbit", "key": "password"}});
    json!({"amqp": {"address": broker.address(), "queue": queue, "login": login}})
}

#[tokio::test]
async fn what_is_ready_in_a_queue_is_its_lag() {
    let broker = rabbitmq::shared().await;
    let (_connection, channel) = broker.channel().await;
    let shop = shop("lag-amqp").await;
    secret(&shop, "rabbit", json!({"password": USER.1})).await;
    let sink =
        sampling(&shop, amqp(broker, "depth"), "${event.data.queue} ${event.data.lag} ${event.data.consumers}").await;
    let status = source_when(&shop, "plant", "no queue", refused("no queue 'depth'")).await;
    assert!(condition(&status, "Connected")["message"].as_str().is_some_and(|why| why.contains("workers make it")));
    queue(&channel, "depth", &[]).await;
    for n in ["1", "2", "3"] {
        publish(&channel, ("", "depth"), n.as_bytes(), BasicProperties::default()).await;
    }
    sampled(&sink, "depth 3 0").await;
    get(&channel, "depth").await.expect("a message");
    sampled(&sink, "depth 2 0").await;
    source_when(&shop, "plant", "lag", |status| status["lag"] == 2).await;
}
