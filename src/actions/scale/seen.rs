//! What scales were when they were last written by us.
//!
//! A step that finds its target here saves a request: it writes on the condition that the object still is what it was, and reads it only when it
//! is not. So nothing here has to be right; but were it old and the answer to the write lost, nobody could tell whether the write had come
//! before somebody else's, and the step would be given up. So it is kept for a moment only, and whoever takes it leaves nothing behind: it is
//! there again when the next write has been answered.

use std::time::Duration;

use super::autoscaler::Known;
use crate::{
    actions::{target::Aim, write::Object},
    kubernetes::Expiring,
    record::{Account, RuleRef},
};

/// Objects that are remembered at the same time, about 400 bytes each.
const ENTRIES: usize = 1024;
/// Long enough for a storm of events about one thing; what an autoscaler decides every 15 s is mostly read again.
const AGE: Duration = Duration::from_secs(10);

/// For so long it is told that another rule has scaled the same object: two that pull at it in turns have cooldowns of minutes.
const RIVALRY: Duration = Duration::from_secs(600);

/// An object, whoever scales it: a write by one account outdates what another has seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    group: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

impl Key {
    pub(super) fn new(aim: &Aim) -> Self {
        let api = &aim.resource.api;
        Self {
            group: api.group.clone(),
            kind: api.kind.clone(),
            namespace: aim.namespace.clone(),
            name: aim.name.clone(),
        }
    }

    /// Of an object that was recorded.
    pub(super) fn of(object: &Object) -> Self {
        let Object { api_version, kind, namespace, name, .. } = object.clone();
        let group = api_version.split_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default();
        Self { group, kind, namespace, name }
    }
}

/// An object's uid and number of replicas, and the account that was told so: it is told to no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) account: Account,
    pub(super) uid: String,
    pub(super) replicas: i32,
    /// What was known of an autoscaler of it then.
    pub(super) autoscaler: Known,
}

/// The memory that all scalings share.
pub struct Scales {
    seen: Expiring<Key, Seen>,
    /// Which rule was the last to scale an object.
    writers: Expiring<Key, RuleRef>,
}

impl Default for Scales {
    fn default() -> Self {
        Self { seen: Expiring::new(ENTRIES), writers: Expiring::new(ENTRIES) }
    }
}

impl Scales {
    /// What is known of the object, which is then forgotten.
    pub(super) fn take(&self, key: &Key, account: &Account) -> Option<Seen> {
        self.seen.remove(key).filter(|seen| seen.account == *account)
    }

    /// The object was written, and this is the answer.
    pub(super) fn put(&self, key: Key, seen: Seen) {
        self.seen.put(key, seen, AGE);
    }

    /// The rule has scaled the object. When another one has a short time before, what there is to say of that: two rules that want different numbers are
    /// seen by it.
    pub(super) fn rivalry(&self, key: Key, rule: &RuleRef) -> Option<String> {
        let before = self.writers.get(&key).filter(|before| before.uid != rule.uid);
        self.writers.put(key, rule.clone(), RIVALRY);
        let minutes = RIVALRY.as_secs() / 60;
        before.map(|before| match before.namespace == rule.namespace {
            true => format!("; EventRule {before} had scaled it less than {minutes} minutes before"),
            false => format!("; a rule of another namespace had scaled it less than {minutes} minutes before"),
        })
    }
}
