//! `timeout` of an action: how long a step may take in all, with its repetitions and the waits between them.
//!
//! The instant at which it ends is fixed when the step begins and recorded with its request, so that a restart does not begin to count anew.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    api::{self, JobWait},
    clock::Clock,
};

/// What a Job that is waited for is given beside its own time, which ends the wait with words of its own.
const GRACE: Duration = Duration::from_secs(30);

/// When a step ends, done or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout {
    limit: api::Duration,
    /// In microseconds since 1970.
    deadline: i64,
    end: Instant,
}

impl Timeout {
    /// Of a step that begins now, or that an earlier process began and recorded with this deadline; nothing for an action without `timeout`.
    pub(super) fn of(spec: &api::Action, recorded: Option<i64>, clock: &Clock) -> Option<Self> {
        let limit = spec.timeout?;
        let waits = spec.job.as_ref().is_some_and(|job| job.wait == JobWait::Completed);
        let whole = limit.get() + if waits { GRACE } else { Duration::ZERO };
        let now = clock.now().wall;
        let deadline =
            recorded.unwrap_or_else(|| now.saturating_add(i64::try_from(whole.as_micros()).unwrap_or(i64::MAX)));
        let left = Duration::from_micros(u64::try_from(deadline.saturating_sub(now)).unwrap_or(0));
        Some(Self { limit, deadline, end: Instant::now() + left })
    }

    /// What is recorded.
    pub(super) fn deadline(&self) -> i64 {
        self.deadline
    }

    /// How much of it is left.
    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Resolves when it is over.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn over(&self) {
        tokio::time::sleep_until(self.end).await;
    }

    /// What has become of the step, whose last trouble is told in words.
    pub(super) fn told(&self, last: &str) -> String {
        format!("not done within its timeout of {}: {last}", self.limit)
    }
}
