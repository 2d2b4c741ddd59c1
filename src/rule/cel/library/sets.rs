//! Lists as sets.

use super::{
    super::{failure::Failure, operators, value::List},
    Answer, Meter, Row, Value, mismatch,
};

pub(super) const ROWS: &[Row] = &[
    ("sets.contains(list, list): bool", contains),
    ("sets.equivalent(list, list): bool", equivalent),
    ("sets.intersects(list, list): bool", intersects),
];

/// Whether all of the second are in the first.
fn has_all<'v>(set: &List<'v>, of: &List<'v>, meter: &Meter) -> Result<bool, Failure> {
    for one in of.items(meter)? {
        if operators::position(set, &one, meter)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(set), Value::List(of)] = args else { return mismatch(args) };
    has_all(set, of, meter).map(Value::Bool)
}

fn equivalent<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(a), Value::List(b)] = args else { return mismatch(args) };
    Ok(Value::Bool(has_all(a, b, meter)? && has_all(b, a, meter)?))
}

fn intersects<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(a), Value::List(b)] = args else { return mismatch(args) };
    for one in a.items(meter)? {
        if operators::position(b, &one, meter)?.is_some() {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
