//! Timestamps and durations: their bounds, how they are read and written, and their parts.

use std::fmt;

use k8s_openapi::jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use super::{failure::Failure, value::Value};

/// The first second of the year 1 and the last of the year 9999, since 1970: the range of `google.protobuf.Timestamp`.
const FIRST: i128 = -62_135_596_800;
const LAST: i128 = 253_402_300_799;
/// Seconds that a `google.protobuf.Duration` has at most: about 10,000 years.
const LONGEST: u64 = 315_576_000_000;
/// Nanoseconds of a second.
const NANOS: i128 = 1_000_000_000;

/// An instant, in nanoseconds since 1970. Not the library's, whose last day is not whole: certificates that never end say 9999-12-31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(i128);

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl From<Timestamp> for Instant {
    fn from(time: Timestamp) -> Self {
        Self(time.as_nanosecond())
    }
}

impl Instant {
    pub(super) const EPOCH: Self = Self(0);

    /// An instant, if expressions may have it.
    fn within(nanos: Option<i128>) -> Result<Self, Failure> {
        nanos
            .filter(|nanos| (FIRST..=LAST).contains(&nanos.div_euclid(NANOS)))
            .map(Self)
            .ok_or_else(|| Failure::new("the timestamp is not within the years 1 to 9999"))
    }

    /// The instant so many seconds after 1970 began.
    pub(super) fn of_seconds(seconds: i64) -> Result<Self, Failure> {
        Self::within(Some(i128::from(seconds) * NANOS))
    }

    /// Reads a time as RFC 3339 writes it.
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        let no_time = || Failure::of("timestamp", "not a time as RFC 3339 writes it, 2026-11-02T07:16:20Z");
        let (local, offset) = rfc3339(text).ok_or_else(no_time)?;
        let local: DateTime = local.parse().map_err(|_| no_time())?;
        Self::within(Some(local.duration_since(EPOCH).as_nanos() - i128::from(offset) * NANOS))
    }

    /// The instant so much later.
    pub(super) fn moved(self, duration: SignedDuration) -> Result<Self, Failure> {
        Self::within(self.0.checked_add(duration.as_nanos()))
    }

    pub(super) fn since(self, earlier: Self) -> Result<SignedDuration, Failure> {
        bounded(of_nanos(self.0 - earlier.0))
    }

    pub(super) fn as_seconds(self) -> i64 {
        self.0.div_euclid(NANOS) as i64
    }

    /// The time of day so many seconds east of Greenwich.
    fn local(self, offset: i32) -> Option<DateTime> {
        EPOCH.checked_add(of_nanos(self.0 + i128::from(offset) * NANOS)?).ok()
    }

    /// The offset of the zone at this instant, in seconds.
    fn offset(self, zone: &TimeZone) -> i32 {
        let last = Timestamp::MAX.as_nanosecond();
        let time = Timestamp::from_nanosecond(self.0.min(last)).unwrap_or(Timestamp::MAX);
        zone.to_offset(time).seconds()
    }
}

/// In UTC, with as many digits of the second as it has.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local(0) {
            Some(time) => write!(f, "{time}Z"),
            None => f.write_str("a time"),
        }
    }
}

fn of_nanos(nanos: i128) -> Option<SignedDuration> {
    Some(SignedDuration::new(i64::try_from(nanos / NANOS).ok()?, (nanos % NANOS) as i32))
}

/// A duration, if expressions may have it.
pub(super) fn bounded(duration: Option<SignedDuration>) -> Result<SignedDuration, Failure> {
    duration
        .filter(|duration| duration.as_secs().unsigned_abs() <= LONGEST)
        .ok_or_else(|| Failure::new(format!("the duration is longer than {LONGEST} seconds")))
}

/// The local time and the offset in seconds, if the text has the form; whether there is such a day, the parser says.
fn rfc3339(text: &str) -> Option<(&str, i32)> {
    let fits = |form: &str, text: &[u8]| {
        form.len() == text.len()
            && form.bytes().zip(text).all(|(f, b)| if f == b'd' { b.is_ascii_digit() } else { f == *b })
    };
    let seconds = "dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    if !fits(seconds, bytes.get(..seconds.len())?) || &bytes[17..19] == b"60" {
        return None;
    }
    let mut end = seconds.len();
    if bytes.get(end) == Some(&b'.') {
        let digits = bytes[end + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        end += 1 + digits;
    }
    let (local, zone) = text.split_at(end);
    let offset = match zone.as_bytes() {
        b"Z" => 0,
        zone_bytes if fits("+dd:dd", zone_bytes) || fits("-dd:dd", zone_bytes) => offset_of(zone)?,
        _ => return None,
    };
    Some((local, offset))
}

/// `+01:00`, `-05:30` or `01:00` in seconds.
fn offset_of(text: &str) -> Option<i32> {
    let (sign, offset) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (hours, minutes) = offset.split_once(':')?;
    let number = |digits: &str| digits.parse::<i32>().ok().filter(|_| digits.len() == 2);
    let (hours, minutes) = (number(hours).filter(|hours| *hours < 24)?, number(minutes).filter(|m| *m < 60)?);
    Some(sign * (hours * 3600 + minutes * 60))
}

/// Reads a duration as Go writes it: `1h30m`, `-1.5s`, `10us`.
pub(super) fn duration(text: &str) -> Result<SignedDuration, Failure> {
    let nanos = go_duration(text)
        .ok_or_else(|| Failure::of("duration", "not a duration in units of h, m, s, ms, us and ns, such as 1h30m"))?;
    bounded(of_nanos(nanos))
}

fn go_duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, behind) = rest.split_at(number);
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        nanos = nanos.checked_add(in_nanos(digits, unit)?)?;
        rest = behind;
    }
    Some(if negative { -nanos } else { nanos })
}

fn in_nanos(digits: &str, unit: &str) -> Option<i128> {
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 20 {
        return None;
    }
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    let fraction = fraction.get(..fraction.len().min(18))?;
    let part = number(fraction)?.checked_mul(unit)? / 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    number(whole)?.checked_mul(unit)?.checked_add(part)
}

/// Writes a duration as `string()` of CEL does: seconds with a fraction.
pub(super) fn write_duration(duration: SignedDuration) -> String {
    let sign = if duration.is_negative() { "-" } else { "" };
    let (whole, nanos) = (duration.as_secs().unsigned_abs(), duration.subsec_nanos().unsigned_abs());
    match nanos {
        0 => format!("{sign}{whole}s"),
        nanos => format!("{sign}{whole}.{}s", format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// A part of a time, by the name of the function that gives it.
pub(super) fn part_of_time(function: &str, time: Instant, zone: Option<&str>) -> Result<Value<'static>, Failure> {
    let offset = match zone {
        None => 0,
        Some(zone) => match offset_of(zone) {
            Some(offset) => offset,
            None => {
                let zone = TimeZone::get(zone)
                    .map_err(|_| Failure::of(function, "no such time zone: write `Europe/Berlin` or `+01:00`"))?;
                time.offset(&zone)
            }
        },
    };
    let local = time.local(offset).ok_or_else(|| Failure::of(function, "the local time is out of range"))?;
    let part = match function {
        "getFullYear" => i64::from(local.year()),
        "getMonth" => i64::from(local.month()) - 1,
        "getDate" => i64::from(local.day()),
        "getDayOfMonth" => i64::from(local.day()) - 1,
        "getDayOfWeek" => i64::from(local.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getHours" => i64::from(local.hour()),
        "getMinutes" => i64::from(local.minute()),
        "getSeconds" => i64::from(local.second()),
        _ => i64::from(local.millisecond()),
    };
    Ok(Value::Int(part))
}

/// A duration in whole units, by the name of the function that gives it; milliseconds are those of the last second.
pub(super) fn part_of_duration(function: &str, duration: SignedDuration) -> i64 {
    match function {
        "getHours" => duration.as_hours(),
        "getMinutes" => duration.as_mins(),
        "getSeconds" => duration.as_secs(),
        _ => i64::from(duration.subsec_millis()),
    }
}
