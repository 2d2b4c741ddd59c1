//! What is due: which group waits for what time, and what its rule does then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Engine;
use crate::{
    event::Event,
    poison,
    record::{Deadline, Decision, EventInput, Firing, Head, RuleRef, RuleUid, SourceRef},
    rule::{
        engine::{conclude::Moment, restore::event_of_restore},
        state::Settling,
    },
};

/// How long after a start is waited, at most, for sources that have not caught up, in microseconds.
const SETTLES: i64 = 60_000_000;

/// Bytes that the groups of all rules of a namespace may take, about: those that are known go on beyond it.
pub(in crate::rule) const MAX_BYTES: u64 = 64 << 20;

/// Deadlines in their order.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    pub(super) order: BTreeSet<Deadline>,
    /// By rule, group and remembered value.
    of: BTreeMap<(RuleUid, String, Option<String>), i64>,
}

impl Deadlines {
    pub(super) fn set(&mut self, rule: &RuleUid, group: &str, remembered: Option<&str>, at: Option<i64>) {
        let key = (rule.clone(), group.to_owned(), remembered.map(str::to_owned));
        let before = match at {
            Some(at) => self.of.insert(key.clone(), at),
            None => self.of.remove(&key),
        };
        let (rule, group, remembered) = key;
        if let Some(before) = before.filter(|before| Some(*before) != at) {
            let (rule, group, remembered) = (rule.clone(), group.clone(), remembered.clone());
            self.order.remove(&Deadline { at: before, rule, group, remembered });
        }
        at.map(|at| self.order.insert(Deadline { at, rule, group, remembered }));
    }
}

impl Engine {
    /// When something is due next, on the line of stamps.
    pub fn next_deadline(&self) -> Option<i64> {
        let first = self.deadlines.order.first().filter(|_| !self.switch.is_stopped()).map(|first| first.at);
        first.into_iter().chain(self.trips.next()).min()
    }

    /// What is due first, up to the record at `head`: to be judged by [`Engine::judge_due`] before that record, and then taken in with
    /// [`Engine::decide_due`].
    pub fn due(&self, head: &Head) -> Option<Deadline> {
        if self.switch.is_stopped() {
            return None;
        }
        self.deadlines.order.first().filter(|first| first.at <= head.stamp.at).cloned()
    }

    /// What the rule does when this is due. Changes nothing. If that panics, it is an error of the rule, and the group waits for nothing more.
    pub fn judge_due(&self, head: &Head, deadline: &Deadline) -> Vec<Decision> {
        poison::caught(|| self.ask_due(head, deadline)).unwrap_or_else(|poisoned| {
            let (rule, place) = (deadline.rule.clone(), "spec.trigger".to_owned());
            vec![Decision::Errored { rule, place, message: poisoned.to_string(), poisoned: false }]
        })
    }

    fn ask_due(&self, head: &Head, deadline: &Deadline) -> Vec<Decision> {
        if let Some(key) = &deadline.remembered {
            return self.give_back(head, deadline, key).into_iter().collect();
        }
        let Some((_, state)) = self.rules.get(&deadline.rule) else { return Vec::new() };
        let Some(rule) = state.in_force.as_ref().map(|version| &version.rule) else { return Vec::new() };
        let (Some(trigger), Some(kept)) = (&rule.trigger, state.groups.kept(&deadline.group)) else {
            return Vec::new();
        };
        let verdict = trigger.due(kept, deadline.at);
        let cause = state.groups.cause(&deadline.group);
        let moment = Moment {
            head: Head { position: head.position, stamp: deadline.stamp(head) },
            source: cause.map_or("", |cause| &cause.source),
            event: cause.map(|cause| &*cause.event),
            group: &deadline.group,
            values: cause.map(|cause| cause.values.clone()).unwrap_or_default(),
            deadline: Some(deadline),
        };
        self.conclude(&moment, rule, state, verdict)
    }

    /// Takes in what was decided when this was due: by [`Engine::judge_due`] just now, or read from the log.
    pub fn decide_due(&mut self, head: &Head, deadline: &Deadline, decisions: &[Decision]) {
        let head = Head { position: head.position, stamp: deadline.stamp(head) };
        for decision in decisions {
            self.decide_one(&head, None, decision);
        }
        // What changes nothing is not due for ever.
        let Deadline { at, rule, group, remembered } = deadline;
        if decisions.iter().all(|decision| matches!(decision, Decision::Errored { .. }))
            && self.deadlines.of.get(&(rule.clone(), group.clone(), remembered.clone())) == Some(at)
        {
            // By a version of the rule that came into force since, it may be due later.
            let again = self.rules.get(rule).filter(|_| remembered.is_none());
            let again = again.and_then(|(_, state)| state.deadline(group)).filter(|again| again > at);
            self.set_deadline(rule, group, remembered.as_deref(), again);
        }
    }

    /// The event that a firing is about: the one that was judged, or the one that is kept with its group.
    pub fn event_of(&self, firing: &Firing, input: Option<&EventInput>) -> Option<Arc<Event>> {
        if firing.restores.is_some() {
            return Some(event_of_restore(firing));
        }
        match input {
            Some(input) => Some(self.event_for(&firing.rule.uid, &firing.source, input)),
            None => {
                let (_, state) = self.rules.get(&firing.rule.uid)?;
                state.groups.cause(&firing.group).map(|cause| Arc::clone(&cause.event))
            }
        }
    }

    /// The events that a firing is about, of a rule that gathers them: those that are kept with its group, and the one that was judged.
    pub fn events_of(&self, firing: &Firing, input: Option<&EventInput>) -> Vec<Arc<Event>> {
        let uid = &firing.rule.uid;
        let Some((_, state)) = self.rules.get(uid).filter(|_| firing.restores.is_none()) else { return Vec::new() };
        let gathers = |version: &crate::rule::state::Version| {
            version.rule.trigger.as_ref().is_some_and(|trigger| trigger.keeps_events())
        };
        if !state.in_force.as_ref().is_some_and(gathers) {
            return Vec::new();
        }
        let last = input.map(|input| self.event_for(uid, &firing.source, input));
        state.groups.events(&firing.group).iter().cloned().chain(last).collect()
    }

    /// The groups of which something has changed: they are saved, and what they wait for is noted.
    pub(super) fn touch(&mut self, uid: &RuleUid, groups: impl IntoIterator<Item = String>) {
        for group in groups {
            self.reschedule(uid, &group);
            self.changed.groups.insert((uid.clone(), group));
        }
        self.weigh(uid);
    }

    /// Notes how much the groups of the rule take.
    pub(super) fn weigh(&mut self, uid: &RuleUid) {
        let Some((rule, state)) = self.rules.get_mut(uid) else { return };
        let (before, now) = (state.weighed, state.groups.bytes());
        if before != now {
            state.weighed = now;
            let of_namespace = self.bytes.entry(rule.namespace.clone()).or_default();
            *of_namespace = of_namespace.saturating_sub(before).saturating_add(now);
        }
    }

    /// Whether the groups of the namespace take so much that no new one is taken in.
    pub(super) fn is_full(&self, namespace: &str) -> bool {
        self.bytes.get(namespace).is_some_and(|bytes| *bytes >= MAX_BYTES)
    }

    /// Notes what the group waits for.
    pub(super) fn reschedule(&mut self, uid: &RuleUid, group: &str) {
        let at = self.rules.get(uid).and_then(|(_, state)| state.deadline(group));
        self.set_deadline(uid, group, None, at);
    }

    /// Nothing is due before the switch for all rules was released.
    pub(super) fn set_deadline(&mut self, uid: &RuleUid, group: &str, remembered: Option<&str>, at: Option<i64>) {
        self.deadlines.set(uid, group, remembered, at.map(|at| at.max(self.switch.released)));
    }

    pub(super) fn reschedule_all(&mut self, uid: &RuleUid) {
        let Some((_, state)) = self.rules.get(uid) else { return };
        let groups: Vec<String> = state.groups.names().cloned().collect();
        groups.iter().for_each(|group| self.reschedule(uid, group));
    }

    /// A process has begun: what is due waits until the sources have caught up.
    pub(super) fn settle_down(&mut self, head: &Head) {
        let waits = |rule: &super::Rule| rule.trigger.as_ref().is_some_and(|trigger| trigger.waits_for_sources());
        let mut waiting = Vec::new();
        for (uid, (_, state)) in &mut self.rules {
            let Some(rule) = state.in_force.as_ref().map(|version| &version.rule).filter(|rule| waits(rule)) else {
                continue;
            };
            let sources = rule.sources.iter().map(|source| source.name.clone()).collect();
            state.settling = Settling { sources, until: head.stamp.at.saturating_add(SETTLES) };
            waiting.push(uid.clone());
        }
        for uid in waiting {
            self.reschedule_all(&uid);
            self.changed.rows.insert(uid);
        }
    }

    /// A source has caught up.
    pub(super) fn caught_up(&mut self, head: &Head, source: &SourceRef) {
        let Some((_, state)) = self.rules.get_mut(&source.rule) else { return };
        let in_force = state.in_force.as_ref().is_some_and(|version| version.rule.generation == source.generation);
        if !in_force || !state.settling.sources.remove(&source.source) {
            return;
        }
        if state.settling.sources.is_empty() {
            state.settling.until = state.settling.until.min(head.stamp.at);
            self.reschedule_all(&source.rule);
        }
        self.changed.rows.insert(source.rule.clone());
    }

    /// What rules had fired for and what is not looked at any more, because they were changed, since the last call.
    pub fn take_closed(&mut self) -> Vec<(RuleRef, String)> {
        std::mem::take(&mut self.closed)
    }
}

impl Engine {
    /// The event as it is kept with a group.
    pub(super) fn as_kept(&self, uid: &RuleUid, source: &str, input: &EventInput) -> Option<Arc<Event>> {
        let (_, state) = self.rules.get(uid)?;
        let rule = state.in_force.as_ref().map(|version| &version.rule)?;
        rule.trigger.as_ref()?.keeps_event().then(|| self.event_for(uid, source, input))
    }

    /// What the trigger keeps of the group.
    #[cfg(test)]
    pub(in crate::rule) fn kept(&self, uid: &RuleUid, group: &str) -> Option<&crate::rule::trigger::Kept> {
        self.rules.get(uid)?.1.groups.kept(group)
    }
}
