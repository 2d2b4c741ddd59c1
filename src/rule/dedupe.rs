//! `dedupe`: which event is the same as one that was let through before, and what is kept of a group for that.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    cel::{Program, Scope},
    compile::Compiler,
    fault::EvalError,
    groups::{MAX_TIMES, micros},
};
use crate::api::{DEFAULT_MAX_GROUPS, EventRuleSpec, GroupLimits, Normalizer};

/// Keys that are known of one group, at the most: 16 KiB.
const MAX_KEYS: u64 = 1000;

/// `dedupe`, compiled.
#[derive(Debug)]
pub(super) struct Dedupe {
    expression: Program,
    normalizers: Vec<Normalizer>,
    /// In microseconds.
    within: i64,
    /// Keys that are known of a group.
    most: usize,
}

impl Dedupe {
    /// Compiles the rule's `dedupe`; faults are added with their paths.
    pub(super) fn compile(spec: &EventRuleSpec, compiler: &mut Compiler) -> Option<Self> {
        let dedupe = spec.dedupe.as_ref()?;
        if dedupe.within.get().is_zero() {
            compiler.fault("spec.dedupe.within", "must be longer than 0s");
        }
        let takes = |trigger: &crate::api::Trigger| {
            trigger.count.is_some() || trigger.sequence.is_some() || trigger.all.is_some() || trigger.batch.is_some()
        };
        if spec.trigger.as_ref().is_some_and(|trigger| !takes(trigger)) {
            let message = "goes with count, sequence, all, batch or no trigger: the others look at how things are, and the same again tells that too; \
                           set repeat or throttle.cooldown instead";
            compiler.fault("spec.dedupe", message);
        }
        let expression = compiler.program(&dedupe.key_expression, "spec.dedupe.keyExpression")?;
        if let Some(other @ ("null" | "a list" | "a map")) = expression.surely_not_bool() {
            let message = format!("gives {other}, not a text, a number, or true or false");
            compiler.fault("spec.dedupe.keyExpression", message);
        }
        let mut normalizers = dedupe.normalize.clone();
        // A hash has numbers in it, and so has a duration.
        normalizers.sort_by_key(|one| match one {
            Normalizer::Hashes => 0,
            Normalizer::Durations => 1,
            Normalizer::Numbers => 2,
        });
        let groups = spec.groups.as_ref().map_or(DEFAULT_MAX_GROUPS, GroupLimits::max).max(1);
        let most = (MAX_TIMES / u64::from(groups)).clamp(1, MAX_KEYS);
        Some(Self {
            expression,
            normalizers,
            within: micros(dedupe.within.get()),
            most: usize::try_from(most).unwrap_or(1),
        })
    }

    /// The key of what the scope sees.
    ///
    /// # Errors
    /// When the expression cannot be evaluated, or gives nothing that tells keys apart.
    pub(super) fn key(&self, scope: &Scope<'_>) -> Result<u64, EvalError> {
        let place = |error: EvalError| error.at("dedupe.keyExpression");
        let text = match self.expression.evaluate(scope).map_err(place)? {
            Value::String(text) => text,
            value @ (Value::Bool(_) | Value::Number(_)) => value.to_string(),
            other => {
                let what = match other {
                    Value::Null => "null",
                    Value::Array(_) => "a list",
                    _ => "a map",
                };
                let message = format!("gives {what}, not a text, a number, or true or false");
                return Err(place(EvalError::new(message)));
            }
        };
        Ok(hash(&self.normalizers.iter().fold(text, |text, one| normalized(*one, &text))))
    }
}

/// 64 bits of the text: in a group of a thousand keys two are taken for one with a probability of 1 in 10^13.
fn hash(text: &str) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text.as_bytes());
    digest[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

static UUID: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\b"));
/// What Kubernetes makes names unique with has neither vowels nor digits that look like one: see `SafeEncodeString` in k8s.io/apimachinery.
static POD: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:-[bcdfghjklmnpqrstvwxz2456789]{8,10})?-[bcdfghjklmnpqrstvwxz2456789]{5}\b"));
static HEX: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:0x)?[0-9A-Fa-f]{7,}\b"));
static DURATION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(?:(?:\d+(?:\.\d+)?(?:ns|us|µs|μs|ms|s|m|h|d))+|\d+(?:\.\d+)? ?(?:milliseconds?|seconds?|minutes?|hours?|days?|msecs?|secs?|mins?|hrs?))\b",
    )
});
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\d+(?:[.,]\d+)*"));

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

fn normalized(normalizer: Normalizer, text: &str) -> String {
    match normalizer {
        Normalizer::Hashes => {
            let text = UUID.replace_all(text, "<hash>");
            let text = POD.replace_all(&text, "-<hash>");
            let has_digit = |found: &str| found.bytes().any(|byte| byte.is_ascii_digit());
            // A word may be made of the letters a to f only.
            let hex =
                |found: &Captures<'_>| if has_digit(&found[0]) { "<hash>".to_owned() } else { found[0].to_owned() };
            HEX.replace_all(&text, hex).into_owned()
        }
        Normalizer::Durations => DURATION.replace_all(text, "<duration>").into_owned(),
        Normalizer::Numbers => NUMBER.replace_all(text, "<number>").into_owned(),
    }
}

/// The keys that a group has let through, oldest first, each with when it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Keys(Vec<(u64, i64)>);

impl Keys {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the key is known at `now`.
    pub(super) fn knows(&self, key: u64, dedupe: &Dedupe, now: i64) -> bool {
        self.0.iter().any(|(known, at)| *known == key && at.saturating_add(dedupe.within) > now)
    }

    /// Notes a key that is let through. The oldest goes when there are too many.
    pub(super) fn note(&mut self, key: u64, dedupe: &Dedupe, now: i64) {
        self.0.retain(|(known, at)| *known != key && at.saturating_add(dedupe.within) > now);
        self.0.push((key, now));
        let too_many = self.0.len().saturating_sub(dedupe.most);
        self.0.drain(..too_many);
    }

    /// When none of them is known any more.
    pub(super) fn end(&self, dedupe: &Dedupe) -> i64 {
        self.0.last().map_or(0, |(_, last)| last.saturating_add(dedupe.within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_normalizer_names_tells_no_texts_apart_and_all_else_does() {
        use Normalizer::{Durations, Hashes, Numbers};
        for (normalizer, text, expected) in [
            (Numbers, "10.0.0.7:8080 refused web-3", "<number>:<number> refused web-<number>"),
            (Numbers, "no room", "no room"),
            (Hashes, "pod web-6d4b75cb6d-x7k2p of web", "pod web-<hash> of web"),
            (Hashes, "logs-zz4qk", "logs-<hash>"),
            (Hashes, "web-front of web-0", "web-front of web-0"),
            (Hashes, "uid 0b9d2d3c-1c0d-4f6e-9f3a-6b2e0c5d7a11", "uid <hash>"),
            (Hashes, "image@sha256:9f86d081884c7d65 is effaced", "image@sha256:<hash> is effaced"),
            (Durations, "back-off 1m30s after 5 minutes, 250ms", "back-off <duration> after <duration>, <duration>"),
            (Durations, "5 pods of web-3", "5 pods of web-3"),
        ] {
            assert_eq!(normalized(normalizer, text), expected, "{normalizer:?}");
        }
    }
}
