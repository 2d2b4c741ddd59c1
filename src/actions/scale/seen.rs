//! What scales were when they were last read or written.
//!
//! A step that finds its target here saves a request: it writes on the condition that the object still is what it was, and reads it only when it
//! is not. So nothing here has to be right.

use std::time::Duration;

use crate::{actions::target::Aim, kubernetes::Expiring, record::Account};

/// Objects that are remembered at the same time, about 300 bytes each.
const ENTRIES: usize = 4096;
/// What was seen so long ago has probably been changed by somebody else.
const AGE: Duration = Duration::from_secs(300);

/// An account's object: what one account has seen is told to no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    account: Account,
    group: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

impl Key {
    pub(super) fn new(account: &Account, aim: &Aim) -> Self {
        let api = &aim.resource.api;
        Self {
            account: account.clone(),
            group: api.group.clone(),
            kind: api.kind.clone(),
            namespace: aim.namespace.clone(),
            name: aim.name.clone(),
        }
    }
}

/// An object's uid and number of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uid: String,
    pub(super) replicas: i32,
}

/// The memory that all scalings share.
pub struct Scales(Expiring<Key, Seen>);

impl Default for Scales {
    fn default() -> Self {
        Self(Expiring::new(ENTRIES))
    }
}

impl Scales {
    pub(super) fn get(&self, key: &Key) -> Option<Seen> {
        self.0.get(key)
    }

    pub(super) fn put(&self, key: Key, seen: Seen) {
        self.0.put(key, seen, AGE);
    }

    pub(super) fn forget(&self, key: &Key) {
        self.0.retain(|known| known != key);
    }
}
