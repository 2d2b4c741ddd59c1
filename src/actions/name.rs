//! Names of what is created, and label values.
//!
//! A Job's name is copied into a label of its pods, so 63 characters are the limit, although names of objects may have 253.

use sha2::{Digest, Sha256};

use crate::record::RuleRef;

/// What names and label values may have.
const MOST: usize = 63;
/// Digits of the hash: 64 bits, so among a million Jobs of one name the chance that two are equal is 3 in 100 million.
const HASH: usize = 16;
/// Room for a suffix such as `-5`.
const SUFFIX: usize = 2;
/// What is left of the rule's name: 63 - 16 - 1 - 2 = 44.
const PREFIX: usize = MOST - HASH - 1 - SUFFIX;

/// The name of the Job that the step with this key creates: the rule's name, as far as it can be in a name, and a hash of rule and step.
pub(super) fn job_name(rule: &RuleRef, key: &str) -> String {
    let prefix = sanitized(&rule.name, PREFIX);
    let prefix = if prefix.is_empty() { "rule" } else { &prefix };
    format!("{prefix}-{}", hash(&[&rule.uid.0, key]))
}

/// The name of the object that the step with this key creates, where its end is left to us: `metadata.generateName`.
pub(super) fn generated(prefix: &str, rule: &RuleRef, key: &str) -> String {
    // The prefix brings a dash of its own.
    let most = prefix.floor_char_boundary(PREFIX + 1);
    format!("{}{}", &prefix[..most], hash(&[&rule.uid.0, key]))
}

/// The name that is tried when `name` is somebody else's.
pub(super) fn with_suffix(name: &str, suffix: u32) -> String {
    if suffix <= 1 { name.to_owned() } else { format!("{name}-{suffix}") }
}

/// A label value that stands for a name: the name itself where it can be one, else its beginning and a hash.
pub(super) fn label_value(name: &str) -> String {
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let inner = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    if inner && bytes.len() <= MOST && outer(bytes.first()) && outer(bytes.last()) {
        return name.to_owned();
    }
    let prefix = sanitized(name, MOST - HASH - 1);
    let prefix = if prefix.is_empty() { "rule" } else { &prefix };
    format!("{prefix}-{}", hash(&[name]))
}

/// Lower-case letters, digits and dashes; begins and ends with a letter or digit.
fn sanitized(name: &str, most: usize) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
        _ => '-',
    };
    let text: String = name.chars().map(plain).collect();
    let text = text.trim_start_matches('-');
    text[..text.len().min(most)].trim_end_matches('-').to_owned()
}

fn hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    // Lengths first, so that no two lists of parts run together to the same bytes.
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..HASH / 2].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{event::is_label, record::RuleUid};

    fn rule(name: &str) -> RuleRef {
        RuleRef { uid: RuleUid(format!("uid of {name}").into()), namespace: "shop".into(), name: name.into() }
    }

    /// Pairs of rule and what it fired for, of case 22.
    const PAIRS: [(&str, &str); 8] = [
        (
            "drain-and-verify-then-notify-the-on-call-group-of-the-payment-platform",
            "ip-10-96-5-57.eu-central-1.compute.internal",
        ),
        ("r", "Pod.With.Dots.and-a-very-very-very-very-very-long-name-0123456789abc"),
        ("r", "a-name-that-is-exactly-cut-after-a-dash-when-truncated-at-52-x--y"),
        ("r", "1234567890"),
        ("r", "überwachung_übung"),
        ("r", ""),
        ("r", "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff-blue"),
        ("r", "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff-green"),
    ];

    #[test]
    fn names_are_valid_stay_apart_and_are_always_the_same() {
        let names: BTreeSet<String> = PAIRS.iter().map(|(name, key)| job_name(&rule(name), key)).collect();
        assert_eq!(names.len(), PAIRS.len());
        for name in &names {
            assert!(is_label(&with_suffix(name, 5)), "{name}");
        }
        let again: BTreeSet<String> = PAIRS.iter().map(|(name, key)| job_name(&rule(name), key)).collect();
        assert_eq!(names, again);
    }

    #[test]
    fn rules_of_one_name_in_two_lives_make_different_names() {
        let reborn = RuleRef { uid: RuleUid("another".into()), ..rule("r") };
        assert_ne!(job_name(&rule("r"), "k"), job_name(&reborn, "k"));
    }

    #[test]
    fn a_generated_name_is_a_label_and_the_same_for_every_repetition() {
        let name = generated("build-", &rule("r"), "k");
        assert_eq!((name.len(), name.clone()), (22, generated("build-", &rule("r"), "k")));
        assert!(name.starts_with("build-") && name != generated("build-", &rule("r"), "other"), "{name}");
        assert!(is_label(&with_suffix(&generated(&"a".repeat(200), &rule("r"), "k"), 5)));
    }

    #[test]
    fn a_name_that_can_be_a_label_value_is_one() {
        assert_eq!(label_value("web-crashloop.v2"), "web-crashloop.v2");
        let long = label_value(&"a".repeat(200));
        assert_eq!(long.len(), MOST);
        assert_ne!(long, label_value(&"a".repeat(201)));
    }

    proptest! {
        #[test]
        fn every_rule_name_makes_a_valid_job_name(name in ".{0,80}", key in ".{0,40}") {
            prop_assert!(is_label(&job_name(&rule(&name), &key)));
            prop_assert!(label_value(&name).len() <= MOST);
        }
    }
}
