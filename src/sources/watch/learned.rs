//! Which values a watch knows of every object that exists: before that, no source that asks for them can begin.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;

use super::Watch;
use crate::rule::Followed;

/// The ids of the expressions. A clone is the same set: the watch fills it, the supervisor asks.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct Learned(Arc<Mutex<BTreeSet<u64>>>);

impl Learned {
    /// Whether the values of all these are known.
    pub(in crate::sources) fn covers(&self, followed: &[Followed]) -> bool {
        let known = self.0.lock();
        followed.iter().all(|one| known.contains(&one.id))
    }

    /// A list was taken while these were followed.
    pub(super) fn learn(&self, followed: &[Followed]) {
        *self.0.lock() = followed.iter().map(|one| one.id).collect();
    }

    /// Only these are followed from now on: the values of others are known no more.
    pub(super) fn keep(&self, followed: &[Followed]) {
        self.0.lock().retain(|id| followed.iter().any(|one| one.id == *id));
    }
}

impl Watch {
    /// Takes up what rules ask for now.
    pub(super) fn follow(&mut self) {
        self.followed = self.emitter.followed();
        self.learned.keep(&self.followed);
        self.memory.follow(&self.followed);
    }

    /// The values of every object are known. A source may wait for that although the watch works.
    pub(super) async fn learn(&mut self) {
        if !self.learned.covers(&self.followed) {
            self.learned.learn(&self.followed);
            // Nobody listens any more: then the watch is being stopped.
            let _ = self.phases.send((self.key.clone(), self.start, self.phase.clone())).await;
        }
    }
}
