//! Whether an event may meet one demand, without a tree of many.
//!
//! It says yes where it is an error: that has to be told by whoever evaluates. The tree finds the same.

use serde_json::Value;

use crate::{
    event::Event,
    rule::cel::{Demand, Scalar, Test},
};

/// Whether the rule that asks for this has to be looked at for the event.
pub(super) fn may_concern(demand: &Demand, event: &Event) -> bool {
    let Some(root) = demand.path.first() else { return true };
    match (&**root, event.bytes.is_none()) {
        ("event", true) => of_event(demand, event),
        ("object", true) if event.is_change() => {
            event.data.get("object").is_none_or(|object| of_value(demand, object, 1))
        }
        _ => true,
    }
}

fn of_event(demand: &Demand, event: &Event) -> bool {
    let text = match demand.path.get(1).map(|name| &**name) {
        Some("data") => return of_value(demand, &event.data, 2),
        Some("id") => Some(event.id.as_str()),
        Some("source") => Some(event.source.as_str()),
        Some("type") => Some(event.type_.as_str()),
        Some("subject") => event.subject.as_deref(),
        // An extension may be a number: it is looked at by those who ask.
        _ => return true,
    };
    match text {
        // A field of a text is an error.
        Some(text) => demand.path.len() > 2 || of_text(&demand.test, text),
        None => is_undecided_without(demand, 1),
    }
}

/// `depth` names below the root.
fn of_value(demand: &Demand, value: &Value, depth: usize) -> bool {
    let Some(name) = demand.path.get(depth) else { return is_met(&demand.test, value) };
    match value {
        Value::Object(map) => match map.get(&**name) {
            Some(value) => of_value(demand, value, depth + 1),
            None => is_undecided_without(demand, depth),
        },
        // A field of what has none is an error.
        _ => true,
    }
}

/// Whether the rule is not surely false where the name at this place of the path is the first that is not there.
fn is_undecided_without(demand: &Demand, place: usize) -> bool {
    demand.without >> place & 1 == 0
}

fn of_text(test: &Test, text: &str) -> bool {
    match test {
        Test::Equal(values) => values.iter().any(|value| matches!(value, Scalar::Text(known) if **known == *text)),
        Test::Prefix(prefix) => text.starts_with(&**prefix),
        Test::Contains(part) => text.contains(&**part),
        // Of a text it is an error to be between numbers.
        Test::Within(..) | Test::Present => true,
    }
}

fn is_met(test: &Test, value: &Value) -> bool {
    let scalar = match value {
        Value::String(text) => return of_text(test, text),
        Value::Null => Some(Scalar::Null),
        Value::Bool(value) => Some(Scalar::Bool(*value)),
        Value::Number(number) => number.as_f64().map(Scalar::number),
        Value::Array(_) | Value::Object(_) => None,
    };
    match (test, scalar) {
        (Test::Equal(values), scalar) => scalar.is_some_and(|scalar| values.contains(&scalar)),
        (Test::Within(low, high), Some(Scalar::Number(bits))) => (*low..=*high).contains(&f64::from_bits(bits)),
        // What is no text has no beginning and no parts, what is no number is not between two: an error.
        (Test::Prefix(_) | Test::Contains(_) | Test::Within(..) | Test::Present, _) => true,
    }
}
