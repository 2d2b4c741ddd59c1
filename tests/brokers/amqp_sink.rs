//! EventSinks of kind `amqp`, before a real RabbitMQ.

use lapin::{
    options::BasicGetOptions,
    types::{AMQPValue, ShortString},
};
use serde_json::json;
use signalbox::sinks::{Publication, Retry};

use super::{
    mosquitto::Wire,
    publishing::{Alone, delivered, ended, event, mend, not_delivering, publishes, sink},
    rabbitmq::{USER, get, queue, shared},
};
use crate::{secret, support::site::shop};

#[tokio::test]
async fn an_event_is_confirmed_and_one_that_no_queue_takes_is_told() {
    let (_connection, channel) = shared().await.channel().await;
    queue(&channel, "sink-orders", &[]).await;
    let shop = shop("amqp-sink").await;
    secret(&shop, "broker", json!({"password": "wrong-word"})).await;
    let login = json!({"username": USER.0, "passwordSecretRef": {"name": "broker", "key": "password"}});
    let spec = json!({"amqp": {"address": shared().await.address(), "routingKey": "sink-orders", "login": login}});
    sink(&shop, spec).await;
    shop.rule("say", publishes(json!({"type": "com.acme.größe", "key": "k", "data": {"a": 1}}))).await;
    shop.event("p1.1", "p1", "BackOff").await;
    let said = not_delivering(&shop).await;
    assert!(said.contains("ACCESS") && !said.contains("word"), "{said}");
    mend(&shop, "broker", json!({"password": USER.1})).await;
    shop.event("p2.1", "p2", "BackOff").await;
    delivered(&shop, 1).await;
    let got = channel.basic_get("sink-orders".into(), BasicGetOptions { no_ack: true }).await.expect("an answer");
    let message = got.expect("a message").delivery;
    assert_eq!(message.data, br#"{"a":1}"#);
    let properties = &message.properties;
    let id = properties.message_id().as_ref().map(ShortString::as_str).unwrap_or_default();
    assert!(id.ends_with("-say"), "{id}");
    assert_eq!(
        (*properties.delivery_mode(), properties.content_type().as_ref().map(ShortString::as_str)),
        (Some(2), Some("application/json"))
    );
    let headers = properties.headers().clone().expect("headers");
    for (name, value) in
        [("cloudEvents:type", "com.acme.größe"), ("cloudEvents:partitionkey", "k"), ("cloudEvents:signalboxhops", "1")]
    {
        assert_eq!(headers.inner().get(name), Some(&AMQPValue::LongString(value.into())), "{name}");
    }
    shop.rule("nowhere", publishes(json!({"topic": "nowhere", "data": 1}))).await;
    shop.event("p3.1", "p3", "BackOff").await;
    let said = ended(&shop, "nowhere", "Failed").await;
    assert!(said.contains("no queue takes what is published to queue nowhere: NO_ROUTE"), "{said}");
}

#[tokio::test]
async fn what_the_broker_refuses_harms_no_other_and_a_connection_that_is_cut_is_made_again() {
    let (_connection, channel) = shared().await.channel().await;
    queue(&channel, "sink-many", &[]).await;
    let wire = Wire::to(shared().await.port).await;
    let login = json!({"username": USER.0, "passwordSecretRef": {"name": "broker", "key": "password"}});
    let spec = |address: &str, exchange: Option<&str>| {
        let mut spec = json!({"amqp": {"address": address, "routingKey": "sink-many", "login": login}});
        if let Some(exchange) = exchange {
            spec["amqp"]["exchange"] = exchange.into();
        }
        spec
    };
    let address = format!("127.0.0.1:{}", wire.port);
    let alone = Alone::new(spec(&address, None), &[("password", USER.1)]);
    let lost = Publication { topic: Some("gone".into()), ..event("lost", json!(1)) };
    let all = (0..20).map(|number| alone.publish(event(&number.to_string(), json!(number))));
    let (all, lost) = futures::future::join(futures::future::join_all(all), alone.publish(lost)).await;
    assert!(all.into_iter().all(|taken| taken.is_ok()));
    assert_eq!((lost.expect_err("no route").retry, alone.connections.len()), (Retry::Never, 1));
    wire.cut();
    let mut again = alone.publish(event("again", json!(1))).await;
    // That it is cut is known a moment later.
    if again.as_ref().is_err_and(|error| error.retry == Retry::After(None)) {
        again = alone.publish(event("again", json!(1))).await;
    }
    again.expect("by another connection");
    let mut count = 0;
    while get(&channel, "sink-many").await.is_some() {
        count += 1;
    }
    assert_eq!(count, 21);

    let address = shared().await.address();
    let missing =
        Alone::new(spec(&address, Some("no-such")), &[("password", USER.1)]).publish(event("1", json!(1))).await;
    let missing = missing.expect_err("no exchange");
    assert_eq!((missing.retry, missing.message.contains("no exchange 'no-such'")), (Retry::Never, true), "{missing}");
    let wrong = Alone::new(spec(&address, None), &[("password", "wrong-word")]).publish(event("1", json!(1))).await;
    let wrong = wrong.expect_err("another password");
    assert_eq!((wrong.retry, wrong.message.contains("word")), (Retry::FreshSecrets, false), "{wrong}");
    let guarded =
        Alone::new(spec(&address, None), &[("password", USER.1)]).guarded().publish(event("1", json!(1))).await;
    assert_eq!(guarded.expect_err("loopback").retry, Retry::Never);
}
