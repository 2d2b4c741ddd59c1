use http::{HeaderValue, header};
use serde_json::json;

use super::*;

/// Headers of a request.
pub(super) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    pairs.map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_str(value).expect("a value"))).collect()
}

/// The only event of a delivery.
#[track_caller]
pub(super) fn one(delivery: Result<preset::Delivery, DecodeError>) -> preset::Told {
    let mut events = delivery.expect("a delivery").events;
    assert_eq!(events.len(), 1);
    events.remove(0)
}

fn data(kind: &str, body: &str) -> Result<Value, DecodeError> {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(kind).expect("a value"))]);
    decode(&headers, body.as_bytes(), "d-1", ("/source", "com.acme.push"), &[]).map(|event| event.data)
}

#[test]
fn json_and_the_json_of_a_form_are_the_same_event() {
    let document =
        json!({"head_commit": {"message": "Bump & \"burst\" = 100% + ümlaut\n\nBye"}, "id": 19876543210_u64});
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("payload", &document.to_string()).finish();
    assert_eq!(data("application/json; charset=utf-8", &document.to_string()), Ok(document.clone()));
    assert_eq!(data("application/x-www-form-urlencoded", &form), Ok(document));
}

#[test]
fn a_form_is_a_map_of_texts() {
    assert_eq!(data(FORM, "text=a+b&n=1"), Ok(json!({"text": "a b", "n": "1"})));
    assert_eq!(data(FORM, "payload=hello"), Ok(json!({"payload": "hello"})));
    assert_eq!(data(FORM, "payload=%7B%7D&n=1"), Ok(json!({"payload": "{}", "n": "1"})));
    for body in ["a=1&a=2", "payload=%7B", "payload=%7B%22a%22%3A1%2C%22a%22%3A2%7D"] {
        assert!(matches!(data(FORM, body), Err(DecodeError::Malformed(_))), "{body}");
    }
}

#[test]
fn headers_that_were_chosen_are_extensions_and_no_others() {
    let kept: Vec<KeptHeader> = ["x-github-event", "x-empty", "x-absent"]
        .map(HeaderName::from_static)
        .map(|header| (header.clone(), extension(&header).expect("a name")))
        .into();
    let pairs = [("x-github-event", "push ü"), ("x-empty", ""), ("x-other", "1"), ("authorization", "Bearer t")];
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    let read = |headers: &HeaderMap| decode(headers, b"{}", "d-1", ("/source", "t"), &kept);
    let event = read(&headers).expect("an event");
    assert_eq!(json!(event.extensions), json!({"xgithubevent": "push ü"}));
    for bad in [HeaderValue::from_bytes(b"\xff").expect("bytes"), HeaderValue::from_static("twice")] {
        let mut odd = headers.clone();
        if bad != "twice" {
            odd.remove("x-github-event");
        }
        odd.append("x-github-event", bad);
        assert!(matches!(read(&odd), Err(DecodeError::Malformed(_))));
    }
    let long = HeaderValue::from_str(&"x".repeat(5_000)).expect("a value");
    headers.insert("x-github-event", long);
    assert!(matches!(read(&headers), Err(DecodeError::Malformed(_))));
    for name in ["type", "data", "ID", "-", "data-schema", "Signalbox-Hops"] {
        assert_eq!(extension(&name.parse().expect("a name")), None, "{name}");
    }
}

#[test]
fn what_is_no_json_stays_what_it_is() {
    assert_eq!(data("text/plain", "hello"), Ok(json!("hello")));
    let event = decode(&HeaderMap::new(), b"{}", "d-1", ("/source", "t"), &[]).expect("an event");
    assert_eq!((event.bytes, event.data), (Some(ByteString(b"{}".to_vec())), Value::Null));
    assert!(matches!(data("application/json", "{"), Err(DecodeError::Malformed(_))));
    let odd = decode(&HeaderMap::new(), b"", "a\nb", ("/source", "t"), &[]).expect_err("no id").to_string();
    assert!(odd.contains("control characters"), "{odd}");
}
