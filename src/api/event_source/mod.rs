//! The kind EventSource. A file for each kind of source.

mod amqp;
mod kafka;
mod mqtt;
mod nats;
mod pod_logs;
mod prometheus;
mod queue_lag;
mod redis;
mod webhook;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    CustomResource, KubeSchema,
    core::cel::{Message, Rule},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use amqp::{AmqpBinding, AmqpBroker, AmqpQueue, AmqpQueueType, AmqpSource, DEFAULT_AMQP_TYPE};
pub use kafka::{
    DEFAULT_KAFKA_TYPE, KAFKA_PORT, KafkaCluster, KafkaMechanism, KafkaSasl, KafkaSource, KafkaStart, KafkaTls,
};
pub use mqtt::{DEFAULT_MQTT_TYPE, MqttPayload, MqttProtocol, MqttRetained, MqttSource};
pub use nats::{
    DEFAULT_NATS_TYPE, JetStream, NATS_PORT, NatsAuth, NatsCluster, NatsCore, NatsDeliverPolicy, NatsSource,
};
pub use pod_logs::PodLogsSource;
pub use prometheus::{PrometheusAuth, PrometheusSource, Series};
pub use queue_lag::{AmqpLag, JetStreamLag, KafkaLag, QueueKind, QueueLagSource, RedisLag, one_place_of};
pub use redis::{DEFAULT_REDIS_TYPE, RedisAuth, RedisServer, RedisSource, RedisStart};
pub use webhook::{
    Alerts, AuthKind, BasicAuth, BearerAuth, DEFAULT_WEBHOOK_TYPE, HmacAlgorithm, HmacAuth, NoAuth, RateLimit,
    SignatureEncoding, SignedTimestamp, StandardWebhooksAuth, TokenAuth, WebhookAuth, WebhookPreset, WebhookSource,
};

use super::{AddressFault, Login, SecretKeyRef, StatusCondition, Tls, address, connection as common, schema};

/// The kinds of sources, one a line.
#[rustfmt::skip]
const KINDS: &[&str] = &[
    "webhook",
    "nats",
    "redis",
    "mqtt",
    "amqp",
    "prometheus",
    "kafka",
    "queueLag",
    "podLogs",
];

/// Exactly one kind is set.
fn one_kind() -> Rule {
    let set: Vec<String> = KINDS.iter().map(|kind| format!("has(self.{kind})")).collect();
    let rule = format!("[{}].filter(set, set).size() == 1", set.join(", "));
    Rule::new(rule).message(Message::Message(one_kind_of()))
}

/// What is said where not exactly one kind is set.
pub fn one_kind_of() -> String {
    format!("exactly one kind of source must be set: {}", KINDS.join(", "))
}

/// Where events come from outside the cluster's API. Rules of the same namespace take them by `sources[].ref`. Exactly one kind is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "signalbox.dev",
    version = "v1alpha1",
    kind = "EventSource",
    plural = "eventsources",
    shortname = "evs",
    category = "signalbox",
    namespaced,
    status = "EventSourceStatus",
    derive = "PartialEq",
    doc = "Where events come from outside the cluster's API.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether events are accepted"}"#,
    printcolumn = r#"{"name":"Path","type":"string","jsonPath":".status.path"}"#,
    printcolumn = r#"{"name":"Lag","type":"integer","jsonPath":".status.lag","description":"Messages that wait where the events come from","priority":1}"#,
    printcolumn = r#"{"name":"Received","type":"integer","jsonPath":".status.received"}"#,
    printcolumn = r#"{"name":"Rejected","type":"integer","jsonPath":".status.rejected.total"}"#,
    printcolumn = r#"{"name":"Last","type":"date","jsonPath":".status.lastEventTime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[x_kube(validation = one_kind())]
pub struct EventSourceSpec {
    /// The ServiceAccount of this namespace that may read the Secrets named here.
    #[serde(default = "default_service_account")]
    #[schemars(schema_with = "schema::object_name")]
    pub service_account_name: String,
    /// Takes events by HTTP POST at `/hooks/<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSource>,
    /// Takes messages of NATS: a subject, or a stream of JetStream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSource>,
    /// Takes entries of a stream of Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSource>,
    /// Subscribes to topics of an MQTT broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttSource>,
    /// Consumes a queue of an AMQP 0.9.1 broker, such as RabbitMQ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amqp: Option<AmqpSource>,
    /// Takes samples of Prometheus: what a query gives, again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSource>,
    /// Takes records of topics of Apache Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSource>,
    /// Samples how many messages wait in a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_lag: Option<QueueLagSource>,
    /// Takes lines that containers write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_logs: Option<PodLogsSource>,
}

fn default_service_account() -> String {
    super::DEFAULT_SERVICE_ACCOUNT.to_owned()
}

/// The one kind that an EventSource has.
#[derive(Clone, Copy, Debug)]
pub enum EventSourceKind<'a> {
    /// `webhook`
    Webhook(&'a WebhookSource),
    /// `nats`
    Nats(&'a NatsSource),
    /// `redis`
    Redis(&'a RedisSource),
    /// `mqtt`
    Mqtt(&'a MqttSource),
    /// `amqp`
    Amqp(&'a AmqpSource),
    /// `prometheus`
    Prometheus(&'a PrometheusSource),
    /// `kafka`
    Kafka(&'a KafkaSource),
    /// `queueLag`
    QueueLag(&'a QueueLagSource),
    /// `podLogs`
    PodLogs(&'a PodLogsSource),
}

impl EventSourceSpec {
    /// The keys of Secrets that it names. Of a webhook one that has a value is enough; kinds that connect need all.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        match self.kind() {
            Some(EventSourceKind::Webhook(webhook)) => webhook.secrets().to_vec(),
            Some(EventSourceKind::Nats(nats)) => nats.cluster().secrets(),
            Some(EventSourceKind::Redis(redis)) => redis.server().secrets(),
            Some(EventSourceKind::Mqtt(mqtt)) => mqtt.secrets().cloned().collect(),
            Some(EventSourceKind::Amqp(amqp)) => amqp.broker().secrets(),
            Some(EventSourceKind::Prometheus(prometheus)) => prometheus.secrets(),
            Some(EventSourceKind::Kafka(kafka)) => kafka.cluster().secrets(),
            Some(EventSourceKind::QueueLag(queue)) => queue.secrets(),
            Some(EventSourceKind::PodLogs(_)) | None => Vec::new(),
        }
    }

    /// The kind that is set, or nothing when not exactly one is.
    pub fn kind(&self) -> Option<EventSourceKind<'_>> {
        #[rustfmt::skip]
        let kinds = [
            self.webhook.as_ref().map(EventSourceKind::Webhook),
            self.nats.as_ref().map(EventSourceKind::Nats),
            self.redis.as_ref().map(EventSourceKind::Redis),
            self.mqtt.as_ref().map(EventSourceKind::Mqtt),
            self.amqp.as_ref().map(EventSourceKind::Amqp),
            self.prometheus.as_ref().map(EventSourceKind::Prometheus),
            self.kafka.as_ref().map(EventSourceKind::Kafka),
            self.queue_lag.as_ref().map(EventSourceKind::QueueLag),
            self.pod_logs.as_ref().map(EventSourceKind::PodLogs),
        ];
        let mut set = kinds.into_iter().flatten();
        match (set.next(), set.next()) {
            (Some(kind), None) => Some(kind),
            _ => None,
        }
    }
}

impl EventSourceKind<'_> {
    /// The kind as it is in YAML.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Nats(_) => "nats",
            Self::Redis(_) => "redis",
            Self::Mqtt(_) => "mqtt",
            Self::Amqp(_) => "amqp",
            Self::Prometheus(_) => "prometheus",
            Self::Kafka(_) => "kafka",
            Self::QueueLag(_) => "queueLag",
            Self::PodLogs(_) => "podLogs",
        }
    }

    /// Whether the operator connects to where the events are. Otherwise they are sent to it.
    pub fn connects(&self) -> bool {
        !matches!(self, Self::Webhook(_))
    }
}

/// What became of a source's events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSourceStatus {
    /// The generation of the spec that this status tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: events are accepted. Of kinds that connect also `Connected`: there is a connection, over which events come, and `Authenticated`: whoever
    /// was connected to has taken the credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<StatusCondition>,
    /// Of a webhook, where to send events: the path of the URL at the operator's port for webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Events accepted, since the source was created.
    #[serde(default)]
    pub received: u64,
    /// Events that came again and were accepted before.
    #[serde(default)]
    pub duplicates: u64,
    /// Requests and messages that were not accepted, by reason.
    #[serde(default)]
    pub rejected: Rejected,
    /// When an event was last accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_time: Option<Time>,
    /// When a sender last asked whether somebody is there: GitHub's ping, which is no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ping_time: Option<Time>,
    /// How many messages were waiting where the events come from, when it was last asked; absent where that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
}

/// Requests and messages that were not accepted, by reason. A message that was not accepted is not asked for again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rejected {
    /// Without the signature, token or password that is asked for, or with a time out of tolerance (401).
    pub unauthenticated: u64,
    /// Not readable as what it should be (400, 405, 415).
    pub malformed: u64,
    /// Larger than is taken: of a webhook `maxBodyBytes` (413).
    pub too_large: u64,
    /// Beyond `rateLimit` (429).
    pub rate_limited: u64,
    /// While nothing could be stored or checked (503).
    pub unavailable: u64,
    /// All of them.
    pub total: u64,
}

impl Rejected {
    /// The same with `total` as it must be.
    pub fn summed(mut self) -> Self {
        let Self { unauthenticated, malformed, too_large, rate_limited, unavailable, total: _ } = self;
        self.total = unauthenticated + malformed + too_large + rate_limited + unavailable;
        self
    }
}
