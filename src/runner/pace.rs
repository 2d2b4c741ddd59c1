//! How fast one group of a rule may fire: a rule that answers its own doing, or a storm, must not run away with the cluster.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::record::RuleUid;

/// The time that the limit is about.
const MINUTE: Duration = Duration::from_secs(60);
/// Groups that are kept before those that rest are looked for.
const MANY: usize = 1024;

/// When each group began its last firings. Pure: the time is an argument.
#[derive(Debug)]
pub(super) struct Pace {
    /// Firings of a group in any minute; 0: any number.
    limit: usize,
    begun: HashMap<(RuleUid, String), VecDeque<Instant>>,
    slowed: HashMap<RuleUid, BTreeSet<String>>,
    /// Groups that were kept when those that rest were looked for last.
    kept: usize,
}

impl Pace {
    /// At most `limit` firings of one group in any minute; 0: any number.
    pub(super) fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { limit, begun: HashMap::new(), slowed: HashMap::new(), kept: 0 }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Begins a firing of the group; or gives how long it has to wait first.
    pub(super) fn begin(&mut self, rule: &RuleUid, group: &str, now: Instant) -> Option<Duration> {
        if self.limit == 0 {
            return None;
        }
        self.forget(now);
        let begun = self.begun.entry((rule.clone(), group.to_owned())).or_default();
        while begun.front().is_some_and(|first| now.duration_since(*first) >= MINUTE) {
            begun.pop_front();
        }
        if begun.len() < self.limit {
            begun.push_back(now);
            return None;
        }
        let wait = begun.front().map_or(Duration::ZERO, |first| MINUTE.saturating_sub(now.duration_since(*first)));
        self.slowed.entry(rule.clone()).or_default().insert(group.to_owned());
        Some(wait)
    }

    /// Nothing of the group waits any more. Says whether that was the rule's last group that was slowed down.
    pub(super) fn rests(&mut self, rule: &RuleUid, group: &str) -> bool {
        let Some(groups) = self.slowed.get_mut(rule) else { return false };
        groups.remove(group);
        let last = groups.is_empty();
        if last {
            self.slowed.remove(rule);
        }
        last
    }

    fn forget(&mut self, now: Instant) {
        if self.begun.len() < MANY.max(2 * self.kept) {
            return;
        }
        self.begun.retain(|_, begun| begun.back().is_some_and(|last| now.duration_since(*last) < MINUTE));
        self.kept = self.begun.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> RuleUid {
        RuleUid(name.into())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn in_no_minute_does_a_group_begin_more_than_its_share() {
        let (mut pace, start) = (Pace::new(3), Instant::now());
        for number in 0..3 {
            assert_eq!(pace.begin(&rule("r"), "a", start + number * SECOND), None);
        }
        assert_eq!(pace.begin(&rule("r"), "a", start + 10 * SECOND), Some(50 * SECOND));
        assert_eq!(pace.begin(&rule("r"), "b", start + 10 * SECOND), None, "another group has its own share");
        assert_eq!(pace.begin(&rule("s"), "a", start + 10 * SECOND), None, "and so has another rule");
        assert_eq!(pace.begin(&rule("r"), "a", start + 60 * SECOND), None);
        assert_eq!(pace.begin(&rule("r"), "a", start + 60 * SECOND), Some(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_has_recovered_when_its_last_slowed_group_rests() {
        let (mut pace, now) = (Pace::new(1), Instant::now());
        for group in ["a", "a", "b", "b"] {
            pace.begin(&rule("r"), group, now);
        }
        assert!(!pace.rests(&rule("r"), "c"), "it was not slowed down");
        assert!(!pace.rests(&rule("r"), "a"));
        assert!(pace.rests(&rule("r"), "b"));
        assert!(!pace.rests(&rule("r"), "b"), "it is told once");
    }

    #[tokio::test(start_paused = true)]
    async fn groups_that_rest_are_forgotten_and_no_limit_remembers_nothing() {
        let (mut pace, start) = (Pace::new(5), Instant::now());
        for number in 0..10 * u32::try_from(MANY).expect("small") {
            pace.begin(&rule("r"), &number.to_string(), start + number * SECOND);
        }
        assert!(pace.begun.len() <= MANY, "{}", pace.begun.len());
        let mut free = Pace::new(0);
        for _ in 0..1000 {
            assert_eq!(free.begin(&rule("r"), "a", start), None);
        }
        assert!(free.begun.is_empty());
    }
}
