//! What is recorded of a firing's steps, and of its end.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FailureReason, FiringId, Remember, RuleUid};
use crate::api::{ActionOutcome, FiringOutcome};

/// A step is about to act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The firing.
    pub firing: FiringId,
    /// Name of the action.
    pub action: String,
    /// 0 for the first rendering; a conflict makes a fresh one.
    pub rendering: u32,
    /// The rendered request, absolute values, Secrets by reference; its shape is the action's own.
    pub request: Value,
    /// The object that is about to be written. Nothing in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Writes>,
    /// `timeout`: when the step ends, done or not, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<i64>,
    /// What it has changed and is to be given back, of a step that was carried out and only waits from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remember: Option<Box<Remember>>,
}

/// An object that a step of a rule is about to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// The rule.
    pub rule: RuleUid,
    /// `shop/Deployment/web`; of kinds without namespace, that of the rule is taken.
    pub object: String,
}

/// A step has written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The firing.
    pub firing: FiringId,
    /// Name of the action.
    pub action: String,
    /// The object that was written.
    pub effect: Effect,
}

/// A step writes one more object beside the one that its intent names, such as a Pod of the Node that it drains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// The firing.
    pub firing: FiringId,
    /// Name of the action.
    pub action: String,
    /// The object.
    pub writes: Writes,
    /// Whether it has its answer: before, the rule waits with what it hears of the object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
    /// What was done to it, if anything was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The firing.
    pub firing: FiringId,
    /// Name of the action.
    pub action: String,
    /// What became of it.
    pub outcome: ActionOutcome,
    /// Why it failed. Nothing in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailureReason>,
    /// What was done, or why not; at most 256 characters are shown.
    pub message: String,
    /// `actions.<name>` for later expressions, at most 16 KiB.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
    /// The object that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// What it has changed and is to be given back, if that was not told when it began to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remember: Option<Box<Remember>>,
}

/// The object that a step wrote, for its own Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion` that the write made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Set when the object was found written: what an earlier attempt wrote is this version or one before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
    /// Set when the object was deleted, or begins to go: whatever is heard of it until it is gone comes of that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Reason of the Kubernetes Event: `ScaledByRule`, `CreatedByRule`.
    pub reason: String,
}

/// A firing has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The firing.
    pub firing: FiringId,
    /// The rule.
    pub rule: RuleUid,
    /// `Succeeded` or `Failed`.
    pub outcome: FiringOutcome,
    /// The first failure, or a summary of what was done.
    pub message: String,
    /// Where it failed: `actions[grow]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<String>,
}
