//! Durations as Kubernetes users write them: Go syntax, `90s`, `1h30m`, `168h`.

use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A non-negative span of time in Go syntax: a sequence of numbers with the units `h`, `m`, `s`, `ms`, `us`, `ns`.
///
/// There is no unit for days, as in Go: a day is not always 24 hours. At most 100,000 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(time::Duration);

/// Why a text is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// A number without a unit, or the other way round.
    #[error("{0:?} is not a duration: write numbers with units, such as \"90s\" or \"1h30m\"")]
    Syntax(String),
    /// A unit that Go does not have either.
    #[error("{text:?} has the unknown unit {unit:?}: use h, m, s, ms, us or ns{hint}")]
    Unit {
        /// What was written.
        text: String,
        /// The unit in it that is not known.
        unit: String,
        /// For days and weeks, the same span in hours.
        hint: String,
    },
    /// More than 100,000 hours.
    #[error("{0:?} is longer than 100000h")]
    TooLong(String),
}

const MAX: time::Duration = time::Duration::from_secs(100_000 * 3600);

impl Duration {
    /// The duration of so many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || ParseDurationError::Syntax(text.to_owned());
        if text == "0" {
            return Ok(Self(time::Duration::ZERO));
        }
        if text.is_empty() || text.len() > 64 {
            return Err(syntax());
        }
        let mut nanos = 0f64;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(syntax)?;
            let number: f64 = rest[..digits].parse().map_err(|_| syntax())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit = &rest[..letters];
            let scale = match unit {
                "h" => 3.6e12,
                "m" => 6e10,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" | "μs" => 1e3,
                "ns" => 1.0,
                other => return Err(unknown_unit(text, number, other)),
            };
            nanos += number * scale;
            rest = &rest[letters..];
        }
        if nanos > MAX.as_nanos() as f64 {
            return Err(ParseDurationError::TooLong(text.to_owned()));
        }
        Ok(Self(time::Duration::from_nanos(nanos.round() as u64)))
    }
}

fn unknown_unit(text: &str, number: f64, unit: &str) -> ParseDurationError {
    let hours = match unit {
        "d" => Some(number * 24.0),
        "w" => Some(number * 168.0),
        _ => None,
    };
    ParseDurationError::Unit {
        text: text.to_owned(),
        unit: unit.to_owned(),
        hint: hours.map(|h| format!("; write {text:?} as \"{h}h\"")).unwrap_or_default(),
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let (mut seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        for (unit, size) in [("h", 3600), ("m", 60)] {
            if seconds >= size {
                write!(f, "{}{unit}", seconds / size)?;
                seconds %= size;
            }
        }
        match (seconds, fraction) {
            (0, 0) => Ok(()),
            (s, 0) => write!(f, "{s}s"),
            (0, n) if n % 1_000_000 == 0 => write!(f, "{}ms", n / 1_000_000),
            (0, n) if n % 1_000 == 0 => write!(f, "{}us", n / 1_000),
            (0, n) => write!(f, "{n}ns"),
            (s, n) => write!(f, "{s}.{}s", format!("{n:09}").trim_end_matches('0')),
        }
    }
}

impl TryFrom<String> for Duration {
    type Error = ParseDurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // No pattern: a message of the operator that says what to write instead of `7d` beats a regular expression.
        json_schema!({"type": "string", "minLength": 1, "maxLength": 64})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_syntax_is_read() {
        let read = |text: &str| text.parse::<Duration>().map(|d| d.get().as_millis());
        assert_eq!(read("90s"), Ok(90_000));
        assert_eq!(read("1h30m"), Ok(5_400_000));
        assert_eq!(read("1.5s"), Ok(1_500));
        assert_eq!(read("250ms"), Ok(250));
        assert_eq!(read("0"), Ok(0));
    }

    #[test]
    fn days_are_refused_with_the_hours_to_write_instead() {
        let error = "7d".parse::<Duration>().expect_err("Go has no days");
        assert!(error.to_string().contains("\"168h\""), "{error}");
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "5", "s", "-3s", "1h30", "1..5s", "99999999h", " 3s", "3 s"] {
            assert!(text.parse::<Duration>().is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in 0u64..400_000_000_000_000_000u64) {
            // Beyond 2^53 ns a 64-bit float has no room for single nanoseconds: whole microseconds are enough there.
            let nanos = if nanos > 1 << 53 { nanos / 1_000_000_000 * 1_000_000_000 } else { nanos };
            let one = Duration(time::Duration::from_nanos(nanos.min(MAX.as_nanos() as u64)));
            let read: Duration = one.to_string().parse().expect("own output");
            let difference = read.get().abs_diff(one.get());
            prop_assert!(difference < time::Duration::from_micros(1), "{one:?} became {read:?}");
        }
    }
}
