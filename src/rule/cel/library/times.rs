//! Parts of times and durations.

use super::{
    super::times::{part_of_duration, part_of_time},
    Answer, Row, Value, mismatch,
};

pub(super) const ROWS: &[Row] = &[
    (".getFullYear(timestamp): int", |args, _| part("getFullYear", args)),
    (".getFullYear(timestamp, string): int", |args, _| part("getFullYear", args)),
    (".getMonth(timestamp): int", |args, _| part("getMonth", args)),
    (".getMonth(timestamp, string): int", |args, _| part("getMonth", args)),
    (".getDate(timestamp): int", |args, _| part("getDate", args)),
    (".getDate(timestamp, string): int", |args, _| part("getDate", args)),
    (".getDayOfMonth(timestamp): int", |args, _| part("getDayOfMonth", args)),
    (".getDayOfMonth(timestamp, string): int", |args, _| part("getDayOfMonth", args)),
    (".getDayOfWeek(timestamp): int", |args, _| part("getDayOfWeek", args)),
    (".getDayOfWeek(timestamp, string): int", |args, _| part("getDayOfWeek", args)),
    (".getDayOfYear(timestamp): int", |args, _| part("getDayOfYear", args)),
    (".getDayOfYear(timestamp, string): int", |args, _| part("getDayOfYear", args)),
    (".getHours(timestamp): int", |args, _| part("getHours", args)),
    (".getHours(timestamp, string): int", |args, _| part("getHours", args)),
    (".getHours(duration): int", |args, _| part("getHours", args)),
    (".getMinutes(timestamp): int", |args, _| part("getMinutes", args)),
    (".getMinutes(timestamp, string): int", |args, _| part("getMinutes", args)),
    (".getMinutes(duration): int", |args, _| part("getMinutes", args)),
    (".getSeconds(timestamp): int", |args, _| part("getSeconds", args)),
    (".getSeconds(timestamp, string): int", |args, _| part("getSeconds", args)),
    (".getSeconds(duration): int", |args, _| part("getSeconds", args)),
    (".getMilliseconds(timestamp): int", |args, _| part("getMilliseconds", args)),
    (".getMilliseconds(timestamp, string): int", |args, _| part("getMilliseconds", args)),
    (".getMilliseconds(duration): int", |args, _| part("getMilliseconds", args)),
];

fn part<'v>(function: &str, args: &[Value<'v>]) -> Answer<'v> {
    match args {
        [Value::Timestamp(time)] => part_of_time(function, *time, None),
        [Value::Timestamp(time), Value::String(zone)] => part_of_time(function, *time, Some(zone)),
        [Value::Duration(duration)] => Ok(Value::Int(part_of_duration(function, *duration))),
        _ => mismatch(args),
    }
}
