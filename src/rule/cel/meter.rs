//! What an evaluation may cost. Every node of an expression is a step each time it is evaluated, and so is every element or every 64 bytes that
//! a function or a comparison goes through. A used-up budget fails the evaluation.
//!
//! The count depends on the expression and its data only, never on time: a replay fails where the first run failed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    failure::Failure,
    pattern::{self, Pattern},
};

/// What the expressions of one rule may cost for one event, in steps. A step takes at most about 0.1 µs, so about 10 ms in all: an
/// event waits for the rules before it, so this is less than the 0.1 s that the API server allows a validation rule.
pub(super) const COST_LIMIT: u64 = 100_000;
/// Bytes of text that count as one step: comparing or copying them takes about as long.
const BYTES_PER_STEP: usize = 64;
/// What it costs to compile a pattern that is not a literal: at most about 1 ms, see [`pattern`].
const PATTERN: u64 = 5_000;
/// The longest pattern that may come out of data: as long as an expression, and with it a literal pattern, may be.
const MAX_SOURCE: usize = 4 << 10;
/// The longest text that a function may make.
pub(super) const MAX_TEXT: usize = 1 << 20;
/// The longest list that an expression may go through. Lists of Kubernetes objects are far shorter: an object has 1.5 MiB at most.
pub(super) const MAX_LIST: usize = 10_000;

/// What is left of [`COST_LIMIT`], and the patterns that were paid for.
#[derive(Debug)]
pub(super) struct Meter {
    left: AtomicU64,
    patterns: Mutex<BTreeMap<String, Arc<Pattern>>>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { left: AtomicU64::new(COST_LIMIT), patterns: Mutex::default() }
    }
}

impl Meter {
    /// Takes so many steps off the budget.
    pub(super) fn charge(&self, cost: u64) -> Result<(), Failure> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(cost), Ordering::Relaxed);
        if cost > left { Err(Failure::Cost(COST_LIMIT)) } else { Ok(()) }
    }

    /// Charges going through so many bytes.
    pub(super) fn bytes(&self, length: usize) -> Result<(), Failure> {
        if length < BYTES_PER_STEP { Ok(()) } else { self.charge((length / BYTES_PER_STEP) as u64) }
    }

    /// Charges making a text of so many bytes, if it may be made.
    pub(super) fn text(&self, length: usize) -> Result<(), Failure> {
        Self::text_fits(length)?;
        self.bytes(length)
    }

    /// Whether a text may have so many bytes.
    pub(super) fn text_fits(length: usize) -> Result<(), Failure> {
        if length > MAX_TEXT {
            return Err(Failure::new(format!("a text longer than {MAX_TEXT} bytes")));
        }
        Ok(())
    }

    /// Whether a list may have so many elements.
    pub(super) fn list(&self, length: usize) -> Result<(), Failure> {
        if length > MAX_LIST {
            return Err(Failure::new(format!(
                "a list of {length} elements is longer than expressions may use ({MAX_LIST})"
            )));
        }
        Ok(())
    }

    /// A pattern that came out of data: paid for once, whether or not another evaluation has compiled it.
    pub(super) fn pattern(&self, function: &str, source: &str) -> Result<Arc<Pattern>, Failure> {
        if source.len() > MAX_SOURCE {
            return Err(Failure::of(function, format!("a pattern longer than {MAX_SOURCE} bytes")));
        }
        self.bytes(source.len())?;
        if let Some(known) = self.patterns.lock().get(source) {
            return Ok(Arc::clone(known));
        }
        self.charge(PATTERN)?;
        let pattern = pattern::cached(source).map_err(|error| Failure::of(function, error))?;
        self.patterns.lock().insert(source.to_owned(), Arc::clone(&pattern));
        Ok(pattern)
    }

    /// Charges matching a text of so many bytes once. That takes time linear in the text, and at worst in the pattern's weight too.
    pub(super) fn matching(&self, pattern: &Pattern, length: usize) -> Result<(), Failure> {
        self.charge((length as u64 + 1).saturating_mul(pattern.weight) / BYTES_PER_STEP as u64)
    }
}
