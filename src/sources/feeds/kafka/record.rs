//! A record as a message.

use data_encoding::BASE64;
use k8s_openapi::jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use serde_json::Value;

use crate::{
    event::{
        cloud_events::attribute,
        message::{Message, is_heeded},
    },
    poison::{self, Poisoned},
};

/// What the events of a source have in common.
pub(super) struct Common {
    /// CloudEvents `source` of records that are no CloudEvents.
    pub(super) source: String,
    /// CloudEvents `type` of records that are no CloudEvents.
    pub(super) type_: String,
    /// Headers that are kept, and the extensions that they become.
    pub(super) kept: Vec<(String, String)>,
}

/// What a record holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// In milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> Record<'a> {
    /// What librdkafka has got.
    ///
    /// # Errors
    /// When librdkafka's wrapper panics over it, as over a header whose name is no UTF-8.
    pub(super) fn read(message: &'a BorrowedMessage<'_>) -> Result<Self, Poisoned> {
        let headers = poison::caught(|| {
            let headers =
                message.headers().map(|headers| headers.iter().map(|header| (header.key, header.value)).collect());
            headers.unwrap_or_default()
        })?;
        Ok(Self {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key(),
            value: message.payload(),
            headers,
        })
    }

    /// The record as a message.
    pub(super) fn message(&self, common: &'a Common) -> Message<'a> {
        let time = self.timestamp.and_then(|at| Timestamp::from_millisecond(at).ok());
        let text = |value: &Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        // Those that are kept are extensions.
        let heeded = self.headers.iter().filter(|(name, _)| is_heeded(name));
        Message {
            id: Some(self.id()),
            source: common.source.clone(),
            type_: &common.type_,
            subject: Some(self.topic.to_owned()),
            time,
            content_type: None,
            headers: heeded.map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
            extensions: self.extensions(common),
            told: None,
            body: self.value.unwrap_or_default(),
        }
    }

    /// Where it is. Of a topic that was deleted and made again the offsets begin again: the time tells its records from those before.
    fn id(&self) -> String {
        let Self { topic, partition, offset, .. } = self;
        match self.timestamp {
            Some(at) => format!("{topic}/{partition}/{offset}@{at}"),
            None => format!("{topic}/{partition}/{offset}"),
        }
    }

    fn extensions(&self, common: &Common) -> Vec<(String, Value)> {
        let mut extensions = Vec::new();
        for (header, extension) in &common.kept {
            let values: Vec<String> = self
                .headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(header))
                .map(|(_, value)| String::from_utf8_lossy(value.unwrap_or_default()).into_owned())
                .collect();
            if !values.is_empty() {
                extensions.push((extension.clone(), values.join(", ").into()));
            }
        }
        extensions.extend(self.key.and_then(key));
        extensions.push(("topic".to_owned(), self.topic.into()));
        extensions.push(("partition".to_owned(), self.partition.into()));
        extensions.push(("offset".to_owned(), self.offset.into()));
        extensions.push(("tombstone".to_owned(), self.value.is_none().into()));
        extensions
    }
}

/// The names of what a record tells, which no header may be kept as.
pub(super) const TOLD: [&str; 6] = ["key", "keybase64", "topic", "partition", "offset", "tombstone"];

/// The key as an extension: as text where it can be one, else as Base64; nothing where it is too long for both.
fn key(key: &[u8]) -> Option<(String, Value)> {
    if key.is_empty() {
        return Some(("key".to_owned(), "".into()));
    }
    match std::str::from_utf8(key).ok().filter(|text| attribute("key", text).is_ok()) {
        Some(text) => Some(("key".to_owned(), text.into())),
        None => {
            let encoded = BASE64.encode(key);
            attribute("keybase64", &encoded).is_ok().then(|| ("keybase64".to_owned(), encoded.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Event, message::decode};

    fn common() -> Common {
        Common {
            source: "/here".to_owned(),
            type_: "dev.signalbox.kafka".to_owned(),
            kept: vec![("trace".to_owned(), "trace".to_owned())],
        }
    }

    fn record<'a>(partition: i32, offset: i64, key: Option<&'a [u8]>, value: Option<&'a str>) -> Record<'a> {
        let (topic, timestamp) = ("orders.state", Some(1_764_460_800_000));
        Record { topic, partition, offset, timestamp, key, value: value.map(str::as_bytes), headers: Vec::new() }
    }

    fn event(record: &Record<'_>) -> Event {
        let common = common();
        decode(&record.message(&common), || unreachable!("a record has an id")).expect("an event").remove(0)
    }

    #[test]
    fn case_15_what_a_record_is_can_be_told() {
        let paid = Record {
            headers: vec![("trace", Some(b"abc"))],
            ..record(0, 100, Some(b"o-1"), Some(r#"{"status":"paid"}"#))
        };
        let event_ = event(&paid);
        assert_eq!(event_.id, "orders.state/0/100@1764460800000");
        assert_eq!((event_.subject.as_deref(), &event_.data), (Some("orders.state"), &json!({"status": "paid"})));
        assert_eq!(event_.time.map(|time| time.as_millisecond()), Some(1_764_460_800_000));
        let told = json!({"trace": "abc", "key": "o-1", "topic": "orders.state", "partition": 0, "offset": 100, "tombstone": false});
        assert_eq!(json!(event_.extensions), told);

        let gone = event(&record(0, 101, Some(b"o-1"), None));
        assert_eq!((&gone.data, &gone.extensions["tombstone"]), (&Value::Null, &json!(true)));

        let no_key = event(&record(1, 55, None, Some(r#"{"status":"paid"}"#)));
        assert!(!no_key.extensions.contains_key("key") && !no_key.extensions.contains_key("keybase64"));
        let empty = event(&record(1, 55, Some(b""), Some("")));
        assert_eq!((&empty.extensions["key"], &empty.extensions["tombstone"]), (&json!(""), &json!(false)));

        let odd = Record {
            headers: vec![("trace", None), ("trace", Some(b"x")), ("trace", Some(b"y"))],
            ..record(1, 56, Some(b"\xff\x01"), Some("not json"))
        };
        let odd = event(&odd);
        assert_eq!((&odd.data, &odd.extensions["keybase64"]), (&json!("not json"), &json!("/wE=")));
        assert_eq!(odd.extensions["trace"], ", x, y", "in their order");

        let huge = event(&record(1, 57, Some(b"o-2"), Some(r#"{"status":"refunded","amount":1e400}"#)));
        assert_eq!(huge.data, r#"{"status":"refunded","amount":1e400}"#, "a number that nobody can hold is text");
    }

    #[test]
    fn headers_that_mean_nothing_are_not_copied() {
        let headers = vec![
            ("trace", Some(&b"abc"[..])),
            ("x", Some(&[b'x'; 9_000])),
            ("Content-Type", Some(b"text/plain")),
            ("CE_type", Some(b"t")),
            ("signalbox-hops", Some(b"1")),
        ];
        let record = Record { headers, ..record(0, 1, None, Some("1")) };
        let common = common();
        let message = record.message(&common);
        let names: Vec<&str> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Content-Type", "CE_type", "signalbox-hops"]);
        assert_eq!(event(&record).extensions["trace"], "abc");
    }

    #[test]
    fn no_key_keeps_a_record_from_being_an_event() {
        let long = vec![b'k'; 5_000];
        for key in [&b"\0\0\0\0\0\0\0\x05"[..], b"two\nlines", &long, b"\xff"] {
            let event = event(&record(0, 1, Some(key), Some("1")));
            let encoded = event.extensions.get("keybase64").map(|value| json!(BASE64.encode(key)) == *value);
            assert_eq!((event.extensions.get("key"), encoded), (None, (key.len() < 3_000).then_some(true)));
        }
    }

    #[test]
    fn a_topic_that_was_made_again_has_other_records() {
        let first = record(0, 7, None, Some("1"));
        let again = Record { timestamp: Some(1_764_460_900_000), ..first.clone() };
        assert_eq!(event(&first).id, event(&first.clone()).id);
        assert_ne!(event(&first).id, event(&again).id);
    }

    #[test]
    fn a_cloud_event_is_itself_and_says_where_it_was() {
        let headers = vec![
            ("ce_specversion", Some(&b"1.0"[..])),
            ("ce_id", Some(b"a-1")),
            ("ce_source", Some(b"/shop")),
            ("ce_type", Some(b"com.acme.order")),
            ("ce_offset", Some(b"of the sender")),
            ("content-type", Some(b"application/json")),
        ];
        let binary = event(&Record { headers, ..record(2, 9, None, Some(r#"{"n":1}"#)) });
        assert_eq!((&*binary.id, &*binary.source, &*binary.type_), ("a-1", "/shop", "com.acme.order"));
        assert_eq!((&binary.data, &binary.extensions["offset"]), (&json!({"n": 1}), &json!(9)));
        let body = json!({"specversion": "1.0", "id": "a-2", "source": "/shop", "type": "com.acme.order", "data": 1})
            .to_string();
        let headers = vec![("content-type", Some(&b"application/cloudevents+json; charset=utf-8"[..]))];
        let structured = event(&Record { headers, ..record(2, 10, None, Some(&body)) });
        assert_eq!(
            (&*structured.id, &structured.data, &structured.extensions["partition"]),
            ("a-2", &json!(1), &json!(2))
        );
    }
}
