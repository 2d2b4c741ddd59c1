//! `anomaly`: a value is unusual for its group.
//!
//! What is usual is learned: a mean and a mean distance from it, both weighted towards what is newer. A sample is taken into them no further out than
//! what still counts as usual, so that an outlier moves them little.

use serde::{Deserialize, Serialize};

use super::{
    Kind, Sighting, State, Verdict,
    level::{Course, Level},
    value::number,
};
use crate::{
    api::Direction,
    clock::Stamp,
    record::{Firing, Mark, Number},
    rule::{cel::Program, fault::EvalError},
};

/// A mean distance of values that are spread as by chance is so much of their standard deviation.
const OF_DEVIATION: f64 = 0.797_884_560_802_865_4;
/// The least deviation, as a part of the mean: values that never differ would make the smallest step an anomaly.
const LEAST: f64 = 0.001;

/// `trigger.anomaly`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Anomaly {
    pub(super) expression: Program,
    pub(super) deviations: f64,
    pub(super) direction: Direction,
    /// Samples before anything is unusual.
    pub(super) warmup: u64,
    /// How long a group without samples is remembered, in microseconds.
    pub(super) keep: i64,
    pub(super) course: Course,
}

/// What is usual in a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Usual {
    samples: u64,
    mean: Number,
    /// The mean distance from it.
    distance: Number,
    heard: i64,
    /// The last sample.
    last: Number,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
}

impl State for Usual {
    fn end(&self) -> i64 {
        i64::MAX
    }

    fn active(&self) -> Option<Stamp> {
        self.level.as_ref().and_then(State::active)
    }

    fn hushed(&self) -> Option<i64> {
        self.level.as_ref().and_then(State::hushed)
    }
}

impl Anomaly {
    /// How far from the mean is still usual.
    fn reach(&self, usual: &Usual) -> f64 {
        let deviation = usual.distance.0 / OF_DEVIATION;
        self.deviations * deviation.max(usual.mean.0.abs() * LEAST).max(f64::MIN_POSITIVE)
    }

    fn is_unusual(&self, usual: &Usual, value: f64) -> bool {
        let (away, reach) = (value - usual.mean.0, self.reach(usual));
        usual.samples >= self.warmup
            && match self.direction {
                Direction::Above => away > reach,
                Direction::Below => -away > reach,
                Direction::Both => away.abs() > reach,
            }
    }

    fn learn(&self, kept: Option<Usual>, at: i64, value: f64) -> Usual {
        let Some(usual) = kept else {
            return Usual {
                samples: 1,
                mean: Number(value),
                distance: Number(0.0),
                heard: at,
                last: Number(value),
                level: None,
            };
        };
        let unusual = self.is_unusual(&usual, value);
        let reach = self.reach(&usual);
        let taken = match usual.samples >= self.warmup {
            true => value.max(usual.mean.0 - reach).min(usual.mean.0 + reach),
            false => value,
        };
        let samples = usual.samples.saturating_add(1);
        // While it learns, all samples weigh the same; then those of about the last three warm-ups.
        let weight = 1.0 / (samples.min(self.warmup.saturating_mul(3).max(2)) as f64);
        let away = taken - usual.mean.0;
        let mean = usual.mean.0 + weight * away;
        let distance = usual.distance.0 + weight * (away.abs() - usual.distance.0);
        // Of samples beyond what is taken now, which an older log may have.
        if !mean.is_finite() || !distance.is_finite() {
            return Usual { heard: at, ..usual };
        }
        Usual {
            samples,
            mean: Number(mean),
            distance: Number(distance),
            heard: at,
            last: Number(value),
            level: unusual.then(|| usual.level.unwrap_or_else(|| self.course.begin(at))),
        }
    }

    fn forgotten(&self, usual: &Usual) -> i64 {
        usual.heard.saturating_add(self.keep)
    }
}

impl Kind for Anomaly {
    type State = Usual;

    fn judge(&self, kept: Option<&Usual>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let value = number(&self.expression, sighting.scope, "trigger.anomaly.expression")?;
        let at = sighting.head.stamp.at;
        let is_over = kept.is_some_and(|usual| !self.is_unusual(usual, value));
        Ok(Verdict {
            mark: Some(Mark::Sample { at, value: Number(value) }),
            ended: kept.and_then(State::active).filter(|_| is_over),
            value: Some(value),
            baseline: kept.map(|usual| usual.mean.0),
            ..Verdict::default()
        })
    }

    fn take(&self, kept: Option<Usual>, mark: Mark, _: i64) -> Option<Usual> {
        match mark {
            Mark::Sample { at, value } => Some(self.learn(kept, at, value.0)),
            Mark::Postponed(until) => {
                kept.map(|usual| Usual { level: usual.level.map(|level| level.postponed(until)), ..usual })
            }
            Mark::Hushed(until) => {
                kept.map(|usual| Usual { level: usual.level.map(|level| level.silenced(until)), ..usual })
            }
            Mark::Ended(_) => None,
            _ => kept,
        }
    }

    fn fired(&self, kept: Option<Usual>, firing: &Firing) -> Option<Usual> {
        kept.map(|usual| match usual.level {
            Some(level) => Usual { level: Some(self.course.fired(level, firing)), ..usual },
            None => usual,
        })
    }

    fn resolved(&self, kept: Option<Usual>) -> Option<Usual> {
        kept.map(|usual| Usual { level: None, ..usual })
    }

    fn deadline(&self, usual: &Usual) -> Option<i64> {
        let level = usual.level.as_ref().and_then(|level| self.course.deadline(level));
        level.into_iter().chain([self.forgotten(usual)]).min()
    }

    fn due(&self, usual: &Usual, now: i64) -> Verdict {
        if self.forgotten(usual) <= now {
            let mark = Some(Mark::Ended(now));
            return Verdict { mark, ended: usual.active(), forgets: true, ..Verdict::default() };
        }
        let verdict = usual.level.as_ref().map_or_else(Verdict::default, |level| self.course.due(level, now));
        Verdict { value: Some(usual.last.0), baseline: Some(usual.mean.0), ..verdict }
    }

    fn postponed(&self, until: i64) -> Option<Mark> {
        Some(Mark::Postponed(until))
    }
}
