//! `approve` of an action: a person decides whether the firing goes on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Duration;

/// Waits for `kubectl signalbox approve`, by somebody who has the verb `approve` on the rule; who it was is `actions.<name>.by`. What is denied, or not
/// approved in time, fails. Waiting goes on after a restart, to the same end. Needs the chart's ValidatingAdmissionPolicy: where it is not in force
/// nothing is approved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approve {
    /// How long is waited, at most `720h`.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,
}

fn default_timeout() -> Duration {
    Duration::from_secs(3600)
}
