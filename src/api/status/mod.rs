//! The status of the kinds: conditions, counts, recent firings.

mod condition;
mod counts;
mod firing;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use condition::{ConditionStatus, ConditionType, Reason, StatusCondition};
pub use counts::{Counts, Suppressed};
pub use firing::{ActionOutcome, ActionStatus, EventRef, FiringKind, FiringOutcome, FiringStatus};

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
