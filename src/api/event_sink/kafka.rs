//! `kafka` of an EventSink.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{CloudEventsMode, binary};
use crate::api::{KafkaCluster, KafkaSasl, KafkaTls, connection::addresses};

/// Topics of Apache Kafka. An event is a record, delivered when all replicas that are in step have it (`acks=all`); what the client sends again by itself is
/// there once (it is an idempotent producer). The action's `key` is the record's, and says the partition, the same as with Java's clients. What the operator
/// has to send again, after a crash or where nobody answered, may be there twice, with the same CloudEvents `id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSink {
    /// Brokers to begin with, as `kafka.shop.svc:9092`; default port: 9092. They tell where the others are.
    #[schemars(schema_with = "addresses")]
    pub brokers: Vec<String>,
    /// The topic, which must exist, unless `topic` of the action says otherwise. Default: none, then each action must say it; `notify` cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub topic: Option<String>,
    /// What `topic` of actions may be: names as they are. Default: any that the user may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$")))]
    pub allowed_topics: Vec<String>,
    /// Binary (default): the data as the value, the attributes of CloudEvents as headers `ce_id` and so on. Structured: the whole CloudEvent as JSON.
    #[serde(default = "binary")]
    pub mode: CloudEventsMode,
    /// TLS. Without it events, and the password of `Plain`, are sent as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Logs in by SASL. The user needs the right to write to the topics, and to describe them. Default: without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}

impl KafkaSink {
    /// The cluster.
    pub fn cluster(&self) -> KafkaCluster<'_> {
        KafkaCluster { brokers: &self.brokers, tls: self.tls.as_ref(), sasl: self.sasl.as_ref() }
    }
}
