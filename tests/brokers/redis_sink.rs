//! EventSinks of kind `redis`, before a real server.

use std::time::Duration;

use redis::{Value as Answer, cmd};
use serde_json::json;
use signalbox::sinks::{Publication, Retry};
use tokio::time::timeout;

use super::{
    publishing::{Alone, delivered, ended, event, mend, not_delivering, publishes, sink},
    redis::{Server, ask},
    told::{GROUP, connected},
};
use crate::{secret, source_when, support::site::shop};

#[tokio::test]
async fn an_event_is_an_entry_that_a_source_reads_as_the_same_event_and_a_chain_ends() {
    let server = Server::plain().await;
    let mut client = server.client().await;
    let shop = shop("redis-sink").await;
    sink(
        &shop,
        json!({"redis": {"server": server.address(), "stream": "jobs", "allowedStreams": ["loop"], "maxLength": 1000}}),
    )
    .await;
    shop.rule("say", publishes(json!({"type": "com.acme.größe", "key": "k", "data": {"a": 1}}))).await;
    shop.event("p1.1", "p1", "BackOff").await;
    delivered(&shop, 1).await;
    let entries: Vec<(String, Vec<String>)> =
        cmd("XRANGE").arg("jobs").arg("-").arg("+").query_async(&mut client).await.expect("entries");
    let fields: Vec<(&str, &str)> = entries[0].1.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    for field in [
        ("ce_specversion", "1.0"),
        ("ce_type", "com.acme.größe"),
        ("ce_partitionkey", "k"),
        ("ce_datacontenttype", "application/json"),
        ("data", "{\"a\":1}"),
    ] {
        assert!(fields.contains(&field), "{field:?}: {fields:?}");
    }
    // A rule that adds to the stream that it reads.
    let source = json!({"redis": {"server": server.address(), "stream": "loop", "field": "data", "startFrom": "All"}});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": source})).await;
    let mut rule = publishes(json!({"topic": "loop", "type": "com.acme.loop", "data": 1}));
    rule["sources"] = json!([{"name": "plant", "ref": {"name": "plant"}}]);
    shop.rule("loop", rule).await;
    source_when(&shop, "plant", "connected", connected).await;
    ask(&mut client, &["XADD", "loop", "*", "data", "1"]).await;
    let status = source_when(&shop, "plant", "the chain ended", |status| status["rejected"]["total"] == 1).await;
    assert_eq!(status["received"], 9, "{status}");
}

#[tokio::test]
async fn a_server_that_is_away_or_full_is_tried_again_and_what_it_refuses_is_told() {
    let mut server =
        Server::start("port PORT\nuser operator on >s3cret-word ~jobs* ~full +xadd +client +select +ping", &[]).await;
    let mut client = server.client().await;
    let shop = shop("redis-sink-auth").await;
    secret(&shop, "broker", json!({"password": "wrong-word"})).await;
    let auth = json!({"username": "operator", "passwordSecretRef": {"name": "broker", "key": "password"}});
    let spec = json!({"redis": {"server": server.address(), "stream": "jobs", "mode": "Structured", "auth": auth}});
    sink(&shop, spec.clone()).await;
    shop.rule("say", publishes(json!({"data": 1}))).await;
    shop.event("p1.1", "p1", "BackOff").await;
    let said = not_delivering(&shop).await;
    assert!(!said.contains("wrong-word") && !said.contains("s3cret"), "{said}");
    ended(&shop, "say", "Failed").await;
    mend(&shop, "broker", json!({"password": "s3cret-word"})).await;
    shop.event("p2.1", "p2", "BackOff").await;
    delivered(&shop, 1).await;

    let alone = Alone::new(spec.clone(), &[("password", "s3cret-word")]);
    alone.publish(event("1", json!(1))).await.expect("added");
    let to = |stream: &str| Publication { topic: Some(stream.to_owned()), ..event("2", json!(1)) };
    let refused = alone.publish(to("other")).await.expect_err("not for the user");
    assert_eq!(
        (refused.retry, refused.message.contains("let the user run XADD on it")),
        (Retry::Never, true),
        "{refused}"
    );
    ask(&mut client, &["SET", "jobs-text", "x"]).await;
    let refused = alone.publish(to("jobs-text")).await.expect_err("no stream");
    assert_eq!((refused.retry, refused.message.contains("WRONGTYPE")), (Retry::Never, true), "{refused}");
    ask(&mut client, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = alone.publish(to("full")).await.expect_err("full");
    assert_eq!((refused.retry, refused.message.contains("OOM")), (Retry::After(None), true), "{refused}");
    ask(&mut client, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let wrong =
        Alone::new(spec.clone(), &[("password", "wrong-word")]).publish(event("3", json!(1))).await.expect_err("wrong");
    assert_eq!(wrong.retry, Retry::FreshSecrets, "{wrong}");
    let guarded = Alone::new(spec, &[("password", "s3cret-word")]).guarded().publish(event("3", json!(1))).await;
    assert_eq!(guarded.expect_err("loopback").retry, Retry::Never);

    // The server says nothing, and the action's own timeout is shorter than the sink's: nobody asks over that connection again.
    ask(&mut client, &["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    let silent = timeout(Duration::from_secs(1), alone.publish(to("jobs-silent"))).await;
    assert_eq!((silent.is_err(), alone.connections.len()), (true, 0));
    ask(&mut client, &["CLIENT", "UNPAUSE"]).await;

    server.kill();
    shop.event("p3.1", "p3", "BackOff").await;
    not_delivering(&shop).await;
    server.begin().await;
    delivered(&shop, 2).await;
    alone.publish(event("4", json!(1))).await.expect("by another connection");
    let mut client = server.client().await;
    assert_eq!(ask(&mut client, &["XLEN", "jobs"]).await, Answer::Int(4));
}
