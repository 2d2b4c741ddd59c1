//! What an action `approve` records before it waits.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A step that waits for an approval, as its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// Microseconds since 1970 at which waiting ends.
    pub approve_until: i64,
}

impl Asked {
    /// The waiting that was recorded, if that is what was.
    pub fn read(request: &Value) -> Option<Self> {
        Self::deserialize(request).ok()
    }
}

/// What somebody has to type.
pub fn approve_command(namespace: &str, rule: &str, firing: &super::FiringId) -> String {
    format!("kubectl signalbox approve {rule} {firing} -n {namespace}")
}
