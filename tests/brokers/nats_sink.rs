//! EventSinks of kind `nats`, before a real server.

use async_nats::jetstream::{self, consumer::pull};
use futures::StreamExt as _;
use serde_json::json;
use signalbox::sinks::{Publication, Retry};

use super::{
    nats::Server,
    publishing::{Alone, delivered, ended, event, mend, not_delivering, publishes, sink},
};
use crate::{
    secret,
    support::{PATIENCE, eventually, site::shop},
};

async fn stored(context: &jetstream::Context) -> u64 {
    let mut stream = context.get_stream("JOBS").await.expect("the stream");
    stream.info().await.expect("told").state.messages
}

#[tokio::test]
async fn an_event_is_stored_once_with_its_attributes_also_when_it_is_sent_again_or_the_server_was_away() {
    let mut server = Server::start("", &[]).await;
    let context = server.stream().await;
    let shop = shop("nats-sink").await;
    sink(&shop, json!({"nats": {"servers": [server.address()], "allowedSubjects": ["jobs.*", "none.*"]}})).await;
    let publish =
        json!({"topic": "jobs.${event.data.regarding.name}", "type": "com.acme.größe", "key": "k", "data": {"a": 1}});
    shop.rule("say", publishes(publish)).await;
    shop.event("p1.1", "p1", "BackOff").await;
    delivered(&shop, 1).await;
    let stream = context.get_stream("JOBS").await.expect("the stream");
    let consumer = stream.create_consumer(pull::Config::default()).await.expect("a consumer");
    let mut messages = consumer.messages().await.expect("messages");
    let message = messages.next().await.expect("a message").expect("read");
    assert_eq!((message.subject.as_str(), message.payload.as_ref()), ("jobs.p1", &br#"{"a":1}"#[..]));
    let header = |name: &str| {
        message
            .headers
            .as_ref()
            .and_then(|all| all.get(name))
            .map(|value| value.as_str().to_owned())
            .unwrap_or_default()
    };
    assert_eq!(
        ["ce-specversion", "ce-type", "ce-partitionkey", "ce-signalboxhops", "content-type"].map(header),
        ["1.0", "com.acme.gr%C3%B6%C3%9Fe", "k", "1", "application/json"]
    );
    assert!(header("Nats-Msg-Id").ends_with("-say") && header("Nats-Msg-Id") == header("ce-id"));
    drop(messages);

    // The id is the stream's, too: what is sent again is not stored again.
    let spec = json!({"nats": {"servers": [server.address()], "subject": "jobs.x"}});
    let alone = Alone::new(spec, &[]);
    let notes = [alone.publish(event("same", json!(1))).await, alone.publish(event("same", json!(1))).await];
    assert_eq!(notes.map(|taken| taken.expect("taken").note), [None, Some("stream JOBS had it already".to_owned())]);
    assert_eq!((stored(&context).await, alone.connections.len()), (2, 1));

    server.kill();
    shop.event("p2.1", "p2", "BackOff").await;
    not_delivering(&shop).await;
    server.begin().await;
    delivered(&shop, 2).await;
    let context = server.stream().await;
    assert_eq!(stored(&context).await, 3);
    alone.publish(event("more", json!(1))).await.expect("by another connection");

    let none = json!({"topic": "none.a", "data": 1});
    shop.rule("none", publishes(none)).await;
    shop.event("p3.1", "p3", "BackOff").await;
    let said = ended(&shop, "none", "Failed").await;
    assert!(said.contains("no stream of JetStream takes the subject none.a: make one"), "{said}");
}

#[tokio::test]
async fn without_a_stream_the_server_tells_that_it_has_it_and_what_the_user_may_not_do() {
    let config = r#"authorization { users = [
        {user: "operator", password: "s3cret-word", permissions: {publish: ["open.>", "jobs.>"], subscribe: ["_INBOX.>"]}},
        {user: "all", password: "s3cret-word"} ] }"#;
    let server = Server::start(config, &[]).await;
    let listener = async_nats::ConnectOptions::with_user_and_password("all".into(), "s3cret-word".into());
    let listener =
        eventually("a client is connected", PATIENCE, async || listener.clone().connect(server.address()).await.ok())
            .await;
    let mut heard = listener.subscribe("open.>").await.expect("subscribed");
    listener.flush().await.expect("flushed");
    let shop = shop("nats-sink-auth").await;
    secret(&shop, "broker", json!({"password": "wrong-word"})).await;
    let login =
        |user: &str| json!({"login": {"username": user, "passwordSecretRef": {"name": "broker", "key": "password"}}});
    let spec = json!({"nats": {"servers": [server.address()], "subject": "open.a", "acknowledge": "Server", "mode": "Structured", "auth": login("operator")}});
    sink(&shop, spec.clone()).await;
    shop.rule("say", publishes(json!({"data": 1}))).await;
    shop.event("p1.1", "p1", "BackOff").await;
    let said = not_delivering(&shop).await;
    assert!(said.contains("authorization violation") && !said.contains("word"), "{said}");
    mend(&shop, "broker", json!({"password": "s3cret-word"})).await;
    shop.event("p2.1", "p2", "BackOff").await;
    delivered(&shop, 1).await;
    let message = heard.next().await.expect("a message");
    let document: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert_eq!((&document["specversion"], &document["data"]), (&json!("1.0"), &json!(1)));

    for (user, acknowledge, topic, retry, words) in [
        ("operator", "Server", "closed.a", Some(Retry::Never), "let the user publish to it"),
        ("operator", "JetStream", "closed.a", Some(Retry::Never), "let the user publish to it"),
        ("operator", "Server", "open.b", None, ""),
        ("all", "Server", "open.c", None, ""),
    ] {
        let mut spec = spec.clone();
        (spec["nats"]["acknowledge"], spec["nats"]["auth"]) = (json!(acknowledge), login(user));
        let alone = Alone::new(spec, &[("password", "s3cret-word")]);
        let taken = alone.publish(Publication { topic: Some(topic.into()), ..event("1", json!(1)) }).await;
        assert_eq!(taken.as_ref().err().map(|error| error.retry), retry, "{user} {topic}: {taken:?}");
        let said = taken.err().map(|error| error.message).unwrap_or_default();
        assert!(said.contains(words) && !said.contains("word"), "{said}");
    }
    let refused = Alone::new(spec, &[("password", "s3cret-word")]).guarded().publish(event("1", json!(1))).await;
    assert_eq!(refused.expect_err("loopback").retry, Retry::Never);
}
