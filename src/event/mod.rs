//! The event: one CloudEvents 1.0 record, and the pure functions that make it of what Kubernetes sends.
//!
//! This module knows no I/O, no clock and no rule.

pub mod cloud_events;
pub mod event_source;
mod json;
pub mod kubernetes_event;
pub mod message;
mod name;
mod object;
pub mod prometheus;
pub mod resource;
pub mod rule_event;
pub mod schedule;
pub mod trail;
mod values;
pub mod webhook;

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, jiff::Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use name::{Named, is_label, is_subdomain, title};
pub use object::Malformed;
pub use values::{Kept, Old, Values};

use crate::api::EventRef;

/// The `type` of events made of Kubernetes Event objects.
pub const TYPE_KUBERNETES_EVENT: &str = "dev.signalbox.kubernetes.event";
/// The `type` of events made of created objects.
pub const TYPE_RESOURCE_CREATED: &str = "dev.signalbox.resource.created";
/// The `type` of events made of changed objects.
pub const TYPE_RESOURCE_UPDATED: &str = "dev.signalbox.resource.updated";
/// The `type` of events made of deleted objects.
pub const TYPE_RESOURCE_DELETED: &str = "dev.signalbox.resource.deleted";

/// Levels of maps and lists in JSON that others give: the data of an event, a result, a spec. Kubernetes objects have a dozen. The log takes a few more
/// around them, and what reads it takes 127.
pub const MAX_LEVELS: usize = 90;

/// How many levels of maps and lists a value has; 0 for a number or a text.
pub fn levels(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

/// What the types of the events that Signalbox makes begin with. Those of others must not.
pub const OWN_TYPES: &str = "dev.signalbox.";
/// The `type` of events made of a timetable's instants.
pub const TYPE_SCHEDULE: &str = "dev.signalbox.schedule";
/// The `type` of events made of how many messages wait in a queue.
pub const TYPE_QUEUE_LAG: &str = "dev.signalbox.queue.lag";
/// The `type` of events made of lines that containers write.
pub const TYPE_POD_LOG: &str = "dev.signalbox.pod.log";

/// One event, in the attributes of CloudEvents 1.0.
///
/// `source` and `id` together identify it: the same thing seen twice has the same two. As JSON it has the shape of the CloudEvents JSON format,
/// extensions beside the attributes, without `specversion`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// CloudEvents `id`: for a Kubernetes Event `uid/count`, for an object change `uid/resourceVersion` (`uid/deleted` when nobody saw it go), for a
    /// schedule the planned instant, for an event of an EventSource the sender's, or one made at receipt.
    pub id: String,
    /// CloudEvents `source`: the watch, as `/apis/apps/v1/deployments`; for an event of an EventSource the sender's, or see [`event_source`].
    pub source: String,
    /// CloudEvents `type`.
    #[serde(rename = "type")]
    pub type_: String,
    /// CloudEvents `subject`: the thing with its namespace, `shop/Pod/web-1` or `Node/n1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// CloudEvents `time`: the producer's time. Events that Signalbox makes have one, those of others perhaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// CloudEvents `data`. A Kubernetes Event: see [`kubernetes_event`]; an object change: see [`resource`]; a timetable: see
    /// [`schedule`]; an event of an EventSource: what was sent. Null when there is none, and when it is [`Event::bytes`].
    #[serde(default)]
    pub data: Value,
    /// CloudEvents `data` that is no JSON and no text; expressions see it as `event.data`, of CEL's type bytes.
    #[serde(rename = "data_base64", default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteString>,
    /// `datacontenttype`, `dataschema` and extensions, where the producer sent them: texts, whole numbers, true and false. Expressions see them as
    /// `event.<name>`.
    #[serde(flatten)]
    pub extensions: BTreeMap<String, Value>,
}

impl Event {
    /// An event with `data` that JSON can say, and no extensions.
    pub fn new(id: impl Into<String>, source: impl Into<String>, type_: impl Into<String>, data: Value) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            type_: type_.into(),
            subject: None,
            time: None,
            data,
            bytes: None,
            extensions: BTreeMap::new(),
        }
    }

    /// Its type for a label of a metric: types of others are one, for there is no end to them.
    pub fn type_label(&self) -> &str {
        if self.type_.starts_with(OWN_TYPES) { &self.type_ } else { "other" }
    }

    /// Whether it tells of a change of an object, which its data holds then.
    pub fn is_change(&self) -> bool {
        [TYPE_RESOURCE_CREATED, TYPE_RESOURCE_UPDATED, TYPE_RESOURCE_DELETED].contains(&self.type_.as_str())
    }
}

impl From<&Event> for EventRef {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.clone(),
            type_: event.type_.clone(),
            source: event.source.clone(),
            subject: event.subject.clone(),
        }
    }
}

/// What the names of the field managers of steps begin with.
pub const FIELD_MANAGER: &str = "signalbox-";

/// What happened to a watched object, as the log remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The watch that saw it.
    pub watch: WatchKey,
    /// `metadata.uid` of the object.
    pub uid: String,
    /// What is remembered of it from now on; nothing when it is gone.
    pub seen: Option<Seen>,
    /// Of an update, the values that changed, by what they are kept by in [`Seen::values`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<u64>,
    /// Field managers of the object that are steps of rules. A hint only: whoever writes an object can say so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
    /// Of a change that was found by comparing lists, the version that was known before; 0 when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Of a deletion that was found by comparing lists, what was known of the object: of each selector that is followed 1 when its labels matched
    /// it, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<Values>>,
    /// Of an update or a deletion, the values that rules ask for of the object as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Box<Old>>,
}

impl Origin {
    /// Of an object none of whose values are followed.
    pub fn new(watch: WatchKey, uid: String, seen: Option<Seen>) -> Self {
        Self { watch, uid, seen, changed: Vec::new(), marks: Vec::new(), before: None, last: None, old: None }
    }
}

/// What is remembered of a watched object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `metadata.resourceVersion`, as the number it is.
    pub version: u64,
    /// The normalised count of a Kubernetes Event; 0 for those that Signalbox wrote itself, and for other objects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u32,
    /// `namespace/name`, or `name`.
    pub name: Box<str>,
    /// Values that rules follow, if any does. The 8 bytes that it takes of other objects are those that `name` has less than a `String`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Box<Values>>,
}

impl Seen {
    /// What is remembered of an object of which nothing else is followed.
    pub fn new(version: u64, count: u32, name: impl Into<Box<str>>) -> Self {
        Self { version, count, name: name.into(), values: None }
    }

    /// The hash of the value that the expression of this id gave.
    pub fn value(&self, id: u64) -> Option<u64> {
        self.values.as_ref().and_then(|values| values.get(id))
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A watch: a resource and a scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WatchKey {
    /// API version, `v1` or `apps/v1`.
    pub api_version: String,
    /// Kind of the objects.
    pub kind: String,
    /// The namespace, or nothing for the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl std::fmt::Display for WatchKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.api_version, self.kind, self.namespace.as_deref().unwrap_or("*"))
    }
}

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;
