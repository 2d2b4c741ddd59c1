//! The custom resources of the group `signalbox.dev`: what users write, and the status they read.
//!
//! Every field's doc comment is what `kubectl explain` prints. The schemas in `crds/` are made from these
//! types. This module knows no I/O, no clock and no client.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

mod action;
mod brakes;
mod connection;
mod duration;
mod event_rule;
mod event_sink;
mod event_source;
mod schema;
mod silence;
mod source;
mod status;
mod trigger;

pub use action::{
    Action, ActionKind, Apply, Approve, Autoscaler, Cordon, Create, DEFAULT_PUBLISHED_TYPE, Delete, Drain, Emit, Evict,
    Http, HttpMethod, Job, JobFrom, JobScript, JobWait, Notify, NotifyField, NotifyOperation, OnError, OnUnknown,
    Patch, PatchFault, PatchType, Propagation, Publish, Restore, RestoreWhen, Retry, Rollout, RolloutOperation, Scale,
    ScaleAmount, SetImage, Severity, SinkRef, Taint, TaintEffect, Target, TargetFrom, Uncordon, Wait, WaitFor,
    WaitForRollout, is_json,
};
pub use brakes::{ActiveWindow, Breaker, Dedupe, LastSuppressed, Normalizer, Weekday};
pub use connection::{AddressFault, Login, Tls, address};
pub use duration::{Duration, ParseDurationError};
pub use event_rule::{ConcurrencyPolicy, DEFAULT_SERVICE_ACCOUNT, EventRule, EventRuleSpec, RuleMode, Variable};
pub use event_sink::{
    AlertLabel, Alertmanager, AmqpSink, CloudEvents, CloudEventsMode, Discord, Email, EmailSecurity, EventSink,
    EventSinkSpec, EventSinkStatus, Header, KafkaSink, MqttMode, MqttSink, NatsAcknowledge, NatsSink, ONE_SINK,
    PagerDuty, RedisSink, SecretKeyRef, Signing, SigningScheme, SinkKind, SinkRateLimit, Slack, Teams, Webhook,
};
pub use event_source::PodLogsSource;
pub use event_source::{
    Alerts, AuthKind, BasicAuth, BearerAuth, DEFAULT_WEBHOOK_TYPE, EventSource, EventSourceKind, EventSourceSpec,
    EventSourceStatus, HmacAlgorithm, HmacAuth, NoAuth, PrometheusAuth, PrometheusSource, RateLimit, Rejected, Series,
    SignatureEncoding, SignedTimestamp, StandardWebhooksAuth, TokenAuth, WebhookAuth, WebhookPreset, WebhookSource,
    one_kind_of,
};
pub use event_source::{AmqpBinding, AmqpBroker, AmqpLag, AmqpQueue, AmqpQueueType, AmqpSource, DEFAULT_AMQP_TYPE};
pub use event_source::{
    DEFAULT_KAFKA_TYPE, KAFKA_PORT, KafkaCluster, KafkaLag, KafkaMechanism, KafkaSasl, KafkaSource, KafkaStart,
    KafkaTls, QueueKind, QueueLagSource, one_place_of,
};
pub use event_source::{DEFAULT_MQTT_TYPE, MqttPayload, MqttProtocol, MqttRetained, MqttSource};
pub use event_source::{
    DEFAULT_NATS_TYPE, JetStream, JetStreamLag, NATS_PORT, NatsAuth, NatsCluster, NatsCore, NatsDeliverPolicy,
    NatsSource,
};
pub use event_source::{DEFAULT_REDIS_TYPE, RedisAuth, RedisLag, RedisServer, RedisSource, RedisStart};
pub use silence::{MAX_SILENCES, SILENCE, Silence};
pub use source::{
    ClusterScoped, Condition, EventSourceRef, EventType, Existing, KubernetesEventSource, Missed, NamespaceSelection,
    NamespacesFrom, OnGap, Operation, Regarding, ResourceSource, RuleEvents, ScheduleSource, Source, SourceKind,
};
pub use status::{
    ActionOutcome, ActionStatus, ActiveGroup, ConditionStatus, ConditionType, Counts, EventRef, EventRuleStatus,
    FiringKind, FiringOutcome, FiringStatus, LastError, LastNearMiss, Reason, StatusCondition, Suppressed,
};
pub use trigger::{
    AbsentTrigger, Aggregation, AllTrigger, AnomalyTrigger, BatchTrigger, Budget, BudgetScope, CountTrigger,
    DEFAULT_MAX_GROUPS, Direction, DueTrigger, EventMatch, GroupKey, GroupLimits, HeldStep, HeldTrigger, NoData,
    SequenceTrigger, Throttle, Trigger, ValueTrigger,
};

/// The API group of all kinds.
pub const GROUP: &str = "signalbox.dev";
/// The API version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// The ServiceAccount label without which no rule or sink may use an account, unless the API server checks who writes them.
pub const USABLE_LABEL: &str = "signalbox.dev/usable-by-rules";

/// The custom resource definitions as they are applied to a cluster, in the order of their names.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    let mut definitions = vec![EventRule::crd(), EventSink::crd(), EventSource::crd()];
    for definition in &mut definitions {
        for version in &mut definition.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                schema::without_foreign_formats(schema);
                schema::with_actions_explained_once(schema);
            }
        }
    }
    definitions
}
