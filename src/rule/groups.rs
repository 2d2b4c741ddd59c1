//! What is kept of the groups of one rule: cooldowns, and what was counted. Bounded by `groups.max`.
//!
//! A group is kept as long as it differs from one that was never heard of. Times are those of records ([`crate::clock::Stamp::at`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    spend::{Spend, Spent},
};
use crate::{
    api::{CountTrigger, EventRuleSpec, GroupLimits},
    record::Occurrence,
};

/// Times that a rule may have to keep, `groups.max` times `trigger.count.atLeast` or `throttle.budget.firings`: 16 MiB.
pub(super) const MAX_TIMES: u64 = 1_000_000;

/// `trigger.count`, compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Count {
    pub at_least: u64,
    /// How far back is counted, in microseconds.
    within: i64,
    /// How long what was counted is kept without news, in microseconds.
    keep: i64,
}

impl Count {
    /// Compiles the trigger of a rule; faults are added with their paths.
    pub(super) fn compile(spec: &EventRuleSpec, faults: &mut Vec<Fault>) -> Option<Self> {
        let limits = spec.groups.clone().unwrap_or_default();
        if limits.max == Some(0) {
            faults.push(Fault::new("spec.groups.max", "must be at least 1"));
        }
        if limits.forget_after.is_some_and(|time| time.get().is_zero()) {
            faults.push(Fault::new("spec.groups.forgetAfter", "must be longer than 0s"));
        }
        let Some(count) = &spec.trigger.as_ref()?.count else {
            faults.push(Fault::new("spec.trigger", "count must be set"));
            return None;
        };
        Self::of(count, &limits, faults)
    }

    fn of(count: &CountTrigger, limits: &GroupLimits, faults: &mut Vec<Fault>) -> Option<Self> {
        let before = faults.len();
        if count.at_least == 0 {
            faults.push(Fault::new("spec.trigger.count.atLeast", "must be at least 1"));
        }
        if count.within.get().is_zero() {
            faults.push(Fault::new("spec.trigger.count.within", "must be longer than 0s"));
        }
        let times = u64::from(limits.max()) * u64::from(count.at_least);
        if times > MAX_TIMES {
            let max = MAX_TIMES / u64::from(count.at_least);
            let message = format!(
                "times groups.max, which is {}, makes {times} times to keep; {MAX_TIMES} are allowed: set groups.max to {max} or less",
                limits.max()
            );
            faults.push(Fault::new("spec.trigger.count.atLeast", message));
        }
        let within = micros(count.within.get());
        let keep = within.min(micros(limits.forget_after(count.within).get()));
        (faults.len() == before).then_some(Self { at_least: count.at_least.into(), within, keep })
    }
}

/// Microseconds, as stamps have them.
pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// One group; also its row in the view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    /// The end of its cooldown, or a time that is past.
    #[serde(default)]
    until: i64,
    /// What has happened, oldest first, as far as it can still count; at most `atLeast` entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    counted: Vec<Occurrence>,
    /// When that is forgotten.
    #[serde(default, skip_serializing_if = "is_zero")]
    counted_until: i64,
    /// Its firings, where it has a budget.
    #[serde(default, skip_serializing_if = "Spent::is_empty")]
    spent: Spent,
    /// When they count no more.
    #[serde(default, skip_serializing_if = "is_zero")]
    spent_until: i64,
}

fn is_zero(time: &i64) -> bool {
    *time == 0
}

impl Group {
    /// When it becomes equal to one that was never heard of.
    fn end(&self) -> i64 {
        self.until.max(self.counted_until).max(self.spent_until)
    }

    /// What still counts at `now`.
    fn counted(&self, now: i64) -> &[Occurrence] {
        if self.counted_until > now { &self.counted } else { &[] }
    }
}

/// The groups of a rule that differ from new ones, by name and by the time when they no longer will.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Groups {
    groups: BTreeMap<String, Group>,
    ends: BTreeSet<(i64, String)>,
}

impl Groups {
    /// Whether state can be kept for the group, of `max` groups at most. None that is in use makes room for another.
    pub(super) fn has_room(&self, group: &str, max: usize, now: i64) -> bool {
        self.groups.len() < max
            || self.groups.contains_key(group)
            || self.ends.first().is_some_and(|(end, _)| *end <= now)
    }

    pub(super) fn is_cooling(&self, group: &str, now: i64) -> bool {
        self.groups.get(group).is_some_and(|group| group.until > now)
    }

    pub(super) fn is_spent(&self, group: &str, budget: &Spend, now: i64) -> bool {
        self.groups.get(group).is_some_and(|group| group.spent.is_spent(budget, now))
    }

    /// The occurrence, no earlier than the one before it in its group, and how many there are with it.
    pub(super) fn count(&self, group: &str, count: &Count, occurrence: Occurrence, now: i64) -> (Occurrence, u64) {
        let before = self.groups.get(group).map_or(&[][..], |group| group.counted(now));
        let at = before.last().map_or(occurrence.at, |last| last.at.max(occurrence.at));
        let since = at.saturating_sub(count.within);
        let within = before.iter().filter(|one| one.at >= since).map(|one| u64::from(one.times)).sum::<u64>();
        (Occurrence { at, ..occurrence }, within + u64::from(occurrence.times))
    }

    /// Keeps what was counted.
    pub(super) fn keep(&mut self, name: &str, count: &Count, occurrence: Occurrence, now: i64) {
        let mut group = self.take(name);
        if group.counted_until <= now {
            group.counted.clear();
        }
        let since = occurrence.at.saturating_sub(count.within);
        group.counted.retain(|one| one.at >= since);
        match group.counted.last_mut() {
            Some(last) if last.at == occurrence.at => last.times = last.times.saturating_add(occurrence.times),
            _ => group.counted.push(occurrence),
        }
        if group.counted.len() as u64 > count.at_least {
            // The newest decide; older ones are only told. Dated back to the oldest, they never count for too long.
            let oldest = group.counted.remove(0);
            let next = &mut group.counted[0];
            *next = Occurrence { at: oldest.at, times: oldest.times.saturating_add(next.times) };
        }
        // Forgotten a microsecond after the end of the window, which belongs to it.
        group.counted_until = now.saturating_add(count.keep).saturating_add(1);
        self.set(name, group);
    }

    /// The group fired: what was counted is used up, its cooldown lasts until then, and its budget is one less.
    pub(super) fn fired(&mut self, name: &str, until: Option<i64>, budget: Option<&Spend>, now: i64) {
        let mut group = self.take(name);
        (group.counted, group.counted_until) = (Vec::new(), 0);
        group.until = until.unwrap_or(group.until);
        if let Some(budget) = budget {
            group.spent.spend(budget, now);
            group.spent_until = group.spent.end(budget);
        }
        if group.end() > now {
            self.set(name, group);
        }
    }

    /// Forgets the groups that are as new ones; gives their names.
    pub(super) fn forget(&mut self, now: i64) -> Vec<String> {
        let mut forgotten = Vec::new();
        while let Some((end, _)) = self.ends.first()
            && *end <= now
            && let Some((_, name)) = self.ends.pop_first()
        {
            self.groups.remove(&name);
            forgotten.push(name);
        }
        forgotten
    }

    fn take(&mut self, name: &str) -> Group {
        let Some(group) = self.groups.remove(name) else { return Group::default() };
        self.ends.remove(&(group.end(), name.to_owned()));
        group
    }

    pub(super) fn set(&mut self, name: &str, group: Group) {
        self.take(name);
        self.ends.insert((group.end(), name.to_owned()));
        self.groups.insert(name.to_owned(), group);
    }

    pub(super) fn get(&self, group: &str) -> Option<&Group> {
        self.groups.get(group)
    }

    /// Forgets all; gives their names.
    pub(super) fn clear(&mut self) -> Vec<String> {
        self.ends.clear();
        std::mem::take(&mut self.groups).into_keys().collect()
    }
}
