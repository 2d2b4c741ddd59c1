//! Firings and their actions, as status shows them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
