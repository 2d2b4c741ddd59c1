//! Regular expressions, compiled once and bounded: matching takes time linear in the text.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind};

/// Memory that a literal pattern may take when compiled: `x{1000}{1000}` does not.
const MAX_LITERAL_BYTES: usize = 1 << 20;
/// Memory that a pattern out of data may take: compiling it takes at most about 1 ms, while events wait.
const MAX_BYTES: usize = 256 << 10;
/// How many patterns that are not literals are kept compiled: 256 × 256 KiB at worst, about 10 KiB each in practice.
const CACHED_PATTERNS: usize = 256;

/// A compiled pattern.
pub(super) struct Pattern {
    pub(super) source: Arc<str>,
    pub(super) regex: Regex,
    /// Steps that 64 bytes of text cost at worst.
    pub(super) weight: u64,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pattern")
    }
}

/// Compiles a pattern that stands in an expression.
pub(super) fn literal(source: &str) -> Result<Pattern, String> {
    compile(source, MAX_LITERAL_BYTES)
}

fn compile(source: &str, max: usize) -> Result<Pattern, String> {
    let regex = RegexBuilder::new(source).size_limit(max).dfa_size_limit(max).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("the pattern takes more than {max} bytes when compiled"),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("not a regular expression: {}", last.trim_start_matches("error: "))
        }
    })?;
    Ok(Pattern { source: source.into(), regex, weight: weight(source)? })
}

/// What is written counts once for 16 bytes; what counted repetition adds to it, in full: `(a|b)*a(a|b){1000}` has a thousand places that
/// may each be active for each byte of a text.
fn weight(source: &str) -> Result<u64, String> {
    let hir = regex_syntax::parse(source).map_err(|error| format!("not a regular expression: {error}"))?;
    let added = places(&hir, true).saturating_sub(places(&hir, false));
    Ok((1 + source.len() as u64 / 16).saturating_add(added))
}

/// The places of a pattern, those that are repeated a number of times counted as often if wanted.
fn places(hir: &Hir, repeated: bool) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => 1,
        HirKind::Literal(text) => text.0.len() as u64,
        HirKind::Repetition(one) => {
            let times = if repeated { one.max.unwrap_or(one.min).max(1) } else { 1 };
            places(&one.sub, repeated).saturating_mul(times.into())
        }
        HirKind::Capture(one) => places(&one.sub, repeated),
        HirKind::Concat(all) | HirKind::Alternation(all) => {
            all.iter().fold(0, |sum: u64, one| sum.saturating_add(places(one, repeated)))
        }
    }
}

/// A pattern, or why it is none.
type Known = Result<Arc<Pattern>, String>;

/// Patterns that came out of data, the least recently used dropped first.
#[derive(Default)]
struct Cache {
    patterns: HashMap<Arc<str>, (u64, Known)>,
    uses: u64,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

impl Cache {
    /// The pattern, used once more.
    fn get(&mut self, source: &str) -> Option<Known> {
        self.uses += 1;
        let (used, known) = self.patterns.get_mut(source)?;
        *used = self.uses;
        Some(known.clone())
    }

    fn add(&mut self, source: &str, known: Known) {
        if self.patterns.len() >= CACHED_PATTERNS {
            let oldest = self.patterns.iter().min_by_key(|(_, (used, _))| *used).map(|(source, _)| Arc::clone(source));
            oldest.map(|source| self.patterns.remove(&source));
        }
        self.patterns.insert(source.into(), (self.uses, known));
    }
}

/// A pattern that came out of data.
pub(super) fn cached(source: &str) -> Known {
    if let Some(known) = CACHE.lock().get(source) {
        return known;
    }
    // Not under the lock: other events need not wait for it.
    let known = compile(source, MAX_BYTES).map(Arc::new);
    CACHE.lock().add(source, known.clone());
    known
}
