//! `groupBy`, `groups` and `trigger` of an EventRule: for whom state is kept, and what of matching events makes a firing.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Condition, Duration, schema};

/// Groups of a rule unless it says otherwise.
pub const DEFAULT_MAX_GROUPS: u32 = 10_000;
/// How long a quiet group is remembered unless the rule says otherwise: a week.
const DEFAULT_FORGET_AFTER: Duration = Duration::from_secs(168 * 3600);

/// A named value that is part of what tells groups apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupKey {
    /// Name of the value; `group.<name>` in actions.
    #[schemars(schema_with = "schema::identifier")]
    pub name: String,
    /// CEL expression that gives a text of at most 512 bytes, a number, or true or false. It sees what conditions see.
    #[schemars(schema_with = "schema::expression")]
    pub expression: String,
}

/// Limits on the groups that a rule keeps state for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupLimits {
    /// How many groups state is kept for at the same time; default 10000. A group needs state while it is counted or in a cooldown. A matching
    /// event of one group more does not fire; it is counted under `suppressed.tooManyGroups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max: Option<u32>,
    /// What was counted for a group is forgotten when no event has matched for it so long; default `168h`, or the window of the trigger if
    /// that is longer. A cooldown is kept to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_after: Option<Duration>,
}

/// What turns matching events into firings. Exactly one kind is set; without a trigger each matching event fires.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("[has(self.count), has(self.held), has(self.absent), has(self.value), has(self.anomaly), has(self.sequence), has(self.all), has(self.batch), has(self.due)].filter(set, set).size() == 1")
    .message("exactly one of count, held, absent, value, anomaly, sequence, all, batch and due must be set"))]
pub struct Trigger {
    /// Fires when enough has happened within a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<CountTrigger>,
    /// Fires when all conditions have been true for a time, and ends when one is not true any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldTrigger>,
    /// Fires when a group that has reported has been silent for a time, and ends when it reports again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<AbsentTrigger>,
    /// Fires when an aggregate over a time is above or below a bound, and ends when it is back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ValueTrigger>,
    /// Fires when a value is unusual for its group, and ends when it is usual again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<AnomalyTrigger>,
    /// Fires when several events have come in an order within a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceTrigger>,
    /// Fires when several events have come within a time, in any order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<AllTrigger>,
    /// Fires once for many events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchTrigger>,
    /// Fires at a time that an object names itself, such as the end of a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<DueTrigger>,
}

/// The conditions of the rule have been true for so long. They are judged at each event that passes a source's filter; for a `resource` source that
/// is each change of an object, its deletion ends it, and what exists when the rule begins is judged too. With `groupBy`, the last event of a
/// group decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldTrigger {
    /// How long the conditions must be true without a break before the rule fires. `0s`: it fires at once, and there is still an end.
    #[serde(rename = "for")]
    pub for_: Duration,
    /// Escalation: what else is done when the conditions are true for longer, in the order of `after`. It is done once for each time that the rule
    /// has fired, whatever `throttle` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub steps: Vec<HeldStep>,
}

/// A group has been silent. Groups are those that have reported since the rule began; one that is silent for longer than `groups.forgetAfter` is
/// forgotten, and what the rule has fired for it is closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AbsentTrigger {
    /// How long no event of the group may have matched before the rule fires.
    #[serde(rename = "for")]
    pub for_: Duration,
}

/// An aggregate of what matching events say, over a sliding window. What is older than the window by less than a thirtieth of it still counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.above) != has(self.below)").message("exactly one of above and below must be set"))]
pub struct ValueTrigger {
    /// CEL expression that gives the number of an event. It sees what conditions see. What is no finite number, or beyond `1e150`, is no
    /// sample, and counted as an error.
    #[schemars(schema_with = "schema::expression")]
    pub expression: String,
    /// How the numbers of the window become one: `value` in actions; when a window without samples makes the rule fire or ends it, the last one that
    /// was known. Percentiles of positive numbers are within 1 % while the greatest is at most 10 times the least, within 2 % at 100 times, 4 % at
    /// 10,000 times and 9 % at 100,000,000 times.
    #[serde(default)]
    pub aggregation: Aggregation,
    /// How far back the window reaches, at least `1s`. What was accepted late is taken at the time its producer gave it.
    pub within: Duration,
    /// It is too much when it is greater than this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::number")]
    pub above: Option<String>,
    /// It is too little when it is less than this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::number")]
    pub below: Option<String>,
    /// Once it is too much, it is so until it is not greater than this number, and the like for too little; default: the bound itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::number")]
    pub clear: Option<String>,
    /// How long it must be so without a break before the rule fires; default: it fires at once.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<Duration>,
    /// What a window without samples means, of a group that has had some.
    #[serde(default)]
    pub no_data: NoData,
}

/// How the numbers of a window become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Aggregation {
    /// The last one.
    #[default]
    Last,
    /// Their mean.
    Avg,
    /// Their sum.
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// How many there are.
    Count,
    /// How much the last is more than the first, for each second between them.
    Rate,
    /// How much the last is more than the first.
    Delta,
    /// Half of them are not greater.
    P50,
    /// 90 % of them are not greater.
    P90,
    /// 95 % of them are not greater.
    P95,
    /// 99 % of them are not greater.
    P99,
}

impl Aggregation {
    /// Whether it needs more than sums.
    pub fn is_percentile(self) -> bool {
        matches!(self, Self::P50 | Self::P90 | Self::P95 | Self::P99)
    }
}

/// What a window without samples means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoData {
    /// Nothing: what is so stays so.
    #[default]
    Hold,
    /// It is neither too much nor too little: what the rule has fired for ends.
    Clear,
    /// It is as bad as too much or too little.
    Fire,
}

/// A value that is unusual for its group. What is usual is learned from the samples, the newer ones weighing more: a mean and the deviation from it,
/// on which outliers have little influence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnomalyTrigger {
    /// CEL expression that gives the number of an event. It sees what conditions see. What is no finite number is no sample, and counted as an error.
    #[schemars(schema_with = "schema::expression")]
    pub expression: String,
    /// How many standard deviations from the mean are still usual.
    #[schemars(range(min = 1, max = 100))]
    pub deviations: u32,
    /// On which side of the mean a value can be unusual.
    #[serde(default)]
    pub direction: Direction,
    /// How many samples of a group are learned from before any is unusual; default 60.
    #[serde(default = "default_warmup")]
    #[schemars(range(min = 10, max = 100_000))]
    pub warmup: u32,
}

fn default_warmup() -> u32 {
    60
}

/// A side of what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// What is greater.
    #[default]
    Above,
    /// What is less.
    Below,
    /// Either.
    Both,
}

/// Several events of one group in this order, from the first to the last within a time. Others may come between them; what has come is used up when
/// the rule fires. An event may be one of the steps only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SequenceTrigger {
    /// How much time may be between the first and the last.
    pub within: Duration,
    /// The events, in their order.
    #[schemars(length(min = 2, max = 8))]
    pub steps: Vec<EventMatch>,
    /// An event after which the sequence begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<EventMatch>,
}

/// Several events of one group within a time, in any order. One event may be more than one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllTrigger {
    /// How much time may be between the first and the last.
    pub within: Duration,
    /// The events.
    #[schemars(length(min = 2, max = 8))]
    pub of: Vec<EventMatch>,
}

/// An event that a trigger waits for: one that matches the rule, and this.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventMatch {
    /// The source of the rule that it comes by; default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::identifier")]
    pub source: Option<String>,
    /// Conditions; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub when: Vec<Condition>,
}

/// Many events of one group, one firing: `events` in actions. A batch that `throttle` or `concurrencyPolicy` holds back is dropped, and counted once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchTrigger {
    /// The batch is full when no event has matched for so long.
    pub wait: Duration,
    /// It is full so long after its first event at the latest; default ten times `wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Duration>,
    /// It is full with so many events, and with those that have 256 KiB as JSON; default 100.
    #[serde(default = "default_max_events")]
    #[schemars(range(min = 1, max = 500))]
    pub max_events: u32,
}

fn default_max_events() -> u32 {
    100
}

impl BatchTrigger {
    /// `maxWait`, or its default.
    pub fn max_wait(&self) -> Duration {
        self.max_wait.unwrap_or_else(|| Duration::from_secs(self.wait.get().as_secs().saturating_mul(10).max(1)))
    }
}

/// A time that a matching object names. A change of it moves the firing, a deletion cancels it. A time that is past when the object is first seen fires
/// at once, unless `startingDeadline` has passed since. Each time that an object names fires once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DueTrigger {
    /// CEL expression that gives the time; an optional without a value or null: none. It sees what conditions see.
    #[schemars(schema_with = "schema::expression")]
    pub at_expression: String,
}

/// One step of an escalation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldStep {
    /// How long the conditions must be true; longer than `for` and than `after` of the step before.
    pub after: Duration,
    /// What is done then, in this order. Fields are explained at `spec.actions`.
    #[schemars(length(min = 1, max = 8))]
    pub actions: Vec<Action>,
}

impl Trigger {
    /// How many kinds are set; one, in what the schema takes.
    pub fn kinds(&self) -> usize {
        let Self { count, held, absent, value, anomaly, sequence, all, batch, due } = self;
        let ordered = [sequence.is_some(), all.is_some(), batch.is_some(), due.is_some()];
        let others = [count.is_some(), held.is_some(), absent.is_some(), value.is_some(), anomaly.is_some()];
        ordered.into_iter().chain(others).filter(|set| *set).count()
    }

    /// Whether what it fires for has an end.
    pub fn has_end(&self) -> bool {
        self.held.is_some() || self.absent.is_some() || self.value.is_some() || self.anomaly.is_some()
    }

    /// Whether it follows the state of objects: what exists when the rule begins counts, and a deletion ends it.
    pub fn follows_objects(&self) -> bool {
        self.held.is_some() || self.due.is_some()
    }

    /// The steps of an escalation.
    pub fn steps(&self) -> &[HeldStep] {
        self.held.as_ref().map_or(&[], |held| &held.steps)
    }
}

/// So many occurrences within a time, counted for each group. Having fired, a group is counted anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountTrigger {
    /// How many occurrences it takes. An event is one; a Kubernetes Event is as many as its count has grown by. Times `groups.max` at most
    /// 1000000: so many times may have to be kept.
    #[schemars(range(min = 1, max = 1000))]
    pub at_least: u32,
    /// Within which time. What was accepted late, for instance after an outage, is counted at the time its producer gave it.
    pub within: Duration,
}

impl GroupLimits {
    /// `max`, or its default.
    pub fn max(&self) -> u32 {
        self.max.unwrap_or(DEFAULT_MAX_GROUPS)
    }

    /// `forgetAfter`, or its default for a trigger that looks back so long.
    pub fn forget_after(&self, window: Duration) -> Duration {
        self.forget_after.unwrap_or(DEFAULT_FORGET_AFTER.max(window))
    }
}

/// Limits on how often a rule fires. At least one is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.cooldown) || has(self.budget)")
    .message("cooldown or budget must be set"))]
pub struct Throttle {
    /// After firing for a group (the event's subject, unless `groupBy` says otherwise), the rule does not fire for it again so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// So many firings within a time, and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// How many times a rule may fire within a time. Each firing counts until that time has passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// How many firings. With `scope: Group`, times `groups.max` at most 1000000.
    #[schemars(range(min = 1, max = 1000))]
    pub firings: u32,
    /// Within which time.
    pub per: Duration,
    /// Whose firings are counted together.
    #[serde(default)]
    pub scope: BudgetScope,
}

/// Whose firings a budget counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BudgetScope {
    /// Those of one group.
    #[default]
    Group,
    /// All of the rule.
    Rule,
}
