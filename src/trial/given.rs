//! What happens in a trial, as people write it: objects of Kubernetes, its Events among them, and CloudEvents.

use http::{HeaderMap, HeaderValue, header};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    api::{
        DEFAULT_AMQP_TYPE, DEFAULT_KAFKA_TYPE, DEFAULT_MQTT_TYPE, DEFAULT_NATS_TYPE, DEFAULT_REDIS_TYPE,
        DEFAULT_WEBHOOK_TYPE,
    },
    event::{Event, OWN_TYPES, TYPE_POD_LOG, TYPE_QUEUE_LAG, cloud_events, kubernetes_event, prometheus, rule_event},
};

/// The types of Signalbox's own that EventSources give to what they take.
const OF_SOURCES: [&str; 9] = [
    DEFAULT_AMQP_TYPE,
    DEFAULT_KAFKA_TYPE,
    DEFAULT_MQTT_TYPE,
    DEFAULT_NATS_TYPE,
    DEFAULT_REDIS_TYPE,
    DEFAULT_WEBHOOK_TYPE,
    TYPE_POD_LOG,
    TYPE_QUEUE_LAG,
    prometheus::TYPE,
];

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// An object comes into being, or changes. A Kubernetes Event is an object too.
    Object {
        /// The object.
        object: Value,
        /// How long ago it happened, in microseconds.
        late: i64,
    },
    /// An object goes.
    Deleted {
        /// The object, by its names at least.
        object: Value,
    },
    /// An EventSource takes an event, or another rule makes one.
    CloudEvent {
        /// The event, in the JSON format of CloudEvents; what is missing of `specversion`, `id` and `source` is made up.
        event: Value,
        /// Who it comes from; nothing for the only EventSource of the rule.
        from: Option<Maker>,
        /// How long ago it happened, in microseconds.
        late: i64,
    },
}

impl Given {
    pub(super) fn late(&self) -> i64 {
        match self {
            Self::Object { late, .. } | Self::CloudEvent { late, .. } => *late,
            Self::Deleted { .. } => 0,
        }
    }

    /// When it happened, as it says itself: a Kubernetes Event when it was seen last, another object when it was written last.
    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::CloudEvent { event, .. } => event.get("time")?.as_str()?.parse().ok(),
            Self::Object { object, .. } | Self::Deleted { object } if object["kind"] == "Event" => {
                kubernetes_event::time(object)
            }
            Self::Object { object, .. } | Self::Deleted { object } => {
                let writes = object.pointer("/metadata/managedFields").and_then(Value::as_array);
                let written =
                    writes.into_iter().flatten().filter_map(|write| write.get("time")?.as_str()?.parse().ok());
                let made = || object.pointer("/metadata/creationTimestamp")?.as_str()?.parse().ok();
                written.max().or_else(made)
            }
        }
    }

    /// The same, so long ago in microseconds; what is deleted is so at once.
    #[must_use]
    pub fn ago(mut self, ago: i64) -> Self {
        match &mut self {
            Self::Object { late, .. } | Self::CloudEvent { late, .. } => *late = ago,
            Self::Deleted { .. } => {}
        }
        self
    }
}

/// Who a CloudEvent comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The EventSource of this name.
    EventSource(String),
    /// The rule of this name, of the same namespace.
    Rule(String),
}

/// What was given is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InputError(String);

impl InputError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// What a document tells: a CloudEvent if it has `specversion`, an object if it has `apiVersion` and `kind`, several of these if it is a `List`.
///
/// # Errors
/// When it is neither.
pub fn read(document: Value) -> Result<Vec<Given>, InputError> {
    if document.get("specversion").is_some() {
        return Ok(vec![Given::CloudEvent { event: document, from: None, late: 0 }]);
    }
    match (document.get("kind").and_then(Value::as_str), document.get("items")) {
        (Some(kind), Some(Value::Array(items))) if kind.ends_with("List") => {
            let all: Result<Vec<_>, _> = items.iter().map(|item| read(item.clone())).collect();
            Ok(all?.into_iter().flatten().collect())
        }
        (Some(_), _) if document.get("apiVersion").is_some() => Ok(vec![Given::Object { object: document, late: 0 }]),
        _ => Err(InputError::new("neither an object, with apiVersion and kind, nor a CloudEvent, with specversion")),
    }
}

/// The event as the rule would make it: it may have a type of Signalbox's own, and its source is the rule.
pub(super) fn of_rule(
    event: &Value,
    (namespace, rule): (&str, &str),
    time: Timestamp,
    number: u64,
) -> Result<Event, InputError> {
    let event = typed(event, |type_| type_.starts_with(OWN_TYPES), time, number)?;
    Ok(Event { source: rule_event::event_source(namespace, rule), ..event })
}

/// The event as an EventSource would take it, or make it: then it has the type of its kind.
pub(super) fn cloud_event(event: &Value, time: Timestamp, number: u64) -> Result<Event, InputError> {
    typed(event, |type_| OF_SOURCES.contains(&type_), time, number)
}

/// The event, which may have a type of Signalbox's own where `own` says so. Those that others send are refused with one.
fn typed(event: &Value, own: impl Fn(&str) -> bool, time: Timestamp, number: u64) -> Result<Event, InputError> {
    let Some(type_) = event["type"].as_str().filter(|type_| own(type_)) else { return decode(event, time, number) };
    let mut plain = event.clone();
    plain["type"] = "own".into();
    Ok(Event { type_: type_.to_owned(), ..decode(&plain, time, number)? })
}

fn decode(event: &Value, time: Timestamp, number: u64) -> Result<Event, InputError> {
    let Value::Object(members) = event else { return Err(InputError::new("a CloudEvent is a map")) };
    let mut members: Map<String, Value> = members.clone();
    let made_up =
        [("specversion", json!("1.0")), ("id", json!(format!("event-{number}"))), ("source", json!("/trial"))];
    for (name, value) in made_up {
        members.entry(name).or_insert(value);
    }
    members.insert("time".to_owned(), time.to_string().into());
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
    let decoded = cloud_events::decode(&headers, Value::Object(members).to_string().as_bytes());
    let mut events = decoded.map_err(|error| InputError::new(error.to_string()))?;
    events.pop().ok_or_else(|| InputError::new("a CloudEvent is missing"))
}
