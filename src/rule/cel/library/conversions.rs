//! One type into another, sizes and types.

use super::{
    super::{failure::Failure, times},
    Answer, Meter, Row, Value, mismatch,
};

pub(super) const ROWS: &[Row] = &[
    ("bool(bool): bool", same),
    ("bool(string): bool", to_bool),
    ("bytes(bytes): bytes", same),
    ("bytes(string): bytes", to_bytes),
    ("double(double): double", same),
    ("double(int): double", to_double),
    ("double(uint): double", to_double),
    ("double(string): double", to_double),
    ("duration(duration): duration", same),
    ("duration(string): duration", to_duration),
    ("dyn(dyn): dyn", same),
    ("int(int): int", same),
    ("int(uint): int", to_int),
    ("int(double): int", to_int),
    ("int(string): int", to_int),
    ("int(timestamp): int", to_int),
    ("int(duration): int", to_int),
    ("string(string): string", same),
    ("string(dyn): string", to_string),
    ("timestamp(timestamp): timestamp", same),
    ("timestamp(string): timestamp", to_timestamp),
    ("timestamp(int): timestamp", to_timestamp),
    ("type(dyn): type", type_of),
    ("uint(uint): uint", same),
    ("uint(int): uint", to_uint),
    ("uint(double): uint", to_uint),
    ("uint(string): uint", to_uint),
    ("size(string): int", size),
    ("size(bytes): int", size),
    ("size(list): int", size),
    ("size(map): int", size),
    (".size(string): int", size),
    (".size(bytes): int", size),
    (".size(list): int", size),
    (".size(map): int", size),
];

fn same<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    Ok(args.first().cloned().unwrap_or(Value::Null))
}

fn type_of<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [value] = args else { return mismatch(args) };
    Ok(Value::Type(value.type_name()))
}

fn size<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [value] = args else { return mismatch(args) };
    Ok(Value::count(match value {
        Value::String(text) => {
            meter.bytes(text.len())?;
            text.chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return mismatch(args),
    }))
}

fn out_of_range(function: &str) -> Failure {
    Failure::of(function, "the number is out of range")
}

fn to_bool<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    match &**text {
        "1" | "t" | "true" | "T" | "TRUE" | "True" => Ok(Value::Bool(true)),
        "0" | "f" | "false" | "F" | "FALSE" | "False" => Ok(Value::Bool(false)),
        _ => Err(Failure::of("bool", "the text is neither true nor false")),
    }
}

fn to_bytes<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    meter.bytes(text.len())?;
    Ok(Value::bytes(text.as_bytes()))
}

fn to_double<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let value = match args {
        [Value::Int(value)] => *value as f64,
        [Value::Uint(value)] => *value as f64,
        [Value::String(text)] => text.parse().map_err(|_| Failure::of("double", "the text is not a number"))?,
        _ => return mismatch(args),
    };
    Ok(Value::Double(value))
}

fn to_int<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let value = match args {
        [Value::Uint(value)] => i64::try_from(*value).map_err(|_| out_of_range("int"))?,
        // A double of 2^63 or more, or at most -2^63, may stand for a number beyond 64 bits.
        [Value::Double(value)] if value.abs() < 9_223_372_036_854_775_808.0 => *value as i64,
        [Value::Double(_)] => return Err(out_of_range("int")),
        [Value::String(text)] => text.parse().map_err(|_| Failure::of("int", "the text is not a whole number"))?,
        [Value::Timestamp(time)] => time.as_seconds(),
        [Value::Duration(duration)] => duration.as_secs(),
        _ => return mismatch(args),
    };
    Ok(Value::Int(value))
}

fn to_uint<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let value = match args {
        [Value::Int(value)] => u64::try_from(*value).map_err(|_| out_of_range("uint"))?,
        [Value::Double(value)] if (0.0..18_446_744_073_709_551_616.0).contains(value) => *value as u64,
        [Value::Double(_)] => return Err(out_of_range("uint")),
        [Value::String(text)] => text.parse().map_err(|_| Failure::of("uint", "the text is not a whole number"))?,
        _ => return mismatch(args),
    };
    Ok(Value::Uint(value))
}

fn to_timestamp<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    match args {
        [Value::String(text)] => times::Instant::read(text).map(Value::Timestamp),
        [Value::Int(seconds)] => times::Instant::of_seconds(*seconds).map(Value::Timestamp),
        _ => mismatch(args),
    }
}

fn to_duration<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    times::duration(text).map(Value::Duration)
}

fn to_string<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [value] = args else { return mismatch(args) };
    meter.bytes(value.length())?;
    Ok(Value::text(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => write_double(*value),
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Failure::of("string", "the bytes are not UTF-8"))?;
            return Ok(Value::text(text));
        }
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(duration) => times::write_duration(*duration),
        Value::Url(url) => url.to_string(),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        Value::Quantity(quantity) => quantity.to_string(),
        Value::Semver(version) => version.to_string(),
        other => return Err(Failure::no_overload("string", &[other])),
    }))
}

/// A double with as few digits as tell it from others; in powers of ten where it is very large or small.
pub(super) fn write_double(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if size != 0.0 && !(1e-4..1e21).contains(&size) {
        with_exponent(&format!("{value:e}"))
    } else {
        value.to_string()
    }
}

/// `1.5e7` as `1.5e+07`.
pub(super) fn with_exponent(text: &str) -> String {
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text.to_owned(),
    }
}
