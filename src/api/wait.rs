//! `waitFor` of an action: when the change it made is complete.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, schema};

/// What an action waits for after it has changed its target. Exactly one of `rollout` and `expression` is set. What is not so within `timeout` fails
/// the action; what it changed stays as it is. Waiting goes on after a restart of the operator, to the same end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.rollout) != has(self.expression)")
    .message("exactly one of rollout and expression must be set"))]
pub struct WaitFor {
    /// Waits as `kubectl rollout status` does, for a Deployment, a StatefulSet or a DaemonSet. A Deployment that exceeds its progress deadline fails the
    /// action at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<WaitForRollout>,
    /// Waits until the CEL expression over `target` (the object as it is) gives true. While it fails, for a field that is not there yet, it is not true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub expression: Option<String>,
    /// How long it may take after the change was made.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,
}

/// Has no fields: `rollout: {}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitForRollout {}

fn default_timeout() -> Duration {
    Duration::from_secs(300)
}
