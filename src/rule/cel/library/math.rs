//! `math`: the numbers of CEL's extension.

use std::cmp::Ordering;

use super::{
    super::{failure::Failure, value::List},
    Answer, Meter, Row, Value,
    lists::best,
    mismatch,
};

pub(super) const ROWS: &[Row] = &[
    ("math.greatest(dyn...): dyn", |args, meter| most("math.greatest", args, meter, Ordering::Greater)),
    ("math.least(dyn...): dyn", |args, meter| most("math.least", args, meter, Ordering::Less)),
    ("math.abs(int): int", abs),
    ("math.abs(uint): uint", abs),
    ("math.abs(double): double", abs),
    ("math.sign(int): int", sign),
    ("math.sign(uint): uint", sign),
    ("math.sign(double): double", sign),
    ("math.ceil(double): double", |args, _| of_double(args, f64::ceil)),
    ("math.floor(double): double", |args, _| of_double(args, f64::floor)),
    ("math.round(double): double", |args, _| of_double(args, f64::round)),
    ("math.trunc(double): double", |args, _| of_double(args, f64::trunc)),
    ("math.sqrt(double): double", |args, _| of_double(args, f64::sqrt)),
    ("math.sqrt(int): double", |args, _| of_double(args, f64::sqrt)),
    ("math.sqrt(uint): double", |args, _| of_double(args, f64::sqrt)),
    ("math.isNaN(double): bool", |args, _| is(args, f64::is_nan)),
    ("math.isInf(double): bool", |args, _| is(args, f64::is_infinite)),
    ("math.isFinite(double): bool", |args, _| is(args, f64::is_finite)),
    ("math.bitAnd(int, int): int", |args, _| bits(args, |a, b| a & b)),
    ("math.bitAnd(uint, uint): uint", |args, _| bits(args, |a, b| a & b)),
    ("math.bitOr(int, int): int", |args, _| bits(args, |a, b| a | b)),
    ("math.bitOr(uint, uint): uint", |args, _| bits(args, |a, b| a | b)),
    ("math.bitXor(int, int): int", |args, _| bits(args, |a, b| a ^ b)),
    ("math.bitXor(uint, uint): uint", |args, _| bits(args, |a, b| a ^ b)),
    ("math.bitNot(int): int", bit_not),
    ("math.bitNot(uint): uint", bit_not),
    ("math.bitShiftLeft(int, int): int", |args, _| shift("math.bitShiftLeft", args, |a, by| a.checked_shl(by))),
    ("math.bitShiftLeft(uint, int): uint", |args, _| shift("math.bitShiftLeft", args, |a, by| a.checked_shl(by))),
    ("math.bitShiftRight(int, int): int", |args, _| shift("math.bitShiftRight", args, |a, by| a.checked_shr(by))),
    ("math.bitShiftRight(uint, int): uint", |args, _| shift("math.bitShiftRight", args, |a, by| a.checked_shr(by))),
];

/// The greatest or least of the arguments, or of one list.
fn most<'v>(function: &str, args: &[Value<'v>], meter: &Meter, wanted: Ordering) -> Answer<'v> {
    let items = match args {
        [Value::List(list)] => {
            let list: &List<'v> = list;
            list.items(meter)?
        }
        args => args.to_vec(),
    };
    if let Some(other) = items.iter().find(|item| !matches!(item, Value::Int(_) | Value::Uint(_) | Value::Double(_))) {
        return Err(Failure::no_overload(function, &[other]));
    }
    best(function, items, meter, wanted)
}

fn abs<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    match args {
        [Value::Int(value)] => {
            let value = value.checked_abs().ok_or_else(|| Failure::of("math.abs", "the number is out of range"))?;
            Ok(Value::Int(value))
        }
        [Value::Uint(value)] => Ok(Value::Uint(*value)),
        [Value::Double(value)] => Ok(Value::Double(value.abs())),
        _ => mismatch(args),
    }
}

fn sign<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    match args {
        [Value::Int(value)] => Ok(Value::Int(value.signum())),
        [Value::Uint(value)] => Ok(Value::Uint((*value).min(1))),
        [Value::Double(value)] if *value == 0.0 || value.is_nan() => Ok(Value::Double(*value)),
        [Value::Double(value)] => Ok(Value::Double(value.signum())),
        _ => mismatch(args),
    }
}

fn of_double<'v>(args: &[Value<'v>], map: fn(f64) -> f64) -> Answer<'v> {
    match args {
        [Value::Double(value)] => Ok(Value::Double(map(*value))),
        [Value::Int(value)] => Ok(Value::Double(map(*value as f64))),
        [Value::Uint(value)] => Ok(Value::Double(map(*value as f64))),
        _ => mismatch(args),
    }
}

fn is<'v>(args: &[Value<'v>], test: fn(f64) -> bool) -> Answer<'v> {
    let [Value::Double(value)] = args else { return mismatch(args) };
    Ok(Value::Bool(test(*value)))
}

fn bits<'v>(args: &[Value<'v>], join: fn(u64, u64) -> u64) -> Answer<'v> {
    match args {
        [Value::Int(a), Value::Int(b)] => Ok(Value::Int(join(a.cast_unsigned(), b.cast_unsigned()).cast_signed())),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(join(*a, *b))),
        _ => mismatch(args),
    }
}

fn bit_not<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    match args {
        [Value::Int(value)] => Ok(Value::Int(!value)),
        [Value::Uint(value)] => Ok(Value::Uint(!value)),
        _ => mismatch(args),
    }
}

/// Bits that are shifted in are zeros; shifted by 64 or more, nothing is left.
fn shift<'v>(function: &str, args: &[Value<'v>], by: fn(u64, u32) -> Option<u64>) -> Answer<'v> {
    let (bits, signed, places) = match args {
        [Value::Int(value), Value::Int(places)] => (value.cast_unsigned(), true, *places),
        [Value::Uint(value), Value::Int(places)] => (*value, false, *places),
        _ => return mismatch(args),
    };
    if places < 0 {
        return Err(Failure::of(function, "cannot shift by a negative number"));
    }
    let shifted = u32::try_from(places).ok().and_then(|places| by(bits, places)).unwrap_or(0);
    Ok(if signed { Value::Int(shifted.cast_signed()) } else { Value::Uint(shifted) })
}
