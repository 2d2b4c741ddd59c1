//! `publish` of an action.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SinkRef;
use crate::api::schema;

/// Publishes an event of CloudEvents 1.0 through an EventSink that takes events: one of `cloudEvents` or of a broker. Its `id` is the step's, the same for
/// every repetition, its `source` is the rule, its `time` is that of the event that made the rule fire. What was received more than once has the same id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The EventSink of the rule's namespace; the rule's account needs `get` on it.
    pub sink_ref: SinkRef,
    /// Where a broker is to put it: a topic, a subject, a routing key, a stream; may hold `${ }`. The sink bounds what it may be. Default: the sink's own. Not for
    /// `cloudEvents`, whose address says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub topic: Option<String>,
    /// What belongs together, where a broker keeps that in order; may hold `${ }`. It is the extension `partitionkey`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub key: Option<String>,
    /// CloudEvents `type`, such as `com.acme.order.paid`; may hold `${ }`. Default: `dev.signalbox.publication`; other types that begin with
    /// `dev.signalbox.` are Signalbox's own.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = kube::core::cel::Rule::new("!self.startsWith('dev.signalbox.') || self == 'dev.signalbox.publication'")
        .message("must not begin with dev.signalbox.: those types are Signalbox's own"))]
    pub type_: Option<String>,
    /// CloudEvents `subject`; may hold `${ }`. Default: that of the event that made the rule fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject: Option<String>,
    /// CloudEvents `datacontenttype`. With one that is not JSON, such as `text/plain`, the data is a text and is sent as it is. Default: `application/json`. Only with `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 255),
        regex(pattern = r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *; *[A-Za-z0-9-]+=[A-Za-z0-9-]+)*$")
    )]
    pub content_type: Option<String>,
    /// CloudEvents `data`: any JSON of at most 64 KiB; its texts may hold `${ }`. Default: the data of the event that made the rule fire, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::anything")]
    pub data: Option<Value>,
}

/// The `type` of published events whose rule says none.
pub const DEFAULT_PUBLISHED_TYPE: &str = "dev.signalbox.publication";

impl Publish {
    /// Whether the data is JSON, and not a text that is sent as it is.
    pub fn is_json(&self) -> bool {
        self.content_type.as_deref().is_none_or(is_json)
    }
}

/// Whether data of this content type is JSON.
pub fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}
