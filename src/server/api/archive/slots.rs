//! How many read the archive at the same time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::OwnedMutexGuard, time::Instant};

/// Answers under way: each has a piece in memory, at most some megabytes.
const SLOTS: usize = 4;

/// Who reads, and whose turn it is. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Slots(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Until when a slot is taken, by its number. A reader who takes nothing any more keeps none for longer.
    taken: Mutex<BTreeMap<u64, Instant>>,
    /// How many were ever given: no two have the same number.
    given: AtomicU64,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A place among those who read, until it is dropped or its time is over.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    number: u64,
}

impl Slots {
    /// A slot for so long, if there is one.
    pub(super) fn take(&self, time: Duration) -> Option<Slot> {
        let (mut taken, now) = (self.0.taken.lock(), Instant::now());
        taken.retain(|_, until| *until > now);
        if taken.len() >= SLOTS {
            return None;
        }
        let number = self.0.given.fetch_add(1, Ordering::Relaxed);
        taken.insert(number, now + time);
        Some(Slot { slots: self.clone(), number })
    }
}

impl Slot {
    /// Waits for the turn to read a piece.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.slots.0.turn).lock_owned().await
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.taken.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_takes_nothing_any_more_keeps_nobody_out_for_ever() {
        let (slots, time) = (Slots::default(), Duration::from_secs(60));
        let mut taken: Vec<_> = (0..SLOTS).map(|_| slots.take(time).expect("a slot")).collect();
        assert!(slots.take(time).is_none());
        drop(taken.remove(1));
        taken.push(slots.take(time).expect("one has ended"));
        assert!(slots.take(time).is_none());
        tokio::time::advance(time).await;
        let after = slots.take(time).expect("their time is over");
        drop(taken);
        assert_eq!(slots.0.taken.lock().len(), 1, "{after:?}");
    }
}
