//! EventSinks of kind `mqtt`, before a real Mosquitto.

use serde_json::{Value, json};
use signalbox::sinks::{Publication, Retry};

use super::{
    mosquitto::{Mosquitto, Subscriber, publish, say},
    mqtt::PASSWORDS,
    publishing::{Alone, delivered, ended, event, mend, not_delivering, publishes, sink},
    servers::Authority,
    told::{GROUP, connected},
};
use crate::{secret, source_when, support::site::shop};

#[tokio::test]
async fn a_command_reaches_the_device_with_its_attributes_and_that_nobody_listens_is_told() {
    let broker = Mosquitto::start().await;
    let mut device = Subscriber::to(broker.port, "plant/+/command").await;
    let shop = shop("mqtt-sink").await;
    sink(&shop, json!({"mqtt": {"address": broker.address(), "allowedTopics": ["plant/+/command"]}})).await;
    let publish = json!({"topic": "plant/${event.data.regarding.name}/command", "type": "com.acme.restart", "key": "k", "data": {"do": "restart"}});
    shop.rule("command", publishes(publish)).await;
    shop.event("p1.1", "p1", "BackOff").await;
    let command = device.next().await;
    assert_eq!((command.topic.as_str(), command.payload.as_ref()), ("plant/p1/command", &br#"{"do":"restart"}"#[..]));
    assert_eq!(command.properties.content_type.as_deref(), Some("application/json"));
    let user = |name: &str| {
        let mut all = command.properties.user.iter().filter(|(known, _)| known == name);
        all.next().map(|(_, value)| value.clone()).unwrap_or_default()
    };
    assert_eq!(
        ["specversion", "type", "partitionkey", "signalboxhops"].map(user),
        ["1.0", "com.acme.restart", "k", "1"]
    );
    assert!(user("id").ends_with("-say"), "{}", user("id"));
    assert!(
        ended(&shop, "command", "Succeeded")
            .await
            .contains("published com.acme.restart to EventSink broker, topic plant/p1/command")
    );

    drop(device);
    shop.event("p2.1", "p2", "BackOff").await;
    delivered(&shop, 2).await;
    let told = |status: &Value| status["recent"][0].to_string().contains("no matching subscribers");
    shop.rule_status("command", "that nobody listens is told", told).await;
    // What the event says leads nowhere else.
    shop.rule("elsewhere", publishes(json!({"topic": "plant/${event.data.regarding.name}/x/command", "data": 1})))
        .await;
    shop.event("p3.1", "p3", "BackOff").await;
    let said = ended(&shop, "elsewhere", "Failed").await;
    assert!(said.contains("lets no rule name the topic") && said.contains("mqtt.allowedTopics"), "{said}");
}

#[tokio::test]
async fn what_a_broker_that_is_away_was_to_get_comes_once_it_is_back() {
    let mut broker = Mosquitto::start().await;
    let shop = shop("mqtt-sink-away").await;
    sink(&shop, json!({"mqtt": {"address": broker.address(), "topic": "state", "mode": "Data", "retain": true}})).await;
    shop.rule("say", publishes(json!({"contentType": "text/plain", "data": "${event.data.regarding.name}"}))).await;
    shop.event("p1.1", "p1", "BackOff").await;
    delivered(&shop, 1).await;
    broker.kill();
    shop.event("p2.1", "p2", "BackOff").await;
    let said = not_delivering(&shop).await;
    assert!(said.contains("connect") || said.contains("closed"), "{said}");
    broker.begin().await;
    delivered(&shop, 2).await;
    // The broker has kept it.
    let mut device = Subscriber::to(broker.port, "state").await;
    let said = device.next().await;
    assert_eq!((said.payload.as_ref(), said.retained), (&b"p2"[..], true));
    assert_eq!(said.properties.user, [("signalbox-hops".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn a_wrong_password_and_a_topic_that_is_not_for_the_user_are_told_and_mended_without_a_restart() {
    let authority = Authority::new();
    let (server, ca) = (authority.sign("localhost"), authority.pem());
    let acl = "user operator\ntopic write open/#\n";
    let files = [("server.pem", server.0.as_str()), ("server.key", &server.1), ("passwords", PASSWORDS), ("acl", acl)];
    let config = "allow_anonymous false\npassword_file FOLDER/passwords\nacl_file FOLDER/acl\ncertfile FOLDER/server.pem\n\
        keyfile FOLDER/server.key";
    let broker = Mosquitto::with(config, &files).await;
    let shop = shop("mqtt-sink-tls").await;
    secret(&shop, "broker", json!({"ca": ca, "password": "wrong-word"})).await;
    let key = |key: &str| json!({"name": "broker", "key": key});
    let spec = json!({"mqtt": {"address": broker.address(), "topic": "open/a",
        "login": {"username": "operator", "passwordSecretRef": key("password")},
        "tls": {"caSecretRef": key("ca"), "serverName": "localhost"}}});
    sink(&shop, spec.clone()).await;
    shop.rule("say", publishes(json!({"data": 1}))).await;
    shop.event("p1.1", "p1", "BackOff").await;
    let said = not_delivering(&shop).await;
    assert!(said.contains("not authorized") && !said.contains("word"), "{said}");
    mend(&shop, "broker", json!({"password": "s3cret-word"})).await;
    shop.event("p2.1", "p2", "BackOff").await;
    delivered(&shop, 1).await;

    let mut alone = Alone::new(spec, &[("ca", &ca), ("password", "s3cret-word")]);
    alone.publish(event("1", json!(1))).await.expect("published");
    let closed = Publication { topic: Some("closed/a".into()), ..event("2", json!(1)) };
    let refused = alone.publish(closed).await.expect_err("not for the user");
    assert_eq!(refused.retry, Retry::Never);
    assert!(refused.message.contains("not authorized: let the user publish to the topic"), "{refused}");
    // Another password is another connection, and the one there was stays what it was.
    alone.secrets(&[("password", "wrong-word")]);
    let refused = alone.publish(event("3", json!(1))).await.expect_err("the password is wrong");
    assert_eq!((refused.retry, refused.message.contains("word")), (Retry::FreshSecrets, false), "{refused}");
    alone.secrets(&[("password", "s3cret-word"), ("ca", "no PEM")]);
    let refused = alone.publish(event("4", json!(1))).await.expect_err("no authority");
    assert_eq!(refused.retry, Retry::FreshSecrets, "{refused}");
    alone.secrets(&[("ca", &Authority::new().pem())]);
    let refused = alone.publish(event("5", json!(1))).await.expect_err("another authority");
    assert_eq!((refused.retry, refused.message.contains("certificate")), (Retry::After(None), true), "{refused}");
}

#[tokio::test]
async fn many_at_once_share_a_connection_that_is_made_again_when_it_broke() {
    let mut broker = Mosquitto::with("allow_anonymous true\nmax_inflight_messages 2\nmax_packet_size 2000", &[]).await;
    let mut device = Subscriber::to(broker.port, "a").await;
    for protocol in ["V5", "V311"] {
        let spec =
            json!({"mqtt": {"address": broker.address(), "protocol": protocol, "topic": "a", "mode": "Structured"}});
        let alone = Alone::new(spec.clone(), &[]);
        let all = (0..50).map(|number| alone.publish(event(&number.to_string(), json!(number))));
        for taken in futures::future::join_all(all).await {
            taken.expect("taken");
        }
        assert_eq!(alone.connections.len(), 1);
        let mut ids = Vec::new();
        for _ in 0..50 {
            let event: Value = serde_json::from_slice(&device.next().await.payload).expect("JSON");
            ids.push(event["data"].as_u64().expect("a number"));
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..50).collect::<Vec<_>>());
        broker.restart().await;
        device = Subscriber::to(broker.port, "a").await;
        alone.publish(event("again", json!(1))).await.expect("by another connection");
        device.next().await;
        let large = alone.publish(event("large", json!("x".repeat(2_000)))).await;
        if protocol == "V5" {
            let refused = large.expect_err("too large");
            assert_eq!(
                (refused.retry, refused.message.contains("the broker takes 2000")),
                (Retry::Never, true),
                "{refused}"
            );
        }
        let refused = Alone::new(spec, &[]).guarded().publish(event("g", json!(1))).await.expect_err("loopback");
        assert_eq!(refused.retry, Retry::Never, "{refused}");
    }
}

#[tokio::test]
async fn what_is_cancelled_stops_and_a_broker_that_says_nothing_is_not_waited_for_for_ever() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let alone = Alone::new(json!({"mqtt": {"address": address, "topic": "a"}}), &[]);
    let publishing = alone.publish(event("1", json!(1)));
    let (mut stream, _) = tokio::select! {
        published = publishing => panic!("{published:?}"),
        accepted = listener.accept() => accepted.expect("a connection"),
    };
    // It was dropped, and the connection with it.
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), read).await;
    assert!(ended.is_ok(), "it is still connected");
    let refused = alone.publish(event("1", json!(1)));
    let error = refused.await.expect_err("nobody answers");
    assert_eq!(error.retry, Retry::After(None));
    assert!(error.message.contains("did not answer"), "{error}");
}

#[tokio::test]
async fn a_rule_that_publishes_where_it_listens_ends_after_so_many_steps() {
    let broker = Mosquitto::start().await;
    let shop = shop("mqtt-loop").await;
    let source = json!({"mqtt": {"address": broker.address(), "topics": ["loop"]}});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": source})).await;
    sink(&shop, json!({"mqtt": {"address": broker.address(), "topic": "loop"}})).await;
    let mut rule = publishes(json!({"type": "com.acme.loop", "data": 1}));
    rule["sources"] = json!([{"name": "plant", "ref": {"name": "plant"}}]);
    shop.rule("loop", rule).await;
    source_when(&shop, "plant", "connected", connected).await;
    publish(broker.port, [say("loop", "1")]).await;
    let status = source_when(&shop, "plant", "the chain ended", |status| status["rejected"]["total"] == 1).await;
    assert_eq!(status["received"], 9, "{status}");
}
