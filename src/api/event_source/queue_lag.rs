//! The kind `queueLag`.

use kube::{
    KubeSchema,
    core::cel::{Message, Rule},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    amqp::{self, AmqpBroker},
    common::{self, Login, Tls},
    kafka::{self, KafkaCluster, KafkaSasl, KafkaTls},
    nats::{NatsAuth, NatsCluster},
    redis::{self, RedisAuth, RedisServer},
};
use crate::api::{Duration, SecretKeyRef};

/// The places, one a line.
const PLACES: [&str; 4] = ["kafka", "jetStream", "redis", "amqp"];

/// Exactly one place is set.
fn one_place() -> Rule {
    let set = PLACES.map(|place| format!("has(self.{place})")).join(", ");
    Rule::new(format!("[{set}].filter(set, set).size() == 1")).message(Message::Message(one_place_of()))
}

/// What is said where not exactly one place is set.
pub fn one_place_of() -> String {
    format!("exactly one place must be set: {}", PLACES.join(", "))
}

/// Samples how many messages wait in a queue: each sample is an event of type `dev.signalbox.queue.lag`, for a `value` trigger. `event.data.lag` is how many
/// wait, `event.data.queue` what the queue is called, and `event.subject` the EventSource, `shop/EventSource/orders`. While the depth cannot be told there are no
/// events. Exactly one of the places is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = one_place())]
#[x_kube(validation = Rule::new("!has(self.interval) || (duration(self.interval) >= duration('1s') && duration(self.interval) <= duration('1h'))")
    .message("interval must be 1s to 1h"))]
pub struct QueueLagSource {
    /// How long after one sample the next is taken: `1s` to `1h`; default: `10s`.
    #[serde(default = "default_interval")]
    pub interval: Duration,
    /// A consumer group of Apache Kafka: the records of these topics that it has not taken. Where it has not begun, all that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaLag>,
    /// A consumer of a stream of NATS JetStream: the messages that it has not delivered, and those that were delivered and are not acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jet_stream: Option<JetStreamLag>,
    /// A consumer group of a stream of Redis: the entries that it has not read, and those that were read and are not acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisLag>,
    /// A queue of an AMQP 0.9.1 broker, such as RabbitMQ: the messages that are ready. Those that a consumer has and has not acknowledged are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amqp: Option<AmqpLag>,
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
    /// TLS. Default: without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Logs in by SASL. Default: without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}

/// A consumer of a stream of NATS JetStream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JetStreamLag {
    /// Servers of one cluster, `nats.shop.svc:4222` each; the port may be left out. Servers that these tell of are not asked.
    #[schemars(schema_with = "common::addresses")]
    pub servers: Vec<String>,
    /// TLS. Without it the connection is not encrypted, unless the server asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The credentials. They need the right to publish to `$JS.API.CONSUMER.INFO.<stream>.<consumer>`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<NatsAuth>,
    /// The stream.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub stream: String,
    /// The consumer, pull or push; `event.data.queue`. It must exist. `event.data.unacknowledged` tells how many messages were delivered and are not
    /// acknowledged; they are part of `lag`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub consumer: String,
    /// The domain of JetStream; default: that of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub domain: Option<String>,
}

/// A consumer group of a stream of Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisLag {
    /// The server, `redis.shop.svc:6379`; the port may be left out.
    #[schemars(schema_with = "common::one_address")]
    pub server: String,
    /// TLS. Without it the connection is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The credentials. They need the right to `XINFO` on the stream. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RedisAuth>,
    /// The number of the database, 0 to 1023; default: 0.
    #[serde(default, skip_serializing_if = "redis::is_zero")]
    #[schemars(range(min = 0, max = 1023))]
    pub database: u32,
    /// The key of the stream, which must exist.
    #[schemars(length(min = 1, max = 512))]
    pub stream: String,
    /// The consumer group, which must exist; `event.data.queue`. `event.data.unacknowledged` tells how many entries were read and are not acknowledged; they
    /// are part of `lag`. Where the server cannot tell how many were not read (entries behind what the group has read were deleted or trimmed away, the group
    /// was made at some entry in the middle, or it is Redis 6), `event.data.estimated` is true and all entries that the stream has count as not read, until
    /// the group has read the last one.
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

/// A queue of an AMQP 0.9.1 broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmqpLag {
    /// The broker: `rabbitmq.shop.svc`, `rabbitmq.shop.svc:5672` or `[fd00::7]:5672`. Default port: 5672, with `tls` 5671.
    #[schemars(schema_with = "common::one_address")]
    pub address: String,
    /// The virtual host; default: `/`.
    #[serde(default = "amqp::default_virtual_host")]
    #[schemars(length(min = 1, max = 255))]
    pub virtual_host: String,
    /// The queue, which must exist; `event.data.queue`. `event.data.consumers` tells how many consumers it has.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f]+$"))]
    pub queue: String,
    /// User name and password; default: `guest`, whom brokers let in from their own host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// TLS. Without it, the password is sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// The one place whose depth is sampled.
#[derive(Clone, Copy, Debug)]
pub enum QueueKind<'a> {
    /// `kafka`
    Kafka(&'a KafkaLag),
    /// `jetStream`
    JetStream(&'a JetStreamLag),
    /// `redis`
    Redis(&'a RedisLag),
    /// `amqp`
    Amqp(&'a AmqpLag),
}

impl QueueLagSource {
    /// The place that is set, or nothing when not exactly one is.
    pub fn kind(&self) -> Option<QueueKind<'_>> {
        let places = [
            self.kafka.as_ref().map(QueueKind::Kafka),
            self.jet_stream.as_ref().map(QueueKind::JetStream),
            self.redis.as_ref().map(QueueKind::Redis),
            self.amqp.as_ref().map(QueueKind::Amqp),
        ];
        let mut set = places.into_iter().flatten();
        match (set.next(), set.next()) {
            (Some(place), None) => Some(place),
            _ => None,
        }
    }

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        match self.kind() {
            Some(QueueKind::Kafka(kafka)) => kafka.cluster().secrets(),
            Some(QueueKind::JetStream(of)) => of.cluster().secrets(),
            Some(QueueKind::Redis(redis)) => redis.server().secrets(),
            Some(QueueKind::Amqp(amqp)) => amqp.broker().secrets(),
            None => Vec::new(),
        }
    }
}

impl QueueKind<'_> {
    /// The place as it is in YAML.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::JetStream(_) => "jetStream",
            Self::Redis(_) => "redis",
            Self::Amqp(_) => "amqp",
        }
    }
}

impl KafkaLag {
    /// The cluster.
    pub fn cluster(&self) -> KafkaCluster<'_> {
        KafkaCluster { brokers: &self.brokers, tls: self.tls.as_ref(), sasl: self.sasl.as_ref() }
    }
}

impl JetStreamLag {
    /// The cluster.
    pub fn cluster(&self) -> NatsCluster<'_> {
        NatsCluster { servers: &self.servers, tls: self.tls.as_ref(), auth: self.auth.as_ref() }
    }
}

impl RedisLag {
    /// The server.
    pub fn server(&self) -> RedisServer<'_> {
        let (tls, auth) = (self.tls.as_ref(), self.auth.as_ref());
        RedisServer { server: &self.server, tls, auth, database: self.database }
    }
}

impl AmqpLag {
    /// The broker.
    pub fn broker(&self) -> AmqpBroker<'_> {
        let (login, tls) = (self.login.as_ref(), self.tls.as_ref());
        AmqpBroker { address: &self.address, virtual_host: &self.virtual_host, login, tls }
    }
}
