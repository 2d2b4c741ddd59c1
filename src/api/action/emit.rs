//! `emit` of an action.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::schema;

/// Puts an event on the bus, once, for the rules of this namespace that have a source `events`. Needs no right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Emit {
    /// CloudEvents `type`, such as `com.acme.order.paid`; may hold `${ }`. Types that begin with `dev.signalbox.` are Signalbox's own.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = kube::core::cel::Rule::new("!self.startsWith('dev.signalbox.')")
        .message("must not begin with dev.signalbox.: those types are Signalbox's own"))]
    pub type_: String,
    /// CloudEvents `subject`; may hold `${ }`. Default: that of the event that made the rule fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject: Option<String>,
    /// CloudEvents `data`: any JSON of at most 64 KiB; its texts may hold `${ }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::anything")]
    pub data: Option<Value>,
}
