//! How many matching lines are events, by when they were written: so that lines that are read late, or once more after a restart, count where they belong.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::api::RateLimit;

/// Times that are kept apart, 16 bytes each. With `per: 1s` they are more than an hour; what is older shares the oldest.
const TIMES: usize = 4096;

/// Counts the lines of each time of the limit.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    limit: RateLimit,
    times: BTreeMap<i128, u32>,
}

impl Rate {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, times: BTreeMap::new() }
    }

    /// Begins anew if the limit is another one.
    pub(super) fn set(&mut self, limit: RateLimit) {
        if self.limit != limit {
            *self = Self::new(limit);
        }
    }

    /// Whether one more line of then is within the limit.
    pub(super) fn admits(&mut self, at: Timestamp) -> bool {
        let mut time = self.time(at);
        if self.times.len() >= TIMES && !self.times.contains_key(&time) {
            match self.times.first_key_value() {
                Some((oldest, _)) if time < *oldest => time = *oldest,
                _ => drop(self.times.pop_first()),
            }
        }
        let lines = self.times.entry(time).or_default();
        if *lines >= self.limit.events {
            return false;
        }
        *lines += 1;
        true
    }

    /// A line of then that was within the limit was not taken, and is read again.
    pub(super) fn put_back(&mut self, at: Timestamp) {
        let oldest = self.times.first_key_value().map(|(oldest, _)| *oldest);
        let time = oldest.map_or_else(|| self.time(at), |oldest| self.time(at).max(oldest));
        if let Some(lines) = self.times.get_mut(&time) {
            *lines = lines.saturating_sub(1);
        }
    }

    fn time(&self, at: Timestamp) -> i128 {
        let per = i128::try_from(self.limit.per.get().as_nanos()).unwrap_or(i128::MAX).max(1);
        at.as_nanosecond().div_euclid(per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(events: u32, per: &str) -> Rate {
        Rate::new(RateLimit { events, per: per.parse().expect("a duration") })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    #[test]
    fn so_many_lines_of_each_time_are_within_the_limit_in_whatever_order_they_come() {
        let mut rate = rate(2, "10s");
        let seconds = [0, 9, 5, 10, 3, 19, 12, -1, -1, -1];
        let within: Vec<bool> = seconds.map(|second| rate.admits(at(second))).to_vec();
        assert_eq!(within, [true, true, false, true, false, true, false, true, true, false]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_nothing_gets_around_the_limit_by_being_old() {
        let mut rate = rate(1, "1s");
        for second in 0..10_000 {
            assert!(rate.admits(at(second)));
        }
        assert_eq!(rate.times.len(), TIMES);
        assert!((0..100).all(|second| !rate.admits(at(second))), "they share the oldest time");
    }

    #[test]
    fn a_line_that_was_not_taken_does_not_count() {
        let mut rate = rate(1, "10s");
        rate.put_back(at(5));
        assert!(rate.admits(at(5)) && !rate.admits(at(6)));
        rate.put_back(at(5));
        assert!(rate.admits(at(6)) && !rate.admits(at(5)));
    }

    #[test]
    fn another_limit_begins_anew_and_the_same_goes_on() {
        let mut rate = rate(1, "1h");
        assert!(rate.admits(at(0)) && !rate.admits(at(1)));
        rate.set(rate.limit);
        assert!(!rate.admits(at(1)));
        rate.set(RateLimit { events: 2, ..rate.limit });
        assert!(rate.admits(at(1)));
    }
}
