//! The engine's part in `breaker`: which rules are tripped, and until when.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::{
    api::RuleMode,
    record::{Finished, Head, OpenFiring, RuleRef, RuleUid},
    rule::breaker::{Gate, Trip},
};

/// The rules that are tripped.
#[derive(Debug, Default)]
pub(super) struct Trips {
    /// When a trial is to be made, of those that wait for it.
    order: BTreeSet<(i64, RuleUid)>,
    of: BTreeMap<RuleUid, Option<i64>>,
    /// Rules whose gate may have changed since somebody asked.
    changed: BTreeSet<RuleUid>,
    /// What was not told yet.
    told: Vec<(RuleRef, Option<Trip>)>,
}

impl Trips {
    /// When the next trial is to be made, on the line of stamps.
    pub(super) fn next(&self) -> Option<i64> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Nothing: the rule is not tripped.
    fn set(&mut self, uid: &RuleUid, tripped: Option<Option<i64>>) {
        let before = match tripped {
            Some(at) => self.of.insert(uid.clone(), at),
            None => self.of.remove(uid),
        };
        before.flatten().map(|at| self.order.remove(&(at, uid.clone())));
        tripped.flatten().map(|at| self.order.insert((at, uid.clone())));
        self.changed.insert(uid.clone());
    }
}

impl Engine {
    /// A firing has ended: of a rule with a breaker it counts whether it succeeded or failed.
    pub fn ended(&mut self, head: &Head, open: &OpenFiring, finished: &Finished) {
        let Some((_, state)) = self.rules.get_mut(&finished.rule) else { return };
        let Some(rule) = state.in_force.as_ref().map(|version| &version.rule) else { return };
        let before = state.breaker.clone();
        // That something could be given back, or an incident ended, says nothing of what the rule does.
        let of_this = open.firing.restores.is_none()
            && !open.firing.closes
            && open.firing.generation == rule.generation
            && open.spec.mode == RuleMode::Enforce;
        match rule.breaker.filter(|_| of_this) {
            Some(limit) => state.breaker.ended(&limit, finished, head.stamp),
            None => state.breaker.forget(&finished.firing),
        }
        if state.breaker != before {
            let told = before.trip().is_some() != state.breaker.trip().is_some();
            self.note_breaker(&finished.rule, told);
        }
    }

    /// Trials are made of what has waited for them until the record at `head`.
    pub(super) fn try_again(&mut self, head: &Head) {
        while let Some((_, uid)) = self.trips.order.first().filter(|(at, _)| *at <= head.stamp.at).cloned() {
            if let Some((_, state)) = self.rules.get_mut(&uid) {
                state.breaker.try_again();
            }
            self.note_breaker(&uid, false);
        }
    }

    /// The breaker of the rule has changed; `told` if it tripped or was reset.
    pub(super) fn note_breaker(&mut self, uid: &RuleUid, told: bool) {
        let Some((rule, state)) = self.rules.get(uid) else { return self.trips.set(uid, None) };
        let trip = state.breaker.trip();
        self.trips.set(uid, trip.as_ref().map(|_| state.breaker.deadline()));
        if told {
            self.trips.told.push((rule.clone(), trip));
        }
        self.changed.rows.insert(uid.clone());
        self.changed.progress.insert(uid.clone());
    }

    /// How many rules are tripped.
    pub fn tripped(&self) -> usize {
        self.trips.of.len()
    }

    /// The gates of the rules whose breakers have changed since the last call.
    pub fn take_gates(&mut self) -> Vec<(RuleUid, Gate)> {
        let changed = std::mem::take(&mut self.trips.changed);
        let gate = |uid: &RuleUid| self.rules.get(uid).map_or(Gate::Open, |(_, state)| state.breaker.gate());
        changed.into_iter().map(|uid| (uid.clone(), gate(&uid))).collect()
    }

    /// The rules that tripped since the last call, and those that act again.
    pub fn take_trips(&mut self) -> Vec<(RuleRef, Option<Trip>)> {
        std::mem::take(&mut self.trips.told)
    }
}
