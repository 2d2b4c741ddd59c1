//! `notify` of an action, and how sinks are named.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// Sends a notification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notify {
    /// The EventSink of the rule's namespace; the rule's account needs `get` on it.
    pub sink_ref: SinkRef,
    /// How urgent it is.
    #[serde(default)]
    pub severity: Severity,
    /// One line; may hold `${ }`. Default: the rule's name and the event's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub title: Option<String>,
    /// The message; may hold `${ }`. Default: what happened, what the actions before this one did, and of the object that the event is about the controller at
    /// the top, the end of its log and its Events, as far as the rule's account may see them; where, how often and since when are `fields` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub text: Option<String>,
    /// Short facts beside the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub fields: Vec<NotifyField>,
    /// What it means for its incident, where the sink keeps such: `pagerduty`, and `slack` with a bot. Default: `Resolve` in `resolveActions`, else `Trigger`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<NotifyOperation>,
    /// Which incident it is; may hold `${ }`. One of more than 255 bytes is hashed. Default: that of the rule and the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub dedup_key: Option<String>,
}

/// What a notification means for its incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NotifyOperation {
    /// It begins, or goes on.
    #[default]
    Trigger,
    /// Somebody, or the rule, is at it.
    Acknowledge,
    /// It is over.
    Resolve,
}

impl NotifyOperation {
    /// Whether it is the default, which is not written.
    pub fn is_trigger(&self) -> bool {
        *self == Self::Trigger
    }
}

/// One fact of a notification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotifyField {
    /// What it is.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value; may hold `${ }`.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// The name of an EventSink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkRef {
    /// Name of an EventSink in the rule's namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// How urgent a notification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// For information.
    #[default]
    Info,
    /// Needs attention soon.
    Warning,
    /// Needs attention now.
    Error,
    /// Something is down.
    Critical,
}
