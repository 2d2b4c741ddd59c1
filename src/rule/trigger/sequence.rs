//! `sequence` and `all`: several events within a time, in an order or in any.

use serde::{Deserialize, Serialize};

use super::{Fires, Kind, Sighting, State, Verdict, count::happened};
use crate::{
    record::{Firing, Mark},
    rule::{cel::Program, fault::EvalError},
};

/// What an event of a sequence must be.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Matcher {
    /// `trigger.sequence.steps[0]`
    pub(super) place: String,
    /// The source that it comes by; nothing: any.
    pub(super) source: Option<String>,
    pub(super) conditions: Vec<(String, Program)>,
}

impl Matcher {
    fn takes(&self, sighting: &Sighting<'_, '_>) -> Result<bool, EvalError> {
        if self.source.as_deref().is_some_and(|source| source != sighting.source) {
            return Ok(false);
        }
        for (name, program) in &self.conditions {
            let place = |error: EvalError| error.at(&format!("{}.when[{name}]", self.place));
            if !program.test(sighting.scope).map_err(place)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Which of several matchers take an event, as bits.
fn bits(matchers: &[Matcher], sighting: &Sighting<'_, '_>) -> Result<u32, EvalError> {
    let mut bits = 0;
    for (index, matcher) in matchers.iter().enumerate() {
        bits |= u32::from(matcher.takes(sighting)?) << index;
    }
    Ok(bits)
}

fn takes(bits: u32, index: usize) -> bool {
    bits >> index & 1 == 1
}

/// `trigger.sequence`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Sequence {
    pub(super) within: i64,
    pub(super) steps: Vec<Matcher>,
    pub(super) unless: Option<Matcher>,
}

/// How far a group has come: for each step, when the latest first event was after which all steps up to this one have come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Way {
    /// Nothing: it was not reached.
    began: Vec<Option<i64>>,
    /// When the last event happened.
    last: i64,
    /// From when on none of it counts.
    end: i64,
}

impl State for Way {
    fn end(&self) -> i64 {
        self.end
    }
}

impl Sequence {
    /// The way with an event: one that takes several steps is one of them, the furthest it can be.
    fn walk(&self, kept: Option<&Way>, at: i64, bits: u32) -> Way {
        let before = kept.map_or(&[][..], |kept| &kept.began);
        let reached = |index: usize| before.get(index).copied().flatten().filter(|began| at - began <= self.within);
        let began: Vec<Option<i64>> = (0..self.steps.len())
            .map(|index| match index.checked_sub(1) {
                _ if !takes(bits, index) => reached(index),
                None => Some(at),
                Some(before) => reached(before).max(reached(index)),
            })
            .collect();
        Way { began, last: at, end: 0 }
    }
}

impl Kind for Sequence {
    type State = Way;

    fn judge(&self, kept: Option<&Way>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let at = happened(sighting.head, sighting.event).max(kept.map_or(i64::MIN, |kept| kept.last));
        if let Some(unless) = &self.unless
            && unless.takes(sighting)?
        {
            return Ok(Verdict { mark: kept.map(|_| Mark::Ended(at)), ..Verdict::default() });
        }
        let bits = bits(&self.steps, sighting)?;
        if bits == 0 {
            return Ok(Verdict::default());
        }
        let way = self.walk(kept, at, bits);
        if !way.began.iter().any(Option::is_some) {
            // None of what has to come before it has come.
            return Ok(Verdict::default());
        }
        let complete = way.began.last().copied().flatten().is_some();
        Ok(Verdict {
            mark: Some(Mark::Took { at, which: bits }),
            fires: complete.then(Fires::default),
            ..Verdict::default()
        })
    }

    fn take(&self, kept: Option<Way>, mark: Mark, now: i64) -> Option<Way> {
        match mark {
            Mark::Took { at, which } => {
                let mut way = self.walk(kept.as_ref(), at, which);
                // What was accepted late is kept as long as what was not.
                way.end = now.max(at).saturating_add(self.within).saturating_add(1);
                way.began.iter().any(Option::is_some).then_some(way)
            }
            Mark::Ended(_) => None,
            _ => kept,
        }
    }

    /// What has come is used up.
    fn fired(&self, _: Option<Way>, _: &Firing) -> Option<Way> {
        None
    }

    /// What is held back is used up as well.
    fn postponed(&self, until: i64) -> Option<Mark> {
        Some(Mark::Ended(until))
    }
}

/// `trigger.all`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct All {
    pub(super) within: i64,
    pub(super) of: Vec<Matcher>,
}

/// When each of them has come last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Came {
    at: Vec<Option<i64>>,
    last: i64,
    end: i64,
}

impl State for Came {
    fn end(&self) -> i64 {
        self.end
    }
}

impl All {
    fn with(&self, kept: Option<&Came>, at: i64, bits: u32) -> Came {
        let before = kept.map_or(&[][..], |kept| &kept.at);
        let fresh = |index: usize| before.get(index).copied().flatten().filter(|came| at - came <= self.within);
        let all = (0..self.of.len()).map(|index| if takes(bits, index) { Some(at) } else { fresh(index) });
        Came { at: all.collect(), last: at, end: 0 }
    }
}

impl Kind for All {
    type State = Came;

    fn judge(&self, kept: Option<&Came>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let at = happened(sighting.head, sighting.event).max(kept.map_or(i64::MIN, |kept| kept.last));
        let bits = bits(&self.of, sighting)?;
        if bits == 0 {
            return Ok(Verdict::default());
        }
        let complete = self.with(kept, at, bits).at.iter().all(Option::is_some);
        Ok(Verdict {
            mark: Some(Mark::Took { at, which: bits }),
            fires: complete.then(Fires::default),
            ..Verdict::default()
        })
    }

    fn take(&self, kept: Option<Came>, mark: Mark, now: i64) -> Option<Came> {
        match mark {
            Mark::Took { at, which } => {
                let end = now.max(at).saturating_add(self.within).saturating_add(1);
                Some(Came { end, ..self.with(kept.as_ref(), at, which) })
            }
            Mark::Ended(_) => None,
            _ => kept,
        }
    }

    fn fired(&self, _: Option<Came>, _: &Firing) -> Option<Came> {
        None
    }

    fn postponed(&self, until: i64) -> Option<Mark> {
        Some(Mark::Ended(until))
    }
}
