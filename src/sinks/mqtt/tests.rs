use super::*;
use crate::sinks::{Publisher as _, testing::notification};

fn mqtt(spec: &str) -> Result<Mqtt, String> {
    let spec = serde_json::from_str(spec).expect("a spec");
    Mqtt::new(&spec).map_err(|error| error.to_string())
}

fn message(spec: &str) -> Message {
    mqtt(spec).expect("a sink").message("t", &Publication::of(&notification()))
}

#[test]
fn by_mqtt_5_attributes_are_user_properties_and_the_data_is_the_payload() {
    let Message { topic, payload, retain, properties } = message(r#"{"address": "h"}"#);
    assert_eq!((topic.as_str(), payload[0], retain), ("t", b'{', false));
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    let id = ("id".to_owned(), "0123456789abcdef0123-tell".to_owned());
    assert!(properties.user.contains(&id) && properties.user.contains(&("signalboxhops".into(), "3".into())));
    let Message { payload, properties, .. } = message(r#"{"address": "h", "mode": "Structured", "retain": true}"#);
    assert_eq!((properties.content_type.as_deref(), properties.user.len()), (Some(STRUCTURED), 0));
    assert!(payload.starts_with(b"{\"") && payload.windows(11).any(|part| part == b"specversion"));
}

#[test]
fn data_alone_has_no_attributes_and_by_mqtt_5_the_number_of_steps() {
    let Message { properties, .. } = message(r#"{"address": "h", "mode": "Data"}"#);
    assert_eq!(properties.user, [("signalbox-hops".to_owned(), "3".to_owned())]);
    let Message { properties, .. } = message(r#"{"address": "h", "mode": "Data", "protocol": "V311"}"#);
    assert_eq!(properties, Properties::default());
}

#[test]
fn what_is_wrong_with_a_spec_is_said() {
    for (spec, why) in [
        (r#"{"address": "h", "protocol": "V311"}"#, "mqtt.mode: Binary is for protocol V5"),
        (r#"{"address": "h:0"}"#, "mqtt.address: \"h:0\" is no address"),
        (r#"{"address": "h", "topic": "a/+"}"#, "mqtt.topic: a topic that is published to has no wildcards"),
        (r#"{"address": "h", "allowedTopics": ["a#"]}"#, "mqtt.allowedTopics \"a#\": # must be"),
        (
            r#"{"address": "h", "tls": {"clientKeySecretRef": {"name": "s", "key": "k"}}}"#,
            "mqtt.tls: clientCertificateSecretRef and clientKeySecretRef belong together",
        ),
    ] {
        let said = mqtt(spec).err().unwrap_or_default();
        assert!(said.contains(why), "{spec}: {said}");
    }
}

#[test]
fn an_event_cannot_lead_to_topics_that_the_sink_does_not_allow_nor_to_wildcards() {
    let sink = mqtt(r#"{"address": "h", "allowedTopics": ["plant/+/command"]}"#).expect("a sink");
    assert_eq!(sink.check(Some("plant/p1/command")), Ok(()));
    for topic in ["plant/p1/x/command", "plant/+/command", "plant/#", "other", "$SYS/a"] {
        assert!(sink.check(Some(topic)).is_err(), "{topic}");
    }
    assert!(sink.check(None).is_err_and(|why| why.contains("has no topic of its own: set mqtt.topic")));
}

#[test]
fn what_the_broker_does_not_take_is_not_sent() {
    let message = message(r#"{"address": "h", "retain": true}"#);
    let fault = |limits| fits(&message, limits).err().map(|error| (error.retry, error.message)).unzip().1;
    assert_eq!(fault(Limits::default()), None);
    for (limits, why) in [
        (Limits { packet: Some(100), ..Limits::default() }, "the broker takes 100"),
        (Limits { retain: false, ..Limits::default() }, "set mqtt.retain to false"),
        (Limits { qos: Qos::AtMostOnce, ..Limits::default() }, "QoS 0 only"),
    ] {
        assert!(fault(limits).is_some_and(|said| said.contains(why)), "{why}");
    }
}
