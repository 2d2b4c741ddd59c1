//! How long to wait after failures, and how often to ask at most.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// The first wait after a failure.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double from the first to the longest, 0.5 s and 30 s, each with up to a quarter of jitter below it that never makes it shorter than the first.
pub(in crate::sources) struct Backoff {
    failures: u32,
    first: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { failures: 0, first: FIRST, longest: LONGEST }
    }
}

impl Backoff {
    /// From 1 s to 60 s: for connections to where events are.
    pub(in crate::sources) fn feed() -> Self {
        Self { failures: 0, first: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }

    /// The wait after one more failure.
    pub(in crate::sources) fn next(&mut self) -> Duration {
        // 2^6 times the first is above the longest.
        let full = self.first.saturating_mul(1 << self.failures.min(6)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - random() / 4.0).max(self.first)
    }

    /// All is well.
    pub(in crate::sources) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Lets two requests begin in any second.
#[derive(Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    before: Option<Instant>,
}

impl Pace {
    /// Waits until one more may begin.
    pub(super) async fn admit(&mut self) {
        if let Some(before) = self.before {
            tokio::time::sleep_until(before + Duration::from_secs(1)).await;
        }
        self.before = self.last.replace(Instant::now());
    }
}

/// A number from 0 to 1, good enough to keep many clients from moving in step.
pub(super) fn random() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}
