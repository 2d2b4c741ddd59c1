//! How long to wait before the next attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::api::Retry;

/// The wait before repetition number `nth` (from 1): doubling from `backoff` to `maxBackoff`, of which half is random, so that what failed
/// together does not come back together; and never less than the other side asked for.
pub(super) fn wait(retry: &Retry, nth: u32, after: Option<Duration>) -> Duration {
    let doubled = retry.backoff.get().saturating_mul(2u32.saturating_pow(nth.saturating_sub(1)));
    let most = doubled.min(retry.max_backoff.get());
    jittered(most).max(after.unwrap_or(Duration::ZERO))
}

/// Between half of `most` and all of it.
pub(super) fn jittered(most: Duration) -> Duration {
    // Every RandomState has other keys; that is random enough to part two retries.
    let share = RandomState::new().hash_one(0) % 1000;
    most.mul_f64(0.5 + share as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_are_at_least_half_of_it() {
        let retry = Retry { limit: 100, ..Retry::default() };
        for (nth, most) in [(1, 1), (2, 2), (3, 4), (7, 60), (100, 60)] {
            let (wait, most) = (wait(&retry, nth, None), Duration::from_secs(most));
            assert!(wait >= most / 2 && wait <= most, "{nth}: {wait:?}");
        }
    }

    #[test]
    fn what_the_other_side_asks_for_is_honoured_beyond_the_cap() {
        let after = Duration::from_secs(300);
        assert_eq!(wait(&Retry::default(), 1, Some(after)), after);
    }
}
