//! The gate before every action: open while the Lease is this process's, and shut before anybody else may act.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::clock::Clock;

/// Whether this process may act. A clone is the same gate.
#[derive(Clone, Debug)]
pub struct Authority(Option<Arc<watch::Sender<Option<Term>>>>);

/// Until when the process may act.
#[derive(Clone, Copy, Debug)]
struct Term {
    until: Instant,
    /// The same on the wall clock, in microseconds since 1970: the other does not count while the machine sleeps.
    wall: i64,
}

impl Authority {
    /// Nobody else can act: there is no Lease.
    pub fn sole() -> Self {
        Self(None)
    }

    /// Shut until [`Authority::grant`].
    pub(crate) fn shut() -> Self {
        Self(Some(Arc::new(watch::Sender::new(None))))
    }

    /// Opens the gate for `time` from `since` on, which is before the Lease was written.
    pub(crate) fn grant(&self, since: Instant, time: Duration) {
        let Some(term) = &self.0 else { return };
        let left = (since + time).saturating_duration_since(Instant::now());
        let wall = wall_now().saturating_add(i64::try_from(left.as_micros()).unwrap_or(i64::MAX));
        term.send_replace(Some(Term { until: since + time, wall }));
    }

    /// Shuts the gate for ever.
    pub(super) fn revoke(&self) {
        if let Some(term) = &self.0 {
            term.send_replace(None);
        }
    }

    /// Whether an action may be started now.
    pub fn is_live(&self) -> bool {
        self.0.as_ref().is_none_or(|term| term.borrow().is_some_and(Term::is_live))
    }

    /// Waits until an action may be started.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn live(&self) {
        let Some(term) = &self.0 else { return };
        // The sender is in `self`, so it does not end.
        let _ = term.subscribe().wait_for(|term| term.is_some_and(Term::is_live)).await;
    }

    /// Does something while the gate is open; gives nothing, and drops it, as soon as it is not. A process that was stopped and goes on does not
    /// get to the next step of it; only what it had handed to a connection before may still go out.
    pub async fn during<T>(&self, doing: impl Future<Output = T>) -> Option<T> {
        let (mut doing, mut lapsed) = (pin!(doing), pin!(self.lapsed()));
        // The timer alone is not enough: after a stop it may be told later than what is waited for.
        std::future::poll_fn(|context| {
            if !self.is_live() || lapsed.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            doing.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// Tells of each time that the gate opens (true) and shuts (false), for ever.
    pub async fn follow(&self, mut tell: impl FnMut(bool)) {
        loop {
            self.live().await;
            tell(true);
            self.lapsed().await;
            tell(false);
        }
    }

    /// Waits until nothing may be done any more; for ever where there is no Lease.
    async fn lapsed(&self) {
        let Some(term) = &self.0 else { return std::future::pending().await };
        let mut changes = term.subscribe();
        loop {
            let Some(now) = *changes.borrow_and_update() else { return };
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(now.until) => return,
            }
        }
    }
}

impl Term {
    fn is_live(self) -> bool {
        Instant::now() < self.until && wall_now() < self.wall
    }
}

fn wall_now() -> i64 {
    Clock::real(0).now().wall
}
