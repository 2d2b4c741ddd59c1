//! What became of what came by an EventSource, since this process started.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

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
    /// When a sender last asked whether somebody is there.
    pub last_ping: Option<Timestamp>,
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
pub(super) struct Counted {
    figures: Mutex<Figures>,
    /// When it was last warned that a sender had left something out.
    warned: Mutex<Option<Instant>>,
}

/// One warning about a source in so long.
const WARN: Duration = Duration::from_mins(1);

impl Counted {
    pub(super) fn get(&self) -> Figures {
        self.figures.lock().clone()
    }

    pub(super) fn pinged(&self, now: Timestamp) {
        self.figures.lock().last_ping = Some(now);
    }

    /// Whether a warning is due. It is given then.
    pub(super) fn may_warn(&self) -> bool {
        let (mut warned, now) = (self.warned.lock(), Instant::now());
        let due = warned.is_none_or(|before| now.duration_since(before) >= WARN);
        if due {
            *warned = Some(now);
        }
        due
    }

    pub(super) fn received(&self, received: Received, now: Timestamp) {
        let mut figures = self.figures.lock();
        figures.received += received.new as u64;
        figures.duplicates += received.duplicates as u64;
        if received.new > 0 {
            figures.last_event = Some(now);
        }
    }

    pub(super) fn rejected(&self, why: Rejection) {
        let rejected = &mut self.figures.lock().rejected;
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
        self.figures.lock().lag = lag;
    }
}
