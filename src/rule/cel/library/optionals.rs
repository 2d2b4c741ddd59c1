//! Optionals.

use super::{
    super::{failure::Failure, value::List},
    Answer, Meter, Row, Value, mismatch,
};

pub(super) const ROWS: &[Row] = &[
    ("optional.none(): optional", none),
    ("optional.of(dyn): optional", of),
    ("optional.ofNonZeroValue(dyn): optional", of_non_zero),
    ("optional.unwrap(list): list", unwrap),
    (".unwrapOpt(list): list", unwrap),
    (".hasValue(optional): bool", has_value),
    (".value(optional): dyn", value),
    (".or(optional, optional): optional", or),
    (".orValue(optional, dyn): dyn", or_value),
];

fn none<'v>(_: &[Value<'v>], _: &Meter) -> Answer<'v> {
    Ok(Value::Optional(None))
}

fn of<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [value] = args else { return mismatch(args) };
    Ok(Value::some(value.clone()))
}

fn of_non_zero<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [value] = args else { return mismatch(args) };
    Ok(if value.is_zero() { Value::Optional(None) } else { Value::some(value.clone()) })
}

fn has_value<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::Optional(optional)] = args else { return mismatch(args) };
    Ok(Value::Bool(optional.is_some()))
}

fn value<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::Optional(optional)] = args else { return mismatch(args) };
    let value = optional.as_ref().map(|value| (**value).clone());
    value.ok_or_else(|| Failure::of("value", "the optional has none: use orValue()"))
}

fn or<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [first, second] = args else { return mismatch(args) };
    Ok(if matches!(first, Value::Optional(None)) { second } else { first }.clone())
}

fn or_value<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::Optional(optional), other] = args else { return mismatch(args) };
    Ok(optional.as_ref().map_or_else(|| other.clone(), |value| (**value).clone()))
}

/// The values of a list's optionals, those without one left out.
fn unwrap<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list)] = args else { return mismatch(args) };
    let list: &List<'v> = list;
    let mut values = Vec::new();
    for item in list.items(meter)? {
        match item {
            Value::Optional(value) => values.extend(value.map(|value| (*value).clone())),
            other => return Err(Failure::no_overload("unwrapOpt", &[&other])),
        }
    }
    Ok(Value::list(values))
}
