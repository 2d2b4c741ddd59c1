//! What is kept of the groups of one rule: cooldowns, budgets, and what the trigger keeps. Bounded by `groups.max`.
//!
//! A group is kept as long as it differs from one that was never heard of. Times are those of records ([`crate::clock::Stamp::at`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    dedupe::{Dedupe, Keys},
    spend::{Spend, Spent},
    trigger::{Counted, Kept, Trigger},
};
use crate::{
    clock::Stamp,
    event::Event,
    record::{Firing, GroupValues, Mark, Occurrence},
};

/// Times that a rule may have to keep, `groups.max` times `trigger.count.atLeast` or `throttle.budget.firings`: 16 MiB.
pub(super) const MAX_TIMES: u64 = 1_000_000;

/// Microseconds, as stamps have them.
pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub(super) struct Group {
    /// The end of its cooldown, or a time that is past.
    until: i64,
    /// What the trigger keeps of it.
    kept: Option<Kept>,
    /// The event that is kept with that.
    cause: Option<Cause>,
    /// All of them, for a trigger that gathers.
    events: Vec<Arc<Event>>,
    /// Its firings, where it has a budget.
    spent: Spent,
    /// When they count no more.
    spent_until: i64,
    /// What it has let through, where the same is not to fire again.
    keys: Keys,
    /// When none of that is known any more.
    keys_until: i64,
}

/// The last event of a group that met the conditions: what is due later is about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cause {
    /// The source that it came by.
    pub source: String,
    /// The event, as the rule's account sees it.
    pub event: Arc<Event>,
    /// `group.<name>` in actions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: GroupValues,
    /// About how much memory the event takes.
    #[serde(default)]
    pub bytes: u64,
}

impl Cause {
    pub(super) fn new(source: &str, event: Arc<Event>, values: &GroupValues) -> Self {
        let bytes = weight(&event.data).saturating_add(BARE);
        Self { source: source.to_owned(), event, values: values.clone(), bytes }
    }
}

/// About how many bytes a group, and an event but for its data, take.
const BARE: u64 = 256;

/// About how many bytes the value takes.
fn weight(value: &Value) -> u64 {
    let of = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(key, item)| key.len() as u64 + 24 + weight(item)).sum(),
    };
    of.saturating_add(32)
}

impl Group {
    /// Without anything kept, there is nothing that an event would be kept for.
    fn set_kept(&mut self, kept: Option<Kept>) {
        if kept.is_none() {
            (self.cause, self.events) = (None, Vec::new());
        }
        self.kept = kept;
    }

    fn active(&self) -> Option<Stamp> {
        self.kept.as_ref().and_then(Kept::active)
    }

    /// About how many bytes it takes.
    fn bytes(&self, name: &str) -> u64 {
        let kept = self.kept.as_ref().map_or(0, Kept::bytes);
        let cause = self.cause.as_ref().map_or(0, |cause| cause.bytes);
        let times = self.spent.len() + self.keys.len();
        BARE + name.len() as u64 + kept + cause + 16 * times as u64
    }

    /// When it becomes equal to one that was never heard of.
    fn end(&self) -> i64 {
        self.until.max(self.kept.as_ref().map_or(0, Kept::end)).max(self.spent_until).max(self.keys_until)
    }
}

/// A group's row in the view.
#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(default)]
    until: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<Arc<Event>>,
    #[serde(default, skip_serializing_if = "Spent::is_empty")]
    spent: Spent,
    #[serde(default, skip_serializing_if = "is_zero")]
    spent_until: i64,
    #[serde(default, skip_serializing_if = "Keys::is_empty")]
    keys: Keys,
    #[serde(default, skip_serializing_if = "is_zero")]
    keys_until: i64,
    /// What earlier versions have written of `trigger.count`.
    #[serde(default, skip_serializing)]
    counted: Vec<Occurrence>,
    #[serde(default, skip_serializing)]
    counted_until: i64,
}

fn is_zero(time: &i64) -> bool {
    *time == 0
}

impl From<Row> for Group {
    fn from(row: Row) -> Self {
        let earlier = || Kept::Count(Counted { times: row.counted, until: row.counted_until });
        let kept = row.kept.or_else(|| (row.counted_until > 0).then(earlier));
        Self {
            until: row.until,
            kept,
            cause: row.cause,
            events: row.events,
            spent: row.spent,
            spent_until: row.spent_until,
            keys: row.keys,
            keys_until: row.keys_until,
        }
    }
}

impl From<Group> for Row {
    fn from(Group { until, kept, cause, events, spent, spent_until, keys, keys_until }: Group) -> Self {
        let (counted, counted_until) = (Vec::new(), 0);
        Self { until, kept, cause, events, spent, spent_until, keys, keys_until, counted, counted_until }
    }
}

/// The groups of a rule that differ from new ones, by name and by the time when they no longer will.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Groups {
    /// Boxed: the first of a map takes the room of eleven, 4 KiB, and most rules have few.
    groups: BTreeMap<String, Box<Group>>,
    ends: BTreeSet<(i64, String)>,
    /// Those that the rule has fired for and that have not ended.
    active: BTreeSet<(Stamp, String)>,
    /// About how many bytes they take.
    bytes: u64,
}

impl Groups {
    /// About how many bytes they take together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether anything is kept of the group.
    pub(super) fn knows(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

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

    /// Whether the group has let the key through.
    pub(super) fn knows_key(&self, group: &str, key: u64, dedupe: &Dedupe, now: i64) -> bool {
        self.groups.get(group).is_some_and(|group| group.keys.knows(key, dedupe, now))
    }

    /// What the trigger keeps of the group.
    pub(super) fn kept(&self, group: &str) -> Option<&Kept> {
        self.groups.get(group).and_then(|group| group.kept.as_ref())
    }

    /// Whether the trigger keeps anything of any group, or may.
    pub(super) fn has_kept(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The event that is kept with the group.
    pub(super) fn cause(&self, group: &str) -> Option<&Cause> {
        self.groups.get(group).and_then(|group| group.cause.as_ref())
    }

    /// The events that are kept with the group.
    pub(super) fn events(&self, group: &str) -> &[Arc<Event>] {
        self.groups.get(group).map_or(&[], |group| &group.events)
    }

    /// The groups that the rule has fired for and that have not ended, oldest first.
    pub(super) fn active(&self) -> impl ExactSizeIterator<Item = &(Stamp, String)> {
        self.active.iter()
    }

    /// The groups of which what is due is silenced to a later time.
    pub(super) fn hushed(&self, now: i64) -> Vec<String> {
        let later = |group: &Group| group.kept.as_ref().and_then(Kept::hushed).is_some_and(|until| until > now);
        self.groups.iter().filter(|(_, group)| later(group)).map(|(name, _)| name.clone()).collect()
    }

    /// From when on neither the cooldown nor the budget keeps the group from firing.
    pub(super) fn free_at(&self, group: &str, budget: Option<&Spend>) -> i64 {
        let Some(group) = self.groups.get(group) else { return 0 };
        group.until.max(budget.map_or(0, |budget| group.spent.free_at(budget)))
    }

    /// Keeps what the trigger noted, and with it the event if that is given.
    pub(super) fn note(&mut self, name: &str, trigger: &Trigger, mark: Mark, cause: Option<Cause>, now: i64) {
        let mut group = self.take(name);
        let kept = group.kept.take();
        if let Some(cause) = &cause
            && trigger.keeps_events()
        {
            group.events.push(Arc::clone(&cause.event));
        }
        group.cause = cause.or(group.cause);
        group.set_kept(trigger.take(kept, mark, now));
        self.keep(name, group, now);
    }

    /// What the rule had fired for has ended.
    pub(super) fn resolved(&mut self, name: &str, trigger: Option<&Trigger>, now: i64) {
        let mut group = self.take(name);
        let kept = group.kept.take();
        group.set_kept(trigger.and_then(|trigger| trigger.resolved(kept)));
        self.keep(name, group, now);
    }

    /// The group fired: the trigger goes on or begins anew.
    pub(super) fn go_on(&mut self, name: &str, trigger: &Trigger, firing: &Firing) {
        let mut group = self.take(name);
        let kept = group.kept.take();
        group.set_kept(trigger.fired(kept, firing));
        self.keep(name, group, firing.stamp.at);
    }

    /// Forgets what the trigger keeps of any group: gives the names of all of which it kept something, and of those that the rule had fired for.
    pub(super) fn drop_kept(&mut self, now: i64) -> (Vec<String>, Vec<String>) {
        let active = self.active.iter().map(|(_, name)| name.clone()).collect();
        let kept = self.groups.iter().filter(|(_, group)| group.kept.is_some());
        let kept: Vec<String> = kept.map(|(name, _)| name.clone()).collect();
        kept.iter().for_each(|name| self.resolved(name, None, now));
        (kept, active)
    }

    /// The group fired: its cooldown lasts until then, and its budget is one less.
    pub(super) fn spend(&mut self, name: &str, until: Option<i64>, budget: Option<&Spend>, now: i64) {
        let mut group = self.take(name);
        group.until = until.unwrap_or(group.until);
        if let Some(budget) = budget {
            group.spent.spend(budget, now);
            group.spent_until = group.spent.end(budget);
        }
        self.keep(name, group, now);
    }

    /// The group lets the key through.
    pub(super) fn note_key(&mut self, name: &str, key: u64, dedupe: &Dedupe, now: i64) {
        let mut group = self.take(name);
        group.keys.note(key, dedupe, now);
        group.keys_until = group.keys.end(dedupe);
        self.keep(name, group, now);
    }

    /// Keeps the group if it differs from one that was never heard of.
    fn keep(&mut self, name: &str, group: Group, now: i64) {
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
            if let Some(group) = self.groups.remove(&name) {
                self.bytes = self.bytes.saturating_sub(group.bytes(&name));
                group.active().map(|since| self.active.remove(&(since, name.clone())));
            }
            forgotten.push(name);
        }
        forgotten
    }

    fn take(&mut self, name: &str) -> Group {
        let Some(group) = self.groups.remove(name) else { return Group::default() };
        self.ends.remove(&(group.end(), name.to_owned()));
        self.bytes = self.bytes.saturating_sub(group.bytes(name));
        group.active().map(|since| self.active.remove(&(since, name.to_owned())));
        *group
    }

    pub(super) fn set(&mut self, name: &str, group: Group) {
        self.take(name);
        self.ends.insert((group.end(), name.to_owned()));
        self.bytes = self.bytes.saturating_add(group.bytes(name));
        group.active().map(|since| self.active.insert((since, name.to_owned())));
        self.groups.insert(name.to_owned(), Box::new(group));
    }

    pub(super) fn get(&self, group: &str) -> Option<&Group> {
        self.groups.get(group).map(|group| &**group)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.groups.keys()
    }

    /// Forgets all; gives their names.
    pub(super) fn clear(&mut self) -> Vec<String> {
        self.ends.clear();
        self.active.clear();
        self.bytes = 0;
        std::mem::take(&mut self.groups).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_an_earlier_version_wrote_is_read() {
        let group: Group = serde_json::from_str(r#"{"until":5,"counted":[[7,2]],"counted_until":9}"#).expect("a row");
        let kept = Kept::Count(Counted { times: vec![Occurrence { at: 7, times: 2 }], until: 9 });
        assert_eq!((group.until, group.kept.as_ref(), group.end()), (5, Some(&kept), 9));
        let text = serde_json::to_string(&group).expect("a row");
        assert_eq!(serde_json::from_str::<Group>(&text).expect("the same row"), group);
        let bare: Group = serde_json::from_str(r#"{"until":5}"#).expect("a row");
        assert_eq!(bare.kept, None);
    }
}
