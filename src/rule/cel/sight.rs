//! What an expression looked at: the paths in it and their values, as far as a status may show them.
//!
//! A status is read by people who may not read the object. So only numbers, true and false are shown wherever they come from, and short texts of the
//! metadata and the status of objects; never annotations, which hold whole objects at times.

use std::fmt::Write as _;

use super::{
    Program, Scope,
    node::{Kind, Node, Root},
    value::{List, Value},
};
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
        collect(&self.0.root, &mut paths);
        let told: Vec<String> = paths.iter().take(MAX_PATHS).filter_map(|path| path.told(scope)).collect();
        cut(&told.join("; "), MAX_SAW)
    }
}

fn collect(node: &Node, paths: &mut Vec<Path>) {
    match path(node) {
        Some(path) if !path.keys.is_empty() => {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        _ => node.children().into_iter().for_each(|child| collect(child, paths)),
    }
}

fn path(node: &Node) -> Option<Path> {
    let (above, key) = match &node.kind {
        Kind::Root(root) => return Some(Path { root: root.name().to_owned(), keys: Vec::new() }),
        Kind::Variable(name) => {
            return Some(Path { root: "variables".to_owned(), keys: vec![Key::Field(name.to_string())] });
        }
        Kind::Select { operand, field, .. } | Kind::Has { operand, field } => {
            (&**operand, Key::Field(field.to_string()))
        }
        Kind::Index { pair, .. } => {
            let key = match &pair[1].kind {
                Kind::Literal(Value::String(key)) => Key::Field(key.to_string()),
                Kind::Literal(Value::Int(index)) => Key::Index(usize::try_from(*index).ok()?),
                _ => return None,
            };
            (&pair[0], key)
        }
        _ => return None,
    };
    let mut path = path(above)?;
    path.keys.push(key);
    Some(path)
}

impl Path {
    fn told(&self, scope: &Scope<'_>) -> Option<String> {
        let keys: Vec<&str> = self.keys.iter().map(|key| if let Key::Field(name) = key { name } else { "" }).collect();
        let (start, used) = match (self.root.as_str(), keys.as_slice()) {
            ("variables", [name, ..]) => (scope.variable(name).ok(), 1),
            ("event" | "object" | "oldObject" | "target", _) | ("source", ["name"]) => {
                (scope.root(&Root::of(&self.root)), 0)
            }
            _ => return None,
        };
        // What is nothing at all has nothing to tell.
        let start = start.filter(|start| !matches!((start, keys.len() > used), (Value::Null, true)))?;
        let value = self.keys[used..].iter().try_fold(start, |value, key| key.of(&value));
        Some(match value {
            None | Some(Value::Optional(None)) => format!("{self} is not there"),
            Some(value) => format!("{self} = {}", shown(&value, may_show(&self.root, &keys))),
        })
    }
}

impl Key {
    fn of<'a>(&self, value: &Value<'a>) -> Option<Value<'a>> {
        match (value, self) {
            (Value::Map(map), Key::Field(name)) => map.field(name),
            (Value::List(list), Key::Index(index)) => List::get(list, *index),
            (Value::Optional(Some(value)), key) => key.of(value),
            _ => None,
        }
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
        ("event", ["data", "object" | "oldObject", rest @ ..]) | ("object" | "oldObject" | "target", rest) => {
            of_object(rest)
        }
        ("event", ["data", field]) => {
            ["type", "reason", "reporter", "action", "time", "firstTime", "operation"].contains(field)
        }
        ("event", ["data", "regarding" | "related", ..]) => true,
        ("event", ["data", ..]) => false,
        ("event", ["id" | "source" | "type" | "subject" | "time"]) | ("source", _) => true,
        _ => false,
    }
}

fn shown(value: &Value<'_>, texts_too: bool) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(text) if texts_too => cut(text, MAX_TEXT),
        Value::String(_) => "a text (not shown)".to_owned(),
        Value::List(list) => format!("a list of {}", list.len()),
        Value::Map(map) => format!("a map of {}", map.len()),
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(duration) => super::times::write_duration(*duration),
        Value::Optional(Some(value)) => shown(value, texts_too),
        other => format!("a {} (not shown)", other.type_name()),
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
