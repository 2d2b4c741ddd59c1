//! Silences: what people write into annotations of a rule to quiet it for a time, and how status tells it.

use std::fmt;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the keys of the annotations begin with; the name of the silence comes after it.
pub const SILENCE: &str = "silence.signalbox.dev/";

/// Silences of one rule that are in force at the same time, at most.
pub const MAX_SILENCES: usize = 16;

/// Bytes of an annotation that tells of a silence: an expression of 4 KiB, and as much again.
const MAX_TEXT: usize = 8 << 10;

/// A time in which what a rule fires for is not acted upon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Silence {
    /// Its name: the annotation is `silence.signalbox.dev/<name>`.
    pub name: String,
    /// Who has written it, as the API server knows him; empty when it cannot be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// When it is over; nothing when it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Why, in the author's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// CEL expression that says what is silenced; without it the whole rule is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Why it is not in force, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What the annotation holds, as JSON. The policy of the chart looks at how it begins, so the author comes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Said {
    author: String,
    until: Timestamp,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
}

impl Silence {
    /// What the annotation of this name says. What cannot be read is a silence with a message.
    pub fn read(name: &str, text: &str) -> Self {
        let said = match text.len() {
            0..=MAX_TEXT => serde_json::from_str::<Said>(text).map_err(|error| error.to_string()),
            _ => Err(format!("it is longer than {MAX_TEXT} bytes")),
        };
        match said {
            Ok(Said { author, until, comment, expression }) => Self {
                name: name.to_owned(),
                author,
                until: Some(Time(until)),
                comment,
                expression: expression.filter(|text| !text.trim().is_empty()),
                message: None,
            },
            Err(why) => Self::bare(name).refused(format!(
                "cannot be read: {why}; kubectl signalbox silence writes it: {{\"author\":\"…\",\"until\":\"2026-11-02T07:20:00Z\"}}"
            )),
        }
    }

    fn bare(name: &str) -> Self {
        let (name, author, comment) = (name.to_owned(), String::new(), String::new());
        Self { name, author, until: None, comment, expression: None, message: None }
    }

    /// The same, not in force for this reason.
    #[must_use]
    pub fn refused(self, why: impl Into<String>) -> Self {
        Self { message: Some(why.into()), ..self }
    }

    /// Whether it may be in force at the instant.
    pub fn lasts(&self, now: Timestamp) -> bool {
        self.until.as_ref().is_some_and(|until| until.0 > now)
    }
}

/// As the annotation holds it.
impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { author, until, comment, expression, .. } = self.clone();
        let until = until.map_or(Timestamp::UNIX_EPOCH, |until| until.0);
        let said = serde_json::to_string(&Said { author, until, comment, expression }).map_err(|_| fmt::Error)?;
        f.write_str(&said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_author_comes_first() {
        let text = r#"{"author":"jane","until":"2026-11-02T07:20:00Z","comment":"moving","expression":"true"}"#;
        let silence = Silence::read("move", text);
        assert_eq!((silence.to_string().as_str(), &silence.message), (text, &None));
        let silence = Silence::read("move", r#"{"author":"jane","until":"2026-11-02T08:20:00+01:00"}"#);
        assert_eq!(silence.to_string(), r#"{"author":"jane","until":"2026-11-02T07:20:00Z"}"#);
        let at = |text: &str| text.parse::<Timestamp>().expect("an instant");
        assert_eq!(
            (silence.lasts(at("2026-11-02T07:19:59Z")), silence.lasts(at("2026-11-02T07:20:00Z"))),
            (true, false)
        );
    }

    #[test]
    fn what_cannot_be_read_says_why_and_lasts_never() {
        for (text, why) in [
            ("until tomorrow", "expected value"),
            (r#"{"author":"jane"}"#, "missing field `until`"),
            (r#"{"author":"jane","until":"tomorrow"}"#, "as year"),
            // The policy has looked at the first one.
            (r#"{"author":"jane","author":"kim","until":"2026-11-02T07:20:00Z"}"#, "duplicate field `author`"),
            (r#"{"author":"jane","until":"2026-11-02T07:20:00Z","matchers":[]}"#, "unknown field `matchers`"),
            (&"x".repeat(MAX_TEXT + 1), "longer than"),
        ] {
            let silence = Silence::read("a", text);
            let message = silence.message.clone().unwrap_or_default();
            assert!(message.contains(why), "{text}: {message}");
            assert!(!silence.lasts(Timestamp::UNIX_EPOCH));
        }
    }
}
