//! Instants of a timetable, as events.
//!
//! `data`: `rule.namespace`, `rule.name`, `source`, `cron`, `timeZone`, `scheduledTime` (RFC 3339), and `missed`: whether it was caught up later.
//! A schedule is remembered as if it were a watched object whose version is the last instant that was dealt with.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{Event, Origin, Seen, TYPE_SCHEDULE, WatchKey};
use crate::api::ScheduleSource;

/// API version of the watches under which schedules are remembered.
pub const API_VERSION: &str = "signalbox.dev/v1alpha1";
/// Kind of the watches under which schedules are remembered. There is no such kind in any cluster.
pub const KIND: &str = "Schedule";
/// The zone of a schedule that names none.
pub const UTC: &str = "UTC";

/// One timetable of one rule's source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Schedule {
    /// `metadata.uid` of the rule.
    pub rule_uid: String,
    /// The rule's namespace.
    pub namespace: String,
    /// The rule's name.
    pub rule: String,
    /// `sources[].name`
    pub source: String,
    /// The timetable.
    pub cron: String,
    /// Its zone.
    pub time_zone: String,
}

impl Schedule {
    /// The timetable of a source.
    pub fn new(rule_uid: &str, namespace: &str, rule: &str, source: &str, spec: &ScheduleSource) -> Self {
        Self {
            rule_uid: rule_uid.to_owned(),
            namespace: namespace.to_owned(),
            rule: rule.to_owned(),
            source: source.to_owned(),
            cron: spec.cron.clone(),
            time_zone: spec.time_zone.clone().unwrap_or_else(|| UTC.to_owned()),
        }
    }

    /// Where the log remembers it.
    pub fn watch(&self) -> WatchKey {
        WatchKey { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), namespace: Some(self.namespace.clone()) }
    }

    /// What it is remembered by: another timetable is another one, and begins anew.
    pub fn uid(&self) -> String {
        format!("{}/{}/{}/{}", self.rule_uid, self.source, self.time_zone, self.cron)
    }

    /// The `source` of its events.
    pub fn event_source(&self) -> String {
        format!("/apis/{API_VERSION}/namespaces/{}/eventrules/{}#{}", self.namespace, self.rule, self.source)
    }

    /// That every instant up to this one was dealt with.
    pub fn reached(&self, instant: Timestamp) -> Origin {
        // Before 1970 there were none.
        let version = u64::try_from(instant.as_microsecond()).unwrap_or_default();
        let seen = Seen::new(version, 0, format!("{}/{}", self.namespace, self.rule));
        Origin::new(self.watch(), self.uid(), Some(seen))
    }

    /// The instant up to which the memory says that every one was dealt with.
    pub fn reached_by(seen: &Seen) -> Option<Timestamp> {
        Timestamp::from_microsecond(i64::try_from(seen.version).ok()?).ok()
    }

    /// That it is needed no more.
    pub fn gone(&self) -> Origin {
        Origin::new(self.watch(), self.uid(), None)
    }

    /// The event of a planned instant.
    pub fn event(&self, planned: Timestamp, missed: bool) -> Event {
        Event {
            subject: Some(format!("{}/EventRule/{}", self.namespace, self.rule)),
            time: Some(planned),
            ..Event::new(
                planned.to_string(),
                self.event_source(),
                TYPE_SCHEDULE,
                json!({
                    "rule": {"namespace": self.namespace, "name": self.rule},
                    "source": self.source,
                    "cron": self.cron,
                    "timeZone": self.time_zone,
                    "scheduledTime": planned.to_string(),
                    "missed": missed,
                }),
            )
        }
    }
}
