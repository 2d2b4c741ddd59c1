//! `timeout` of an action: how long a step may take in all, with its repetitions and the waits between them.
//!
//! The instant at which it ends is fixed when the step begins and recorded with its request, so that a restart does not begin to count anew.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    api::{self, JobWait},
    clock::Clock,
};

/// What a Job that is waited for, or a drain, is given beside its own time, which ends the wait with words of its own.
const GRACE: Duration = Duration::from_secs(30);

/// It is not looked more often whether the time is over: while all is held, no time passes.
const SOON: Duration = Duration::from_millis(10);

/// How long nothing was to be done, by the switch for all rules.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<(Duration, Option<Hold>)>);

/// That nothing is to be done now.
#[derive(Debug)]
struct Hold {
    /// How long it had been so when this process heard of it.
    before: Duration,
    heard: Instant,
}

impl Hold {
    fn lasts(&self) -> Duration {
        self.before.saturating_add(self.heard.elapsed())
    }
}

impl Holds {
    /// From now on nothing is to be done, and it has been so for a time.
    pub(super) fn begin(&self, since: Duration) {
        self.0.lock().1.get_or_insert_with(|| Hold { before: since, heard: Instant::now() });
    }

    pub(super) fn end(&self) {
        let mut holds = self.0.lock();
        if let Some(hold) = holds.1.take() {
            holds.0 = holds.0.saturating_add(hold.lasts());
        }
    }

    /// All in all.
    fn total(&self) -> Duration {
        let holds = self.0.lock();
        holds.0.saturating_add(holds.1.as_ref().map_or(Duration::ZERO, Hold::lasts))
    }

    /// Of those that are over.
    pub(super) fn ended(&self) -> Duration {
        self.0.lock().0
    }
}

/// When a step ends, done or not. The time in which nothing was to be done does not count.
#[derive(Clone, Debug)]
pub(super) struct Timeout {
    limit: api::Duration,
    /// In microseconds since 1970.
    deadline: i64,
    /// In microseconds, negative when it is over.
    left: i64,
    /// When that much was left.
    since: Instant,
    holds: Arc<Holds>,
    /// What of the holds was before it.
    held: Duration,
}

impl Timeout {
    /// Of a step that begins now, or that an earlier process began and recorded with this deadline; nothing for an action without `timeout`. `put_off` is
    /// what of the holds was over when the deadline was read: by that the ledger has put it off.
    pub(super) fn of(
        spec: &api::Action,
        recorded: Option<i64>,
        clock: &Clock,
        holds: &Arc<Holds>,
        put_off: Duration,
    ) -> Option<Self> {
        let limit = spec.timeout?;
        let waits = spec.drain.is_some() || spec.job.as_ref().is_some_and(|job| job.wait == JobWait::Completed);
        let whole = limit.get() + if waits { GRACE } else { Duration::ZERO };
        let now = clock.now().wall;
        let held = if recorded.is_some() { put_off } else { holds.total() };
        let deadline = recorded.unwrap_or_else(|| now.saturating_add(micros(whole)));
        let (left, since, holds) = (deadline.saturating_sub(now), Instant::now(), Arc::clone(holds));
        Some(Self { limit, deadline, left, since, holds, held })
    }

    /// What is recorded: the end as far as it was put off.
    pub(super) fn deadline(&self) -> i64 {
        self.deadline.saturating_add(micros(self.holds.ended().saturating_sub(self.held)))
    }

    /// How much of it is left.
    pub(super) fn left(&self) -> Duration {
        let more = micros(self.holds.total().saturating_sub(self.held));
        let left = self.left.saturating_add(more).saturating_sub(micros(self.since.elapsed()));
        Duration::from_micros(u64::try_from(left).unwrap_or(0))
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Resolves when it is over, and soon after it when that was put off.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn over(&self) {
        loop {
            let left = self.left();
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.max(SOON)).await;
        }
    }

    /// What has become of the step, whose last trouble is told in words.
    pub(super) fn told(&self, last: &str) -> String {
        format!("not done within its timeout of {}: {last}", self.limit)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
