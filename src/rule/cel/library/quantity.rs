//! Quantities of Kubernetes: `quantity('1.5Gi')`. Exact to a billionth.

use std::{cmp::Ordering, fmt};

use super::{super::failure::Failure, Answer, Meter, Row, Value, mismatch};

pub(super) const ROWS: &[Row] = &[
    ("quantity(string): quantity", quantity),
    ("isQuantity(string): bool", is_quantity),
    (".add(quantity, quantity): quantity", |args, _| sum(args, false)),
    (".add(quantity, int): quantity", |args, _| sum(args, false)),
    (".sub(quantity, quantity): quantity", |args, _| sum(args, true)),
    (".sub(quantity, int): quantity", |args, _| sum(args, true)),
    (".asApproximateFloat(quantity): double", as_float),
    (".asInteger(quantity): int", as_integer),
    (".isInteger(quantity): bool", is_integer),
    (".sign(quantity): int", sign),
    (".compareTo(quantity, quantity): int", |args, _| compare(args, |order| Value::Int(order as i64))),
    (".isGreaterThan(quantity, quantity): bool", |args, _| compare(args, |order| Value::Bool(order.is_gt()))),
    (".isLessThan(quantity, quantity): bool", |args, _| compare(args, |order| Value::Bool(order.is_lt()))),
];

const NANO: i128 = 1_000_000_000;

/// An amount, in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity(i128);

/// Suffixes: powers of 1024, and of ten.
const BINARY: [(&str, u32); 6] = [("Ki", 1), ("Mi", 2), ("Gi", 3), ("Ti", 4), ("Pi", 5), ("Ei", 6)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Quantity {
    fn read(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, suffix) = rest.split_at(end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > 18 {
            return None;
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
        let places = i32::try_from(fraction.len()).ok()?;
        let size = match BINARY.iter().find(|(name, _)| *name == suffix) {
            Some((_, power)) => {
                let amount = mantissa.checked_mul(1024_i128.checked_pow(*power)?)?.checked_mul(NANO)?;
                up(amount, 10_i128.checked_pow(u32::try_from(places).ok()?)?)
            }
            None => scaled(mantissa, 9 - places + exponent(suffix)?)?,
        };
        Some(Self(if negative { -size } else { size }))
    }

    fn integer(self) -> Option<i64> {
        if self.0 % NANO == 0 { i64::try_from(self.0 / NANO).ok() } else { None }
    }
}

/// What a suffix multiplies by, as a power of ten: `M`, `e6`.
fn exponent(suffix: &str) -> Option<i32> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some(*power);
    }
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-60..=60).contains(&power).then_some(power)
}

/// The number times a power of ten, rounded up where it is finer than a billionth.
fn scaled(number: i128, power: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(power.unsigned_abs());
    match (factor, power < 0) {
        (Some(factor), false) => number.checked_mul(factor),
        (Some(factor), true) => Some(up(number, factor)),
        (None, true) => Some(number.min(1)),
        (None, false) => (number == 0).then_some(0),
    }
}

fn up(number: i128, by: i128) -> i128 {
    number / by + i128::from(number % by != 0)
}

/// A plain number, with `m`, `u` or `n` where it is no whole one.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = [(NANO, ""), (1_000_000, "m"), (1_000, "u"), (1, "n")];
        let (step, suffix) = steps.into_iter().find(|(step, _)| self.0 % step == 0).unwrap_or((1, "n"));
        write!(f, "{}{suffix}", self.0 / step)
    }
}

fn quantity<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    let read = Quantity::read(text).map(Value::Quantity);
    read.ok_or_else(|| Failure::of("quantity", "not a quantity such as 500m, 1.5Gi or 2e3"))
}

fn is_quantity<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    Ok(Value::Bool(Quantity::read(text).is_some()))
}

fn sum<'v>(args: &[Value<'v>], less: bool) -> Answer<'v> {
    let (a, b) = match args {
        [Value::Quantity(a), Value::Quantity(b)] => (a.0, b.0),
        [Value::Quantity(a), Value::Int(b)] => (a.0, i128::from(*b) * NANO),
        _ => return mismatch(args),
    };
    let sum = if less { a.checked_sub(b) } else { a.checked_add(b) };
    sum.map(|sum| Value::Quantity(Quantity(sum))).ok_or_else(|| Failure::of("quantity", "the sum is out of range"))
}

fn as_float<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::Quantity(this)] = args else { return mismatch(args) };
    Ok(Value::Double(this.0 as f64 / NANO as f64))
}

fn as_integer<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::Quantity(this)] = args else { return mismatch(args) };
    let integer = this.integer().map(Value::Int);
    integer.ok_or_else(|| Failure::of("asInteger", "the quantity is no whole number of 64 bits"))
}

fn is_integer<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::Quantity(this)] = args else { return mismatch(args) };
    Ok(Value::Bool(this.integer().is_some()))
}

fn sign<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::Quantity(this)] = args else { return mismatch(args) };
    Ok(Value::Int(if this.0 == 0 {
        0
    } else if this.0 > 0 {
        1
    } else {
        -1
    }))
}

fn compare<'v>(args: &[Value<'v>], told: fn(Ordering) -> Value<'static>) -> Answer<'v> {
    let [Value::Quantity(a), Value::Quantity(b)] = args else { return mismatch(args) };
    Ok(told(a.cmp(b)))
}
