//! `groupBy`, `groups` and `trigger` of an EventRule: for whom state is kept, and how many matching events make a firing.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, schema};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.count)").message("count must be set"))]
pub struct Trigger {
    /// Fires when enough has happened within a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<CountTrigger>,
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
