//! What scales were when they were last written by us.
//!
//! A step that finds its target here saves a request: it writes on the condition that the object still is what it was, and reads it only when it
//! is not. So nothing here has to be right; but were it old and the answer to the write lost, nobody could tell whether the write had come
//! before somebody else's, and the step would be given up. So it is kept for a moment only, and whoever takes it leaves nothing behind: it is
//! there again when the next write has been answered.

use std::time::Duration;

use super::autoscaler::Known;
use crate::{actions::target::Aim, kubernetes::Expiring, record::Account};

/// Objects that are remembered at the same time, about 400 bytes each.
const ENTRIES: usize = 1024;
/// Long enough for a storm of events about one thing; what an autoscaler decides every 15 s is mostly read again.
const AGE: Duration = Duration::from_secs(10);

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
pub struct Scales(Expiring<Key, Seen>);

impl Default for Scales {
    fn default() -> Self {
        Self(Expiring::new(ENTRIES))
    }
}

impl Scales {
    /// What is known of the object, which is then forgotten.
    pub(super) fn take(&self, key: &Key, account: &Account) -> Option<Seen> {
        self.0.remove(key).filter(|seen| seen.account == *account)
    }

    /// The object was written, and this is the answer.
    pub(super) fn put(&self, key: Key, seen: Seen) {
        self.0.put(key, seen, AGE);
    }
}
