//! Which values of `oldObject` an expression reads: they have to be kept of every object, so they are named in the expression.

use std::fmt;

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};
use serde_json::{Map, Value};

use super::{CelFault, check};

/// The name.
pub(super) const NAME: &str = "oldObject";
/// The greatest index in a list: below it places are filled up.
const MAX_INDEX: i64 = 63;
/// Fields at the top of an object that hold nearly all of it.
const WHOLE: [&str; 6] = ["metadata", "spec", "status", "data", "binaryData", "stringData"];

/// Where a value of an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::rule) struct Place(Vec<Key>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Field(String),
    Index(usize),
}

/// What is at a place of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::rule) enum There<'v> {
    Value(&'v Value),
    /// Nothing: so many keys lead somewhere.
    Nothing(usize),
}

impl Place {
    /// What the object has there.
    pub(in crate::rule) fn of<'v>(&self, object: &'v Value) -> There<'v> {
        let mut value = object;
        for (depth, key) in self.0.iter().enumerate() {
            let next = match key {
                Key::Field(name) => value.as_object().and_then(|map| map.get(name)),
                Key::Index(index) => value.as_array().and_then(|list| list.get(*index)),
            };
            let Some(next) = next else { return There::Nothing(depth) };
            value = next;
        }
        There::Value(value)
    }

    /// Puts a value there.
    pub(in crate::rule) fn put(&self, object: &mut Value, value: Value) {
        *self.0.iter().fold(object, below) = value;
    }

    /// Makes what leads there, as far as so many keys do.
    pub(in crate::rule) fn make(&self, object: &mut Value, depth: usize) {
        let end = self.0.iter().take(depth).fold(object, below);
        if end.is_null() {
            match self.0.get(depth) {
                Some(Key::Field(_)) => *end = Value::Object(Map::new()),
                Some(Key::Index(_)) => *end = Value::Array(Vec::new()),
                None => {}
            }
        }
    }

    /// Whether the other one is within it.
    pub(in crate::rule) fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

/// The value below a key, made where there is none.
fn below<'v>(value: &'v mut Value, key: &Key) -> &'v mut Value {
    match key {
        Key::Field(name) => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            &mut value[name.as_str()]
        }
        Key::Index(index) => {
            if !value.is_array() {
                *value = Value::Array(Vec::new());
            }
            if let Value::Array(list) = value
                && list.len() <= *index
            {
                list.resize(*index + 1, Value::Null);
            }
            &mut value[*index]
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        for key in &self.0 {
            match key {
                Key::Index(index) => write!(f, "[{index}]")?,
                Key::Field(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                    write!(f, ".{name}")?;
                }
                Key::Field(name) => write!(f, "[{name:?}]")?,
            }
        }
        Ok(())
    }
}

/// The places that an expression reads, each once.
///
/// # Errors
/// Where it reads all of the object, or what is only known when it is evaluated.
pub(super) fn places(
    source: &str,
    root: &IdedExpr,
    offset: &dyn Fn(u64) -> usize,
) -> Result<Vec<Place>, Vec<CelFault>> {
    let (mut places, mut faults) = (Vec::new(), Vec::new());
    collect(root, &mut |id, place: Place| match place.0.as_slice() {
        [] => faults.push(CelFault::at(source, offset(id), unnamed())),
        [Key::Field(field)] if WHOLE.contains(&field.as_str()) => {
            faults.push(CelFault::at(source, offset(id), too_much(field)));
        }
        _ => places.push(place),
    });
    places.sort();
    places.dedup();
    if faults.is_empty() { Ok(places) } else { Err(faults) }
}

fn unnamed() -> String {
    "only values that are named here are kept of `oldObject`: write which, such as `oldObject.spec.replicas`, or compare it with null".to_owned()
}

fn too_much(field: &str) -> String {
    let example = match field {
        "metadata" => "`oldObject.metadata.labels`",
        "data" | "binaryData" | "stringData" => "`oldObject.data['key']`",
        "status" => "`oldObject.status.phase`",
        _ => "`oldObject.spec.replicas`",
    };
    format!("`oldObject.{field}` is too much to be kept of every object: write which field of it, such as {example}")
}

fn collect(node: &IdedExpr, found: &mut dyn FnMut(u64, Place)) {
    if is_null_test(node) {
        return;
    }
    match keys(node) {
        Some(keys) => found(node.id, Place(keys)),
        None => check::each_child(node, &mut |child| collect(child, found)),
    }
}

/// `oldObject == null`: it asks for no value.
fn is_null_test(node: &IdedExpr) -> bool {
    let Expr::Call(call) = &node.expr else { return false };
    let compares = [operators::EQUALS, operators::NOT_EQUALS].contains(&call.func_name.as_str());
    let is_null = |node: &IdedExpr| matches!(node.expr, Expr::Literal(LiteralValue::Null));
    let is_whole = |node: &IdedExpr| keys(node).is_some_and(|keys| keys.is_empty());
    match call.args.as_slice() {
        [one, other] if compares => (is_null(one) && is_whole(other)) || (is_whole(one) && is_null(other)),
        _ => false,
    }
}

/// The keys below `oldObject`, or `event.data.oldObject`, in any of the ways to select; nothing for other expressions.
fn keys(node: &IdedExpr) -> Option<Vec<Key>> {
    let (operand, key) = match &node.expr {
        Expr::Ident(name) if name.trim_start_matches('.') == NAME => return Some(Vec::new()),
        Expr::Select(select) => (&*select.operand, Key::Field(select.field.clone())),
        Expr::Call(call)
            if [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT].contains(&call.func_name.as_str()) =>
        {
            let [operand, key] = call.args.as_slice() else { return None };
            let key = match &key.expr {
                Expr::Literal(LiteralValue::String(key)) => Key::Field(key.inner().to_owned()),
                Expr::Literal(LiteralValue::Int(index)) if (0..=MAX_INDEX).contains(index.inner()) => {
                    Key::Index(usize::try_from(*index.inner()).ok()?)
                }
                _ => return None,
            };
            (operand, key)
        }
        _ => return None,
    };
    if key == Key::Field(NAME.to_owned()) && is_data(operand) {
        return Some(Vec::new());
    }
    let mut keys = keys(operand)?;
    keys.push(key);
    Some(keys)
}

/// `event.data`
fn is_data(node: &IdedExpr) -> bool {
    let Expr::Select(select) = &node.expr else { return false };
    let is_event = matches!(&select.operand.expr, Expr::Ident(name) if name.trim_start_matches('.') == "event");
    is_event && select.field == "data"
}
