//! `activeWindows`: whether a rule may act at an instant, and when it may next.

use jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp, civil};

use super::{fault::Fault, timetable::zone};
use crate::api::{ActiveWindow, EventRuleSpec};

/// A window that is closed for so long is closed for ever: a weekday comes every 7 days, and its hour may be one that daylight saving skips.
const DAYS: i64 = 15;
/// Seconds of a day that is as long as most.
const DAY: i32 = 24 * 3600;

/// The windows of a rule; without any it may act at any time.
#[derive(Clone, Debug)]
pub(super) struct Windows(Vec<Window>);

#[derive(Clone, Debug)]
struct Window {
    /// By weekday, from Monday.
    days: [bool; 7],
    /// In seconds on the clock, the end not included.
    from: i32,
    to: i32,
    zone: TimeZone,
}

impl Windows {
    /// Compiles the windows of a rule; faults are added with their paths.
    pub(super) fn compile(spec: &EventRuleSpec, faults: &mut Vec<Fault>) -> Self {
        let windows = spec.active_windows.iter().enumerate();
        Self(windows.filter_map(|(index, window)| Window::compile(window, index, faults)).collect())
    }

    /// Whether the rule may act at the instant.
    pub(super) fn contain(&self, instant: Timestamp) -> bool {
        self.0.is_empty() || self.0.iter().any(|window| window.contains(instant))
    }

    /// The first instant after this one, at which the rule may not act, at which it may.
    pub(super) fn opening(&self, instant: Timestamp) -> Option<Timestamp> {
        self.0.iter().filter_map(|window| window.opening(instant)).min()
    }
}

impl Window {
    fn compile(window: &ActiveWindow, index: usize, faults: &mut Vec<Fault>) -> Option<Self> {
        let before = faults.len();
        let mut fault = |field: &str, message: String| {
            faults.push(Fault::new(format!("spec.activeWindows[{index}].{field}"), message));
        };
        let mut time = |field: &str, text: &Option<String>, default: i32| match text.as_deref().map(clock) {
            None => default,
            Some(Some(seconds)) => seconds,
            Some(None) => {
                fault(field, format!("{:?} is no time of day, such as \"08:00\"", text.as_deref().unwrap_or_default()));
                default
            }
        };
        let (from, to) = (time("from", &window.from, 0), time("to", &window.to, DAY));
        if from == to {
            fault("to", "must differ from from; leave both out for whole days".to_owned());
        } else if from == DAY {
            fault("from", "must be earlier than \"24:00\"; the next day begins at \"00:00\"".to_owned());
        }
        let zone =
            zone(window.time_zone.as_deref().unwrap_or("UTC")).map_err(|message| fault("timeZone", message)).ok();
        let mut days = [window.days.is_empty(); 7];
        window.days.iter().for_each(|day| days[*day as usize] = true);
        let zone = zone?;
        (faults.len() == before).then_some(Self { days, from, to, zone })
    }

    /// By the clock on the wall: an hour that comes twice is in it twice, and one that is skipped is not.
    fn contains(&self, instant: Timestamp) -> bool {
        let there = instant.to_zoned(self.zone.clone());
        let time = there.time();
        let seconds = i32::from(time.hour()) * 3600 + i32::from(time.minute()) * 60 + i32::from(time.second());
        let today = usize::from(there.weekday().to_monday_zero_offset().unsigned_abs()) % 7;
        let yesterday = (today + 6) % 7;
        if self.from < self.to {
            return self.days[today] && (self.from..self.to).contains(&seconds);
        }
        (self.days[today] && seconds >= self.from) || (self.days[yesterday] && seconds < self.to)
    }

    /// It opens when the clock shows `from`, or when the clock is put to a time within it.
    fn opening(&self, instant: Timestamp) -> Option<Timestamp> {
        let end = instant.checked_add(SignedDuration::from_hours(24 * DAYS)).ok()?;
        let today = instant.to_zoned(self.zone.clone()).date();
        let from = civil::Time::midnight().checked_add(SignedDuration::from_secs(self.from.into())).ok()?;
        let shows = (0..=DAYS).filter_map(|day| today.checked_add(SignedDuration::from_hours(24 * day)).ok());
        let shown = shows.flat_map(|date| {
            let at = self.zone.to_ambiguous_timestamp(date.to_datetime(from));
            [at.earlier().ok(), at.later().ok()].into_iter().flatten()
        });
        let put = self.zone.following(instant).map(|put| put.timestamp()).take_while(|put| *put <= end);
        shown.chain(put).filter(|at| *at > instant && self.contains(*at)).min()
    }
}

/// Seconds on the clock.
fn clock(text: &str) -> Option<i32> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i32>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    ((hour < 24 && minute < 60) || (hour, minute) == (24, 0)).then_some(hour * 3600 + minute * 60)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn windows(windows: Value) -> Windows {
        let mut faults = Vec::new();
        let spec = json!({"activeWindows": windows, "sources": [], "actions": []});
        let compiled = Windows::compile(&serde_json::from_value(spec).expect("a spec"), &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        compiled
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    #[track_caller]
    fn check(windows: &Windows, inside: &[&str], outside: &[(&str, &str)]) {
        for instant in inside {
            assert!(windows.contain(at(instant)), "{instant} is inside");
        }
        for (instant, opens) in outside {
            assert!(!windows.contain(at(instant)), "{instant} is outside");
            assert_eq!(windows.opening(at(instant)), Some(at(opens)), "after {instant}");
        }
    }

    #[test]
    fn working_hours_are_those_of_the_place() {
        let days = json!(["Mon", "Tue", "Wed", "Thu", "Fri"]);
        let berlin = windows(json!([{"days": days, "from": "08:00", "to": "18:00", "timeZone": "Europe/Berlin"}]));
        let inside = ["2026-07-01T06:00:00Z", "2026-07-01T15:59:59Z", "2026-12-01T07:00:00Z"];
        check(
            &berlin,
            &inside,
            &[
                ("2026-07-01T16:00:00Z", "2026-07-02T06:00:00Z"),
                ("2026-07-03T18:00:00Z", "2026-07-06T06:00:00Z"),
                // The clocks change in between.
                ("2026-10-23T20:00:00Z", "2026-10-26T07:00:00Z"),
                ("2026-12-01T06:59:59Z", "2026-12-01T07:00:00Z"),
            ],
        );
        assert!(windows(json!([])).contain(at("2026-07-01T16:00:00Z")));
    }

    #[test]
    fn a_window_over_midnight_is_of_the_day_on_which_it_begins() {
        let night = windows(json!([{"days": ["Fri"], "from": "22:00", "to": "06:00"}]));
        check(
            &night,
            &["2026-07-03T22:00:00Z", "2026-07-04T05:59:59Z"],
            &[
                ("2026-07-03T05:00:00Z", "2026-07-03T22:00:00Z"),
                ("2026-07-04T06:00:00Z", "2026-07-10T22:00:00Z"),
                ("2026-07-04T23:00:00Z", "2026-07-10T22:00:00Z"),
            ],
        );
        let evening = windows(json!([{"from": "18:00", "to": "24:00"}, {"days": ["Sun"]}]));
        check(
            &evening,
            &["2026-07-05T00:00:00Z", "2026-07-03T23:59:59Z"],
            &[("2026-07-04T00:00:00Z", "2026-07-04T18:00:00Z")],
        );
    }

    #[test]
    fn an_hour_that_comes_twice_is_in_it_twice_and_one_that_is_skipped_is_not() {
        let early = |from: &str, to: &str| windows(json!([{"from": from, "to": to, "timeZone": "Europe/Berlin"}]));
        // 29 March 2026: 01:59:59+01:00, then 03:00:00+02:00.
        check(&early("02:00", "02:30"), &[], &[("2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z")]);
        check(&early("02:30", "05:00"), &["2026-03-29T01:00:00Z"], &[("2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z")]);
        // 25 October 2026: 02:59:59+02:00, then 02:00:00+01:00.
        check(
            &early("02:15", "02:30"),
            &["2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z"],
            &[("2026-10-25T00:00:00Z", "2026-10-25T00:15:00Z"), ("2026-10-25T00:30:00Z", "2026-10-25T01:15:00Z")],
        );
        check(&early("01:30", "02:15"), &["2026-10-25T01:00:00Z"], &[("2026-10-25T00:15:00Z", "2026-10-25T01:00:00Z")]);
    }

    #[test]
    fn what_is_no_window_is_a_fault() {
        let faults = |window: Value| {
            let mut faults = Vec::new();
            let spec = json!({"activeWindows": [window], "sources": [], "actions": []});
            Windows::compile(&serde_json::from_value(spec).expect("a spec"), &mut faults);
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert!(
            faults(json!({"from": "8:00"})).contains("activeWindows[0].from"),
            "{}",
            faults(json!({"from": "8:00"}))
        );
        assert!(faults(json!({"to": "24:01"})).contains("is no time of day, such as \"08:00\""));
        assert!(faults(json!({"from": "08:00", "to": "08:00"})).contains("leave both out for whole days"));
        assert!(faults(json!({"from": "24:00", "to": "08:00"})).contains("must be earlier"));
        assert!(faults(json!({"timeZone": "Europe/Atlantis"})).contains("no time zone"));
    }
}
