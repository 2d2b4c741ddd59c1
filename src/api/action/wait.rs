//! `waitFor` of an action: when the change it made is complete; and `wait`, an action that does nothing else.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Target;
use crate::api::{Duration, schema};

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
    /// CEL expression over `target` that says that it has failed, such as `target.status.phase == 'Failed'`: once it gives true the action has failed, and
    /// nothing is waited for any more. While it fails, for a field that is not there yet, it is not true. A Job or a Pod that has failed is seen without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub fail_expression: Option<String>,
    /// How long it may take after the change was made, at most `720h`.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,
}

/// Has no fields: `rollout: {}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitForRollout {}

fn default_timeout() -> Duration {
    Duration::from_secs(300)
}

/// Waits before the next action: `for` a time, or until `expression` over `target` gives true. Exactly one of `for` and `expression` is set. It holds up
/// the group of the firing, and no other; it goes on after a restart of the operator, to the same end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.__for__) != has(self.expression)")
    .message("exactly one of for and expression must be set"))]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.expression) == has(self.target) && (has(self.expression) || !has(self.timeout) && !has(self.failExpression))")
    .message("target is for expression, which needs it; failExpression and timeout are for expression"))]
pub struct Wait {
    /// How long, at most `720h`.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Duration>,
    /// CEL expression over `target`, the object as it is. While it fails, for a field that is not there yet, it is not true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub expression: Option<String>,
    /// CEL expression over `target` that says that it has failed, and the action with it. While it fails, for a field that is not there yet, it is not true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub fail_expression: Option<String>,
    /// The object that `expression` looks at, which must be there; the account needs `get` on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// How long `expression` may take to give true; then the action has failed. Default 5m, at most `720h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

impl Wait {
    /// What is waited for, but for a time.
    pub fn wait_for(&self) -> Option<WaitFor> {
        let timeout = self.timeout.unwrap_or_else(default_timeout);
        self.expression.as_ref().map(|expression| WaitFor {
            rollout: None,
            expression: Some(expression.clone()),
            fail_expression: self.fail_expression.clone(),
            timeout,
        })
    }
}
