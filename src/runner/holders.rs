//! Who holds what is to be given back: a firing that gives it back does not when another one has taken hold of it since that was decided.
//!
//! The engine hears of it by the log. By then the value may have been given back, so it is noted here when it is recorded, while the target is held.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

use crate::record::{FiringId, OpenFiring, Position, Record, Release, RuleUid};

/// Values of which it is known when they were taken hold of last: a firing to give one back has begun within seconds.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By rule and [`crate::record::Change::key`]: the record by which a firing has taken hold last.
    held: HashMap<(RuleUid, String), Position>,
    /// Firings of an earlier process.
    again: BTreeSet<FiringId>,
}

impl Holders {
    /// What the record at this position says.
    pub(super) fn note(&self, record: &Record, position: Position) {
        let remember = match record {
            Record::Intent(intent) => intent.remember.as_deref(),
            Record::Outcome(outcome) => outcome.remember.as_deref(),
            _ => None,
        };
        let Some(remember) = remember.filter(|one| one.release != Release::Undone && !one.change.unsure) else {
            return;
        };
        let mut known = self.0.lock();
        if known.held.len() >= MOST {
            let middle = known.held.values().copied().min().map_or(0, |first| first.0.midpoint(position.0));
            known.held.retain(|_, at| at.0 > middle);
        }
        known.held.insert((remember.rule.clone(), remember.change.key()), position);
    }

    pub(super) fn held_again(&self, firing: FiringId) {
        self.0.lock().again.insert(firing);
    }

    /// Whether what the firing is to give back is held again.
    pub(super) fn are_others(&self, open: &OpenFiring) -> bool {
        let (firing, known) = (&open.firing, self.0.lock());
        let Some(change) = &firing.restores else { return false };
        let held = known.held.get(&(firing.rule.uid.clone(), change.key()));
        // It was decided before the record at its input was taken in.
        known.again.contains(&firing.id) || held.is_some_and(|at| *at >= firing.input)
    }
}
