//! What became of what came by an EventSource, since this process started.

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::{api::Rejected, telemetry::Rejection};

/// What became of events, since this process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events that were taken.
    pub received: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Requests and messages that were not taken.
    pub rejected: Rejected,
    /// When an event was last taken.
    pub last_event: Option<Timestamp>,
    /// How many messages wait where the events come from, as far as is known.
    pub lag: Option<u64>,
}

/// What became of the events of one request, or of some messages; all of them are on stable storage, or nobody asks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// How many came for the first time.
    pub new: usize,
    /// How many came before.
    pub duplicates: usize,
}

/// The figures that all versions of an EventSource share.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Figures>);

impl Counted {
    pub(super) fn get(&self) -> Figures {
        self.0.lock().clone()
    }

    pub(super) fn received(&self, received: Received, now: Timestamp) {
        let mut figures = self.0.lock();
        figures.received += received.new as u64;
        figures.duplicates += received.duplicates as u64;
        if received.new > 0 {
            figures.last_event = Some(now);
        }
    }

    pub(super) fn rejected(&self, why: Rejection) {
        let rejected = &mut self.0.lock().rejected;
        let count = match why {
            Rejection::Unauthenticated => &mut rejected.unauthenticated,
            Rejection::Malformed => &mut rejected.malformed,
            Rejection::TooLarge => &mut rejected.too_large,
            Rejection::RateLimited => &mut rejected.rate_limited,
            Rejection::Unavailable => &mut rejected.unavailable,
        };
        *count += 1;
        rejected.total += 1;
    }

    pub(super) fn lag(&self, lag: Option<u64>) {
        self.0.lock().lag = lag;
    }
}
