//! What the filters of a rule are, in short.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    api::Source,
    rule::{compile::Rule, trigger::Trigger},
};

/// What the filters of a class are, in short: the same in each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(in crate::rule) struct ClassHash(u128);

impl ClassHash {
    /// Of a rule with these of its sources.
    pub(super) fn of(rule: &Rule, sources: &[usize]) -> Self {
        let sources = sources.iter().filter_map(|at| rule.spec.sources.get(*at));
        let filters: Vec<_> = sources.map(|source| filter(rule, source)).collect();
        let account = (&rule.account.namespace, &rule.account.name);
        let looked_up = (rule.looked_up.labels, rule.looked_up.owner);
        let parts = json!([rule.rule.namespace, account, looked_up, follows_objects(rule), filters]);
        let hash = Sha256::digest(parts.to_string());
        Self(hash.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
    }
}

impl fmt::Display for ClassHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<ClassHash> for String {
    fn from(hash: ClassHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for ClassHash {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

/// What a source's filter is made of. The events of a schedule are those of its rule and source only, and `events` leaves out those of its own rule.
fn filter(rule: &Rule, source: &Source) -> serde_json::Value {
    let is_own = source.schedule.is_some() || source.events.is_some();
    let own = is_own.then_some((&rule.rule.uid, &rule.rule.name, &source.name));
    let filter = Source { name: String::new(), when: Vec::new(), ..source.clone() };
    json!([own, filter])
}

/// Whether the rule follows objects: then it has to be asked about each event of one, for what it waits for may be over.
pub(super) fn follows_objects(rule: &Rule) -> bool {
    rule.trigger.as_ref().is_some_and(Trigger::follows_objects)
}
