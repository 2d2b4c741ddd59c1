//! Why an expression gave what it gave: its parts, each with its value.

use serde_json::Value as Json;

use super::{Program, Scope, convert, eval::Run, failure::Failure, node::Kind, value::Value};
use crate::rule::fault::EvalError;

/// A part of an expression, and what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// The part as it could have been written.
    pub expression: String,
    /// Its value as JSON, or why it has none. Bytes and other values that JSON cannot say are told by their type.
    pub value: Result<Json, EvalError>,
}

impl Program {
    /// The parts of the expression that were evaluated for what the scope holds, the whole first and each part once; in loops as it was the
    /// first time. At most 256. The values are not fit for a status: see [`Program::saw`] for that.
    pub fn explain(&self, scope: &Scope<'_>) -> Vec<Explained> {
        let seen = super::stack::for_evaluating(self.0.levels, || Run::explained(scope, &self.0.root));
        let mut parts: Vec<Explained> = Vec::new();
        let whole = seen.last().into_iter();
        for (node, answer) in whole.chain(seen.iter()) {
            let expression = node.to_string();
            if !matches!(node.kind, Kind::Root(_)) && parts.iter().all(|part| part.expression != expression) {
                parts.push(Explained {
                    expression,
                    value: answer.clone().map_err(Failure::told).map(|value| told(&value)),
                });
            }
        }
        parts
    }
}

fn told(value: &Value<'_>) -> Json {
    match value {
        Value::Optional(None) => Json::from("an optional without a value"),
        Value::Optional(Some(value)) => told(value),
        value => convert::to_json(value, &mut { convert::MAX_RENDERED })
            .unwrap_or_else(|_| Json::from(format!("a value of the type {}", value.type_name()))),
    }
}
