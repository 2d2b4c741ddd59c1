//! Regular expressions, compiled once and bounded: matching takes time linear in the text.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};

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
    Ok(Pattern { source: source.into(), regex })
}

/// Patterns that came out of data, the least recently used dropped first.
#[derive(Default)]
struct Cache {
    patterns: HashMap<Arc<str>, (u64, Arc<Pattern>)>,
    uses: u64,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// A pattern that came out of data.
pub(super) fn cached(source: &str) -> Result<Arc<Pattern>, String> {
    let mut cache = CACHE.lock();
    cache.uses += 1;
    let now = cache.uses;
    if let Some((used, pattern)) = cache.patterns.get_mut(source) {
        *used = now;
        return Ok(Arc::clone(pattern));
    }
    let pattern = Arc::new(compile(source, MAX_BYTES)?);
    if cache.patterns.len() >= CACHED_PATTERNS {
        let oldest = cache.patterns.iter().min_by_key(|(_, (used, _))| *used).map(|(source, _)| Arc::clone(source));
        oldest.map(|source| cache.patterns.remove(&source));
    }
    cache.patterns.insert(Arc::clone(&pattern.source), (now, Arc::clone(&pattern)));
    Ok(pattern)
}
