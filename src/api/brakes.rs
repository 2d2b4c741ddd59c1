//! What keeps a rule from acting though its trigger says so: `dedupe`, `activeWindows`, `breaker`; and how status tells it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, schema};

/// The same again: a matching event whose key the rule has let through for the group within a time does not fire. Without a trigger the key of an event
/// that fired is known; with `count`, `sequence`, `all` or `batch` that of an event that was taken, and the same again is not taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dedupe {
    /// CEL expression that gives what is the same: a text, a number, or true or false. It sees what conditions see. A group's last keys are known,
    /// 1000000 divided by `groups.max` of them and at most 1000: 100, unless `groups.max` says otherwise.
    #[schemars(schema_with = "schema::expression")]
    pub key_expression: String,
    /// What does not tell keys apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub normalize: Vec<Normalizer>,
    /// For how long. It counts from the event that was let through: what goes on without a break is let through each time it has passed.
    pub within: Duration,
}

/// Parts of a text that are taken to be all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Normalizer {
    /// Numbers, also within words: `10.0.0.7:8080`, `web-3`.
    Numbers,
    /// UUIDs, 7 or more hexadecimal digits with a decimal one among them, and the ends of pods' names: `web-6d4b75cb6d-x7k2p`.
    Hashes,
    /// Durations: `1m30s`, `250ms`, `5 minutes`.
    Durations,
}

/// A time of the week at which a rule may act, by the clock at a place. `from` later than `to` goes over midnight, and is of the day on which it begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveWindow {
    /// The days; default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Weekday>,
    /// When it begins, as `08:00`; default: `00:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5))]
    pub from: Option<String>,
    /// When it ends, as `18:00`; default: `24:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5))]
    pub to: Option<String>,
    /// The place, as a name of the IANA database; default: `UTC`. Daylight saving is followed: an hour that comes twice is in it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// The last matching event that did not fire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSuppressed {
    /// When.
    pub time: Time,
    /// Its group.
    pub group: String,
    /// Why, by the name under which `counts.suppressed` counts it.
    pub reason: String,
    /// Until when the same would be said of the next one, where the time alone tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// When the rule stops acting because what it does fails. While it is tripped the rule goes on as with `mode: Observe`: a firing that has not begun is a dry
/// run, and counted as observed. A dead letter that is run again is carried out all the same, and so is what `restore` gives back, which tells the breaker
/// nothing. A change of the spec resumes at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// How many firings have to fail one after the other, of all groups. What was observed only does not count.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// After so long the next firing is carried out as a trial, and others are observed until it has ended: if it succeeds, the rule acts again, if it
    /// fails, it waits for so long again. Default: `10m`; at least `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_after: Option<Duration>,
}

impl Breaker {
    /// `resumeAfter`, or its default.
    pub fn resume_after(&self) -> Duration {
        self.resume_after.unwrap_or(Duration::from_secs(600))
    }
}
