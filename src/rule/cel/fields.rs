//! Maps that are no JSON of their own: an event by its attributes, what is told of the rule, results of actions.

use serde_json::{Map, Value as Json};

use super::value::{Bytes, Value};
use crate::{
    event::Event,
    record::{Results, RuleRef},
};

/// A map that is borrowed, by what it shows.
#[derive(Clone, Copy)]
pub(super) enum Fields<'a> {
    /// A JSON object.
    Json(&'a Map<String, Json>),
    /// An event, by its CloudEvents attributes.
    Event(&'a Event),
    /// The results of earlier actions, or the values of a group.
    Results(&'a Results),
    /// `source` and `firing`: one text.
    Text(&'static str, &'a str),
    Rule(&'a RuleRef),
}

/// The attributes of an event, extensions left out.
pub(super) const OF_EVENT: [&str; 6] = ["id", "source", "type", "subject", "time", "data"];
/// What is known of the rule.
pub(super) const OF_RULE: [&str; 3] = ["name", "namespace", "uid"];

impl<'a> Fields<'a> {
    pub(super) fn get(self, key: &str) -> Option<Value<'a>> {
        match self {
            Fields::Json(map) => map.get(key).map(Value::from),
            Fields::Event(event) => of_event(event, key),
            Fields::Results(results) => results.get(key).filter(|value| !value.is_null()).map(Value::from),
            Fields::Text(name, text) => (name == key).then(|| Value::from(text)),
            Fields::Rule(rule) => match key {
                "name" => Some(Value::from(rule.name.as_str())),
                "namespace" => Some(Value::from(rule.namespace.as_str())),
                "uid" => Some(Value::from(&*rule.uid.0)),
                _ => None,
            },
        }
    }

    pub(super) fn keys(self) -> Vec<&'a str> {
        match self {
            Fields::Json(map) => map.keys().map(String::as_str).collect(),
            Fields::Event(event) => OF_EVENT
                .iter()
                .copied()
                .chain(event.extensions.keys().map(String::as_str))
                .filter(|key| of_event(event, key).is_some())
                .collect(),
            Fields::Results(results) => {
                results.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str()).collect()
            }
            Fields::Text(name, _) => vec![name],
            Fields::Rule(_) => OF_RULE.to_vec(),
        }
    }

    pub(super) fn len(self) -> usize {
        match self {
            Fields::Json(map) => map.len(),
            other => other.keys().len(),
        }
    }
}

fn of_event<'a>(event: &'a Event, key: &str) -> Option<Value<'a>> {
    Some(match key {
        "id" => Value::from(event.id.as_str()),
        "source" => Value::from(event.source.as_str()),
        "type" => Value::from(event.type_.as_str()),
        "subject" => Value::from(event.subject.as_deref()?),
        "time" => Value::text(event.time?.to_string()),
        "data" => match &event.bytes {
            Some(bytes) => Value::Bytes(Bytes::Borrowed(&bytes.0)),
            None => Value::from(&event.data),
        },
        name => Value::from(event.extensions.get(name)?),
    })
}
