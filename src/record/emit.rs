//! What an action `emit` records before its event enters the log.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The event that a step emits, as its request. What else the event has follows from the firing and the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Emitted {
    /// CloudEvents `type`.
    #[serde(rename = "type")]
    pub type_: String,
    /// CloudEvents `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// CloudEvents `data`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}
