//! Messages of brokers, and what else operators fetch, as events.
//!
//! CloudEvents are recognised: structured and batch by the content type, binary by headers. Of anything else the body is `data`: what its content type says,
//! and without one JSON if it is some, else text if it is UTF-8, else bytes ([`Event::bytes`]).

use k8s_openapi::{ByteString, jiff::Timestamp};
use serde_json::{Map, Value};

use super::{
    Event,
    cloud_events::{self, ContentType, attribute},
    json, trail,
};

pub use super::cloud_events::DecodeError;
pub use super::webhook::extension_named;

/// What names of headers that hold attributes of CloudEvents begin with: HTTP and NATS, Kafka, AMQP.
const PREFIXES: [&str; 4] = ["ce-", "ce_", "cloudEvents:", "cloudEvents_"];
/// The header that says how many steps of rules led to the message, as by HTTP.
const HOPS: &str = "signalbox-hops";
/// The header that says what the body is.
const CONTENT_TYPE: &str = "content-type";

/// What a message without an id of its own is told by when it comes again, as the protocol tells that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The same when it comes again, within the EventSource. Another message may have it once the broker is known to be done with this one.
    pub by: String,
    /// The broker says that it may have sent it before: it is no second event if it is remembered. Otherwise it is one, whatever is remembered.
    pub again: bool,
}

/// A message as it came.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    /// What it is told by, the same when it comes again, within `source`; nothing for one that cannot be told: each is an event of its own, whose id is
    /// made at receipt. A CloudEvent has its own.
    pub id: Option<String>,
    /// What one without an id is told by when it comes again, where there is such a thing.
    pub told: Option<Told>,
    /// CloudEvents `source` of what is no CloudEvent; see [`super::event_source::event_source`].
    pub source: String,
    /// CloudEvents `type` of what is no CloudEvent.
    pub type_: &'a str,
    /// CloudEvents `subject` of what is no CloudEvent.
    pub subject: Option<String>,
    /// CloudEvents `time` of what is no CloudEvent.
    pub time: Option<Timestamp>,
    /// What the body is, where the protocol says so elsewhere than in headers.
    pub content_type: Option<&'a str>,
    /// Headers, in their order. Which are kept, `extensions` says; attributes of CloudEvents are found here.
    pub headers: Vec<(String, String)>,
    /// What the protocol tells, by names of lower-case letters and digits: texts, whole numbers, true and false. They take the place of what a sender
    /// has put under the same names.
    pub extensions: Vec<(String, Value)>,
    /// The body.
    pub body: &'a [u8],
}

impl Message<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    /// The attributes of CloudEvents in binary mode; nothing when there are none.
    fn attributes(&self) -> Result<Option<Map<String, Value>>, DecodeError> {
        let mut members = Map::new();
        for (name, value) in &self.headers {
            let Some(prefix) = PREFIXES.into_iter().find(|prefix| begins_with(name, prefix)) else { continue };
            let attribute = name[prefix.len()..].to_ascii_lowercase();
            // As by HTTP only where headers hold no UTF-8.
            let value =
                if prefix == "ce-" { cloud_events::header_value(&attribute, value.as_bytes())? } else { value.clone() };
            if members.insert(attribute.clone(), value.into()).is_some() {
                return Err(DecodeError::Malformed(format!("{attribute:.40}: there are two such headers")));
            }
        }
        Ok(Some(members).filter(|members| members.contains_key("specversion")))
    }
}

/// Whether [`decode`] looks at a header of this name. Where one has no such name it needs not be among a message's headers.
pub fn is_heeded(name: &str) -> bool {
    let named = [CONTENT_TYPE, HOPS].into_iter().any(|known| name.eq_ignore_ascii_case(known));
    named || PREFIXES.into_iter().any(|prefix| begins_with(name, prefix))
}

fn begins_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The events of a message: one, or those of a batch. `made` makes the id of one that has none.
///
/// # Errors
/// Says what is wrong, without what was sent. It would be so again.
pub fn decode(message: &Message<'_>, made: impl FnOnce() -> String) -> Result<Vec<Event>, DecodeError> {
    let whole = message.content_type.or_else(|| message.header(CONTENT_TYPE)).unwrap_or_default();
    let content_type = ContentType::parse(whole);
    let mut events = match (cloud_events::formatted(&content_type, message.body)?, message.attributes()?) {
        (Some(events), _) => events,
        (None, Some(members)) => vec![described(members, &content_type, message.body)?],
        (None, None) => vec![plain(message, &content_type, made)?],
    };
    let hops = match message.header(HOPS).map(str::parse) {
        None => 0,
        Some(Ok(hops)) => hops,
        Some(Err(_)) => return Err(DecodeError::Malformed(format!("{HOPS} must be a whole number, 0 or more"))),
    };
    for event in &mut events {
        for (name, value) in &message.extensions {
            match value {
                Value::String(text) if text.is_empty() => {}
                Value::String(text) => attribute(name, text)?,
                _ => {}
            }
            event.extensions.insert(name.clone(), value.clone());
        }
        trail::arrive(event, hops).map_err(DecodeError::Malformed)?;
    }
    Ok(events)
}

/// A CloudEvent in binary mode. The content type may stand among its attributes, where the protocol has no place for it.
fn described(members: Map<String, Value>, content_type: &ContentType, body: &[u8]) -> Result<Event, DecodeError> {
    if !content_type.whole.is_empty() {
        return cloud_events::described(members, content_type, body);
    }
    let stated = members.get("datacontenttype").and_then(Value::as_str).unwrap_or_default();
    let content_type = ContentType::parse(stated);
    let mut event = cloud_events::described(members, &content_type, body)?;
    if content_type.whole.is_empty() {
        (event.data, event.bytes) = guess(body);
    }
    Ok(event)
}

fn plain(
    message: &Message<'_>,
    content_type: &ContentType,
    made: impl FnOnce() -> String,
) -> Result<Event, DecodeError> {
    let (data, bytes) = match content_type.whole.is_empty() {
        true => guess(message.body),
        false => content_type.payload(message.body)?,
    };
    let id = match &message.id {
        Some(id) => attribute("the message's id", id).map(|()| id.clone())?,
        None => made(),
    };
    if let Some(subject) = &message.subject {
        attribute("the message's subject", subject)?;
    }
    let event = Event::new(id, message.source.clone(), message.type_, data);
    let mut event = Event { bytes, subject: message.subject.clone(), time: message.time, ..event };
    if !content_type.whole.is_empty() {
        attribute("the content type", &content_type.whole)?;
        event.extensions.insert("datacontenttype".to_owned(), content_type.whole.clone().into());
    }
    Ok(event)
}

/// What the bytes are, by themselves.
fn guess(body: &[u8]) -> (Value, Option<ByteString>) {
    match (json::read(body), std::str::from_utf8(body)) {
        (Ok(document), _) => (document, None),
        (Err(_), Ok("")) => (Value::Null, None),
        (Err(_), Ok(text)) if !text.contains('\0') => (text.into(), None),
        _ => (Value::Null, Some(ByteString(body.to_vec()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STRUCTURED: &str = "application/cloudevents+json";

    fn message<'a>(headers: &[(&str, &str)], body: &'a [u8]) -> Message<'a> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (source, id) = ("/here".to_owned(), Some("jobs/7".to_owned()));
        let extensions = vec![("natssubject".to_owned(), json!("jobs.run")), ("natssequence".to_owned(), json!(7))];
        Message { id, source, type_: "com.acme.job", headers, extensions, body, ..Message::default() }
    }

    fn read(message: &Message<'_>) -> Result<Event, DecodeError> {
        decode(message, || "made".to_owned()).map(|mut events| events.remove(0))
    }

    fn data(headers: &[(&str, &str)], body: &[u8]) -> Value {
        let event = read(&message(headers, body)).expect("an event");
        event.bytes.map_or(event.data, |bytes| json!({"bytes": bytes.0}))
    }

    #[test]
    fn what_has_no_content_type_is_json_else_text_else_bytes() {
        assert_eq!(data(&[], br#"{"n": 1}"#), json!({"n": 1}));
        assert_eq!(data(&[], b"21.5"), json!(21.5));
        assert_eq!(data(&[], b"12 seconds"), json!("12 seconds"));
        assert_eq!(data(&[], br#"{"amount":1e400}"#), json!(r#"{"amount":1e400}"#), "a number that nobody can hold");
        assert_eq!(data(&[], b""), Value::Null);
        assert_eq!(data(&[], b"\xff\x01"), json!({"bytes": [255, 1]}));
        assert_eq!(data(&[], b"a\0b"), json!({"bytes": [97, 0, 98]}));
    }

    #[test]
    fn a_content_type_is_believed() {
        assert_eq!(data(&[("Content-Type", "text/plain")], b"{}"), json!("{}"));
        assert_eq!(data(&[("content-type", "application/protobuf")], b"{}"), json!({"bytes": [123, 125]}));
        let no_json = message(&[("content-type", "application/json")], b"{");
        assert!(matches!(read(&no_json), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn cloud_events_are_recognised_in_every_mode() {
        let event = json!({"specversion": "1.0", "id": "x", "source": "/s", "type": "t", "data": 1, "subject": "own"});
        let structured = event.to_string();
        for mut one in [
            message(&[("Content-Type", STRUCTURED)], structured.as_bytes()),
            message(&[("ce-specversion", "1.0"), ("ce-id", "x"), ("ce-source", "/s"), ("ce-type", "t")], b"1"),
            message(&[("ce_specversion", "1.0"), ("ce_id", "x"), ("ce_source", "/s"), ("ce_type", "t")], b"1"),
        ] {
            one.subject = Some("theirs".to_owned());
            if !one.headers.iter().any(|(name, _)| name.starts_with("Content")) {
                one.content_type = Some("application/json");
            }
            let event = read(&one).expect("an event");
            assert_eq!((event.id.as_str(), event.source.as_str(), &event.data), ("x", "/s", &json!(1)));
            assert_eq!(event.extensions["natssubject"], "jobs.run", "what the protocol tells is there too");
            let own = one.content_type.is_none().then_some("own");
            assert_eq!(event.subject.as_deref(), own, "one without a subject has none");
        }
        let batch = json!([event, event]).to_string();
        let both =
            decode(&message(&[("content-type", "application/cloudevents-batch+json")], batch.as_bytes()), String::new);
        assert_eq!(both.map(|events| events.len()), Ok(2));
        let reserved = structured.replace("\"t\"", "\"dev.signalbox.rule.fired\"");
        assert!(read(&message(&[("content-type", STRUCTURED)], reserved.as_bytes())).is_err());
    }

    #[test]
    fn the_data_of_a_binary_cloud_event_is_what_its_attributes_say_or_what_it_is() {
        let with = |kind: Option<&'static str>| {
            let mut headers = vec![("ce-specversion", "1.0"), ("ce-id", "x"), ("ce-source", "/s"), ("ce-type", "t")];
            headers.extend(kind.map(|kind| ("ce-datacontenttype", kind)));
            data(&headers, b"7")
        };
        assert_eq!(with(None), json!(7));
        assert_eq!(with(Some("text/plain")), json!("7"));
        assert_eq!(with(Some("application/octet-stream")), json!({"bytes": [55]}));
    }

    #[test]
    fn a_sender_can_neither_make_out_where_a_message_was_nor_that_rules_had_no_part_in_it() {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "x"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-natssubject", "elsewhere"),
            ("ce-signalboxrules", "u1"),
            ("Signalbox-Hops", "3"),
        ];
        let event = read(&message(&headers, b"")).expect("an event");
        assert_eq!(event.extensions["natssubject"], "jobs.run");
        assert_eq!((trail::hops(&event), trail::rules(&event).count()), (3, 0));
        for hops in ["9", "x"] {
            assert!(
                matches!(read(&message(&[("Signalbox-Hops", hops)], b"")), Err(DecodeError::Malformed(_))),
                "{hops}"
            );
        }
    }

    #[test]
    fn one_without_an_id_gets_one_and_odd_ones_are_refused() {
        let mut one = message(&[], b"1");
        one.id = None;
        assert_eq!(read(&one).map(|event| event.id), Ok("made".to_owned()));
        for id in ["", "a\nb", &"x".repeat(5_000)] {
            one.id = Some(id.to_owned());
            assert!(matches!(read(&one), Err(DecodeError::Malformed(_))), "{id:.9}");
        }
    }
}
