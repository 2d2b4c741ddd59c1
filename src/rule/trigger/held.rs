//! `held`: all conditions have been true for a time.

use super::State as _;
use super::{
    Kind, Sighting, Verdict,
    level::{self, Course, Level},
};
use crate::{
    api::{Duration, HeldTrigger},
    record::{Firing, Mark},
    rule::{
        fault::{EvalError, Fault},
        groups::micros,
    },
};

/// `trigger.held`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Held(Course);

impl Held {
    pub(super) fn compile(held: &HeldTrigger, repeat: Option<Duration>, faults: &mut Vec<Fault>) -> Option<Self> {
        let before = faults.len();
        let mut last = held.for_;
        for (index, step) in held.steps.iter().enumerate() {
            let path = format!("spec.trigger.held.steps[{index}]");
            if step.after <= last {
                let message = "must be longer than for, and than after of the step before";
                faults.push(Fault::new(format!("{path}.after"), message));
            }
            if step.actions.is_empty() {
                faults.push(Fault::new(format!("{path}.actions"), "must have at least one action"));
            }
            last = step.after;
        }
        let steps = held.steps.iter().map(|step| micros(step.after.get())).collect();
        (faults.len() == before).then(|| Self(Course { steps, ..level::course(held.for_, repeat) }))
    }
}

impl Kind for Held {
    type State = Level;

    fn judge(&self, kept: Option<&Level>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let at = sighting.head.stamp.at;
        Ok(match kept {
            _ if sighting.holds => Verdict { mark: Some(Mark::Holds(at)), ..Verdict::default() },
            Some(level) => match level.active() {
                Some(since) => Verdict { ended: Some(since), ..Verdict::default() },
                None => Verdict { mark: Some(Mark::Ended(at)), ..Verdict::default() },
            },
            None => Verdict::default(),
        })
    }

    fn take(&self, kept: Option<Level>, mark: Mark, _: i64) -> Option<Level> {
        match mark {
            Mark::Holds(at) => Some(kept.unwrap_or_else(|| self.0.begin(at))),
            Mark::Postponed(until) => kept.map(|level| level.postponed(until)),
            Mark::Hushed(until) => kept.map(|level| level.silenced(until)),
            Mark::Ended(_) => None,
            _ => kept,
        }
    }

    fn fired(&self, kept: Option<Level>, firing: &Firing) -> Option<Level> {
        kept.map(|level| self.0.fired(level, firing))
    }

    fn deadline(&self, level: &Level) -> Option<i64> {
        self.0.deadline(level)
    }

    fn due(&self, level: &Level, now: i64) -> Verdict {
        self.0.due(level, now)
    }

    fn postponed(&self, until: i64) -> Option<Mark> {
        Some(Mark::Postponed(until))
    }
}
