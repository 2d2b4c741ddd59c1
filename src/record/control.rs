//! What people say to the operator as a whole.

use serde::{Deserialize, Serialize};

use super::Stamp;

/// The switch for all rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Nothing new is acted upon from here on.
    Stop {
        /// What says so: `ConfigMap signalbox-system/signalbox-control`.
        by: String,
        /// Why, in the words of whoever did it; empty when that was not said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// Rules act again.
    Release,
}

/// That nothing is acted upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Since when.
    pub since: Stamp,
    /// What says so.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}
