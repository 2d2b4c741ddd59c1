//! The kind EventSink.

mod amqp;
mod email;
mod endpoint;
mod kafka;
mod mqtt;
mod nats;
mod people;
mod redis;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use amqp::AmqpSink;
pub use email::{Email, EmailSecurity};
pub use endpoint::{AlertLabel, Alertmanager, CloudEvents, CloudEventsMode, Header, Signing, SigningScheme, Webhook};
pub use kafka::KafkaSink;
pub use mqtt::{MqttMode, MqttSink};
pub use nats::{NatsAcknowledge, NatsSink};
pub use people::{Discord, PagerDuty, Slack, Teams};
pub use redis::RedisSink;

use super::{Duration, StatusCondition, schema};

/// The kinds of sink, for messages.
pub const ONE_SINK: &str = "exactly one of slack, teams, discord, pagerduty, email, webhook, alertmanager, cloudEvents, nats, kafka, mqtt, amqp and redis must be set";
/// Whether one of them is set: a line for each.
const IS_ONE_SINK: &str = concat!(
    "[has(self.slack)",
    ", has(self.teams)",
    ", has(self.discord)",
    ", has(self.pagerduty)",
    ", has(self.email)",
    ", has(self.webhook)",
    ", has(self.alertmanager)",
    ", has(self.cloudEvents)",
    ", has(self.nats)",
    ", has(self.kafka)",
    ", has(self.mqtt)",
    ", has(self.amqp)",
    ", has(self.redis)",
    "].filter(set, set).size() == 1"
);

/// Where notifications and published events go. Exactly one kind of sink is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "signalbox.dev",
    version = "v1alpha1",
    kind = "EventSink",
    plural = "eventsinks",
    shortname = "esk",
    category = "signalbox",
    namespaced,
    status = "EventSinkStatus",
    derive = "PartialEq",
    doc = "A destination for notifications and for published events.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether the sink can be used"}"#,
    printcolumn = r#"{"name":"Delivering","type":"string","jsonPath":".status.conditions[?(@.type==\"Delivering\")].status","description":"Whether the last delivery worked"}"#,
    printcolumn = r#"{"name":"Delivered","type":"integer","jsonPath":".status.delivered"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.failed"}"#,
    printcolumn = r#"{"name":"Last","type":"date","jsonPath":".status.lastDeliveryTime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[x_kube(validation = kube::core::cel::Rule::new(IS_ONE_SINK).message(ONE_SINK))]
pub struct EventSinkSpec {
    /// The ServiceAccount of this namespace that may read the Secrets named here.
    #[serde(default = "default_service_account")]
    #[schemars(schema_with = "schema::object_name")]
    pub service_account_name: String,
    /// Where people find out more, an address in which what `${ }` gives is percent-encoded; with the names `event`, `rule` and `firing`. It is one of the facts
    /// of each notification, named `Link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub link: Option<String>,
    /// How much is sent at most. What is beyond it waits, which counts as no failure; sinks that people read (`slack`, `teams`, `discord`, `email`) get all
    /// that waits as one notification then. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<SinkRateLimit>,
    /// Slack: an incoming webhook or a bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// A webhook of a Workflow of Microsoft Teams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teams: Option<Teams>,
    /// A webhook of a channel of Discord.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discord: Option<Discord>,
    /// PagerDuty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDuty>,
    /// Mail, by SMTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Any HTTP endpoint that takes JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Prometheus' Alertmanager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<Alertmanager>,
    /// Any HTTP endpoint that takes CloudEvents 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_events: Option<CloudEvents>,
    /// Subjects of NATS, and streams of JetStream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSink>,
    /// Topics of Apache Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSink>,
    /// A broker of MQTT 3.1.1 or 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttSink>,
    /// A broker of AMQP 0.9.1, such as RabbitMQ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amqp: Option<AmqpSink>,
    /// A stream of Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSink>,
}

fn default_service_account() -> String {
    super::DEFAULT_SERVICE_ACCOUNT.to_owned()
}

/// The one kind that an EventSink has.
#[derive(Clone, Copy, Debug)]
pub enum SinkKind<'a> {
    /// `slack`
    Slack(&'a Slack),
    /// `teams`
    Teams(&'a Teams),
    /// `discord`
    Discord(&'a Discord),
    /// `pagerduty`
    PagerDuty(&'a PagerDuty),
    /// `email`
    Email(&'a Email),
    /// `webhook`
    Webhook(&'a Webhook),
    /// `alertmanager`
    Alertmanager(&'a Alertmanager),
    /// `cloudEvents`
    CloudEvents(&'a CloudEvents),
    /// `nats`
    Nats(&'a NatsSink),
    /// `kafka`
    Kafka(&'a KafkaSink),
    /// `amqp`
    Amqp(&'a AmqpSink),
    /// `redis`
    Redis(&'a RedisSink),
    /// `mqtt`
    Mqtt(&'a MqttSink),
}

impl EventSinkSpec {
    /// The kind that is set, or nothing when not exactly one is.
    pub fn kind(&self) -> Option<SinkKind<'_>> {
        let kinds = [
            self.slack.as_ref().map(SinkKind::Slack),
            self.teams.as_ref().map(SinkKind::Teams),
            self.discord.as_ref().map(SinkKind::Discord),
            self.pagerduty.as_ref().map(SinkKind::PagerDuty),
            self.email.as_ref().map(SinkKind::Email),
            self.webhook.as_ref().map(SinkKind::Webhook),
            self.alertmanager.as_ref().map(SinkKind::Alertmanager),
            self.cloud_events.as_ref().map(SinkKind::CloudEvents),
            self.nats.as_ref().map(SinkKind::Nats),
            self.kafka.as_ref().map(SinkKind::Kafka),
            self.amqp.as_ref().map(SinkKind::Amqp),
            self.redis.as_ref().map(SinkKind::Redis),
            self.mqtt.as_ref().map(SinkKind::Mqtt),
        ];
        let mut set = kinds.into_iter().flatten();
        set.next().filter(|_| set.next().is_none())
    }
}

impl SinkKind<'_> {
    /// The field that sets it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack(_) => "slack",
            Self::Teams(_) => "teams",
            Self::Discord(_) => "discord",
            Self::PagerDuty(_) => "pagerduty",
            Self::Email(_) => "email",
            Self::Webhook(_) => "webhook",
            Self::Alertmanager(_) => "alertmanager",
            Self::CloudEvents(_) => "cloudEvents",
            Self::Nats(_) => "nats",
            Self::Kafka(_) => "kafka",
            Self::Amqp(_) => "amqp",
            Self::Redis(_) => "redis",
            Self::Mqtt(_) => "mqtt",
        }
    }
}

/// What brokers that have headers are sent unless their sink says otherwise.
fn binary() -> CloudEventsMode {
    CloudEventsMode::Binary
}

/// How much a sink is sent at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkRateLimit {
    /// How many notifications and events, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub notifications: u32,
    /// Within any such time, `1s` to `1h`.
    #[serde(default = "a_minute")]
    #[x_kube(validation = kube::core::cel::Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')")
        .message("must be 1s to 1h"))]
    pub per: Duration,
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Key in the Secret's data. White space at the end of the value is left out.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What became of a sink's notifications.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSinkStatus {
    /// The generation of the spec that this status tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the sink can be used. `Delivering`: the last delivery worked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<StatusCondition>,
    /// Notifications delivered since the sink was first used.
    #[serde(default)]
    pub delivered: u64,
    /// Notifications that failed for good.
    #[serde(default)]
    pub failed: u64,
    /// When the last one was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery_time: Option<Time>,
}
