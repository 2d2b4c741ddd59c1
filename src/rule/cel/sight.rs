//! What an expression looked at: the paths in it and their values, as far as a status may show them.
//!
//! A status is read by people who may not read the object. So only numbers, true and false are shown wherever they come from, and short texts of the
//! metadata and the status of objects; never annotations, which hold whole objects at times.

use std::fmt::Write as _;

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};
use serde_json::Value;

use super::{Program, Scope, check::each_child};
use crate::text::cut;

/// Characters of a text that is shown.
const MAX_TEXT: usize = 64;
/// Paths that are shown, and characters of all of them.
const MAX_PATHS: usize = 6;
const MAX_SAW: usize = 256;

/// A chain of selections that begins with a name: `event.data.count`.
#[derive(PartialEq)]
struct Path {
    root: String,
    keys: Vec<Key>,
}

#[derive(PartialEq)]
enum Key {
    Field(String),
    Index(usize),
}

impl Program {
    /// The values that the expression looks at: `event.data.count = 2; source.name = crash`. Empty when there are none.
    pub fn saw(&self, scope: &Scope<'_>) -> String {
        let mut paths = Vec::new();
        collect(&self.0.expression, &mut paths);
        let told: Vec<String> = paths.iter().take(MAX_PATHS).filter_map(|path| path.told(scope)).collect();
        cut(&told.join("; "), MAX_SAW)
    }
}

fn collect(node: &IdedExpr, paths: &mut Vec<Path>) {
    match path(node) {
        Some(path) if !path.keys.is_empty() => {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        _ => each_child(node, &mut |child| collect(child, paths)),
    }
}

fn path(node: &IdedExpr) -> Option<Path> {
    let (above, key) = match &node.expr {
        Expr::Ident(name) => return Some(Path { root: name.clone(), keys: Vec::new() }),
        Expr::Select(select) => (&*select.operand, Key::Field(select.field.clone())),
        Expr::Call(call)
            if [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT].contains(&call.func_name.as_str()) =>
        {
            let key = match &call.args.get(1)?.expr {
                Expr::Literal(LiteralValue::String(key)) => Key::Field(key.inner().to_owned()),
                Expr::Literal(LiteralValue::Int(index)) => Key::Index(usize::try_from(*index.inner()).ok()?),
                _ => return None,
            };
            (call.args.first()?, key)
        }
        // The wrappers that count the cost.
        Expr::Call(call) if call.func_name.starts_with('@') && call.args.len() == 1 => return path(&call.args[0]),
        _ => return None,
    };
    let mut path = path(above)?;
    path.keys.push(key);
    Some(path)
}

impl Path {
    fn told(&self, scope: &Scope<'_>) -> Option<String> {
        let event = scope.event()?;
        let keys: Vec<&str> = self.keys.iter().map(|key| if let Key::Field(name) = key { name } else { "" }).collect();
        let made;
        let (start, used) = match (self.root.as_str(), keys.as_slice()) {
            ("event", ["data", ..]) => (Some(&event.data), 1),
            ("event", [attribute, ..]) => {
                made = attribute_of(event, attribute);
                (made.as_ref(), 1)
            }
            ("object", _) => (event.data.get("object").filter(|_| scope.has_object()), 0),
            ("source", ["name"]) => {
                made = Some(scope.source_name().into());
                (made.as_ref(), 1)
            }
            ("variables", [name, ..]) => {
                made = scope.variable_as_json(name);
                (made.as_ref(), 1)
            }
            ("target", _) => (scope.value("target"), 0),
            _ => return None,
        };
        let value = self.keys[used..].iter().try_fold(start?, |value, key| match key {
            Key::Field(name) => value.get(name),
            Key::Index(index) => value.get(index),
        });
        Some(match value {
            None => format!("{self} is not there"),
            Some(value) => format!("{self} = {}", shown(value, may_show(&self.root, &keys))),
        })
    }
}

fn attribute_of(event: &crate::event::Event, name: &str) -> Option<Value> {
    match name {
        "id" => Some(event.id.as_str().into()),
        "source" => Some(event.source.as_str().into()),
        "type" => Some(event.type_.as_str().into()),
        "subject" => event.subject.as_deref().map(Value::from),
        "time" => event.time.map(|time| time.to_string().into()),
        name => event.extensions.get(name).cloned(),
    }
}

/// Whether a text at this path may be shown.
fn may_show(root: &str, keys: &[&str]) -> bool {
    let of_object = |keys: &[&str]| match keys {
        ["apiVersion" | "kind"] | ["status", ..] => true,
        ["metadata", field, ..] => *field != "annotations",
        _ => false,
    };
    match (root, keys) {
        ("event", ["data", "object", rest @ ..]) | ("object" | "target", rest) => of_object(rest),
        ("event", ["data", field]) => {
            ["type", "reason", "reporter", "action", "time", "firstTime", "operation"].contains(field)
        }
        ("event", ["data", "regarding" | "related", ..]) => true,
        ("event", ["data", ..]) => false,
        ("event", ["id" | "source" | "type" | "subject" | "time"]) | ("source", _) => true,
        _ => false,
    }
}

fn shown(value: &Value, texts_too: bool) -> String {
    match value {
        Value::String(text) if texts_too => cut(text, MAX_TEXT),
        Value::String(_) => "a text (not shown)".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(map) => format!("a map of {}", map.len()),
        plain => plain.to_string(),
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.root)?;
        for key in &self.keys {
            match key {
                Key::Index(index) => write!(f, "[{index}]")?,
                Key::Field(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                    f.write_char('.')?;
                    f.write_str(name)?;
                }
                Key::Field(name) => write!(f, "['{name}']")?,
            }
        }
        Ok(())
    }
}
