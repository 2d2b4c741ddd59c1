//! Status conditions: their types and reasons as enums.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A status condition in the Kubernetes convention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// What the condition is about.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as one word.
    pub reason: Reason,
    /// Why, as a sentence that says what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The generation of the spec that the condition tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
}

/// The types of status conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionType {
    /// The summary of the others.
    Ready,
    /// Events of all sources arrive.
    Listening,
    /// The account may be used and has the rights.
    Authorized,
    /// Firings are carried out.
    Acting,
    /// The last delivery worked (sinks).
    Delivering,
    /// There is a connection to where the events are (sources that connect).
    Connected,
    /// Who was connected to has taken the credentials (sources that connect).
    Authenticated,
}

/// Whether a status condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
}

/// Why a status condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// All is well: the rule or sink is in force.
    InForce,
    /// `suspend` is set.
    Suspended,
    /// The spec has faults.
    InvalidSpec,
    /// It was not looked at yet.
    Pending,
    /// The watches of all sources are established.
    WatchEstablished,
    /// The watches of all sources are established; something before that may have been missed. Of an EventSource: not everything that is there is taken.
    MayHaveLostEvents,
    /// A watch is being established.
    WatchStarting,
    /// A watch cannot be established, or has been down for a minute.
    WatchFailed,
    /// The API server does not know the kind.
    KindNotFound,
    /// The EventSource that a source refers to accepts no events.
    EventSourceNotReady,
    /// The EventSource that a source refers to does not exist.
    EventSourceNotFound,
    /// The account has the rights that the rule needs.
    RightsGranted,
    /// The account lacks a right.
    RightMissing,
    /// The ServiceAccount does not exist.
    AccountNotFound,
    /// The ServiceAccount lacks the label that opts in.
    AccountNotUsable,
    /// The operator was not enabled for the namespace.
    NamespaceNotEnabled,
    /// No firing has failed, or none yet began.
    NoFailures,
    /// The last firing was carried out.
    Succeeded,
    /// The last firing would have been carried out, with `mode: Observe`.
    Observed,
    /// An action of the last firing failed for good.
    ActionFailed,
    /// The API server would refuse what an action writes, it says to a dry run.
    ManifestRefused,
    /// An EventSink that an action sends to does not exist.
    SinkNotFound,
    /// A group of the rule fires faster than the operator allows, and is slowed down.
    RunawayRule,
    /// The rules of the namespace, or all, have begun as many firings in an hour as the operator allows: those that follow wait.
    LimitReached,
    /// The switch for all rules is set: nothing new is acted upon.
    Stopped,
    /// So many firings have failed one after the other that firings are only observed, by `breaker`.
    Tripped,
    /// So many firings are open, most of them of this rule, that no more events are taken.
    Backlog,
    /// A Secret or one of its keys is not there.
    SecretNotFound,
    /// What is under the key of a Secret cannot be what it is needed for.
    SecretInvalid,
    /// What is asked answers, with nothing that could be a sample.
    NoData,
    /// The last notification was delivered.
    Delivered,
    /// The last notification failed for good.
    DeliveryFailed,
    /// Nothing was sent yet.
    NothingSent,
    /// There is a connection, and the credentials were taken.
    Connected,
    /// A connection is being made.
    Connecting,
    /// No rule refers to the EventSource: what there is waits where it is.
    NotAskedFor,
    /// No connection can be made, or it broke.
    Unreachable,
    /// The credentials were not taken.
    Unauthenticated,
    /// There is a connection, and what is asked for is refused: there is no such thing, or it may not be read.
    Refused,
}
