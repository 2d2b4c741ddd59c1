//! `nats` of an EventSink.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CloudEventsMode, binary};
use crate::api::{NatsAuth, NatsCluster, Tls, connection::addresses};

/// A subject of NATS. With JetStream an event is delivered when a stream has it; its CloudEvents `id` is the header `Nats-Msg-Id`, by which a stream knows
/// what is sent again (within its `duplicate_window`, 2 minutes unless it says otherwise).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsSink {
    /// Servers of one cluster, `nats.shop.svc:4222` each; the port may be left out. Servers that these tell of are not asked.
    #[schemars(schema_with = "addresses")]
    pub servers: Vec<String>,
    /// Where events are published unless `topic` of the action says otherwise, without wildcards. Default: none, then each action must say it; `notify` cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s*>]+$"))]
    pub subject: Option<String>,
    /// What `topic` of actions may be; `*` stands for one token, `>` for all that follow: what an event says goes nowhere else then. Default: any subject that
    /// the user may publish to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253), regex(pattern = r"^[^\s]+$")))]
    pub allowed_subjects: Vec<String>,
    /// When an event is delivered.
    #[serde(default)]
    pub acknowledge: NatsAcknowledge,
    /// Binary (default): the data as the body, the attributes of CloudEvents as headers. Structured: the whole CloudEvent as JSON.
    #[serde(default = "binary")]
    pub mode: CloudEventsMode,
    /// The credentials. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<NatsAuth>,
    /// TLS. Without it the connection is not encrypted, unless the server asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// When an event is delivered to NATS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NatsAcknowledge {
    /// When a stream of JetStream has it. Without one that takes the subject it is an error.
    #[default]
    JetStream,
    /// When the server has it, whoever subscribes: what nobody hears is lost.
    Server,
}

impl NatsSink {
    /// The cluster.
    pub fn cluster(&self) -> NatsCluster<'_> {
        NatsCluster { servers: &self.servers, tls: self.tls.as_ref(), auth: self.auth.as_ref() }
    }
}
