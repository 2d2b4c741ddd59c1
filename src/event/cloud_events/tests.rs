use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::*;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json; charset=utf-8";

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn headers(pairs: Pairs<'_>) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

fn sent(kind: &str, body: &Value) -> Result<Vec<Event>, DecodeError> {
    decode(&headers(&[("content-type", kind)]), body.to_string().as_bytes())
}

fn refused(kind: &str, body: &Value) -> String {
    sent(kind, body).expect_err("refused").to_string()
}

fn temperature(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/sensors/floor-2", "type": "com.example.temp", "subject": "t17",
        "time": "2026-11-02T07:20:00Z", "datacontenttype": "application/json", "data": {"celsius": 71.5}})
}

/// A plain request in binary mode, with these headers in addition.
fn binary(more: Pairs<'_>, body: &[u8]) -> Result<Event, DecodeError> {
    let plain = [("ce-specversion", "1.0"), ("ce-id", "m-1"), ("ce-source", "/s"), ("ce-type", "com.example.temp")];
    let mut events = decode(&headers(&[&plain, more].concat()), body)?;
    Ok(events.remove(0))
}

#[test]
fn a_batch_is_as_many_events_and_what_they_lack_is_absent() {
    let batch = json!([
        temperature("m-1"),
        {"specversion": "1.0", "id": "m-2", "source": "/sensors/floor-2", "type": "com.example.temp",
            "time": "2026-11-02T07:20:01.5+01:00", "subject": null, "data": {"celsius": "72"}},
        {"specversion": "1.0", "id": "m-3", "source": "/sensors/floor-2", "type": "com.example.frame",
            "datacontenttype": "application/octet-stream", "data_base64": "AP/+gGZyYW1l"},
        {"specversion": "1.0", "id": "m-1", "source": "/sensors/floor-2", "type": "com.example.temp", "data": 1},
    ]);
    let events = sent(BATCH, &batch).expect("a batch");
    assert_eq!(events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["m-1", "m-2", "m-3", "m-1"]);
    assert_eq!((&events[1].subject, events[3].time), (&None, None));
    assert_eq!(events[1].time, Some("2026-11-02T06:20:01.5Z".parse().expect("a time")));
    assert_eq!(events[2].bytes.as_ref().expect("bytes").0, b"\x00\xff\xfe\x80frame");
    assert_eq!(events[2].data, Value::Null);
    assert_eq!(sent(BATCH, &json!([])), Ok(vec![]));
}

#[test]
fn one_event_of_a_batch_that_is_none_refuses_all_and_is_named() {
    let batch = json!([temperature("m-1"), {"specversion": "1.0", "source": "/x", "type": "com.example.noid"}]);
    assert_eq!(refused(BATCH, &batch), "event 1 of the batch: id is missing");
    assert!(refused(BATCH, &temperature("m-1")).contains("must be a list"));
    let many = Value::from(vec![temperature("m-1"); MAX_BATCH + 1]);
    assert_eq!(sent(BATCH, &many), Err(DecodeError::TooMany(MAX_BATCH + 1)));
}

#[test]
fn a_list_under_the_type_of_one_event_is_refused() {
    assert!(refused(STRUCTURED, &json!([temperature("m-1")])).contains("application/cloudevents-batch+json"));
}

#[test]
fn each_fault_of_an_event_is_told_by_the_attribute() {
    let with = |name: &str, value: Value| {
        let mut event = temperature("m-1");
        event[name] = value;
        refused(STRUCTURED, &event)
    };
    for name in ["specversion", "id", "source", "type"] {
        assert_eq!(with(name, Value::Null), format!("{name} is missing"));
        assert_eq!(with(name, json!("")), format!("{name} is empty"));
        assert_eq!(with(name, json!(7)), format!("{name} must be a text"));
    }
    assert_eq!(with("specversion", json!("0.3")), "specversion must be 1.0");
    assert!(with("time", json!("yesterday")).starts_with("time must be"));
    assert!(with("subject", json!("x".repeat(5000))).starts_with("subject has 5000 bytes"));
    assert!(with("subject", json!("a\nb")).contains("control characters"));
    assert!(with("type", json!("dev.signalbox.rule.failed")).contains("Signalbox's own"));
    assert!(with("Trace-Id", json!("1")).starts_with("Trace-Id: the name of an extension"));
    assert!(with("tags", json!(["a"])).starts_with("tags: an extension must be"));
    assert!(with("data_base64", json!("AA==")).contains("exclude each other"));
    let many = (0..100).fold(temperature("m-1"), |mut event, number| {
        event[format!("x{number}")] = json!(1);
        event
    });
    assert!(refused(STRUCTURED, &many).contains("extensions"), "one of 64 at most");
}

#[test]
fn extensions_are_kept_and_come_through_the_log_with_everything_else() {
    let mut sent_event = temperature("m-1");
    sent_event["traceparent"] = json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    sent_event["sampled"] = json!(true);
    sent_event["level"] = json!(3);
    let event = sent(STRUCTURED, &sent_event).expect("an event").remove(0);
    assert_eq!(event.extensions["level"], json!(3));
    assert_eq!(event.extensions["datacontenttype"], json!("application/json"));
    sent_event.as_object_mut().expect("a map").remove("specversion");
    assert_eq!(serde_json::to_value(&event).expect("JSON"), sent_event);
    assert_eq!(serde_json::from_value::<Event>(sent_event).expect("an event"), event);

    let frame = binary(&[("content-type", "image/png")], b"\x89PNG").expect("an event");
    let kept = serde_json::to_string(&frame).expect("JSON");
    assert!(kept.contains(r#""data_base64":"iVBORw==""#), "{kept}");
    assert_eq!(serde_json::from_str::<Event>(&kept).expect("an event"), frame);
}

#[test]
fn headers_of_binary_mode_are_decoded() {
    let more = [
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("CE-Quoted", r#""a \"b\" c\\d%21""#),
        ("ce-half", "100%"),
        ("content-type", "application/vnd.acme+json; charset=UTF-8"),
    ];
    let event = binary(&more, br#"{"id": 18446744073709551615}"#).expect("an event");
    assert_eq!(event.subject.as_deref(), Some("Euro € 😀"));
    assert_eq!(event.extensions["quoted"], json!(r#"a "b" c\d!"#));
    assert_eq!(event.extensions["half"], json!("100%"));
    assert_eq!(event.data, json!({"id": u64::MAX}));
    assert_eq!(event.extensions["datacontenttype"], json!("application/vnd.acme+json; charset=UTF-8"));
}

#[test]
fn a_body_is_what_its_content_type_says() {
    let body = |kind: &str, body: &[u8]| binary(&[("content-type", kind)], body).expect("an event");
    assert_eq!(body("text/plain", "ü".as_bytes()).data, json!("ü"));
    assert_eq!(body("text/plain", b"\xff").bytes.expect("bytes").0, b"\xff");
    assert_eq!(body("text/plain; charset=latin1", b"a").bytes.expect("bytes").0, b"a");
    assert_eq!(body("application/octet-stream", b"{}").bytes.expect("bytes").0, b"{}");
    assert_eq!((body("application/json", b"").data, body("image/png", b"").bytes), (Value::Null, None));
}

#[test]
fn what_is_no_cloud_event_is_refused_with_what_would_be() {
    let none = decode(&headers(&[("content-type", "application/json")]), b"{}").expect_err("no event").to_string();
    assert!(none.starts_with("specversion is missing: send application/cloudevents+json"), "{none}");
    let avro = sent("application/cloudevents+avro", &json!({})).expect_err("unsupported");
    assert!(matches!(avro, DecodeError::Unsupported(_)), "{avro}");
    let latin = sent("application/cloudevents+json; charset=ISO-8859-1", &temperature("m")).expect_err("unsupported");
    assert!(matches!(latin, DecodeError::Unsupported(_)), "{latin}");
    let cases: [(Pairs<'_>, &[u8], &str); 6] = [
        (&[("ce-subject", "%ff")], b"", "subject is no UTF-8"),
        (&[("ce-id", "m-2")], b"", "id: there are two such headers"),
        (&[("ce-data", "x")], b"", "other than data"),
        (&[("content-type", "a/json"), ("content-type", "b/json")], b"{}", "two content types"),
        (&[("content-type", "application/json")], br#"{"a": 1, "a": 2}"#, "a key stands twice"),
        (&[("content-type", "application/json")], b"{\"a\": \"\xff\"}", "no UTF-8"),
    ];
    for (more, body, why) in cases {
        let said = binary(more, body).expect_err(why).to_string();
        assert!(said.contains(why), "{said}");
    }
}
