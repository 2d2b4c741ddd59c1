//! Requests that are no CloudEvents, as events: the body is `data`.
//!
//! JSON is kept as it is. A form becomes a map of texts; one with nothing but `payload`, which holds JSON, becomes that (GitHub's default). Text stays
//! text, everything else is bytes.

use http::HeaderMap;
use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use super::{
    Event,
    cloud_events::{ContentType, DecodeError, attribute},
    json,
};

/// The content type of forms.
const FORM: &str = "application/x-www-form-urlencoded";
/// The field in which senders put JSON.
const PAYLOAD: &str = "payload";

/// The event of a request, without subject and time.
///
/// # Errors
/// When the body is not what the content type says, or the id cannot be one.
pub fn decode(headers: &HeaderMap, body: &[u8], id: &str, source: &str, type_: &str) -> Result<Event, DecodeError> {
    attribute("the delivery's id", id)?;
    let content_type = ContentType::of(headers)?;
    let (data, bytes) = payload(&content_type, body)?;
    let mut event = Event { bytes, ..Event::new(id, source, type_, data) };
    if !content_type.whole.is_empty() {
        attribute("the content type", &content_type.whole)?;
        event.extensions.insert("datacontenttype".to_owned(), content_type.whole.into());
    }
    Ok(event)
}

fn payload(content_type: &ContentType, body: &[u8]) -> Result<(Value, Option<ByteString>), DecodeError> {
    if content_type.media != FORM {
        return content_type.payload(body);
    }
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        if fields.insert(name.into_owned(), value.into_owned().into()).is_some() {
            return Err(DecodeError::Malformed("a field of the form is there twice".to_owned()));
        }
    }
    match fields.get(PAYLOAD).and_then(Value::as_str) {
        Some(text) if fields.len() == 1 => match json::read(text.as_bytes()) {
            Ok(document) => Ok((document, None)),
            Err(why) if text.trim_start().starts_with(['{', '[']) => {
                Err(DecodeError::Malformed(format!("read JSON of the form's payload: {why}")))
            }
            Err(_) => Ok((fields.into(), None)),
        },
        _ => Ok((fields.into(), None)),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};
    use serde_json::json;

    use super::*;

    fn data(kind: &str, body: &str) -> Result<Value, DecodeError> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(kind).expect("a value"))]);
        decode(&headers, body.as_bytes(), "d-1", "/source", "com.acme.push").map(|event| event.data)
    }

    #[test]
    fn json_and_the_json_of_a_form_are_the_same_event() {
        let document =
            json!({"head_commit": {"message": "Bump & \"burst\" = 100% + ümlaut\n\nBye"}, "id": 19876543210_u64});
        let form =
            form_urlencoded::Serializer::new(String::new()).append_pair("payload", &document.to_string()).finish();
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
    fn what_is_no_json_stays_what_it_is() {
        assert_eq!(data("text/plain", "hello"), Ok(json!("hello")));
        let event = decode(&HeaderMap::new(), b"{}", "d-1", "/source", "t").expect("an event");
        assert_eq!((event.bytes, event.data), (Some(ByteString(b"{}".to_vec())), Value::Null));
        assert!(matches!(data("application/json", "{"), Err(DecodeError::Malformed(_))));
        let odd = decode(&HeaderMap::new(), b"", "a\nb", "/source", "t").expect_err("no id").to_string();
        assert!(odd.contains("control characters"), "{odd}");
    }
}
