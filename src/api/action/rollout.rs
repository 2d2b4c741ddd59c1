//! `rollout` of an action.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Target;

/// Restarts, rolls back, pauses or resumes a Deployment, StatefulSet or DaemonSet, as `kubectl rollout` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.target.kind) || self.target.kind in ['Deployment', 'StatefulSet', 'DaemonSet']")
    .message("rollout is for a Deployment, a StatefulSet or a DaemonSet"))]
#[x_kube(validation = kube::core::cel::Rule::new("!(self.operation in ['Pause', 'Resume']) || !has(self.target.kind) || self.target.kind == 'Deployment'")
    .message("only a Deployment can be paused and resumed"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.revision) || self.operation == 'Undo'")
    .message("revision is for operation Undo"))]
#[x_kube(validation = kube::core::cel::Rule::new("!self.deleteStuckPods || (self.operation == 'Undo' && (!has(self.target.kind) || self.target.kind == 'StatefulSet'))")
    .message("deleteStuckPods is for operation Undo of a StatefulSet"))]
pub struct Rollout {
    /// The Deployment, StatefulSet or DaemonSet.
    pub target: Target,
    /// What is done with it.
    #[serde(default)]
    pub operation: RolloutOperation,
    /// With `Undo`, the revision to go back to, as `kubectl rollout history` lists them; default: the one before the present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
    /// With `Undo` of a StatefulSet, deletes also its Pods of the revision that it goes back from which are not ready. Its controller waits for such a
    /// Pod for ever, and replaces none before. The account needs `list` and `delete` on pods.
    #[serde(default)]
    pub delete_stuck_pods: bool,
}

/// What a [`Rollout`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutOperation {
    /// All Pods are replaced, in the way that the workload replaces them. A paused Deployment is refused.
    #[default]
    Restart,
    /// The Pod template becomes that of an earlier revision. A paused Deployment is refused.
    Undo,
    /// Changes of the Deployment's Pod template are not rolled out until it is resumed.
    Pause,
    /// What changed while the Deployment was paused is rolled out.
    Resume,
}

impl Rollout {
    /// Why it cannot be done to the kind of its target, if it cannot.
    pub fn fault(&self) -> Option<&'static str> {
        use RolloutOperation::{Restart, Undo};
        if self.revision.is_some() && self.operation != Undo {
            return Some("revision is for operation Undo");
        }
        if self.delete_stuck_pods && self.operation != Undo {
            return Some("deleteStuckPods is for operation Undo of a StatefulSet");
        }
        if self.target.from.is_some() {
            // What kind it is, is known when it fires.
            return None;
        }
        match (self.operation, self.target.kind.as_str()) {
            (_, "Deployment" | "DaemonSet") if self.delete_stuck_pods => {
                Some("deleteStuckPods is for operation Undo of a StatefulSet")
            }
            (_, "Deployment") | (Restart | Undo, "StatefulSet" | "DaemonSet") => None,
            (_, "StatefulSet" | "DaemonSet") => Some("only a Deployment can be paused and resumed"),
            _ => Some("rollout is for a Deployment, a StatefulSet or a DaemonSet"),
        }
    }
}
