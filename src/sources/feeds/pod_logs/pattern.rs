//! The pattern of a source, and the event that a matching line is.

use k8s_openapi::jiff::Timestamp;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// Memory that a pattern may take when compiled, and as much again while it runs: `x{1000}{1000}` does not.
const MAX_BYTES: usize = 1 << 20;
/// Characters of a name that an expression can select.
const IDENTIFIER: fn(&str) -> bool = |name| {
    let mut characters = name.bytes();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && characters.all(|one| one.is_ascii_alphanumeric() || one == b'_')
};

/// A compiled pattern.
pub(super) struct Pattern(Regex);

/// A container of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writer<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) uid: &'a str,
    pub(super) container: &'a str,
}

impl Pattern {
    /// # Errors
    /// Says why it is none.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("must not be empty: it would take every line".to_owned());
        }
        let regex = RegexBuilder::new(pattern).size_limit(MAX_BYTES).dfa_size_limit(MAX_BYTES).build();
        let regex = regex.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("takes more than {MAX_BYTES} bytes when compiled"),
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                format!("is no regular expression: {}", last.trim_start_matches("error: "))
            }
        })?;
        match regex.capture_names().flatten().find(|name| !IDENTIFIER(name)) {
            Some(name) => Err(format!("the name {name} of a group must be of letters, digits and _")),
            None => Ok(Self(regex)),
        }
    }

    /// Whether a part of the line matches. Nothing is made of a line before.
    pub(super) fn matches(&self, line: &str) -> bool {
        self.0.is_match(line)
    }

    /// `event.data` of a line that matches.
    pub(super) fn data(&self, writer: &Writer<'_>, line: &str, truncated: bool) -> Value {
        let mut groups = Map::new();
        if let Some(captures) = self.0.captures(line) {
            let named = self.0.capture_names().flatten();
            groups.extend(named.filter_map(|name| Some((name.to_owned(), captures.name(name)?.as_str().into()))));
        }
        let Writer { namespace, pod, uid, container } = writer;
        let mut data = json!({
            "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod, "uid": uid},
            "container": container,
            "line": line,
            "match": groups,
        });
        if truncated {
            data["truncated"] = true.into();
        }
        data
    }
}

/// What lines of one time are told from each other by.
pub(super) fn hash(line: &str) -> u64 {
    let digest = Sha256::digest(line);
    u64::from_be_bytes(std::array::from_fn(|at| digest[at]))
}

/// What a line is told by when it is read again. Neither the Pod's uid nor how often the container has restarted is part of it: the log API names neither, so
/// that a line that is read at the moment of a change would have two ids.
pub(super) fn id(writer: &Writer<'_>, at: Timestamp, hash: u64, nth: u32) -> String {
    let Writer { pod, container, .. } = writer;
    format!("{pod}/{container}/{at}/{hash:016x}/{nth}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Writer<'_> = Writer { namespace: "shop", pod: "web-1", uid: "u-1", container: "app" };

    #[test]
    fn what_is_no_pattern_is_refused_with_a_reason() {
        let why = |pattern: &str| Pattern::new(pattern).map(|_| ()).expect_err("no pattern");
        for (pattern, words) in [
            ("", "must not be empty"),
            ("(", "unclosed group"),
            (r"(?=a)b", "look-around"),
            (r"(a)\1", "backreferences are not supported"),
            (r"(\w{1000}){1000}", "when compiled"),
            ("(?P<a.b>x)", "letters, digits and _"),
        ] {
            assert!(why(pattern).contains(words), "{pattern}: {}", why(pattern));
        }
        assert!(Pattern::new(r"^(?P<a>x)|(?<b_1>y)$").is_ok());
    }

    #[test]
    fn named_groups_are_data_and_one_that_took_no_part_is_absent() {
        let pattern = Pattern::new(r"order (?P<order>\d+)(?: took (?P<took>\S+))? (failed)$").expect("a pattern");
        assert!(pattern.matches("07:00 order 41 failed") && !pattern.matches("order 41 failed again"));
        let data = pattern.data(&WEB, "order 41 failed", false);
        let regarding = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "u-1"});
        let expected =
            json!({"regarding": regarding, "container": "app", "line": "order 41 failed", "match": {"order": "41"}});
        assert_eq!(data, expected);
        let data = pattern.data(&WEB, "order 4 took 9\u{fffd} failed", true);
        assert_eq!((&data["match"]["took"], &data["truncated"]), (&json!("9\u{fffd}"), &json!(true)));
    }

    #[test]
    fn a_line_is_told_by_when_it_was_written_and_what_it_says() {
        let at: Timestamp = "2026-11-30T10:00:01.5+02:00".parse().expect("a time");
        let one = id(&WEB, at, hash("a"), 1);
        assert_eq!(one, "web-1/app/2026-11-30T08:00:01.5Z/ca978112ca1bbdca/1");
        assert_ne!(id(&WEB, at, hash("b"), 1), one);
        assert_ne!(id(&WEB, at, hash("a"), 2), one);
    }
}
