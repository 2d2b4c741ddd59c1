//! What every part of a firing's way does alike: wait until it may act, record, live through a panic; and why it stops.

use std::time::Duration;

use super::{
    Inner,
    step::{GONE, Step},
};
use crate::{
    actions::{Action, Done, Failure},
    bus::BusError,
    poison,
    record::{Position, Record},
};

/// How long a full disk is given to get room.
const FULL: Duration = Duration::from_secs(1);

/// Why a firing does not go on in this process.
#[derive(Debug)]
pub(super) enum Halt {
    /// The process is about to stop; the next one goes on.
    Interrupted,
    /// The log failed.
    Bus(BusError),
}

/// Waits until this process may act, and is to.
pub(super) async fn may_act(inner: &Inner) -> Result<(), Halt> {
    let mut held = inner.held.subscribe();
    loop {
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return Err(Halt::Interrupted),
            // The sender is the runner's own, so this cannot fail.
            _ = held.wait_for(|held| !held) => {}
        }
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return Err(Halt::Interrupted),
            () = inner.authority.live() => {}
        }
        // It may have been held while the Lease was waited for.
        if !*held.borrow() {
            return Ok(());
        }
    }
}

impl Step<'_> {
    /// Resolves when an attempt of an action that goes on for long is not to go on: with its failure when the rule is gone, with nothing while nothing is
    /// to be done.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn broken_off(&self, action: &dyn Action) -> Option<Result<Done, Failure>> {
        if !action.goes_on() || self.observes() {
            return std::future::pending().await;
        }
        let mut held = self.inner.held.subscribe();
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Some(Err(Failure::last(GONE))),
            // The sender is the runner's own, so this cannot fail.
            _ = held.wait_for(|held| *held) => None,
        }
    }
}

/// Appends a record of the ledger; waits while the disk is full.
pub(super) async fn record(inner: &Inner, record: Record) -> Result<Position, Halt> {
    loop {
        match inner.bus.record(record.clone()) {
            Ok(head) => {
                inner.holders.note(&record, head.position);
                return Ok(head.position);
            }
            Err(BusError::Full) => tokio::select! {
                () = inner.stop.cancelled() => return Err(Halt::Interrupted),
                () = tokio::time::sleep(FULL) => {}
            },
            Err(error) => return Err(Halt::Bus(error)),
        }
    }
}

/// An action that panics has failed; the process and the other firings go on.
pub(super) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    poison::caught_in(future).await.map_err(|poisoned| {
        tracing::error!(error = %poisoned, "an action panicked");
        Failure::last(poisoned.to_string())
    })
}
