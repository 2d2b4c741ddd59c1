//! One step at a time per target, over all rules.
//!
//! "2 more" is fixed as an absolute number when it is rendered. Were two such numbers fixed for one object at a time, a crash would leave both open, the
//! first to be finished would change the object, and the second would take that for somebody else's doing and be given up. So the next step is rendered
//! when the one before it has its outcome; this also keeps our own writes from running into conflicts with each other.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Objects that are kept although nobody holds them; about 150 bytes each.
const IDLE: usize = 1024;

/// Held from the rendering of a step to its outcome.
pub(super) type Held = OwnedMutexGuard<()>;

/// The objects that steps are about, by [`crate::actions::Action::target`].
#[derive(Default)]
pub(super) struct Targets(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Targets {
    /// Waits until nobody else holds the target. First come, first served.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing is held.
    pub(super) async fn hold(&self, target: String) -> Held {
        self.entry(target).lock_owned().await
    }

    /// Holds the target if nobody else does.
    pub(super) fn try_hold(&self, target: String) -> Option<Held> {
        self.entry(target).try_lock_owned().ok()
    }

    fn entry(&self, target: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut entries = self.0.lock();
        if entries.len() >= IDLE {
            entries.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        Arc::clone(entries.entry(target).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_target_is_held_by_one_at_a_time() {
        let targets = Targets::default();
        let held = targets.hold("a".into()).await;
        assert!(targets.try_hold("a".into()).is_none());
        assert!(targets.try_hold("b".into()).is_some());
        drop(held);
        assert!(targets.try_hold("a".into()).is_some());
    }

    #[tokio::test]
    async fn targets_that_nobody_holds_are_forgotten() {
        let targets = Targets::default();
        let held = targets.hold("held".into()).await;
        for number in 0..5 * IDLE {
            drop(targets.hold(number.to_string()).await);
        }
        assert!(targets.0.lock().len() <= IDLE);
        assert!(targets.try_hold("held".into()).is_none());
        drop(held);
    }
}
