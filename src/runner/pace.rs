//! How fast one group of a rule may fire, a namespace, and all: a rule that answers its own doing, or a storm, must not run away with the cluster.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

use super::{PerHour, Slow};
use crate::{
    record::{RuleRef, RuleUid},
    status::Whose,
};

/// The time that the limit of a group is about.
const MINUTE: Duration = Duration::from_secs(60);
/// The time that the other limits are about.
const HOUR: Duration = Duration::from_secs(3600);
/// Groups that are kept before those that rest are looked for.
const MANY: usize = 1024;
/// Who waits for one of many asks again after so long at the least: when many wait, only one of them is lucky.
const AGAIN: Duration = Duration::from_secs(1);

/// When firings were begun, by whose they are. Pure: the time is an argument.
#[derive(Debug)]
pub(super) struct Pace {
    groups: Meter<(RuleUid, String)>,
    namespaces: Meter<String>,
    everybody: Meter<()>,
    slowed: HashMap<RuleUid, BTreeSet<String>>,
}

impl Pace {
    /// At most so many firings of one group in any minute, of one namespace and of all in any hour; 0: any number.
    pub(super) fn new(of_group: u32, per_hour: PerHour) -> Self {
        Self {
            groups: Meter::new(of_group, MINUTE),
            namespaces: Meter::new(per_hour.namespace, HOUR),
            everybody: Meter::new(per_hour.everybody, HOUR),
            slowed: HashMap::new(),
        }
    }

    /// Begins a firing of the group that is observed only; or gives how long it has to wait first. It is none of those that may begin in an hour.
    pub(super) fn begin_observed(&mut self, rule: &RuleRef, group: &str, now: Instant) -> Option<Slow> {
        let of_group = (rule.uid.clone(), group.to_owned());
        let Some(wait) = self.groups.wait(&of_group, now) else {
            self.groups.note(of_group, now);
            return None;
        };
        self.slowed.entry(rule.uid.clone()).or_default().insert(group.to_owned());
        Some(Slow { whose: Whose::Group, group: group.to_owned(), limit: self.groups.limit, wait })
    }

    /// Begins a firing of the group; or gives how long it has to wait first.
    pub(super) fn begin(&mut self, rule: &RuleRef, group: &str, now: Instant) -> Option<Slow> {
        let of_group = (rule.uid.clone(), group.to_owned());
        let waits = [
            (Whose::Group, self.groups.limit, self.groups.wait(&of_group, now)),
            (
                Whose::Namespace,
                self.namespaces.limit,
                self.namespaces.wait(&rule.namespace, now).map(|wait| wait.max(AGAIN)),
            ),
            (Whose::Everybody, self.everybody.limit, self.everybody.wait(&(), now).map(|wait| wait.max(AGAIN))),
        ];
        let longest = waits.into_iter().filter_map(|(whose, limit, wait)| Some((wait?, whose, limit)));
        let Some((wait, whose, limit)) = longest.max_by_key(|(wait, ..)| *wait) else {
            self.groups.note(of_group, now);
            self.namespaces.note(rule.namespace.clone(), now);
            self.everybody.note((), now);
            return None;
        };
        self.slowed.entry(rule.uid.clone()).or_default().insert(group.to_owned());
        Some(Slow { whose, group: group.to_owned(), limit, wait })
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
}

/// The last firings of each of many, as many as may begin within a time.
#[derive(Debug)]
struct Meter<K> {
    /// 0: any number, and nothing is kept.
    limit: usize,
    per: Duration,
    begun: HashMap<K, VecDeque<Instant>>,
    /// How many were kept when those that rest were looked for last.
    kept: usize,
}

impl<K: Eq + Hash> Meter<K> {
    fn new(limit: u32, per: Duration) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), per, begun: HashMap::new(), kept: 0 }
    }

    /// How long it is until the next may begin; nothing when it may now.
    fn wait(&self, of: &K, now: Instant) -> Option<Duration> {
        let begun = self.begun.get(of).filter(|begun| self.limit > 0 && begun.len() >= self.limit)?;
        // No more than the limit are kept, so the first of them is the one that is waited for.
        let wait = begun.front().map(|first| self.per.saturating_sub(now.duration_since(*first)))?;
        (!wait.is_zero()).then_some(wait)
    }

    fn note(&mut self, of: K, now: Instant) {
        if self.limit == 0 {
            return;
        }
        self.forget(now);
        let begun = self.begun.entry(of).or_default();
        while begun.len() >= self.limit || begun.front().is_some_and(|first| now.duration_since(*first) >= self.per) {
            begun.pop_front();
        }
        begun.push_back(now);
    }

    fn forget(&mut self, now: Instant) {
        if self.begun.len() < MANY.max(2 * self.kept) {
            return;
        }
        self.begun.retain(|_, begun| begun.back().is_some_and(|last| now.duration_since(*last) < self.per));
        self.kept = self.begun.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn of_group(limit: u32) -> Pace {
        Pace::new(limit, PerHour::default())
    }

    fn rule(name: &str) -> RuleRef {
        RuleRef { uid: RuleUid(name.into()), namespace: "shop".to_owned(), name: name.to_owned() }
    }

    fn wait(pace: &mut Pace, name: &str, group: &str, now: Instant) -> Option<Duration> {
        pace.begin(&rule(name), group, now).map(|slow| slow.wait)
    }

    #[tokio::test(start_paused = true)]
    async fn in_no_minute_does_a_group_begin_more_than_its_share() {
        let (mut pace, start) = (of_group(3), Instant::now());
        for number in 0..3 {
            assert_eq!(wait(&mut pace, "r", "a", start + number * SECOND), None);
        }
        assert_eq!(wait(&mut pace, "r", "a", start + 10 * SECOND), Some(50 * SECOND));
        assert_eq!(wait(&mut pace, "r", "b", start + 10 * SECOND), None, "another group has its own share");
        assert_eq!(wait(&mut pace, "s", "a", start + 10 * SECOND), None, "and so has another rule");
        assert_eq!(wait(&mut pace, "r", "a", start + 60 * SECOND), None);
        assert_eq!(wait(&mut pace, "r", "a", start + 60 * SECOND), Some(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn in_no_hour_do_a_namespace_and_all_begin_more_than_theirs() {
        let (mut pace, start) = (Pace::new(0, PerHour { namespace: 2, everybody: 3 }), Instant::now());
        let of = |namespace: &str| RuleRef { namespace: namespace.to_owned(), ..rule("r") };
        assert_eq!(pace.begin(&of("shop"), "a", start), None);
        assert_eq!(pace.begin(&of("shop"), "b", start + 10 * SECOND), None);
        let slow = pace.begin(&of("shop"), "c", start + 20 * SECOND).expect("the namespace has had its share");
        assert_eq!((slow.whose, slow.limit, slow.wait), (Whose::Namespace, 2, 3580 * SECOND));
        assert_eq!(pace.begin(&of("orders"), "a", start + 20 * SECOND), None);
        let slow = pace.begin(&of("orders"), "a", start + 30 * SECOND).expect("all have had theirs");
        assert_eq!((slow.whose, slow.limit, slow.wait), (Whose::Everybody, 3, 3570 * SECOND));
        assert_eq!(pace.begin(&of("orders"), "a", start + 3600 * SECOND), None);
        let soon = pace.begin(&of("shop"), "c", start + Duration::from_millis(3_609_500)).expect("half a second early");
        assert_eq!(soon.wait, SECOND, "who waits with others asks once a second");
        assert_eq!(pace.begin(&of("shop"), "c", start + 3610 * SECOND), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_observed_spends_nothing_of_an_hour_and_waits_for_nobody_else() {
        let (mut pace, now) = (Pace::new(2, PerHour { namespace: 1, everybody: 1 }), Instant::now());
        for _ in 0..2 {
            assert_eq!(pace.begin_observed(&rule("dry"), "a", now), None);
        }
        let slow = pace.begin_observed(&rule("dry"), "a", now).expect("its group has had its share");
        assert_eq!((slow.whose, slow.wait), (Whose::Group, 60 * SECOND));
        assert_eq!(pace.begin(&rule("r"), "a", now), None, "nothing was spent");
        assert_eq!(pace.begin_observed(&rule("dry"), "b", now), None, "and nothing is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_has_recovered_when_its_last_slowed_group_rests() {
        let (mut pace, now) = (of_group(1), Instant::now());
        for group in ["a", "a", "b", "b"] {
            pace.begin(&rule("r"), group, now);
        }
        let uid = rule("r").uid;
        assert!(!pace.rests(&uid, "c"), "it was not slowed down");
        assert!(!pace.rests(&uid, "a"));
        assert!(pace.rests(&uid, "b"));
        assert!(!pace.rests(&uid, "b"), "it is told once");
    }

    #[tokio::test(start_paused = true)]
    async fn groups_that_rest_are_forgotten_and_no_limit_remembers_nothing() {
        let (mut pace, start) = (of_group(5), Instant::now());
        for number in 0..10 * u32::try_from(MANY).expect("small") {
            pace.begin(&rule("r"), &number.to_string(), start + number * SECOND);
        }
        assert!(pace.groups.begun.len() <= MANY, "{}", pace.groups.begun.len());
        let mut free = of_group(0);
        for _ in 0..1000 {
            assert_eq!(free.begin(&rule("r"), "a", start), None);
        }
        assert!(free.groups.begun.is_empty() && free.everybody.begun.is_empty());
    }
}
