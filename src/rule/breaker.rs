//! `breaker`: whether a rule stops acting because its firings fail, as a fold of how they have ended.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{fault::Fault, groups::micros};
use crate::{
    api::{EventRuleSpec, FiringOutcome},
    clock::Stamp,
    record::{Finished, FiringId},
    text::cut,
};

/// Characters that are kept of why the last firing failed.
const MAX_WHY: usize = 256;
/// The shortest time after which a trial is made, in microseconds.
const LEAST: i64 = 1_000_000;

/// `breaker`, compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    failures: u32,
    /// In microseconds.
    resume_after: i64,
}

impl Limit {
    /// Compiles the breaker of a rule; faults are added with their paths.
    pub(super) fn compile(spec: &EventRuleSpec, faults: &mut Vec<Fault>) -> Option<Self> {
        let breaker = spec.breaker.as_ref()?;
        if breaker.failures == 0 {
            faults.push(Fault::new("spec.breaker.failures", "must be at least 1"));
        }
        let resume_after = micros(breaker.resume_after().get());
        if resume_after < LEAST {
            faults.push(Fault::new("spec.breaker.resumeAfter", "must be at least 1s"));
        }
        Some(Self { failures: breaker.failures, resume_after })
    }
}

/// How the firings of a rule have gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Breaker {
    /// How many have failed one after the other; of a rule that is tripped, how many that took.
    #[serde(default)]
    failed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tripped: Option<Tripped>,
    /// Open firings that somebody asked for: they are carried out whatever the breaker says.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    by_hand: BTreeSet<FiringId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tripped {
    /// When a trial is made.
    until: Stamp,
    /// That time has come.
    trial: bool,
    /// Why the last firing failed.
    why: String,
}

/// Which firings of a rule that have not begun are carried out; the others are observed only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// All.
    Open,
    /// None but these.
    Shut(BTreeSet<FiringId>),
    /// These, and one more as a trial.
    Trial(BTreeSet<FiringId>),
}

/// What status tells of a rule that is tripped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    /// How many firings have failed one after the other.
    pub failures: u32,
    /// Why the last of them did.
    pub why: String,
    /// When a trial is made; nothing once that time has come.
    pub until: Option<Stamp>,
}

impl Breaker {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The rule is another: whatever was tripped is not, and what somebody asked for is done.
    pub(super) fn reset(&mut self) {
        (self.failed, self.tripped) = (0, None);
    }

    /// Somebody asks for the firing.
    pub(super) fn ask(&mut self, firing: &FiringId) {
        self.by_hand.insert(firing.clone());
    }

    /// A firing has ended that was not carried out, or that another version of the rule has decided.
    pub(super) fn forget(&mut self, firing: &FiringId) {
        self.by_hand.remove(firing);
    }

    /// A firing that was carried out has ended.
    pub(super) fn ended(&mut self, limit: &Limit, finished: &Finished, stamp: Stamp) {
        self.by_hand.remove(&finished.firing);
        let trial = self.tripped.as_ref().map(|tripped| tripped.trial);
        match (finished.outcome, trial) {
            (FiringOutcome::Failed, None | Some(true)) => {
                self.failed = self.failed.saturating_add(1);
                if trial.is_some() || self.failed >= limit.failures {
                    let after = |time: i64| time.saturating_add(limit.resume_after);
                    let until = Stamp { at: after(stamp.at), wall: after(stamp.wall) };
                    let why = cut(&finished.message, MAX_WHY);
                    self.tripped = Some(Tripped { until, trial: false, why });
                }
            }
            // It works again, whichever it is that tells.
            (FiringOutcome::Succeeded, _) => self.reset(),
            _ => {}
        }
    }

    /// When a trial is to be made, on the line of stamps.
    pub(super) fn deadline(&self) -> Option<i64> {
        self.tripped.as_ref().filter(|tripped| !tripped.trial).map(|tripped| tripped.until.at)
    }

    /// The time has come.
    pub(super) fn try_again(&mut self) {
        if let Some(tripped) = &mut self.tripped {
            tripped.trial = true;
        }
    }

    pub(super) fn gate(&self) -> Gate {
        match &self.tripped {
            None => Gate::Open,
            Some(Tripped { trial: false, .. }) => Gate::Shut(self.by_hand.clone()),
            Some(Tripped { trial: true, .. }) => Gate::Trial(self.by_hand.clone()),
        }
    }

    pub(super) fn trip(&self) -> Option<Trip> {
        let Tripped { until, trial, why } = self.tripped.as_ref()?;
        Some(Trip { failures: self.failed, why: why.clone(), until: (!trial).then_some(*until) })
    }
}
