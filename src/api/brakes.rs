//! What keeps a rule from acting though its trigger says so: `dedupe`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, schema};

/// The same again: a matching event whose key the rule has let through for the group within a time does not fire. Without a trigger the key of an event
/// that fired is known; with `count`, `sequence`, `all` or `batch` that of an event that was taken, and the same again is not taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dedupe {
    /// CEL expression that gives what is the same: a text, a number, or true or false. It sees what conditions see. A group's last keys are known,
    /// 1000000 divided by `groups.max` of them and at most 1000: 100, unless `groups.max` says otherwise.
    #[schemars(schema_with = "schema::expression")]
    pub key_expression: String,
    /// What does not tell keys apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub normalize: Vec<Normalizer>,
    /// For how long. It counts from the event that was let through: what goes on without a break is let through each time it has passed.
    pub within: Duration,
}

/// Parts of a text that are taken to be all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Normalizer {
    /// Numbers, also within words: `10.0.0.7:8080`, `web-3`.
    Numbers,
    /// UUIDs, 7 or more hexadecimal digits with a decimal one among them, and the ends of pods' names: `web-6d4b75cb6d-x7k2p`.
    Hashes,
    /// Durations: `1m30s`, `250ms`, `5 minutes`.
    Durations,
}
