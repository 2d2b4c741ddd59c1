//! Arithmetic, equality and order.

use std::cmp::Ordering;

use super::{
    eval::Answer,
    failure::Failure,
    meter::Meter,
    node::Operator,
    times,
    value::{Key, List, Map, Value},
};

/// The value of `left operator right`.
pub(super) fn binary<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>, meter: &Meter) -> Answer<'a> {
    match operator {
        Operator::Equal => equal(left, right, meter).map(Value::Bool),
        Operator::NotEqual => equal(left, right, meter).map(|equal| Value::Bool(!equal)),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let order = compare(operator.function(), left, right, meter)?;
            Ok(Value::Bool(match operator {
                Operator::Less => order == Some(Ordering::Less),
                Operator::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                Operator::Greater => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            }))
        }
        Operator::In => contains(left, right, meter).map(Value::Bool),
        Operator::Add => add(left, right, meter),
        _ => calculate(operator, left, right),
    }
}

fn overflow(operator: Operator) -> Failure {
    Failure::new(format!("the result of '{}' is out of range", operator.function()))
}

/// The sum, or one after the other.
pub(super) fn add<'a>(left: &Value<'a>, right: &Value<'a>, meter: &Meter) -> Answer<'a> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => {
            meter.text(a.len() + b.len())?;
            Ok(Value::text([&**a, &**b].concat()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            meter.text(a.len() + b.len())?;
            Ok(Value::bytes([&**a, &**b].concat()))
        }
        (Value::List(a), Value::List(b)) => {
            let length = a.len() + b.len();
            meter.list(length)?;
            meter.charge(length as u64)?;
            Ok(Value::list(a.iter().chain(b.iter()).collect()))
        }
        (Value::Timestamp(time), Value::Duration(duration)) | (Value::Duration(duration), Value::Timestamp(time)) => {
            time.moved(*duration).map(Value::Timestamp)
        }
        (Value::Duration(a), Value::Duration(b)) => times::bounded(a.checked_add(*b)).map(Value::Duration),
        _ => calculate(Operator::Add, left, right),
    }
}

fn calculate<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Answer<'a> {
    let zero = || Failure::new(if operator == Operator::Divide { "division by zero" } else { "modulus by zero" });
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0))
            if matches!(operator, Operator::Divide | Operator::Modulo) =>
        {
            Err(zero())
        }
        (Value::Int(a), Value::Int(b)) => match operator {
            Operator::Add => a.checked_add(*b),
            Operator::Subtract => a.checked_sub(*b),
            Operator::Multiply => a.checked_mul(*b),
            Operator::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Int)
        .ok_or_else(|| overflow(operator)),
        (Value::Uint(a), Value::Uint(b)) => match operator {
            Operator::Add => a.checked_add(*b),
            Operator::Subtract => a.checked_sub(*b),
            Operator::Multiply => a.checked_mul(*b),
            Operator::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Uint)
        .ok_or_else(|| overflow(operator)),
        (Value::Double(a), Value::Double(b)) if operator != Operator::Modulo => Ok(Value::Double(match operator {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            _ => a / b,
        })),
        (Value::Timestamp(time), Value::Duration(duration)) if operator == Operator::Subtract => {
            time.moved(-*duration).map(Value::Timestamp)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) if operator == Operator::Subtract => {
            a.since(*b).map(Value::Duration)
        }
        (Value::Duration(a), Value::Duration(b)) if operator == Operator::Subtract => {
            times::bounded(a.checked_sub(*b)).map(Value::Duration)
        }
        _ => Err(Failure::no_overload(operator.function(), &[left, right])),
    }
}

pub(super) fn negate<'a>(value: &Value<'a>) -> Answer<'a> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(|| overflow(Operator::Subtract)),
        Value::Double(value) => Ok(Value::Double(-value)),
        other => Err(Failure::no_overload("-_", &[other])),
    }
}

/// Whether the element, or the key, is in the list or the map.
fn contains<'a>(one: &Value<'a>, all: &Value<'a>, meter: &Meter) -> Result<bool, Failure> {
    match all {
        Value::List(list) => position(list, one, meter).map(|found| found.is_some()),
        Value::Map(map) => {
            meter.bytes(one.length())?;
            Ok(Key::of(one).is_some_and(|key| map.get(&key).is_some()))
        }
        _ => Err(Failure::no_overload("@in", &[one, all])),
    }
}

/// Where the element is first.
pub(super) fn position<'a>(list: &List<'a>, one: &Value<'a>, meter: &Meter) -> Result<Option<usize>, Failure> {
    meter.list(list.len())?;
    for (index, item) in list.iter().enumerate() {
        if equal(&item, one, meter)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Whether the values are equal: numbers by what they are, whatever their types. Each comparison within is charged.
pub(super) fn equal<'a>(left: &Value<'a>, right: &Value<'a>, meter: &Meter) -> Result<bool, Failure> {
    meter.charge(1)?;
    Ok(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => {
            if a.len() == b.len() {
                meter.bytes(a.len())?;
            }
            **a == **b
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            meter.bytes(a.len().min(b.len()))?;
            **a == **b
        }
        (Value::List(a), Value::List(b)) => equal_lists(a, b, meter)?,
        (Value::Map(a), Value::Map(b)) => equal_maps(a, b, meter)?,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equal(a, b, meter)?,
        (Value::Url(a), Value::Url(b)) => {
            meter.bytes(left.length().min(right.length()))?;
            a == b
        }
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a), Value::Cidr(b)) => a == b,
        (Value::Quantity(a), Value::Quantity(b)) => a == b,
        (Value::Semver(a), Value::Semver(b)) => {
            meter.bytes(left.length().min(right.length()))?;
            a.cmp_precedence(b) == Ordering::Equal
        }
        (Value::Format(a), Value::Format(b)) => std::ptr::eq(*a, *b),
        (a, b) => numbers(a, b) == Some(Some(Ordering::Equal)),
    })
}

fn equal_lists<'a>(left: &List<'a>, right: &List<'a>, meter: &Meter) -> Result<bool, Failure> {
    if left.len() != right.len() {
        return Ok(false);
    }
    for (a, b) in left.iter().zip(right.iter()) {
        if !equal(&a, &b, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps<'a>(left: &Map<'a>, right: &Map<'a>, meter: &Meter) -> Result<bool, Failure> {
    if left.len() != right.len() {
        return Ok(false);
    }
    for key in left.charged_keys(meter)? {
        match (left.get(&key), right.get(&key)) {
            (Some(a), Some(b)) if equal(&a, &b, meter)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// The order of two values that have one. `None` within says that one is not a number.
pub(super) fn compare(
    operator: &str,
    left: &Value<'_>,
    right: &Value<'_>,
    meter: &Meter,
) -> Result<Option<Ordering>, Failure> {
    meter.charge(1)?;
    meter.bytes(left.length().min(right.length()))?;
    order(left, right).ok_or_else(|| Failure::no_overload(operator, &[left, right]))
}

fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    Some(Some(match (left, right) {
        (Value::String(a), Value::String(b)) => (**a).cmp(&**b),
        (Value::Bytes(a), Value::Bytes(b)) => (**a).cmp(&**b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (a, b) => return numbers(a, b),
    }))
}

/// The order of two numbers, exact whatever their types; `None` when one of them is no number, `Some(None)` when one is NaN.
fn numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (left, right) {
        (Value::Double(a), Value::Double(b)) => Some(a.partial_cmp(b)),
        (Value::Double(a), b) => whole(b).map(|b| with_whole(*a, b)),
        (a, Value::Double(b)) => whole(a).map(|a| with_whole(*b, a).map(Ordering::reverse)),
        (a, b) => Some(Some(whole(a)?.cmp(&whole(b)?))),
    }
}

/// The order of a double and a whole number of 64 bits.
fn with_whole(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Beyond 2^100 there is no whole number of 64 bits; below it the conversion of what is before the point is exact.
    let below = double.clamp(-1e30, 1e30).floor();
    Some((below as i128).cmp(&whole).then(if double > below { Ordering::Greater } else { Ordering::Equal }))
}

/// The values in the order of their keys, those with equal keys as they were.
pub(super) fn sort<'a>(
    mut keyed: Vec<(Value<'a>, Value<'a>)>,
    function: &str,
    meter: &Meter,
) -> Result<Vec<Value<'a>>, Failure> {
    if let Some((first, _)) = keyed.first() {
        compare(function, first, first, meter)?;
    }
    if keyed.windows(2).any(|pair| std::mem::discriminant(&pair[0].0) != std::mem::discriminant(&pair[1].0)) {
        return Err(Failure::of(function, "the values are not all of one type"));
    }
    let rounds = 1 + u64::from(keyed.len().max(1).ilog2());
    meter.charge(rounds * keyed.len() as u64)?;
    meter.bytes(keyed.iter().map(|(key, _)| key.length()).sum::<usize>().saturating_mul(rounds as usize))?;
    // Charged before: a comparison that fails half-way is no order, and sorting by what is no order may panic.
    keyed.sort_by(|(a, _), (b, _)| match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
        (a, b) => order(a, b).flatten().unwrap_or(Ordering::Equal),
    });
    Ok(keyed.into_iter().map(|(_, value)| value).collect())
}
