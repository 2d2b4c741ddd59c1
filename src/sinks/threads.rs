//! The threads that incidents have in channels: what this process knows of them. After a restart they are found again in the channel itself.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::Key;

/// Threads that are kept: of 10 KiB at most each, 10 MiB in all. The one that was not used for the longest time goes first.
const THREADS: usize = 1_000;

/// All threads. A clone knows the same ones.
#[derive(Clone, Default)]
pub struct Threads(Arc<Mutex<Known>>);

/// The first message of an incident.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Thread {
    /// What the service calls it.
    pub(super) id: String,
    /// Its content, to be shown anew when the incident is over.
    pub(super) content: Value,
}

#[derive(Default)]
struct Known {
    threads: HashMap<Key, (u64, Thread)>,
    /// Channels whose earlier messages were read.
    read: HashMap<Key, Arc<OnceCell<()>>>,
    /// Counts uses.
    turn: u64,
}

impl Threads {
    /// The thread of an incident that is not over.
    pub(super) fn get(&self, incident: Key) -> Option<Thread> {
        let mut known = self.0.lock();
        known.turn += 1;
        let turn = known.turn;
        let (used, thread) = known.threads.get_mut(&incident)?;
        *used = turn;
        Some(thread.clone())
    }

    /// An incident has this thread from now on.
    pub(super) fn put(&self, incident: Key, thread: Thread) {
        let mut known = self.0.lock();
        known.turn += 1;
        let turn = known.turn;
        known.threads.insert(incident, (turn, thread));
        if known.threads.len() > THREADS {
            let oldest = known.threads.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.map(|key| known.threads.remove(&key));
        }
    }

    /// The incident is over, or its first message is gone.
    pub(super) fn remove(&self, incident: Key) {
        self.0.lock().threads.remove(&incident);
    }

    /// Is set once what was said in the channel before this process began was read: by one who asks, for whom the others wait. What is read later is older
    /// than what is known here. So many channels are no more than threads are.
    pub(super) fn read(&self, channel: Key) -> Arc<OnceCell<()>> {
        let mut known = self.0.lock();
        if known.read.len() >= THREADS && !known.read.contains_key(&channel) {
            known.read.clear();
        }
        known.read.entry(channel).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_that_was_not_used_for_the_longest_time_goes_first() {
        let (threads, key) = (Threads::default(), |n: usize| Key::of("slack", [n.to_string().as_bytes()]));
        for n in 0..THREADS {
            threads.put(key(n), Thread { id: n.to_string(), content: Value::Null });
        }
        threads.get(key(0)).expect("kept");
        threads.put(key(THREADS), Thread { id: String::new(), content: Value::Null });
        assert!(threads.get(key(0)).is_some() && threads.get(key(1)).is_none());
        threads.remove(key(0));
        assert!(threads.get(key(0)).is_none());
    }
}
