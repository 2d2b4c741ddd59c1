//! Versions: `semver('1.2.3')`, and with `true` leniently: `v1`, `01.2`.

use std::{cmp::Ordering, sync::Arc};

use semver::Version;

use super::{super::failure::Failure, Answer, Meter, Row, Value, mismatch};

pub(super) const ROWS: &[Row] = &[
    ("semver(string): semver", version),
    ("semver(string, bool): semver", version),
    ("isSemver(string): bool", is_version),
    ("isSemver(string, bool): bool", is_version),
    (".major(semver): int", |args, _| part(args, |version| version.major)),
    (".minor(semver): int", |args, _| part(args, |version| version.minor)),
    (".patch(semver): int", |args, _| part(args, |version| version.patch)),
    (".compareTo(semver, semver): int", |args, _| compare(args, |order| Value::Int(order as i64))),
    (".isGreaterThan(semver, semver): bool", |args, _| compare(args, |order| Value::Bool(order.is_gt()))),
    (".isLessThan(semver, semver): bool", |args, _| compare(args, |order| Value::Bool(order.is_lt()))),
];

fn read(args: &[Value<'_>]) -> Option<Version> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => text.parse().ok(),
        [Value::String(text), Value::Bool(true)] => normalized(text).parse().ok(),
        _ => None,
    }
}

/// Without a `v` in front and zeros before numbers, with all three numbers.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut numbers: Vec<&str> = numbers
        .split('.')
        .map(|number| match number.trim_start_matches('0') {
            "" if !number.is_empty() => "0",
            number => number,
        })
        .collect();
    while numbers.len() < 3 {
        numbers.push("0");
    }
    format!("{}{rest}", numbers.join("."))
}

fn version<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let read = read(args).map(|version| Value::Semver(Arc::new(version)));
    read.ok_or_else(|| Failure::of("semver", "not a version such as 1.2.3 or 1.2.3-rc.1"))
}

fn is_version<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    Ok(Value::Bool(read(args).is_some()))
}

fn part<'v>(args: &[Value<'v>], of: fn(&Version) -> u64) -> Answer<'v> {
    let [Value::Semver(version)] = args else { return mismatch(args) };
    let part = i64::try_from(of(version)).map(Value::Int);
    part.map_err(|_| Failure::of("semver", "the number is out of range"))
}

fn compare<'v>(args: &[Value<'v>], told: fn(Ordering) -> Value<'static>) -> Answer<'v> {
    let [Value::Semver(a), Value::Semver(b)] = args else { return mismatch(args) };
    Ok(told(a.cmp_precedence(b)))
}
