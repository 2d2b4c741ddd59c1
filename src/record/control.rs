//! What people say to the operator: to all rules, or to one beside its spec.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RuleUid, Stamp};
use crate::api::Silence;

/// The switch for all rules, and the silences of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// These silences are in force for the rule, and no others.
    Silences {
        /// The rule.
        rule: RuleUid,
        /// All of them.
        silences: Vec<Silence>,
    },
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

impl Stopped {
    /// How long it has been so, by the wall clock.
    pub fn lasts(&self, now: Stamp) -> Duration {
        Duration::from_micros(u64::try_from(now.wall.saturating_sub(self.since.wall)).unwrap_or(0))
    }
}
