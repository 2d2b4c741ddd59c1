//! EventSources of kind `amqp`, before a real RabbitMQ.

use kube::api::{DeleteParams, Patch, PatchParams};
use lapin::{
    BasicProperties, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use super::{
    mosquitto::Wire,
    rabbitmq::{USER, get, publish, queue, shared},
    servers::Authority,
    told::{GROUP, connected, listen, tell, tells, texts},
};
use crate::{
    secret, secret_in, source_when,
    support::{
        PATIENCE, eventually,
        sink::Sink,
        site::{Shop, Site, condition, shop},
    },
};

fn source(address: &str, queue: &str) -> Value {
    json!({"address": address, "queue": queue, "login": {"username": USER.0, "passwordSecretRef": {"name": "rabbit", "key": "password"}}})
}

async fn told(prefix: &str, text: &str, mut more: Value, queue: &str) -> (Shop, Sink) {
    let (shop, sink) = (shop(prefix).await, Sink::start().await);
    secret(&shop, "rabbit", json!({"password": USER.1})).await;
    let mut source = source(&shared().await.address(), queue);
    for (key, value) in more.as_object_mut().into_iter().flatten() {
        source[key] = value.take();
    }
    listen(&shop, &sink, text, json!({"amqp": source})).await;
    (shop, sink)
}

fn id(id: &str) -> BasicProperties {
    BasicProperties::default().with_message_id(id.into())
}

#[tokio::test]
async fn messages_are_events_and_what_is_none_goes_to_the_dead_letters() {
    let (_connection, channel) = shared().await.channel().await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    for (exchange, kind) in [("orders", ExchangeKind::Topic), ("dead", ExchangeKind::Fanout)] {
        let made = channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default());
        made.await.expect("an exchange");
    }
    queue(&channel, "dead-letters", &[]).await;
    let bind = channel.queue_bind(
        "dead-letters".into(),
        "dead".into(),
        "".into(),
        lapin::options::QueueBindOptions::default(),
        FieldTable::default(),
    );
    bind.await.expect("bound");
    let more = json!({"declare": {"deadLetterExchange": "dead"}, "headers": ["x-tenant", "x-tries"],
        "bindings": [{"exchange": "orders", "routingKeys": ["orders.*.created", "orders.eu.#"]}]});
    let text = "${event.amqproutingkey} ${event.?amqpexchange.orValue('-')} ${event.id.startsWith('m-') ? event.id : 'made'} \
        ${event.?xtenant.orValue('-')} ${string(event.?xtries.orValue(0))} ${event.?correlationid.orValue('-')} \
        ${type(event.data) == bytes ? 'bytes' : string(event.data)}";
    let (shop, sink) = told("amqp", text, more, "all-orders").await;

    let mut headers = FieldTable::default();
    headers.insert("x-tenant".into(), AMQPValue::LongString("acme".into()));
    headers.insert("x-tries".into(), AMQPValue::LongInt(3));
    let described = id("m-1").with_headers(headers).with_correlation_id("c-1".into());
    publish(&channel, ("orders", "orders.us.created"), b"1", described.clone()).await;
    publish(&channel, ("orders", "orders.us.created"), b"1", described).await;
    publish(&channel, ("orders", "orders.us.paid"), b"nobody asks", id("m-2")).await;
    publish(&channel, ("", "all-orders"), &[0xff, 0], BasicProperties::default()).await;
    publish(
        &channel,
        ("orders", "orders.eu.x"),
        b"{",
        BasicProperties::default().with_content_type("application/json".into()),
    )
    .await;
    publish(&channel, ("orders", "orders.eu.x"), &vec![b'x'; 5 << 20], BasicProperties::default()).await;
    let mut attributes = FieldTable::default();
    for (name, value) in [("specversion", "1.0"), ("id", "m-9"), ("source", "/s"), ("type", "com.acme.order")] {
        attributes.insert(format!("cloudEvents:{name}").into(), AMQPValue::LongString(value.into()));
    }
    let event = BasicProperties::default().with_content_type("application/json".into()).with_headers(attributes);
    publish(&channel, ("orders", "orders.eu.x"), b"2", event).await;

    let wanted = [
        "orders.us.created orders m-1 acme 3 c-1 1",
        "all-orders - made - 0 - bytes",
        "orders.eu.x orders m-9 - 0 - 2",
    ];
    tell(&sink, &wanted).await;
    let counted = |status: &Value| status["rejected"]["total"] == 2 && status["received"] == 3;
    let status = source_when(&shop, "plant", "all is counted", counted).await;
    assert_eq!(status["duplicates"], 1, "{status}");
    let first = eventually("a dead letter", PATIENCE, async || get(&channel, "dead-letters").await).await;
    let second = eventually("another", PATIENCE, async || get(&channel, "dead-letters").await).await;
    assert_eq!((first.as_slice(), second.len()), (b"{".as_slice(), 5 << 20));
    assert_eq!(get(&channel, "all-orders").await, None, "all is acknowledged");
}

#[tokio::test]
async fn what_was_stored_and_not_acknowledged_is_one_event_over_kill_if_it_has_an_id_and_nothing_is_lost() {
    let site = Site::start().await;
    let (_connection, channel) = shared().await.channel().await;
    queue(&channel, "kill", &[]).await;
    let wire = Wire::to(shared().await.port).await;
    let operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("amqp-kill").await, Sink::start().await);
    secret_in(&site.plane, &shop, "rabbit", json!({"password": USER.1})).await;
    let source = source(&format!("127.0.0.1:{}", wire.port), "kill");
    listen(&shop, &sink, "${string(event.data)}", json!({"amqp": source})).await;
    let say = async |text: &str, properties| publish(&channel, ("", "kill"), text.as_bytes(), properties).await;
    say("1", id("m-1")).await;
    tell(&sink, &["1"]).await;
    wire.mute(true);
    say("2", id("m-2")).await;
    say("2", id("m-3")).await;
    say("3", BasicProperties::default()).await;
    tell(&sink, &["1", "2", "2", "3"]).await;
    operator.kill();
    wire.mute(false);
    say("2", id("m-4")).await;
    let operator = site.setup.start_ready().await;
    let all = ["1", "2", "2", "2", "3", "3"];
    tell(&sink, &all).await;
    source_when(&shop, "plant", "what came again is told", |status| status["duplicates"] == 2).await;
    // A connection that is cut is made again.
    wire.cut();
    say("4", id("m-5")).await;
    tell(&sink, &[&all[..], &["4"]].concat()).await;
    operator.terminate().await;
    assert_eq!(texts(&sink).len(), 7);
}

#[tokio::test]
async fn those_of_a_namespace_share_a_connection_and_what_is_refused_to_one_harms_no_other() {
    let (_connection, channel) = shared().await.channel().await;
    let wire = Wire::to(shared().await.port).await;
    let (shop, sink) = (shop("amqp-line").await, Sink::start().await);
    secret(&shop, "rabbit", json!({"password": USER.1})).await;
    shop.sink("oncall", &sink.url("/")).await;
    let address = format!("127.0.0.1:{}", wire.port);
    let names: Vec<String> = (0..6).map(|number| format!("line{number}")).collect();
    for name in &names {
        queue(&channel, name, &[]).await;
        let spec = json!({"spec": {"amqp": source(&address, name)}});
        shop.create(GROUP, "EventSource", name, spec).await;
    }
    // One of which there is no queue, and one that asks how deep one is.
    shop.create(GROUP, "EventSource", "none", json!({"spec": {"amqp": source(&address, "linenone")}})).await;
    let depth = json!({"spec": {"queueLag": {"interval": "1s", "amqp": source(&address, "line0")}}});
    shop.create(GROUP, "EventSource", "depth", depth).await;
    let heard = |name: &str| json!({"name": name, "ref": {"name": name}});
    let mut rule = tells("${source.name} ${string(event.data)}");
    rule["sources"] = names.iter().map(|name| heard(name)).collect();
    shop.create(GROUP, "EventRule", "tell", json!({"spec": rule})).await;
    let mut rule = tells("x");
    (rule["sources"], rule["mode"]) = (json!([heard("none"), heard("depth")]), json!("Observe"));
    shop.create(GROUP, "EventRule", "others", json!({"spec": rule})).await;
    let missing = |status: &Value| {
        condition(status, "Connected")["message"].as_str().is_some_and(|said| said.contains("no queue 'linenone'"))
    };
    source_when(&shop, "none", "the queue is missing", missing).await;
    let sampled = |status: &Value| connected(status) && status["lag"] == 0 && status["received"] != 0;
    source_when(&shop, "depth", "it samples", sampled).await;
    for name in &names {
        source_when(&shop, name, "connected", connected).await;
        publish(&channel, ("", name), b"1", BasicProperties::default()).await;
    }
    let all = |rounds: &[&str]| -> Vec<String> {
        rounds.iter().flat_map(|round| names.iter().map(move |name| format!("{name} {round}"))).collect()
    };
    let told = async |rounds: &[&str]| {
        let all = all(rounds);
        tell(&sink, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    };
    told(&["1"]).await;
    assert_eq!(wire.open(), 1, "one connection for eight EventSources");

    // When it breaks, all of them have another, which is one again.
    wire.cut();
    for name in &names {
        publish(&channel, ("", name), b"2", BasicProperties::default()).await;
    }
    told(&["1", "2"]).await;
    eventually("there is one connection", PATIENCE, async || (wire.open() == 1).then_some(())).await;
    // It is there as long as anybody uses it.
    for name in ["tell", "others"] {
        shop.api(GROUP, "EventRule").delete(name, &DeleteParams::default()).await.expect("deleted");
    }
    eventually("there is no connection", PATIENCE, async || (wire.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn what_the_broker_refuses_is_told_in_its_words_and_mended_without_a_restart() {
    let (_connection, channel) = shared().await.channel().await;
    let (shop, sink) = (shop("amqp-refused").await, Sink::start().await);
    secret(&shop, "rabbit", json!({"password": "wrong-word"})).await;
    shop.sink("oncall", &sink.url("/")).await;
    let spec = json!({"amqp": source(&shared().await.address(), "late")});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec})).await;
    // It is ready when the source is.
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("${string(event.data)}")})).await;
    let refused = |status: &Value| condition(status, "Authenticated")["status"] == "False";
    let status = source_when(&shop, "plant", "the password is wrong", refused).await;
    let said = condition(&status, "Authenticated")["message"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("ACCESS") && !said.contains("word"), "{said}");

    let patch = Patch::Merge(json!({"stringData": {"password": USER.1}}));
    shop.api("v1", "Secret").patch("rabbit", &PatchParams::default(), &patch).await.expect("patched");
    let missing = |status: &Value| {
        condition(status, "Connected")["message"].as_str().is_some_and(|said| said.contains("no queue 'late'"))
    };
    crate::source_within(&shop, "plant", "the queue is missing", 60, missing).await;
    queue(&channel, "late", &[]).await;
    crate::source_within(&shop, "plant", "connected", 60, connected).await;

    let threads = async || {
        let open = channel.queue_declare("late".into(), passive(), FieldTable::default()).await.expect("a queue");
        open.consumer_count()
    };
    assert_eq!(threads().await, 1);
    shop.api(GROUP, "EventSource").delete("plant", &DeleteParams::default()).await.expect("deleted");
    eventually("nobody consumes it", PATIENCE, async || (threads().await == 0).then_some(())).await;
}

fn passive() -> lapin::options::QueueDeclareOptions {
    lapin::options::QueueDeclareOptions { passive: true, ..Default::default() }
}

#[tokio::test]
async fn five_thousand_messages_at_once_are_all_there() {
    let (_connection, channel) = shared().await.channel().await;
    queue(&channel, "burst", &[]).await;
    let (shop, sink) = told("amqp-burst", "${string(event.data)}", json!({}), "burst").await;
    let rule = json!({
        "sources": [{"name": "plant", "ref": {"name": "plant"}}],
        "groupBy": [{"name": "all", "expression": "'all'"}],
        "trigger": {"value": {"expression": "double(event.data)", "aggregation": "Count", "within": "1h", "above": "4999"}},
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "all"}}],
    });
    shop.api(GROUP, "EventRule").delete("tell", &DeleteParams::default()).await.expect("deleted");
    shop.rule("count", rule).await;
    let mut confirms = Vec::new();
    for n in 0..5_000 {
        let (body, options) = (n.to_string(), lapin::options::BasicPublishOptions::default());
        let sent =
            channel.basic_publish("".into(), "burst".into(), options, body.as_bytes(), BasicProperties::default());
        confirms.push(sent.await.expect("sent"));
    }
    for confirm in confirms {
        confirm.await.expect("confirmed");
    }
    crate::source_within(&shop, "plant", "all came", 60, |status| status["received"] == 5_000).await;
    sink.await_requests(1).await;
    assert_eq!(get(&channel, "burst").await, None);
}

#[tokio::test]
async fn a_broker_is_trusted_by_its_authority_and_name_and_shown_a_certificate() {
    let broker = shared().await;
    let (_connection, channel) = broker.channel().await;
    queue(&channel, "tls", &[]).await;
    let (shop, sink, client) = (shop("amqp-tls").await, Sink::start().await, broker.authority.sign("operator"));
    let other = Authority::new();
    let values = json!({"ca": broker.authority.pem(), "other": other.pem(), "cert": client.0, "key": client.1});
    secret(&shop, "rabbit-tls", values).await;
    secret(&shop, "rabbit", json!({"password": USER.1})).await;
    let key = |key: &str| json!({"name": "rabbit-tls", "key": key});
    let spec = |ca: &str, name: &str, shown: bool| {
        let mut source = source(&format!("127.0.0.1:{}", broker.tls_port), "tls");
        source["tls"] = json!({"caSecretRef": key(ca), "serverName": name});
        let shown = if shown { [key("cert"), key("key")] } else { [Value::Null, Value::Null] };
        let names = ["clientCertificateSecretRef", "clientKeySecretRef"];
        names.into_iter().zip(shown).for_each(|(name, value)| source["tls"][name] = value);
        json!({"amqp": source})
    };
    shop.sink("oncall", &sink.url("/")).await;
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec("other", "rabbitmq.shop.svc", true)})).await;
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("${string(event.data)}")})).await;
    let refused = |why: &'static str| {
        move |status: &Value| {
            let connected = condition(status, "Connected");
            connected["status"] == "False" && connected["message"].as_str().is_some_and(|said| said.contains(why))
        }
    };
    let edit = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        shop.api(GROUP, "EventSource").patch("plant", &PatchParams::default(), &patch).await.expect("edited");
    };
    source_when(&shop, "plant", "signed by a stranger", refused("invalid peer certificate")).await;
    edit(spec("ca", "another.shop.svc", true)).await;
    source_when(&shop, "plant", "another's certificate", refused("not valid for name")).await;
    edit(spec("ca", "rabbitmq.shop.svc", false)).await;
    source_when(&shop, "plant", "it shows no certificate", refused("set tls.clientCertificateSecretRef")).await;
    edit(spec("ca", "rabbitmq.shop.svc", true)).await;
    source_when(&shop, "plant", "connected", connected).await;
    publish(&channel, ("", "tls"), b"by TLS", BasicProperties::default()).await;
    tell(&sink, &["by TLS"]).await;
}
