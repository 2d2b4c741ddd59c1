//! The group of an event.

use serde_json::Value;

use crate::{
    event::Event,
    record::GroupValues,
    rule::{cel::Scope, compile::Rule, fault::EvalError},
};

/// Bytes of a text that tells groups apart: the longest names of a namespace, a kind and an object fit.
const MAX_TEXT: usize = 512;
/// What state is kept for.
pub(super) struct Group {
    /// Its name. Groups with different values have different names.
    pub(super) name: String,
    /// The values of `groupBy`.
    pub(super) values: GroupValues,
}

impl Group {
    /// The group of an event: by `groupBy`, otherwise what the event is about. Events about nothing in particular are one group.
    pub(super) fn of(rule: &Rule, scope: &Scope<'_>, event: &Event) -> Result<Self, EvalError> {
        let mut values = GroupValues::new();
        for (name, program) in &rule.group_by {
            let place = |error: EvalError| error.at(&format!("groupBy[{name}]"));
            let value = program.evaluate(scope).map_err(place)?;
            values.insert(name.clone(), plain(value).map_err(place)?);
        }
        let texts: Vec<(&str, String)> =
            rule.group_by.iter().map(|(name, _)| (name.as_str(), text(&values[name.as_str()]))).collect();
        let name = match texts.as_slice() {
            [] => subject(event)?,
            [(_, only)] => only.clone(),
            // Commas of values are written otherwise than those between them.
            many => {
                let part = |(name, text): &(&str, String)| {
                    format!("{name}={}", text.replace('\\', "\\\\").replace(',', "\\,"))
                };
                many.iter().map(part).collect::<Vec<_>>().join(", ")
            }
        };
        Ok(Self { name, values })
    }
}

/// What the event is about, if that can be a group's name.
fn subject(event: &Event) -> Result<String, EvalError> {
    let subject = event.subject.clone().unwrap_or_default();
    if subject.len() > MAX_TEXT {
        let message = format!("event.subject has {} bytes; {MAX_TEXT} are allowed: say groupBy", subject.len());
        return Err(EvalError::new(message).at("groupBy"));
    }
    Ok(subject)
}

/// A value that can be part of a group's name.
fn plain(value: Value) -> Result<Value, EvalError> {
    let other = match &value {
        Value::String(text) if text.len() > MAX_TEXT => {
            return Err(EvalError::new(format!("gives a text of {} bytes; {MAX_TEXT} are allowed", text.len())));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => return Ok(value),
        Value::Null => "null",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    Err(EvalError::new(format!("gives {other}, not a text, a number, or true or false")))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
