//! The time of records: a line that clock jumps do not bend, and the wall time beside it.

use std::{sync::Arc, time::Instant};

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
    fn a_simulated_clock_moves_only_when_told() {
        let clock = Clock::simulated(Stamp { at: 5, wall: 7 });
        assert_eq!(clock.now(), clock.now());
        clock.advance(std::time::Duration::from_micros(3));
        assert_eq!(clock.now(), Stamp { at: 8, wall: 10 });
    }
}
