//! The time of records: a line that clock jumps do not bend, and the wall time beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use k8s_openapi::jiff::Timestamp;

/// When a record was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Microseconds on the log's own line: an anchor plus monotonic elapsed time. Never goes back in one log, also across restarts; cooldowns count on it.
    pub at: i64,
    /// Microseconds of wall time since 1970; for people and for `now` in expressions.
    pub wall: i64,
}

impl Stamp {
    /// The wall time as a timestamp.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.wall).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Gives stamps: the real clock, or a simulated one that only a test moves.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Real { anchor: i64, started: Instant },
    Simulated(Arc<Mutex<Stamp>>),
}

impl Clock {
    /// The machine's clock, continuing after `last`, the greatest [`Stamp::at`] that the log holds (0 for none).
    pub fn real(last: i64) -> Self {
        Self(Kind::Real { anchor: wall_now().max(last + 1), started: Instant::now() })
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn simulated(start: Stamp) -> Self {
        Self(Kind::Simulated(Arc::new(Mutex::new(start))))
    }

    /// The present instant.
    pub fn now(&self) -> Stamp {
        match &self.0 {
            Kind::Real { anchor, started } => {
                let elapsed = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
                Stamp { at: anchor.saturating_add(elapsed), wall: wall_now() }
            }
            Kind::Simulated(stamp) => *stamp.lock(),
        }
    }

    /// Moves a simulated clock forward; a real one goes its own way.
    pub fn advance(&self, by: std::time::Duration) {
        if let Kind::Simulated(stamp) = &self.0 {
            let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            let mut stamp = stamp.lock();
            stamp.at = stamp.at.saturating_add(by);
            stamp.wall = stamp.wall.saturating_add(by);
        }
    }
}

/// So many things a second, in all, for everybody who holds a clone.
#[derive(Clone, Debug)]
pub struct Quota(Arc<Bucket>);

#[derive(Debug)]
struct Bucket {
    a_second: u32,
    state: Mutex<(Instant, f64)>,
    taken: AtomicUsize,
}

/// The part of a second's quota that may be used at once, so that a burst does not hold anybody up.
const AT_ONCE: f64 = 0.1;

impl Quota {
    /// So many a second.
    pub fn per_second(a_second: u32) -> Self {
        let state = Mutex::new((Instant::now(), f64::from(a_second) * AT_ONCE));
        Self(Arc::new(Bucket { a_second, state, taken: AtomicUsize::new(0) }))
    }

    /// Takes one, if there is one: gives how many were taken before.
    pub fn take(&self) -> Option<usize> {
        let mut state = self.0.state.lock();
        let (since, left) = *state;
        let now = Instant::now();
        let rate = f64::from(self.0.a_second);
        let left = (left + now.saturating_duration_since(since).as_secs_f64() * rate).min(rate * AT_ONCE);
        *state = (now, if left < 1.0 { left } else { left - 1.0 });
        (left >= 1.0).then(|| self.0.taken.fetch_add(1, Ordering::Relaxed))
    }
}

fn wall_now() -> i64 {
    Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_does_not_move_the_line_back() {
        let ahead = wall_now() + 3_600_000_000;
        assert!(Clock::real(ahead).now().at > ahead);
    }

    #[test]
    fn a_quota_is_shared_and_gives_a_tenth_of_a_second_at_once() {
        let quota = Quota::per_second(100);
        let taken: Vec<_> = (0..1000).map_while(|_| quota.clone().take()).collect();
        assert!((10..20).contains(&taken.len()), "{}", taken.len());
        assert!(taken.iter().copied().eq(0..taken.len()));
    }

    #[test]
    fn a_simulated_clock_moves_only_when_told() {
        let clock = Clock::simulated(Stamp { at: 5, wall: 7 });
        assert_eq!(clock.now(), clock.now());
        clock.advance(std::time::Duration::from_micros(3));
        assert_eq!(clock.now(), Stamp { at: 8, wall: 10 });
    }
}
