//! EventSources of kind `mqtt`, before a real Mosquitto.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use signalbox::net::mqtt::Properties;

use super::{
    mosquitto::{Mosquitto, QUIET, Say, Wire, publish, publish_once, say},
    servers::Authority,
    told::{GROUP, connected, listen, tell, tells, texts},
};
use crate::{
    secret, source_when, source_within,
    support::{
        PATIENCE, eventually,
        sink::Sink,
        site::{Shop, Site, condition, shop},
    },
};

/// A shop whose rule tells each event to the sink.
async fn told(prefix: &str, text: &str, source: Value) -> (Shop, Sink) {
    let (shop, sink) = (shop(prefix).await, Sink::start().await);
    listen(&shop, &sink, text, json!({"mqtt": source})).await;
    (shop, sink)
}

#[tokio::test]
async fn what_devices_say_is_an_event_once_however_many_topics_hold_it_and_by_both_versions() {
    let broker = Mosquitto::start().await;
    publish(broker.port, [retained("plant/p1/state", r#"{"seq":41}"#)]).await;
    let text = "${event.subject} ${string(event.retained)} ${event.data == null ? 'cleared' : string(event.data.seq)}";
    for protocol in ["V5", "V311"] {
        let topics = json!(["plant/+/state", "plant/#"]);
        let source = json!({"address": broker.address(), "protocol": protocol, "topics": topics, "retained": "Take"});
        let (shop, sink) = told("mqtt", text, source).await;
        tell(&sink, &["plant/p1/state true 41"]).await;
        let clear = retained("plant/p2/state", "");
        publish(broker.port, [say("plant/p1/state", r#"{"seq":42}"#), say("elsewhere", r#"{"seq":43}"#), clear]).await;
        let all = ["plant/p1/state true 41", "plant/p1/state false 42", "plant/p2/state false cleared"];
        tell(&sink, &all).await;
        let status = source_when(&shop, "plant", "all is counted", |status| status["received"] == 3).await;
        assert_eq!((&status["duplicates"], &status["rejected"]["total"]), (&json!(0), &json!(0)), "{status}");
    }
}

fn retained(topic: &str, payload: &str) -> Say {
    Say { retain: true, ..say(topic, payload) }
}

#[tokio::test]
async fn retained_messages_are_no_events_unless_they_are_asked_for() {
    let broker = Mosquitto::start().await;
    publish(broker.port, [retained("plant/p1/state", r#"{"seq":41}"#)]).await;
    let source = json!({"address": broker.address(), "topics": ["plant/#"]});
    let (shop, sink) = told("mqtt-retained", "${string(event.data.seq)}", source).await;
    publish(broker.port, [say("plant/p1/state", r#"{"seq":42}"#)]).await;
    tell(&sink, &["42"]).await;
    source_when(&shop, "plant", "one is counted", |status| status["received"] == 1).await;
}

#[tokio::test]
async fn payloads_and_properties_are_what_they_are() {
    let broker = Mosquitto::start().await;
    let text = "${event.type} ${event.id == 'own' ? 'own' : 'made'} ${event.?responsetopic.orValue('-')} \
        ${event.?correlationdata.orValue('-')} ${event.?firmwareversion.orValue('-')} \
        ${type(event.data) == bytes ? 'bytes ' + base64.encode(event.data) : string(event.data)}";
    let source = json!({"address": broker.address(), "topics": ["plant/#"], "userProperties": ["Firmware-Version"]});
    let (_shop, sink) = told("mqtt-payloads", text, source).await;
    let with = |payload: &[u8], properties: Properties| Say { properties, ..say("plant/x", payload) };
    let user = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let structured =
        json!({"specversion": "1.0", "id": "own", "source": "/s", "type": "com.acme.s", "data": 1}).to_string();
    publish(
        broker.port,
        [
            say("plant/x", "21.5"),
            say("plant/x", [0xff, 0x00, 0x01]),
            say("plant/x", "leak"),
            with(
                b"1",
                Properties {
                    response_topic: Some("plant/answers".to_owned()),
                    correlation_data: Some(vec![0xfe].into()),
                    user: user(&[("Firmware-Version", "7"), ("Firmware-Version", "8"), ("other", "x")]),
                    ..Properties::default()
                },
            ),
            with(
                structured.as_bytes(),
                Properties { content_type: Some("application/cloudevents+json".to_owned()), ..Properties::default() },
            ),
            with(
                b"{\"n\":1}",
                Properties {
                    content_type: Some("text/plain".to_owned()),
                    user: user(&[
                        ("specversion", "1.0"),
                        ("id", "own"),
                        ("source", "/b"),
                        ("type", "com.acme.b"),
                        ("X-Odd", "y"),
                    ]),
                    ..Properties::default()
                },
            ),
        ],
    )
    .await;
    let own = "dev.signalbox.mqtt made";
    tell(
        &sink,
        &[
            &format!("{own} - - - 21.5"),
            &format!("{own} - - - bytes /wAB"),
            &format!("{own} - - - leak"),
            &format!("{own} plant/answers /g== 7 1"),
            "com.acme.s own - - - 1",
            "com.acme.b own - - - {\"n\":1}",
        ],
    )
    .await;
}

#[tokio::test]
async fn what_was_stored_and_not_acknowledged_is_one_event_with_qos_2_over_kill_and_what_was_said_meanwhile_comes() {
    let site = Site::start().await;
    for protocol in ["V5", "V311"] {
        let mut broker = Mosquitto::start().await;
        let wire = Wire::to(broker.port).await;
        let operator = site.setup.start_ready().await;
        let (shop, sink) = (site.namespace("mqtt-kill").await, Sink::start().await);
        let address = format!("127.0.0.1:{}", wire.port);
        let source = json!({"address": address, "protocol": protocol, "topics": ["plant/#"], "qos": 2});
        listen(&shop, &sink, "${event.subject} ${string(event.data)}", json!({"mqtt": source})).await;
        publish_once(broker.port, [say("plant/a", "1")]).await;
        tell(&sink, &["plant/a 1"]).await;

        // The broker never hears that it was stored.
        wire.mute(true);
        publish_once(broker.port, [say("plant/a", "2"), say("plant/a", "2")]).await;
        tell(&sink, &["plant/a 1", "plant/a 2", "plant/a 2"]).await;
        operator.kill();
        wire.mute(false);
        publish_once(broker.port, [say("plant/a", "3"), say("plant/a", "2")]).await;
        let operator = site.setup.start_ready().await;
        let all = ["plant/a 1", "plant/a 2", "plant/a 2", "plant/a 2", "plant/a 3"];
        tell(&sink, &all).await;
        source_when(&shop, "plant", "what came again is told", |status| status["duplicates"] == 2).await;

        // The broker is away, and has what it had before.
        broker.restart().await;
        source_when(&shop, "plant", "connected again", connected).await;
        publish_once(broker.port, [say("plant/a", "4")]).await;
        tell(&sink, &[&all[..], &["plant/a 4"]].concat()).await;
        tokio::time::sleep(QUIET).await;
        assert_eq!(texts(&sink).len(), 6);
        shop.api(GROUP, "EventSource").delete("plant", &DeleteParams::default()).await.expect("deleted");
        operator.terminate().await;
    }
}

#[tokio::test]
async fn the_same_said_twice_is_two_events_also_when_the_second_comes_again() {
    let broker = Mosquitto::start().await;
    let wire = Wire::to(broker.port).await;
    let address = format!("127.0.0.1:{}", wire.port);
    let source = json!({"address": address, "topics": ["plant/#"], "qos": 2});
    let (shop, sink) = told("mqtt-twice", "${string(event.data)}", source).await;
    publish_once(broker.port, [say("plant/switch", "\"down\"")]).await;
    tell(&sink, &["down"]).await;
    wire.mute(true);
    publish_once(broker.port, [say("plant/switch", "\"down\"")]).await;
    tell(&sink, &["down", "down"]).await;
    wire.mute(false);
    // What is muted is found out by the broker or by the operator; a change of the EventSource is faster.
    let patch = Patch::Merge(json!({"spec": {"mqtt": {"topics": ["plant/#", "other/#"]}}}));
    shop.api(GROUP, "EventSource").patch("plant", &PatchParams::default(), &patch).await.expect("patched");
    publish_once(broker.port, [say("plant/switch", "\"down\"")]).await;
    tell(&sink, &["down", "down", "down"]).await;
    // The last may have come over the connection that is muted as well.
    let again = |status: &Value| status["duplicates"].as_u64() >= Some(1) && status["received"] == 3;
    source_when(&shop, "plant", "what came again is told", again).await;
}

#[tokio::test]
async fn a_password_that_is_mended_and_certificates_are_taken_as_the_broker_wants_them() {
    let authority = Authority::new();
    let (server, client) = (authority.sign("localhost"), authority.sign("operator"));
    let ca = authority.pem();
    let files =
        [("ca.pem", ca.as_str()), ("server.pem", &server.0), ("server.key", &server.1), ("passwords", PASSWORDS)];
    let config = "allow_anonymous false\npassword_file FOLDER/passwords\ncafile FOLDER/ca.pem\ncertfile FOLDER/server.pem\n\
        keyfile FOLDER/server.key\nrequire_certificate true";
    let broker = Mosquitto::with(config, &files).await;
    let (shop, sink) = (shop("mqtt-tls").await, Sink::start().await);
    let secrets = json!({"ca.crt": ca, "tls.crt": client.0, "tls.key": client.1, "password": "wrong-word"});
    secret(&shop, "broker", secrets).await;
    let key = |key: &str| json!({"name": "broker", "key": key});
    let source = json!({"mqtt": {"address": broker.address(), "topics": ["plant/#"],
        "login": {"username": "operator", "passwordSecretRef": key("password")},
        "tls": {"caSecretRef": key("ca.crt"), "clientCertificateSecretRef": key("tls.crt"), "clientKeySecretRef": key("tls.key"),
            "serverName": "localhost"}}});
    shop.sink("oncall", &sink.url("/")).await;
    shop.create(GROUP, "EventSource", "plant", json!({"spec": source})).await;
    // It is ready when the source is.
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("${string(event.data)}")})).await;
    let refused = |status: &Value| condition(status, "Authenticated")["status"] == "False";
    let status = source_when(&shop, "plant", "the password is wrong", refused).await;
    let said = condition(&status, "Authenticated")["message"].as_str().unwrap_or_default().to_owned();
    assert!(said.contains("not authorized") && !said.contains("word"), "{said}");

    let patch = Patch::Merge(json!({"stringData": {"password": "s3cret-word"}}));
    shop.api("v1", "Secret").patch("broker", &PatchParams::default(), &patch).await.expect("patched");
    source_within(&shop, "plant", "connected", 60, connected).await;
}

/// Of the user `operator` with the password `s3cret-word`: `mosquitto_passwd -b -c FILE operator s3cret-word`.
pub const PASSWORDS: &str = "operator:$7$101$PDjZR+baJCf8BSvM$TqqF0nN8LTTEg3U7SrTojGtKLQU6a2oHNZ7m+QR+34fdhiFe8nAQ2g1CKIbPm+MiG9ARfG+FxSm/WwFzZE98Cg==\n";

#[tokio::test]
async fn ten_thousand_messages_at_once_are_all_there_and_one_that_is_too_large_stops_nothing() {
    let broker = Mosquitto::with("allow_anonymous true\nmax_inflight_messages 0\nset_tcp_nodelay true", &[]).await;
    let (shop, sink) = (shop("mqtt-burst").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    let source = json!({"mqtt": {"address": broker.address(), "topics": ["plant/#"]}});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": source})).await;
    let rule = json!({
        "sources": [{"name": "plant", "ref": {"name": "plant"}}],
        "groupBy": [{"name": "all", "expression": "'all'"}],
        "trigger": {"value": {"expression": "double(event.data.n)", "aggregation": "Count", "within": "1h", "above": "9999"}},
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "all"}}],
    });
    shop.rule("count", rule).await;
    source_when(&shop, "plant", "connected", connected).await;
    let half = |from: u32| (from..from + 5_000).map(|n| say("plant/n", format!("{{\"n\":{n}}}")));
    let large = say("plant/large", vec![b'x'; 5 << 20]);
    publish(broker.port, half(0).chain([large]).chain(half(5_000))).await;
    let status = source_within(&shop, "plant", "all came", 60, |status| status["received"] == 10_000).await;
    assert_eq!(status["rejected"]["tooLarge"], 1, "{status}");
    assert_eq!(status["duplicates"], 0, "{status}");
    sink.await_requests(1).await;
}

#[tokio::test]
async fn of_a_shared_group_each_message_goes_to_one_member() {
    let broker = Mosquitto::start().await;
    let source = json!({"address": broker.address(), "topics": ["plant/+"], "sharedGroup": "operators"});
    let (one, first) = told("mqtt-shared", "${string(event.data)}", source.clone()).await;
    let (other, second) = told("mqtt-shared", "${string(event.data)}", source).await;
    publish(broker.port, (0..40).map(|n| say("plant/x", n.to_string()))).await;
    let wanted: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    eventually("all are told, by one or the other", PATIENCE, async || {
        let mut all = [texts(&first), texts(&second)].concat();
        all.sort_by_key(|text| text.parse::<u32>().unwrap_or_default());
        (all == wanted).then_some(())
    })
    .await;
    assert!(!texts(&first).is_empty() && !texts(&second).is_empty());
    drop((one, other));
}

#[tokio::test]
async fn a_device_that_falls_silent_is_told_of_and_so_is_its_last_will() {
    let broker = Mosquitto::start().await;
    let source = json!({"address": broker.address(), "topics": ["plant/+/beat", "plant/+/will"]});
    let (shop, sink) = told("mqtt-absent", "${event.subject} ${string(event.data)}", source).await;
    let silent = json!({
        "sources": [{"name": "plant", "ref": {"name": "plant"}}],
        "when": [{"name": "beat", "expression": "event.subject.endsWith('/beat')"}],
        "groupBy": [{"name": "device", "expression": "event.subject.split('/')[1]"}],
        "trigger": {"absent": {"for": "2s"}},
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${group.device} is silent"}}],
    });
    shop.rule("silent", silent).await;

    let mut options = rumqttc::MqttOptions::new("device", "127.0.0.1", broker.port);
    options.set_last_will(rumqttc::LastWill::new("plant/p1/will", "\"gone\"", rumqttc::QoS::AtLeastOnce, false));
    let (device, mut events) = rumqttc::AsyncClient::new(options, 8);
    device.publish("plant/p1/beat", rumqttc::QoS::AtLeastOnce, false, "1").await.expect("queued");
    while !matches!(events.poll().await.expect("a broker"), rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_))) {}
    publish(broker.port, [say("plant/p2/beat", "1")]).await;
    // Without a word to the broker.
    drop((device, events));
    let all = ["plant/p1/beat 1", "plant/p1/will gone", "plant/p2/beat 1", "p1 is silent", "p2 is silent"];
    tell(&sink, &all).await;
}

#[tokio::test]
async fn what_an_earlier_version_subscribed_to_is_given_up_and_a_source_that_is_gone_leaves_no_connection() {
    let broker = Mosquitto::with("allow_anonymous true\nlog_type all", &[]).await;
    let source = json!({"address": broker.address(), "topics": ["plant/+/state"]});
    let (shop, sink) = told("mqtt-edit", "${event.subject}", source).await;
    let edit = async |topics: Value| {
        let patch = Patch::Merge(json!({"spec": {"mqtt": {"topics": topics}}}));
        shop.api(GROUP, "EventSource").patch("plant", &PatchParams::default(), &patch).await.expect("patched");
    };
    edit(json!(["other/#"])).await;
    source_when(&shop, "plant", "connected", connected).await;
    publish(broker.port, [say("plant/p1/state", "1"), say("other/1", "1")]).await;
    tell(&sink, &["other/1"]).await;
    eventually("the broker has no other subscription", PATIENCE, async || {
        let log = broker.log();
        let (_, given_up) = log.split_once("Received UNSUBSCRIBE")?;
        given_up.contains("plant/+/state").then_some(())
    })
    .await;
    edit(json!(["plant/+/state", "plant/p1/+"])).await;
    let refused =
        |status: &Value| condition(status, "Ready")["message"].as_str().is_some_and(|said| said.contains("overlap"));
    source_when(&shop, "plant", "what overlaps is refused", refused).await;
    // An edit has closed one already.
    let closed = || broker.log().matches("closed its connection").count();
    let before = closed();
    shop.api(GROUP, "EventSource").delete("plant", &DeleteParams::default()).await.expect("deleted");
    eventually("the connection is closed", PATIENCE, async || (closed() > before).then_some(())).await;
}
