//! Connections that have not yet said all they want to: when there are too many, the one that has waited longest is cut.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Everybody who waits, by the order in which they began to.
#[derive(Debug, Default)]
pub(super) struct Lobby(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_order: BTreeMap<u64, CancellationToken>,
}

/// One connection's place in the lobby. Dropped, it is given up.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Arc<Lobby>,
    cut: CancellationToken,
    /// Nothing while it is served.
    order: Mutex<Option<u64>>,
}

impl Lobby {
    /// A place at the end.
    pub(super) fn enter(self: &Arc<Self>) -> Arc<Place> {
        let place = Place { lobby: Arc::clone(self), cut: CancellationToken::new(), order: Mutex::new(None) };
        place.waits();
        Arc::new(place)
    }

    /// Cuts the connection that has waited longest. Whether there is one.
    pub(super) fn cut_oldest(&self) -> bool {
        let oldest = self.0.lock().by_order.pop_first();
        oldest.is_some_and(|(_, cut)| {
            cut.cancel();
            true
        })
    }
}

impl Place {
    /// Waits until the connection is to be cut.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// All was said: from here on it is not cut.
    pub(super) fn is_served(&self) {
        if let Some(order) = self.order.lock().take() {
            self.lobby.0.lock().by_order.remove(&order);
        }
    }

    /// It waits for what is said next, since now.
    pub(super) fn waits(&self) {
        self.is_served();
        let mut waiting = self.lobby.0.lock();
        let order = waiting.next;
        waiting.next += 1;
        waiting.by_order.insert(order, self.cut.clone());
        drop(waiting);
        *self.order.lock() = Some(order);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_served();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_has_waited_longest_is_cut_and_none_that_is_served() {
        let lobby = Arc::new(Lobby::default());
        let [first, second, third] = [(); 3].map(|()| lobby.enter());
        first.is_served();
        second.waits();
        assert!(lobby.cut_oldest());
        let cut = [&first, &second, &third].map(|place| place.cut.is_cancelled());
        assert_eq!(cut, [false, false, true]);
        assert!(lobby.cut_oldest() && second.cut.is_cancelled());
        assert!(!lobby.cut_oldest(), "the first is served");
        first.waits();
        drop(first);
        assert!(!lobby.cut_oldest(), "nobody is there");
    }
}
