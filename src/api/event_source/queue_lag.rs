//! The kind `queueLag`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common,
    kafka::{self, KafkaCluster, KafkaSasl},
};
use crate::api::{Duration, SecretKeyRef};

/// Samples how many messages wait in a queue: each sample is an event of type `dev.signalbox.queue.lag`, for a `value` trigger. `event.data.lag` is how many
/// wait, `event.data.queue` what the queue is called, and `event.subject` the EventSource, `shop/EventSource/orders`. While the depth cannot be told there are no
/// events. Exactly one of the places is set: `kafka`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.kafka)").message("exactly one place must be set: kafka"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.interval) || (duration(self.interval) >= duration('1s') && duration(self.interval) <= duration('1h'))")
    .message("interval must be 1s to 1h"))]
pub struct QueueLagSource {
    /// How long after one sample the next is taken: `1s` to `1h`; default: `10s`.
    #[serde(default = "default_interval")]
    pub interval: Duration,
    /// A consumer group of Apache Kafka: the records of these topics that it has not taken. Where it has not begun, all that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaLag>,
}

fn default_interval() -> Duration {
    Duration::from_secs(10)
}

/// A consumer group of Apache Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaLag {
    /// Brokers to begin with, as `kafka.shop.svc:9092`; default port: 9092. They tell where the others are.
    #[schemars(schema_with = "common::addresses")]
    pub brokers: Vec<String>,
    /// The topics, which must exist. `event.data.topics` tells how many records of each wait.
    #[schemars(schema_with = "kafka::topics")]
    pub topics: Vec<String>,
    /// The consumer group; `event.data.queue`.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[!-~]+$"))]
    pub group: String,
    /// Logs in by SASL. Default: without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}

/// The one place whose depth is sampled.
#[derive(Clone, Copy, Debug)]
pub enum QueueKind<'a> {
    /// `kafka`
    Kafka(&'a KafkaLag),
}

impl QueueLagSource {
    /// The place that is set, or nothing when not exactly one is.
    pub fn kind(&self) -> Option<QueueKind<'_>> {
        self.kafka.as_ref().map(QueueKind::Kafka)
    }

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        match self.kind() {
            Some(QueueKind::Kafka(kafka)) => kafka.cluster().secrets(),
            None => Vec::new(),
        }
    }
}

impl KafkaLag {
    /// The cluster.
    pub fn cluster(&self) -> KafkaCluster<'_> {
        KafkaCluster { brokers: &self.brokers, sasl: self.sasl.as_ref() }
    }
}
