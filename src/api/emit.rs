//! `emit` of an action, and the source `events` that hears of it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema;

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

/// Events of rules of this namespace: what they `emit`, and `dev.signalbox.rule.fired`, `.failed` and `.resolved`. Needs no right. A rule does not hear of
/// itself, and one that had a part in how an event came about does not fire for it: `suppressed.loop`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleEvents {
    /// Values of `event.type` to take, such as `dev.signalbox.rule.failed` or `com.acme.*`; `*` stands for any characters, `?` for one.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub types: Vec<String>,
}
