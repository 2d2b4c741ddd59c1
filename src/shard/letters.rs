//! The dead letters: an index in memory, and the letters themselves as rows of the view. A pure fold of the log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::state::to_json;
use crate::{
    api::{FiringOutcome, RuleMode},
    record::{DeadLetter, Delta, FiringId, Head, OpenFiring, Position, RuleUid, Table},
};

/// Letters that are kept of one rule; the oldest goes when one more comes. They are commonly 4 KiB each.
pub const MAX_OF_RULE: usize = 1_000;
/// Letters that are kept in all: 2 MiB of memory for their index.
pub const MAX_LETTERS: usize = 10_000;
/// Bytes of the letters of one rule: twice what 1,000 common ones take. A letter of a batch holds its events and may have some hundred KiB.
const MAX_BYTES_OF_RULE: u64 = 8 << 20;
/// Bytes of all letters: a thirtieth of the volume that the chart asks for.
const MAX_BYTES: u64 = 64 << 20;
/// What a letter counts whose size an earlier version has not noted.
const COMMON: u64 = 4 << 10;

/// What memory holds of a letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The rule.
    pub rule: RuleUid,
    /// Position of the firing's end, or of the event that could not be judged: letters are in this order.
    pub ended: Position,
    /// What it takes of the volume.
    #[serde(default = "common")]
    pub bytes: u64,
}

/// Where a letter is.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// Here: the view does not have it yet for sure.
    Here(Arc<DeadLetter>),
    /// In the view: table [`Table::DeadLetters`], under the firing's id.
    InView,
}

/// All dead letters.
#[derive(Debug, Default)]
pub struct Letters {
    kept: HashMap<FiringId, Kept>,
    /// Several rules may have one of the same event.
    order: BTreeMap<(Position, RuleUid), FiringId>,
    of_rule: BTreeMap<RuleUid, BTreeSet<Position>>,
    /// Since the last delta: come, or gone.
    changed: BTreeMap<FiringId, Option<Arc<DeadLetter>>>,
    /// What the last delta wrote: it may still be on its way.
    written: BTreeMap<FiringId, Option<Arc<DeadLetter>>>,
    evicted: u64,
    /// Of all that are kept.
    bytes: u64,
}

impl Letters {
    /// The letters that a view's index told, of rules that exist; others go with the next delta. Gives what could not be read, in words.
    pub(super) fn restore(
        rows: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        exists: impl Fn(&RuleUid) -> bool,
    ) -> (Self, Vec<String>) {
        let (mut letters, mut damage) = (Self::default(), Vec::new());
        for (key, value) in rows {
            let id = String::from_utf8_lossy(&key).into_owned();
            match serde_json::from_slice::<Kept>(&value) {
                Ok(kept) if exists(&kept.rule) => letters.index(FiringId(id.into()), kept),
                // A version that knows no letters has removed the rule.
                Ok(_) => drop(letters.changed.insert(FiringId(id.into()), None)),
                Err(error) => damage.push(format!("dead letter {id}: {error}")),
            }
        }
        (letters, damage)
    }

    /// Keeps a firing that failed for good. Gives the rules whose letters are others now.
    pub(super) fn keep(&mut self, head: &Head, letter: DeadLetter) -> BTreeSet<RuleUid> {
        let rule = letter.finished.rule.clone();
        let id = letter.finished.firing.clone();
        let mut touched = BTreeSet::from([rule.clone()]);
        let bytes = to_json(&letter).len() as u64;
        self.index(id.clone(), Kept { rule: rule.clone(), ended: head.position, bytes });
        self.changed.insert(id, Some(Arc::new(letter)));
        // The newest stays, however large it is.
        while self.count(&rule) > MAX_OF_RULE || (self.bytes_of(&rule) > MAX_BYTES_OF_RULE && self.count(&rule) > 1) {
            let oldest = self.of_rule.get(&rule).and_then(BTreeSet::first).copied();
            oldest.and_then(|oldest| self.evict(&(oldest, rule.clone())));
        }
        while self.kept.len() > MAX_LETTERS || (self.bytes > MAX_BYTES && self.kept.len() > 1) {
            let oldest = self.order.keys().next().cloned();
            touched.extend(oldest.and_then(|oldest| self.evict(&oldest)));
        }
        touched
    }

    fn bytes_of(&self, rule: &RuleUid) -> u64 {
        let kept = |id: &FiringId| self.kept.get(id).map_or(0, |kept| kept.bytes);
        self.of_rule(rule).map(kept).sum()
    }

    /// Takes a letter out; gives its rule if there was one.
    pub(super) fn take(&mut self, id: &FiringId) -> Option<RuleUid> {
        let Kept { rule, ended, bytes } = self.kept.remove(id)?;
        self.bytes -= bytes;
        self.order.remove(&(ended, rule.clone()));
        if let Some(positions) = self.of_rule.get_mut(&rule) {
            positions.remove(&ended);
            if positions.is_empty() {
                self.of_rule.remove(&rule);
            }
        }
        self.changed.insert(id.clone(), None);
        Some(rule)
    }

    /// The rule is gone, and its letters with it.
    pub(super) fn forget(&mut self, rule: &RuleUid) {
        for position in self.of_rule.get(rule).cloned().unwrap_or_default() {
            if let Some(id) = self.order.get(&(position, rule.clone())).cloned() {
                self.take(&id);
            }
        }
    }

    /// The rows that changed since the last call, which is to be made when the rows of the last are written.
    pub(super) fn delta(&mut self, delta: &mut Delta) {
        self.written = std::mem::take(&mut self.changed);
        for (id, letter) in &self.written {
            let key = id.0.as_bytes().to_vec();
            let kept = letter.as_ref().and_then(|_| self.kept.get(id)).map(to_json);
            delta.push((Table::DeadLetterIndex, key.clone(), kept));
            delta.push((Table::DeadLetters, key, letter.as_deref().map(to_json)));
        }
    }

    /// Where the letter is, if it is kept.
    pub fn find(&self, id: &FiringId) -> Option<(&Kept, Place)> {
        let kept = self.kept.get(id)?;
        let here = self.changed.get(id).or_else(|| self.written.get(id)).cloned().flatten();
        Some((kept, here.map_or(Place::InView, Place::Here)))
    }

    /// Letters of a rule, newest first, of firings that ended before `before`; and where the next page begins.
    pub fn page(
        &self,
        rule: &RuleUid,
        before: Option<Position>,
        limit: usize,
    ) -> (Vec<(FiringId, Place)>, Option<Position>) {
        let positions = self.of_rule.get(rule).into_iter().flatten().rev();
        let mut older = positions.copied().filter(|position| before.is_none_or(|before| *position < before)).peekable();
        let (mut page, mut last) = (Vec::new(), None);
        while page.len() < limit
            && let Some(position) = older.next()
        {
            let id = self.order.get(&(position, rule.clone())).cloned();
            page.extend(id.and_then(|id| self.find(&id).map(|(_, place)| (id.clone(), place))));
            last = Some(position);
        }
        (page, last.filter(|_| older.peek().is_some()))
    }

    /// The letters of a rule, newest first.
    pub fn of_rule(&self, rule: &RuleUid) -> impl Iterator<Item = &FiringId> {
        let positions = self.of_rule.get(rule).into_iter().flat_map(|positions| positions.iter().rev());
        positions.filter_map(move |position| self.order.get(&(*position, rule.clone())))
    }

    /// How many of a rule are kept.
    pub fn count(&self, rule: &RuleUid) -> usize {
        self.of_rule.get(rule).map_or(0, BTreeSet::len)
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many had to go for newer ones since the last call.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    fn index(&mut self, id: FiringId, kept: Kept) {
        self.order.insert((kept.ended, kept.rule.clone()), id.clone());
        self.of_rule.entry(kept.rule.clone()).or_default().insert(kept.ended);
        self.bytes += kept.bytes;
        let before = self.kept.insert(id, kept);
        self.bytes -= before.map_or(0, |before| before.bytes);
    }

    fn evict(&mut self, oldest: &(Position, RuleUid)) -> Option<RuleUid> {
        let id = self.order.get(oldest).cloned()?;
        self.evicted += 1;
        self.take(&id)
    }
}

fn common() -> u64 {
    COMMON
}

/// Whether a firing that ended so is kept: what was only observed has nothing to be run again, and what ends incidents is of a rule that is not as it was.
/// What is to be given back is never only observed.
pub(super) fn is_kept(open: &OpenFiring, outcome: FiringOutcome) -> bool {
    let acts = open.spec.mode != RuleMode::Observe || open.firing.restores.is_some();
    outcome == FiringOutcome::Failed && acts && !open.firing.closes
}

#[cfg(test)]
mod tests;
