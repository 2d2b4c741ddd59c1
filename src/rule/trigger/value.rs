//! `value`: an aggregate over a sliding window is above or below a bound.
//!
//! The window is kept in buckets, so that a group costs the same however many events it has: what is older than the window by less than a bucket
//! still counts.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    Kind, Sighting, State, Verdict,
    count::happened,
    level::{Course, Level},
};
use crate::{
    api::{Aggregation, NoData},
    clock::Stamp,
    record::{Firing, Mark, Number},
    rule::{
        cel::{Program, Scope},
        fault::EvalError,
    },
};

/// Buckets of a window.
pub(super) const BUCKETS: i64 = 30;
/// Two values in one of the finest bins differ by so much at the most, as a part of them.
const WIDTH: f64 = 0.01;
/// Bins of one bucket; when there are more, two and two are put together.
const MAX_BINS: usize = 128;

/// `trigger.value`, compiled; times in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Measure {
    pub(super) expression: Program,
    pub(super) aggregation: Aggregation,
    pub(super) within: i64,
    pub(super) bound: Bound,
    pub(super) no_data: NoData,
    pub(super) course: Course,
    /// How long a group without samples is kept when nothing else is due.
    pub(super) keep: i64,
}

/// From where on it is too much or too little, and until where it stays so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    Above { from: f64, clear: f64 },
    Below { from: f64, clear: f64 },
}

impl Bound {
    /// Whether the value is beyond the bound, given whether it was.
    fn holds(self, value: f64, before: bool) -> bool {
        match self {
            Self::Above { from, clear } => value > if before { clear } else { from },
            Self::Below { from, clear } => value < if before { clear } else { from },
        }
    }
}

/// The samples of one part of a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    /// Its number: the time divided by the length of a bucket.
    n: i64,
    count: u64,
    sum: Number,
    min: Number,
    max: Number,
    /// The first and the last sample, with their times.
    first: (i64, Number),
    last: (i64, Number),
    /// For percentiles: how many samples are in which bin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    bins: BTreeMap<i32, u64>,
    /// How often bins were put together two and two.
    #[serde(default, skip_serializing_if = "is_zero")]
    coarse: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What is kept of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Window {
    /// Oldest first.
    buckets: VecDeque<Bucket>,
    /// When the last sample came.
    heard: i64,
    /// It is beyond the bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<Level>,
    /// When nothing of it counts any more, unless it is beyond the bound.
    end: i64,
    /// The last aggregate that was known: `value` of what fires when the window is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known: Option<Number>,
}

impl State for Window {
    fn end(&self) -> i64 {
        self.end
    }

    fn bytes(&self) -> u64 {
        self.buckets.iter().map(|bucket| (size_of::<Bucket>() + 16 * bucket.bins.len()) as u64).sum()
    }

    fn active(&self) -> Option<Stamp> {
        self.level.as_ref().and_then(State::active)
    }

    fn hushed(&self) -> Option<i64> {
        self.level.as_ref().and_then(State::hushed)
    }
}

impl Bucket {
    fn of(n: i64, at: i64, value: f64) -> Self {
        let value = Number(value);
        Self {
            n,
            count: 0,
            sum: Number(0.0),
            min: value,
            max: value,
            first: (at, value),
            last: (at, value),
            bins: BTreeMap::new(),
            coarse: 0,
        }
    }

    fn add(&mut self, at: i64, value: f64, binned: bool) {
        self.count += 1;
        self.sum.0 += value;
        self.min.0 = self.min.0.min(value);
        self.max.0 = self.max.0.max(value);
        self.last = (at, Number(value));
        if binned {
            *self.bins.entry(coarser(bin(value), self.coarse)).or_default() += 1;
            while self.bins.len() > MAX_BINS {
                self.coarse += 1;
                for (bin, count) in std::mem::take(&mut self.bins) {
                    *self.bins.entry(coarser(bin, 1)).or_default() += count;
                }
            }
        }
    }
}

/// The bin of a value: those of one sign get wider with the distance from 0, so that the relative error is the same.
fn bin(value: f64) -> i32 {
    let size = value.abs();
    if size < 1e-9 {
        return 0;
    }
    // 1e-9 is bin 1, and the largest number is bin 36,000.
    let index = ((size / 1e-9).ln() / (1.0 + WIDTH).ln()).floor() as i32 + 1;
    if value < 0.0 { -index } else { index }
}

/// The bin that this one is in when bins are put together two and two so many times. That of 0 stays alone.
fn coarser(bin: i32, times: u32) -> i32 {
    (0..times).fold(bin, |bin, _| bin.signum() * ((bin.abs() + 1) / 2))
}

/// The value in the middle of a bin that was put together so many times.
fn middle(bin: i32, coarse: u32) -> f64 {
    if bin == 0 {
        return 0.0;
    }
    let size = 1e-9 * (1.0 + WIDTH).powf((f64::from(bin.abs()) - 0.5) * 2_f64.powf(f64::from(coarse)));
    if bin < 0 { -size } else { size }
}

impl Measure {
    fn length(&self) -> i64 {
        (self.within / BUCKETS).max(1)
    }

    /// The aggregate of the buckets; nothing when there are too few samples.
    fn aggregate<'b>(&self, buckets: impl Iterator<Item = &'b Bucket> + Clone) -> Option<f64> {
        let count: u64 = buckets.clone().map(|bucket| bucket.count).sum();
        let sum = || buckets.clone().map(|bucket| bucket.sum.0).sum::<f64>();
        let (first, last) = (buckets.clone().next()?, buckets.clone().last()?);
        let value = match self.aggregation {
            Aggregation::Last => last.last.1.0,
            Aggregation::Avg => sum() / count as f64,
            Aggregation::Sum => sum(),
            Aggregation::Min => buckets.map(|bucket| bucket.min.0).fold(f64::INFINITY, f64::min),
            Aggregation::Max => buckets.map(|bucket| bucket.max.0).fold(f64::NEG_INFINITY, f64::max),
            Aggregation::Count => count as f64,
            Aggregation::Rate | Aggregation::Delta => {
                let seconds = (last.last.0 - first.first.0) as f64 / 1e6;
                let delta = last.last.1.0 - first.first.1.0;
                match self.aggregation {
                    _ if seconds <= 0.0 => return None,
                    Aggregation::Delta => delta,
                    _ => delta / seconds,
                }
            }
            Aggregation::P50 => percentile(buckets, count, 0.50),
            Aggregation::P90 => percentile(buckets, count, 0.90),
            Aggregation::P95 => percentile(buckets, count, 0.95),
            Aggregation::P99 => percentile(buckets, count, 0.99),
        };
        value.is_finite().then_some(value)
    }

    /// Whether it is beyond the bound with these buckets, given whether it was.
    fn holds<'b>(&self, buckets: impl Iterator<Item = &'b Bucket> + Clone, before: bool) -> bool {
        match self.aggregate(buckets.clone()) {
            Some(value) => self.bound.holds(value, before),
            // A rate of one sample is not known yet.
            None if buckets.clone().next().is_some() => before,
            None => match self.no_data {
                NoData::Hold => before,
                NoData::Clear => false,
                NoData::Fire => true,
            },
        }
    }

    /// The buckets that count at `now`.
    fn counting<'w>(&self, window: &'w Window, now: i64) -> impl Iterator<Item = &'w Bucket> + Clone {
        let oldest = now.div_euclid(self.length()) - BUCKETS;
        window.buckets.iter().filter(move |bucket| bucket.n >= oldest)
    }

    /// The window at `now`: what is too old is gone, and it is or is not beyond the bound.
    fn at(&self, mut window: Window, now: i64) -> Window {
        let oldest = now.div_euclid(self.length()) - BUCKETS;
        window.buckets.retain(|bucket| bucket.n >= oldest);
        window.known = self.aggregate(window.buckets.iter()).map(Number).or(window.known);
        let holds = self.holds(window.buckets.iter(), window.level.is_some());
        window.level = holds.then(|| window.level.take().unwrap_or_else(|| self.course.begin(now)));
        window.end = match (&window.level, self.no_data) {
            (None, NoData::Hold | NoData::Clear) => {
                window.heard.max(now).saturating_add(self.within).saturating_add(2 * self.length())
            }
            _ => i64::MAX,
        };
        window
    }

    /// The aggregate of the buckets, or the last one that was known.
    fn known<'b>(&self, buckets: impl Iterator<Item = &'b Bucket> + Clone, window: &Window) -> Option<f64> {
        self.aggregate(buckets).or(window.known.map(|known| known.0))
    }

    /// When the window, as it slides on without samples, gets beyond the bound or back.
    fn turns(&self, window: &Window) -> Option<i64> {
        let before = window.level.is_some();
        (0..window.buckets.len()).find_map(|index| {
            let left = window.buckets.iter().skip(index + 1);
            let leaves = window.buckets[index].n.saturating_add(BUCKETS + 1).saturating_mul(self.length());
            (self.holds(left, before) != before).then_some(leaves)
        })
    }

    /// The aggregate of all that is kept.
    #[cfg(test)]
    pub(in crate::rule) fn told(&self, window: &Window) -> Option<f64> {
        self.aggregate(window.buckets.iter())
    }

    fn forgotten(&self, window: &Window) -> Option<i64> {
        (window.end == i64::MAX).then(|| window.heard.saturating_add(self.keep))
    }
}

/// The largest number that is a sample, with either sign: so that what is reckoned with samples stays a number.
const MAX_SAMPLE: f64 = 1e150;

/// The number that an expression gives, at most 1e150 from 0. What is no number is no sample: neither a breach nor a recovery.
pub(super) fn number(expression: &Program, scope: &Scope<'_>, place: &str) -> Result<f64, EvalError> {
    let value = expression.evaluate(scope).map_err(|error| error.at(place))?;
    let number = value.as_f64().filter(|value| value.is_finite());
    let wrong = |why| EvalError::new(why).at(place);
    let number = number.ok_or_else(|| wrong("gives no number: NaN, infinite, or another type; it is no sample"))?;
    match number.abs() > MAX_SAMPLE {
        true => Err(wrong("gives a number beyond 1e150; it is no sample: scale it in the expression")),
        false => Ok(number),
    }
}

fn percentile<'b>(buckets: impl Iterator<Item = &'b Bucket> + Clone, count: u64, part: f64) -> f64 {
    let coarse = buckets.clone().map(|bucket| bucket.coarse).max().unwrap_or_default();
    let mut bins = BTreeMap::<i32, u64>::new();
    for bucket in buckets {
        for (bin, count) in &bucket.bins {
            *bins.entry(coarser(*bin, coarse - bucket.coarse)).or_default() += count;
        }
    }
    let rank = ((count as f64 * part).ceil() as u64).max(1);
    let mut seen = 0;
    for (bin, count) in bins {
        seen += count;
        if seen >= rank {
            return middle(bin, coarse);
        }
    }
    f64::NAN
}

impl Kind for Measure {
    type State = Window;

    fn judge(&self, kept: Option<&Window>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let value = number(&self.expression, sighting.scope, "trigger.value.expression")?;
        let now = sighting.head.stamp.at;
        let at = happened(sighting.head, sighting.event).max(kept.map_or(i64::MIN, |kept| kept.heard));
        let mark = Mark::Sample { at, value: Number(value) };
        let after = self.take(kept.cloned(), mark, now);
        let is_over = after.as_ref().is_some_and(|after| after.level.is_none());
        let ended = kept.and_then(State::active).filter(|_| is_over);
        let value = after.and_then(|after| self.known(after.buckets.iter(), &after));
        Ok(Verdict { mark: Some(mark), ended, value, ..Verdict::default() })
    }

    fn take(&self, kept: Option<Window>, mark: Mark, now: i64) -> Option<Window> {
        match mark {
            Mark::Sample { at, value } => {
                let mut window = kept.unwrap_or_default();
                let n = at.div_euclid(self.length());
                window.heard = at;
                if window.buckets.back().is_none_or(|last| last.n < n) {
                    window.buckets.push_back(Bucket::of(n, at, value.0));
                }
                let binned = self.aggregation.is_percentile();
                window.buckets.back_mut()?.add(at, value.0, binned);
                Some(self.at(window, now))
            }
            Mark::Slid(at) => kept.map(|window| self.at(window, at)),
            Mark::Postponed(until) => {
                kept.map(|window| Window { level: window.level.map(|level| level.postponed(until)), ..window })
            }
            Mark::Hushed(until) => {
                kept.map(|window| Window { level: window.level.map(|level| level.silenced(until)), ..window })
            }
            Mark::Ended(_) => None,
            _ => kept,
        }
    }

    fn fired(&self, kept: Option<Window>, firing: &Firing) -> Option<Window> {
        kept.map(|window| match window.level {
            Some(level) => Window { level: Some(self.course.fired(level, firing)), ..window },
            None => window,
        })
    }

    fn resolved(&self, kept: Option<Window>) -> Option<Window> {
        kept.map(|window| Window { level: None, ..window })
    }

    fn deadline(&self, window: &Window) -> Option<i64> {
        let level = window.level.as_ref().and_then(|level| self.course.deadline(level));
        [level, self.turns(window), self.forgotten(window)].into_iter().flatten().min()
    }

    fn due(&self, window: &Window, now: i64) -> Verdict {
        if self.forgotten(window).is_some_and(|at| at <= now) {
            let mark = Some(Mark::Ended(now));
            return Verdict { mark, ended: window.active(), forgets: true, ..Verdict::default() };
        }
        let value = self.known(self.counting(window, now), window);
        let level = window.level.as_ref();
        let fires_at = level.and_then(|level| self.course.deadline(level)).filter(|at| *at <= now);
        match self.turns(window).filter(|at| *at <= now) {
            Some(turns) if fires_at.is_none_or(|fires| turns <= fires) => {
                let ended = window.active().filter(|_| level.is_some());
                Verdict { mark: Some(Mark::Slid(turns)), ended, value, ..Verdict::default() }
            }
            _ => Verdict { value, ..level.map_or_else(Verdict::default, |level| self.course.due(level, now)) },
        }
    }

    fn postponed(&self, until: i64) -> Option<Mark> {
        Some(Mark::Postponed(until))
    }
}
