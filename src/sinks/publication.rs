//! A published event, and what a protocol sends of it: the modes of CloudEvents 1.0.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>, `formats/json-format.md` beside it, and for the key
//! `extensions/partitioning.md`.

use serde_json::Value;

use super::Notification;
use crate::{
    api::is_json,
    event::{Event, rule_event, trail},
};

/// The `type` of notifications that arrive where events are taken.
const TYPE_NOTIFICATION: &str = "dev.signalbox.notification";
/// The attribute that says what the data is.
pub const CONTENT_TYPE: &str = "datacontenttype";
/// The extension that carries [`Publication::key`].
const PARTITION_KEY: &str = "partitionkey";
/// The content type of an event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";
const JSON: &str = "application/json";

/// An event on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The event. Its `id` is the same for every repetition, and for nothing else that its `source` publishes.
    pub event: Event,
    /// Where a broker is to put it; nothing: where the sink says.
    pub topic: Option<String>,
    /// What belongs together, where a broker keeps that in order.
    pub key: Option<String>,
    /// How many steps of rules led to it, itself counted.
    pub hops: u64,
}

impl Publication {
    /// The event that a notification is where events are taken. `source` and `id` are the same for every repetition of it and for no other.
    pub fn of(notification: &Notification) -> Self {
        let Notification { event, rule, id, hops, .. } = notification;
        let source = rule_event::event_source(&rule.namespace, &rule.name);
        let mut told = Event::new(id, source, TYPE_NOTIFICATION, notification.document());
        told.time = event.time;
        told.subject.clone_from(&event.subject);
        told.extensions.insert(CONTENT_TYPE.to_owned(), JSON.into());
        Self { event: told, topic: None, key: None, hops: *hops }
    }

    /// The whole event as JSON: structured mode, of the content type [`STRUCTURED`].
    pub fn structured(&self) -> Vec<u8> {
        let mut document = serde_json::to_value(&self.event).unwrap_or_default();
        document["specversion"] = "1.0".into();
        for (name, value) in self.own_extensions() {
            document[name] = value.into();
        }
        if self.event.bytes.is_some() || self.event.data.is_null() {
            document.as_object_mut().map(|members| members.remove("data"));
        }
        document.to_string().into_bytes()
    }

    /// The attributes and extensions without `datacontenttype`, for headers or properties: binary mode. A protocol puts its prefix before the names.
    pub fn attributes(&self) -> Vec<(String, String)> {
        let Event { id, source, type_, subject, time, extensions, .. } = &self.event;
        let fixed = [("specversion", "1.0"), ("id", id), ("source", source), ("type", type_)];
        let fixed = fixed.map(|(name, value)| (name, value.to_owned()));
        let optional = [("subject", subject.clone()), ("time", time.map(|time| time.to_string()))];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut attributes: Vec<(String, String)> =
            fixed.into_iter().chain(optional).map(|(name, value)| (name.to_owned(), value)).collect();
        let own = self.own_extensions();
        let others = extensions
            .iter()
            .filter(|(name, _)| *name != CONTENT_TYPE && !own.iter().any(|(known, _)| known == name))
            .map(|(name, value)| match value {
                Value::String(text) => (name.clone(), text.clone()),
                other => (name.clone(), other.to_string()),
            });
        attributes.extend(others);
        attributes.extend(own.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        attributes
    }

    /// What [`Publication::body`] is; nothing where it is not known.
    pub fn content_type(&self) -> Option<&str> {
        self.event.extensions.get(CONTENT_TYPE).and_then(Value::as_str)
    }

    /// The data as bytes: binary mode. Empty when there is none.
    pub fn body(&self) -> Vec<u8> {
        let json = self.content_type().is_none_or(is_json);
        match (&self.event.bytes, &self.event.data) {
            (Some(bytes), _) => bytes.0.clone(),
            (None, Value::Null) => Vec::new(),
            (None, Value::String(text)) if !json => text.clone().into_bytes(),
            (None, data) => data.to_string().into_bytes(),
        }
    }

    /// Those that Signalbox sets, as texts.
    fn own_extensions(&self) -> Vec<(&'static str, String)> {
        let key = self.key.clone().map(|key| (PARTITION_KEY, key));
        key.into_iter().chain([(trail::HOPS, self.hops.to_string())]).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn publication() -> Publication {
        let mut event = Event::new("f1-tell", "/rules/a", "com.acme.paid", json!({"sum": 3}));
        event.subject = Some("order/7".into());
        event.time = Some("2026-11-25T10:00:00Z".parse().expect("a time"));
        event.extensions.insert(CONTENT_TYPE.into(), "application/json".into());
        event.extensions.insert("level".into(), json!(4));
        Publication { event, topic: None, key: Some("order/7".into()), hops: 2 }
    }

    #[test]
    fn in_structured_mode_the_whole_event_is_one_document() {
        let document: Value = serde_json::from_slice(&publication().structured()).expect("JSON");
        assert_eq!(
            document,
            json!({
                "specversion": "1.0", "id": "f1-tell", "source": "/rules/a", "type": "com.acme.paid", "subject": "order/7",
                "time": "2026-11-25T10:00:00Z", "datacontenttype": "application/json", "level": 4, "partitionkey": "order/7",
                "signalboxhops": "2", "data": {"sum": 3},
            })
        );
    }

    #[test]
    fn in_binary_mode_attributes_are_texts_and_the_data_is_as_its_type_says() {
        let mut publication = publication();
        let attributes: Vec<_> = publication.attributes();
        let names: Vec<&str> = attributes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["specversion", "id", "source", "type", "subject", "time", "level", "partitionkey", "signalboxhops"]
        );
        assert_eq!(
            (publication.content_type(), publication.body()),
            (Some("application/json"), b"{\"sum\":3}".to_vec())
        );
        publication.event.data = "open".into();
        assert_eq!(publication.body(), b"\"open\"");
        publication.event.extensions.insert(CONTENT_TYPE.into(), "text/plain".into());
        assert_eq!(publication.body(), b"open");
        publication.event.data = Value::Null;
        assert_eq!(publication.body(), b"");
        publication.event.bytes = Some(ByteString(vec![0, 159]));
        assert_eq!(publication.body(), [0, 159]);
        let document: Value = serde_json::from_slice(&publication.structured()).expect("JSON");
        assert_eq!((&document["data_base64"], document.get("data")), (&json!("AJ8="), None));
    }

    #[test]
    fn what_the_event_says_of_hops_and_key_is_not_sent_beside_what_we_say() {
        let mut publication = publication();
        publication.event.extensions.insert(trail::HOPS.into(), json!(7));
        publication.event.extensions.insert(PARTITION_KEY.into(), "other".into());
        let document: Value = serde_json::from_slice(&publication.structured()).expect("JSON");
        assert_eq!((&document["signalboxhops"], &document["partitionkey"]), (&json!("2"), &json!("order/7")));
        let hops = publication.attributes().into_iter().filter(|(name, _)| name == trail::HOPS);
        assert_eq!(hops.collect::<Vec<_>>(), [("signalboxhops".to_owned(), "2".to_owned())]);
    }
}
