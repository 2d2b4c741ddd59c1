//! The status of the kinds: condition types and reasons as enums, counts, recent firings.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LastSuppressed, Silence};

/// What became of a rule and of the events it looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventRuleStatus {
    /// The generation of the spec that this status tells about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` summarises; `Listening`: events of all sources arrive; `Authorized`: the account has the rights; `Acting`: firings are carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub conditions: Vec<StatusCondition>,
    /// What became of the events, since the rule was created.
    #[serde(default)]
    pub counts: Counts,
    /// When an event last met every condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_match_time: Option<Time>,
    /// When the rule last fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_firing_time: Option<Time>,
    /// The next instant of the rule's timetables, the first of all when there are several `schedule` sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// The last expression or action that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// The last matching event that did not fire, why, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_suppressed: Option<LastSuppressed>,
    /// What silences the rule, or should and does not: at most 10. People write them with `kubectl signalbox silence`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub silences: Vec<Silence>,
    /// An event that the rule nearly took: the last one that passed the filter of a source and that a condition refused; while there is none,
    /// the nearest that a filter refused. A sample: told at most once a minute, and every five minutes while the same refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_near_miss: Option<LastNearMiss>,
    /// What the rule has fired for and what has not ended yet, oldest first: at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub active: Vec<ActiveGroup>,
    /// How many there are of it in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_total: Option<u64>,
    /// The last firings, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub recent: Vec<FiringStatus>,
}

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

/// Counts of a rule, since it was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Events that passed a source's filter.
    pub seen: u64,
    /// Events that met every condition too.
    pub matched: u64,
    /// Matching events that did not fire, by reason.
    pub suppressed: Suppressed,
    /// Firings, of all kinds.
    pub fired: u64,
    /// Times that what the rule had fired for has ended.
    #[serde(skip_serializing_if = "is_zero")]
    pub resolved: u64,
    /// Firings of which every action succeeded or was skipped.
    pub succeeded: u64,
    /// Firings of which an action failed for good.
    pub failed: u64,
    /// Of the firings that failed, those that are kept now and can be run again: the last 1,000 of a rule.
    pub dead_lettered: u64,
    /// Firings of which every action would have been done or skipped, with `mode: Observe`.
    pub observed: u64,
    /// Firings that could not begin before `startingDeadline` and were not carried out.
    pub expired: u64,
    /// Expressions that could not be evaluated for an event.
    pub errors: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Matching events that did not fire, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Suppressed {
    /// Within `throttle.cooldown` of a firing for the same group.
    pub cooldown: u64,
    /// Of a group beyond `groups.max`.
    pub too_many_groups: u64,
    /// Of a new group, while what is kept of the groups of all rules of the namespace takes more than 64 MiB.
    pub too_much_state: u64,
    /// Beyond `throttle.budget`.
    pub budget: u64,
    /// Changes that the rule itself made: they never make it fire.
    pub own_write: u64,
    /// While a firing of the same group was open, with `concurrencyPolicy: Forbid`.
    pub concurrency: u64,
    /// The same as an event before, by `dedupe`.
    #[serde(skip_serializing_if = "is_zero")]
    pub dedupe: u64,
    /// Outside of `activeWindows`.
    #[serde(skip_serializing_if = "is_zero")]
    pub outside_active_window: u64,
    /// While a silence said so.
    #[serde(skip_serializing_if = "is_zero")]
    pub silence: u64,
    /// While the switch for all rules was set.
    #[serde(skip_serializing_if = "is_zero")]
    pub stopped: u64,
    /// Events of rules that the rule itself led to, through others or not, or that came by more than 8 steps of rules.
    #[serde(rename = "loop", skip_serializing_if = "is_zero")]
    pub looped: u64,
    /// All of them.
    pub total: u64,
}

impl Suppressed {
    /// The same with `total` as it must be.
    pub fn summed(mut self) -> Self {
        let Self { cooldown, too_many_groups, too_much_state, budget, own_write, concurrency, .. } = self;
        let Self { dedupe, outside_active_window, silence, stopped, looped, .. } = self;
        let of_groups = too_many_groups + too_much_state + own_write + concurrency;
        self.total = of_groups + cooldown + budget + dedupe + outside_active_window + silence + stopped + looped;
        self
    }
}

/// The last failure of an expression or an action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When.
    pub time: Time,
    /// Which part of the rule: a path such as `when[often]` or `actions[grow]`.
    #[serde(rename = "where")]
    pub place: String,
    /// What went wrong.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// An event that a rule nearly took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastNearMiss {
    /// When the event was looked at.
    pub time: Time,
    /// The event.
    pub event: EventRef,
    /// What said no: a condition, `when[often]`, or a part of a source's filter, `sources[crash].resource.selector`.
    pub condition: String,
    /// What that looked at. Only numbers, true and false, and short texts of metadata and status are shown, since a status may be read by people
    /// who may not read the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub saw: String,
}

/// A group for which a rule has fired and for which it has not ended yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveGroup {
    /// The group.
    pub group: String,
    /// When the rule fired for it.
    pub since: Time,
}

/// One firing, as status shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FiringStatus {
    /// Id of the firing.
    pub id: String,
    /// When the rule fired.
    pub time: Time,
    /// The group it fired for.
    pub group: String,
    /// Why it fired.
    #[serde(default, skip_serializing_if = "FiringKind::is_fired")]
    pub kind: FiringKind,
    /// The event that made it fire; of what was due, the last one of its group.
    pub event: EventRef,
    /// How far it is.
    pub outcome: FiringOutcome,
    /// The first failure, or what was done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The actions begun so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<ActionStatus>,
}

/// Why a rule fires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FiringKind {
    /// Its trigger says so: `actions`.
    #[default]
    Fired,
    /// A step of `trigger.held`: the actions of that step.
    Step,
    /// It still lasts, `repeat`: `actions` again.
    Repeated,
    /// It has ended: `resolveActions`.
    Resolved,
    /// What it has changed is given back: `restore`.
    Restored,
}

impl FiringKind {
    /// Whether it is the first, which is not written.
    pub fn is_fired(&self) -> bool {
        *self == Self::Fired
    }
}

/// How far a firing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FiringOutcome {
    /// Its actions are being carried out.
    #[default]
    Running,
    /// Every action succeeded or was skipped.
    Succeeded,
    /// With `mode: Observe`: every action would have been done or skipped.
    Observed,
    /// An action failed for good.
    Failed,
    /// It could not begin before `startingDeadline` had passed: nothing was done.
    Expired,
}

/// The event of a firing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventRef {
    /// CloudEvents `id`.
    pub id: String,
    /// CloudEvents `type`.
    #[serde(rename = "type")]
    pub type_: String,
    /// CloudEvents `source`.
    pub source: String,
    /// CloudEvents `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// One action of a firing, as status shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionStatus {
    /// Name of the action.
    pub name: String,
    /// What became of it.
    pub outcome: ActionOutcome,
    /// What was done, or why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub message: String,
}

/// What became of one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ActionOutcome {
    /// It is being carried out or repeated.
    Running,
    /// It was done.
    Succeeded,
    /// With `mode: Observe`: it would have been done.
    Observed,
    /// There was nothing to do: things were as asked for.
    Unchanged,
    /// Its `ifExpression` was false.
    Skipped,
    /// After a restart somebody else had changed the target: the action was not repeated.
    Superseded,
    /// It failed for good.
    Failed,
}
