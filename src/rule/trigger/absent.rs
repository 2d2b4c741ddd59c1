//! `absent`: a group that has reported has been silent for a time.

use serde::{Deserialize, Serialize};

use super::{
    Kind, Sighting, State, Verdict,
    level::{self, Course, Level},
};
use crate::{
    api::{AbsentTrigger, Duration, GroupLimits},
    clock::Stamp,
    record::{Firing, Mark},
    rule::{
        fault::{EvalError, Fault},
        groups::micros,
    },
};

/// `trigger.absent`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Absent {
    course: Course,
    /// How long a silent group is kept, in microseconds.
    keep: i64,
}

/// A group that has reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Heard {
    /// When it has reported last.
    at: i64,
    /// The silence since then.
    silence: Level,
}

impl State for Heard {
    /// It is forgotten when that is due, so that what the rule fired for is closed.
    fn end(&self) -> i64 {
        i64::MAX
    }

    fn active(&self) -> Option<Stamp> {
        self.silence.active()
    }

    fn hushed(&self) -> Option<i64> {
        self.silence.hushed()
    }
}

impl Absent {
    pub(super) fn compile(
        absent: &AbsentTrigger,
        limits: &GroupLimits,
        repeat: Option<Duration>,
        faults: &mut Vec<Fault>,
    ) -> Option<Self> {
        let before = faults.len();
        if absent.for_.get().is_zero() {
            faults.push(Fault::new("spec.trigger.absent.for", "must be longer than 0s"));
        }
        if limits.forget_after.is_some_and(|time| time <= absent.for_) {
            let message =
                "must be longer than trigger.absent.for: otherwise a group is forgotten before its silence is told";
            faults.push(Fault::new("spec.groups.forgetAfter", message));
        }
        let keep = micros(limits.forget_after(absent.for_).get()).max(micros(absent.for_.get()).saturating_add(1));
        (faults.len() == before).then(|| Self { course: level::course(absent.for_, repeat), keep })
    }

    fn forgotten(&self, heard: &Heard) -> i64 {
        heard.at.saturating_add(self.keep)
    }
}

impl Kind for Absent {
    type State = Heard;

    fn judge(&self, kept: Option<&Heard>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let mark = Some(Mark::Heard(sighting.head.stamp.at));
        Ok(Verdict { mark, ended: kept.and_then(State::active), ..Verdict::default() })
    }

    fn take(&self, kept: Option<Heard>, mark: Mark, _: i64) -> Option<Heard> {
        match mark {
            Mark::Heard(at) => Some(Heard { at, silence: self.course.begin(at) }),
            Mark::Postponed(until) => kept.map(|heard| Heard { silence: heard.silence.postponed(until), ..heard }),
            Mark::Hushed(until) => kept.map(|heard| Heard { silence: heard.silence.silenced(until), ..heard }),
            Mark::Ended(_) => None,
            _ => kept,
        }
    }

    fn fired(&self, kept: Option<Heard>, firing: &Firing) -> Option<Heard> {
        kept.map(|heard| Heard { silence: self.course.fired(heard.silence, firing), ..heard })
    }

    fn deadline(&self, heard: &Heard) -> Option<i64> {
        self.course.deadline(&heard.silence).into_iter().chain([self.forgotten(heard)]).min()
    }

    fn due(&self, heard: &Heard, now: i64) -> Verdict {
        if self.forgotten(heard) <= now {
            let mark = Some(Mark::Ended(now));
            return Verdict { mark, ended: heard.active(), forgets: true, ..Verdict::default() };
        }
        self.course.due(&heard.silence, now)
    }

    fn postponed(&self, until: i64) -> Option<Mark> {
        Some(Mark::Postponed(until))
    }
}
