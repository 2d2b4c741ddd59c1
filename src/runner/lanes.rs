//! Which firing is carried out next: in order within one group of a rule, side by side otherwise, up to a number per rule.

use std::collections::{HashMap, VecDeque};

use crate::record::{Brief, FiringId, RuleUid};

/// Firings of one rule that give their place away while they only wait. Each asks the API server up to twice a second at first, and every five seconds
/// later: 50 requests a second in all.
const RESTING: usize = 256;

/// What waits, by rule and group. Pure: who carries it out is the caller's business, who calls [`Lanes::take`] until it gives nothing for each
/// [`Lanes::push`] that said so.
///
/// It holds no more than the ledger of open firings does, which is where they are counted and limited.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    rules: HashMap<RuleUid, Lane<T>>,
    most: usize,
}

#[derive(Debug)]
struct Lane<T> {
    /// A group is here while it waits, is in `ready` or is being worked on.
    groups: HashMap<String, VecDeque<T>>,
    /// Groups that wait and are not being worked on.
    ready: VecDeque<String>,
    workers: usize,
    /// Workers whose firings only wait, and which are not counted in `workers`.
    resting: usize,
}

/// What becomes of the place of a worker whose firing only waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It keeps it: too many wait already.
    Kept,
    /// It is free.
    Free,
    /// It is for one more worker of the rule, which is to be started.
    Taken,
}

impl<T> Lanes<T> {
    /// At most `most` at once of one rule.
    pub(super) fn new(most: usize) -> Self {
        Self { rules: HashMap::new(), most }
    }

    /// Adds to the end of its group. Says whether one more worker of the rule is to be started.
    pub(super) fn push(&mut self, rule: &RuleUid, group: &str, item: T) -> bool {
        let lane = self.rules.entry(rule.clone()).or_insert_with(|| Lane {
            groups: HashMap::new(),
            ready: VecDeque::new(),
            workers: 0,
            resting: 0,
        });
        if let Some(waiting) = lane.groups.get_mut(group) {
            waiting.push_back(item);
            return false;
        }
        lane.groups.insert(group.to_owned(), VecDeque::from([item]));
        lane.ready.push_back(group.to_owned());
        let more = lane.workers < self.most;
        lane.workers += usize::from(more);
        more
    }

    /// The next of the rule, whose group is held until [`Lanes::done`]. Nothing: the worker that asked has ended.
    pub(super) fn take(&mut self, rule: &RuleUid) -> Option<(String, T)> {
        let lane = self.rules.get_mut(rule)?;
        // Those that come back from waiting may be more than there are places.
        while lane.workers <= self.most
            && let Some(group) = lane.ready.pop_front()
        {
            if let Some(item) = lane.groups.get_mut(&group).and_then(VecDeque::pop_front) {
                return Some((group, item));
            }
            lane.groups.remove(&group);
        }
        lane.workers = lane.workers.saturating_sub(1);
        // A group that is parked keeps its lane.
        if lane.workers == 0 && lane.groups.is_empty() {
            self.rules.remove(rule);
        }
        None
    }

    /// Puts back what [`Lanes::take`] gave: it stays the next of its group, which rests until [`Lanes::unpark`].
    pub(super) fn park(&mut self, rule: &RuleUid, group: &str, item: T) {
        let lane = self.rules.get_mut(rule);
        if let Some(waiting) = lane.and_then(|lane| lane.groups.get_mut(group)) {
            waiting.push_front(item);
        }
    }

    /// The group goes on. Says whether one more worker of the rule is to be started.
    pub(super) fn unpark(&mut self, rule: &RuleUid, group: String) -> bool {
        let Some(lane) = self.rules.get_mut(rule) else { return false };
        lane.ready.push_back(group);
        let more = lane.workers < self.most;
        lane.workers += usize::from(more);
        more
    }

    /// The group is free for its next. Says whether none of it waits.
    pub(super) fn done(&mut self, rule: &RuleUid, group: &str) -> bool {
        let Some(lane) = self.rules.get_mut(rule) else { return true };
        match lane.groups.get(group) {
            Some(waiting) if !waiting.is_empty() => {
                lane.ready.push_back(group.to_owned());
                false
            }
            _ => {
                lane.groups.remove(group);
                true
            }
        }
    }

    /// Whether a group of the rule that `is` so waits or is being worked on.
    pub(super) fn has(&self, rule: &RuleUid, is: impl Fn(&str) -> bool) -> bool {
        self.rules.get(rule).is_some_and(|lane| lane.groups.keys().any(|group| is(group)))
    }

    /// The worker's firing only waits from here on, until [`Lanes::back`].
    pub(super) fn rest(&mut self, rule: &RuleUid) -> Place {
        let Some(lane) = self.rules.get_mut(rule).filter(|lane| lane.resting < RESTING) else { return Place::Kept };
        lane.resting += 1;
        if lane.ready.is_empty() {
            lane.workers = lane.workers.saturating_sub(1);
            return Place::Free;
        }
        Place::Taken
    }

    /// The worker's firing goes on.
    pub(super) fn back(&mut self, rule: &RuleUid) {
        if let Some(lane) = self.rules.get_mut(rule) {
            lane.resting = lane.resting.saturating_sub(1);
            lane.workers += 1;
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.rules.values().flat_map(|lane| lane.groups.values()).map(VecDeque::len).sum()
    }
}

/// Firings of one lane are carried out one after the other: those of a group, unless the rule wants them side by side.
pub(super) fn lane(id: &FiringId, open: &Brief) -> String {
    if open.side_by_side { format!("{}\0{id}", open.group) } else { open.group.as_ref().to_owned() }
}

/// Whether the lane is one of the group.
pub(super) fn is_lane(lane: &str, group: &str) -> bool {
    lane.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> RuleUid {
        RuleUid(name.into())
    }

    #[test]
    fn a_group_is_worked_on_one_by_one_and_in_order() {
        let (mut lanes, r) = (Lanes::new(4), rule("r"));
        assert!(lanes.push(&r, "a", 1));
        assert!(!lanes.push(&r, "a", 2));
        assert_eq!(lanes.take(&r), Some(("a".into(), 1)));
        assert!(!lanes.push(&r, "a", 3), "the group is being worked on");
        assert_eq!(lanes.waiting(), 2);
        lanes.done(&r, "a");
        assert_eq!(lanes.take(&r), Some(("a".into(), 2)));
        lanes.done(&r, "a");
        assert_eq!(lanes.take(&r), Some(("a".into(), 3)));
        lanes.done(&r, "a");
        assert_eq!(lanes.take(&r), None);
        assert!(lanes.rules.is_empty(), "nothing is kept of a rule that rests");
    }

    #[test]
    fn a_rule_has_so_many_workers_and_no_more() {
        let (mut lanes, r) = (Lanes::new(2), rule("r"));
        let started: Vec<bool> = ["a", "b", "c", "d"].iter().map(|group| lanes.push(&r, group, *group)).collect();
        assert_eq!(started, [true, true, false, false]);
        assert!(lanes.push(&rule("other"), "a", "a"), "another rule has its own");
        let (first, _) = lanes.take(&r).expect("one");
        let (second, _) = lanes.take(&r).expect("two");
        lanes.done(&r, &first);
        assert_eq!(lanes.take(&r).expect("three").0, "c");
        lanes.done(&r, &second);
        assert_eq!(lanes.take(&r).expect("four").0, "d");
    }

    #[test]
    fn a_busy_group_does_not_keep_others_waiting() {
        let (mut lanes, r) = (Lanes::new(1), rule("r"));
        lanes.push(&r, "a", 1);
        lanes.push(&r, "a", 2);
        lanes.push(&r, "b", 3);
        let (group, _) = lanes.take(&r).expect("one");
        lanes.done(&r, &group);
        assert_eq!(lanes.take(&r), Some(("b".into(), 3)));
    }

    #[test]
    fn a_worker_that_waits_gives_its_place_away_and_comes_back() {
        let (mut lanes, r) = (Lanes::new(1), rule("r"));
        lanes.push(&r, "a", 1);
        lanes.push(&r, "b", 2);
        let (a, _) = lanes.take(&r).expect("one");
        assert_eq!(lanes.rest(&r), Place::Taken, "b waits for a place");
        let (b, _) = lanes.take(&r).expect("two");
        assert_eq!(lanes.rest(&r), Place::Free);
        assert!(lanes.push(&r, "c", 3), "a place is free");
        assert!(!lanes.push(&r, "a", 4), "the group is being worked on");
        let (c, _) = lanes.take(&r).expect("three");
        lanes.back(&r);
        assert!(!lanes.done(&r, &a));
        assert_eq!(lanes.take(&r), None, "one too many: this worker ends");
        assert!(lanes.done(&r, &c));
        assert_eq!(lanes.take(&r), Some(("a".into(), 4)));
        lanes.done(&r, "a");
        assert_eq!(lanes.take(&r), None);
        lanes.back(&r);
        assert!(lanes.done(&r, &b));
        assert_eq!(lanes.take(&r), None);
        assert!(lanes.rules.is_empty(), "nothing is kept of a rule that rests");
    }

    #[test]
    fn so_many_give_their_place_away_and_no_more() {
        let (mut lanes, r) = (Lanes::new(1), rule("r"));
        for number in 0..=RESTING {
            lanes.push(&r, &number.to_string(), number);
            lanes.take(&r).expect("the next");
            let place = if number < RESTING { Place::Free } else { Place::Kept };
            assert_eq!(lanes.rest(&r), place, "{number}");
        }
    }

    #[test]
    fn a_parked_group_keeps_its_order_and_leaves_the_others_alone() {
        let (mut lanes, r) = (Lanes::new(1), rule("r"));
        assert!(lanes.push(&r, "a", 1));
        lanes.push(&r, "b", 2);
        let (group, item) = lanes.take(&r).expect("one");
        lanes.park(&r, &group, item);
        assert!(!lanes.push(&r, "a", 3), "the group rests");
        assert_eq!(lanes.take(&r), Some(("b".into(), 2)));
        assert!(lanes.done(&r, "b"));
        assert_eq!(lanes.take(&r), None, "the worker ends, and what is parked stays");
        assert_eq!(lanes.waiting(), 2);
        assert!(lanes.unpark(&r, group), "a new worker is needed");
        assert_eq!(lanes.take(&r), Some(("a".into(), 1)));
        assert!(!lanes.done(&r, "a"));
        assert_eq!(lanes.take(&r), Some(("a".into(), 3)));
    }
}
