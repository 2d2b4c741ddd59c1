//! Timetables: cron in a time zone, as CronJob means it.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::{
    api::{EventRuleSpec, Missed},
    event::schedule::Schedule,
    record::RuleRef,
};

/// An instant that is dealt with so late was missed: a restart of the operator within it is none's loss.
const LATE: SignedDuration = SignedDuration::from_secs(10);
/// A timetable that has no instant for so long never has one: leap days come every 8 years at the least.
const NEVER: SignedDuration = SignedDuration::from_hours(24 * 366 * 9);

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A timetable that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Timetable {
    cron: Cron,
    zone: TimeZone,
}

/// What is wrong with a timetable, by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimetableFault {
    /// `cron` or `timeZone`.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
}

/// An instant that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The planned instant.
    pub planned: Timestamp,
    /// It is being caught up.
    pub missed: bool,
}

impl Timetable {
    /// Understands a schedule. `now` only tells a timetable that never comes from one that does.
    ///
    /// # Errors
    /// What is wrong with it, everything at once.
    pub fn new(schedule: &Schedule) -> Result<Self, Vec<TimetableFault>> {
        let fault = |field, message| TimetableFault { field, message };
        let cron = parse(&schedule.cron).map_err(|message| fault("cron", message));
        let zone = zone(&schedule.time_zone).map_err(|message| fault("timeZone", message));
        match (cron, zone) {
            (Ok(cron), Ok(zone)) => {
                let timetable = Self { cron, zone };
                // Any instant will do: a day that never comes does not come after this one.
                if timetable.after(Timestamp::UNIX_EPOCH).is_none() {
                    let message = format!("{:?} never comes: there is no such day", schedule.cron);
                    return Err(vec![fault("cron", message)]);
                }
                Ok(timetable)
            }
            (cron, zone) => Err(cron.err().into_iter().chain(zone.err()).collect()),
        }
    }

    /// The first instant after this one.
    pub fn after(&self, instant: Timestamp) -> Option<Timestamp> {
        let end = instant.checked_add(NEVER).ok()?;
        let from = instant.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&from, false).ok()?.timestamp();
        (next <= end).then_some(next)
    }

    /// The latest instant after `reached` up to `now`, unless it was missed and missed ones are skipped.
    pub fn due(&self, reached: Timestamp, now: Timestamp, missed: Missed) -> Option<Due> {
        let planned = self.latest(reached, now)?;
        let late = now.duration_since(planned) > LATE;
        (!late || missed == Missed::Once).then_some(Due { planned, missed: late })
    }

    /// Looks back over longer and longer times, so that a long absence costs no more than the instants of the shortest that holds one.
    fn latest(&self, reached: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let hours = [1, 24, 24 * 31, 24 * 366];
        let starts = hours.iter().filter_map(|hours| now.checked_sub(SignedDuration::from_hours(*hours)).ok());
        for start in starts.filter(|start| *start > reached).chain([reached]) {
            let step = |before: &Timestamp| self.after(*before).filter(|next| *next <= now);
            if let Some(latest) = std::iter::successors(step(&start), step).last() {
                return Some(latest);
            }
        }
        None
    }
}

/// The timetables of a rule's `schedule` sources. One that is not understood is left out: [`compile`](super::compile) says what is wrong with it.
pub fn timetables(rule: &RuleRef, spec: &EventRuleSpec) -> Vec<Timetable> {
    let schedules = spec.sources.iter().filter_map(|source| {
        let schedule = source.schedule.as_deref()?;
        Some(Schedule::new(&rule.uid.0, &rule.namespace, &rule.name, &source.name, schedule))
    });
    schedules.filter_map(|schedule| Timetable::new(&schedule).ok()).collect()
}

fn parse(cron: &str) -> Result<Cron, String> {
    const FIELDS: &str = "5 fields (minute, hour, day of month, month, day of week)";
    let fields: Vec<&str> = cron.split_ascii_whitespace().collect();
    match fields.as_slice() {
        [one] if one.starts_with('@') => {
            if !["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"].contains(one) {
                return Err(format!("{one:?} is none of @yearly, @monthly, @weekly, @daily and @hourly"));
            }
        }
        [first, ..] if first.starts_with("TZ=") || first.starts_with("CRON_TZ=") => {
            return Err("the zone goes into timeZone".to_owned());
        }
        [minute, hour, day, month, weekday] => {
            let names: [&[&str]; 5] = [&[], &[], &[], &MONTHS, &WEEKDAYS];
            for (field, names) in [minute, hour, day, month, weekday].into_iter().zip(names) {
                plain(field, names)?;
            }
        }
        _ => return Err(format!("{cron:?} has {} fields, and a timetable has {FIELDS}", fields.len())),
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(cron).map_err(|error| format!("{cron:?}: {error}"))
}

/// Refuses what cron knows not and libraries take: L, W, #, ?.
fn plain(field: &str, names: &[&str]) -> Result<(), String> {
    let words = field.split(|c: char| c.is_ascii_digit() || "*,-/".contains(c)).filter(|word| !word.is_empty());
    match words.into_iter().find(|word| !names.iter().any(|name| name.eq_ignore_ascii_case(word))) {
        None => Ok(()),
        Some(word) => Err(format!("{field:?}: {word:?} is no number, list, range, step or name of a month or weekday")),
    }
}

pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("{name:?} is no time zone of the IANA database, such as Europe/Berlin"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ScheduleSource;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        let spec = ScheduleSource { cron: cron.to_owned(), time_zone: Some(zone.to_owned()), missed: Missed::Once };
        Schedule::new("u", "shop", "nightly", "at", &spec)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    /// The instants in a time, its end included.
    fn between(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let timetable = Timetable::new(&schedule(cron, zone)).expect("a timetable");
        let step = |before: &Timestamp| timetable.after(*before).filter(|next| *next <= at(to));
        std::iter::successors(step(&at(from)), step).map(|instant| instant.to_string()).collect()
    }

    fn faults(cron: &str, zone: &str) -> Vec<TimetableFault> {
        Timetable::new(&schedule(cron, zone)).err().unwrap_or_default()
    }

    #[test]
    fn weekdays_are_counted_from_sunday_which_is_0_and_7() {
        let days = |cron, zone: &str| {
            let local = TimeZone::get(zone).expect("a zone");
            let weekday = |text: &String| at(text).to_zoned(local.clone()).weekday().to_sunday_zero_offset();
            between(cron, zone, "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z").iter().map(weekday).collect::<Vec<_>>()
        };
        let working = days("0 7 * * 1-5", "Asia/Taipei");
        assert!(working.len() > 20 && working.iter().all(|day| (1..=5).contains(day)), "{working:?}");
        for sunday in ["0 16 * * 0", "0 16 * * 7", "@weekly", "0 0 * * SUN", "0 0 * * sun"] {
            let all = days(sunday, "UTC");
            assert!(all.len() >= 4 && all.iter().all(|day| *day == 0), "{sunday}: {all:?}");
        }
        let first = |cron| between(cron, "UTC", "2027-01-01T00:00:00Z", "2027-01-04T00:00:00Z");
        assert_eq!(first("0 16 * * 7"), ["2027-01-03T16:00:00Z"]);
        assert_eq!(first("@weekly"), ["2027-01-03T00:00:00Z"]);
    }

    #[test]
    fn where_both_days_are_restricted_either_will_do() {
        let found = between("0 0 13 * 5", "UTC", "2027-01-01T00:00:01Z", "2027-01-16T00:00:00Z");
        assert_eq!(found, ["2027-01-08T00:00:00Z", "2027-01-13T00:00:00Z", "2027-01-15T00:00:00Z"]);
    }

    #[test]
    fn a_time_that_daylight_saving_skips_comes_right_after_the_gap_and_one_that_it_doubles_comes_once() {
        let berlin = "Europe/Berlin";
        let spring = between("30 2 * * *", berlin, "2027-03-27T12:00:00Z", "2027-03-29T12:00:00Z");
        assert_eq!(spring, ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
        let autumn = between("30 2 * * *", berlin, "2027-10-30T12:00:00Z", "2027-10-31T12:00:00Z");
        assert_eq!(autumn, ["2027-10-31T00:30:00Z"]);
        let midnight = between("0 0 * * *", "America/Santiago", "2027-09-04T12:00:00Z", "2027-09-06T12:00:00Z");
        assert_eq!((midnight.len(), &*midnight[0]), (2, "2027-09-05T04:00:00Z"), "{midnight:?}");
        let half = between("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T00:00:00Z", "2027-10-03T12:00:00Z");
        assert_eq!(half, ["2027-10-02T15:30:00Z"], "30 minutes are skipped");
    }

    #[test]
    fn a_step_follows_real_time_through_the_doubled_hour() {
        let found = between("*/30 * * * *", "Europe/Berlin", "2027-10-30T23:59:59Z", "2027-10-31T01:59:59Z");
        assert_eq!(
            found,
            ["2027-10-31T00:00:00Z", "2027-10-31T00:30:00Z", "2027-10-31T01:00:00Z", "2027-10-31T01:30:00Z"]
        );
    }

    #[test]
    fn what_is_no_timetable_is_refused_with_the_reason_and_all_at_once() {
        let [six] = &*faults("*/5 * * * * *", "UTC") else { panic!("one fault") };
        assert!(six.message.contains("5 fields"), "{six:?}");
        let both = faults("61 * * * *", "Europe/Nowhere");
        assert_eq!(both.iter().map(|fault| fault.field).collect::<Vec<_>>(), ["cron", "timeZone"]);
        assert!(both[1].message.contains("Europe/Nowhere"), "{both:?}");
        for wrong in [
            "0 0 L * *",
            "0 0 15W * *",
            "0 0 * * 5#2",
            "0 0 * * 5L",
            "0 0 ? * *",
            "@reboot",
            "TZ=UTC 0 0 * * *",
            "",
            "0 0 * * FUNDAY",
        ] {
            assert_eq!(faults(wrong, "UTC").len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_day_that_never_comes_is_told_and_a_leap_day_comes() {
        let [never] = &*faults("0 0 31 2 *", "UTC") else { panic!("one fault") };
        assert!(never.message.contains("never"), "{never:?}");
        assert_eq!(
            between("0 0 29 2 *", "UTC", "2097-01-01T00:00:00Z", "2104-03-01T00:00:00Z"),
            ["2104-02-29T00:00:00Z"]
        );
    }

    #[test]
    fn of_missed_instants_the_latest_comes_once_or_none_does() {
        let timetable = Timetable::new(&schedule("0 7 * * *", "UTC")).expect("a timetable");
        let (reached, now) = (at("2027-01-01T07:00:00Z"), at("2027-01-05T12:00:00Z"));
        let latest = Due { planned: at("2027-01-05T07:00:00Z"), missed: true };
        assert_eq!(timetable.due(reached, now, Missed::Once), Some(latest));
        assert_eq!(timetable.due(reached, now, Missed::Skip), None);
        assert_eq!(timetable.due(latest.planned, now, Missed::Once), None, "it was dealt with");
        let in_time = Due { planned: at("2027-01-05T07:00:00Z"), missed: false };
        for missed in [Missed::Once, Missed::Skip] {
            assert_eq!(timetable.due(reached, at("2027-01-05T07:00:09Z"), missed), Some(in_time));
            assert_eq!(timetable.due(reached, at("2027-01-01T07:00:00Z"), missed), None);
        }
    }

    #[test]
    fn a_long_absence_costs_no_more_than_the_nearest_instants() {
        // Every minute of January, missed in June: what was missed is found, and found by going through one January at most.
        let timetable = Timetable::new(&schedule("* * * 1 *", "UTC")).expect("a timetable");
        let due = timetable.due(at("2020-06-01T00:00:00Z"), at("2027-06-01T00:00:00Z"), Missed::Once);
        assert_eq!(due.map(|due| due.planned), Some(at("2027-01-31T23:59:00Z")));
    }
}
