//! `restore` of an action: when what it has changed is given back.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Duration;

/// When the former value is given back. Exactly one of `after` and `when` is set. Of each object a rule remembers what it was before the first firing
/// that changed it; it is given back when no firing holds it any more, or when the rule is deleted, unless somebody else has changed it since. After a
/// downtime late rather than never. Of one rule 256 objects are remembered: when there are more, the one whose time is next is given back early.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.after) != has(self.when)")
    .message("exactly one of after and when must be set"))]
pub struct Restore {
    /// So long after the change; another firing that changes it, or would, begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// When what the rule has fired for has ended. Needs a trigger that has an end: `held`, `absent`, `value` or `anomaly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<RestoreWhen>,
}

/// What ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoreWhen {
    /// What the rule has fired for has ended, or the rule looks at it no more because it was changed or suspended.
    Resolved,
}
