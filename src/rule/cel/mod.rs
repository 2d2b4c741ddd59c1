//! Expressions: CEL with the API server's semantics, checked and bounded before it is used.
//!
//! An expression is limited before it is parsed (length, brackets), checked after (names, functions, types, loops, patterns), and counts what it
//! does while it is evaluated. It cannot reach anything but its scope: no clock, no I/O, no environment. The parser is the `cel` crate's; what
//! is made of its tree, and how that is evaluated, is ours. The functions are listed in `library`.

mod build;
mod check;
mod convert;
mod eval;
mod explain;
mod failure;
mod fields;
mod kinds;
mod known;
mod lexer;
mod library;
mod lift;
mod loops;
mod meter;
mod node;
mod old;
mod operators;
mod parse;
mod pattern;
mod scope;
mod sight;
mod stack;
mod static_type;
mod text;
mod times;
mod told;
mod value;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde_json::Value as Json;

pub use explain::Explained;
pub(crate) use kinds::near;
pub use scope::Scope;
pub use text::{Mode, Template, Text};
pub use told::Told;

use super::fault::{EvalError, Fault};
use eval::{Answer, Run};
use failure::Failure;
pub(super) use lift::{Demand, Path, Scalar, Test, demands, named};
pub(super) use old::{Place, There};
use parse::Compiled;
pub(super) use parse::LookedUp;
use static_type::Static;
use value::Value;

/// An expression does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct CelFault {
    /// Line, from 1.
    pub line: usize,
    /// Column in the line, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl CelFault {
    /// A fault at a byte offset of the source.
    fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column, message: message.into() }
    }

    /// As a fault of the field at `path`.
    pub fn of(self, path: &str) -> Fault {
        Fault { path: path.to_owned(), line: self.line, column: self.column, message: self.message }
    }
}

/// The names that an expression may use.
#[derive(Clone, Debug, Default, Hash)]
pub struct Names {
    roots: BTreeSet<String>,
    variables: Vec<String>,
    actions: Vec<String>,
    groups: Vec<String>,
    extensions: bool,
    /// What `object` may be, where that is known: `apps/v1 Deployment`.
    kinds: Vec<String>,
    /// What `event` may tell of, where that is known.
    told: Vec<Told>,
}

impl Names {
    /// What conditions may use: `event`, `source`, `object`, `oldObject`, `variables`, `rule` and `now`.
    pub fn conditions() -> Self {
        Self::of(&["event", "source", "object", "oldObject", "variables", "rule", "now"])
    }

    /// These names, and `actions`, `firing` and `group`, which only actions may use.
    pub fn and_of_actions(self) -> Self {
        self.with("actions").with("firing").with("group")
    }

    /// Exactly these names.
    pub fn of(names: &[&str]) -> Self {
        Self { roots: names.iter().map(|name| (*name).to_owned()).collect(), ..Self::default() }
    }

    /// One name more, which the scope must be given with [`Scope::with_value`].
    pub fn with(mut self, name: &str) -> Self {
        self.roots.insert(name.to_owned());
        self
    }

    /// All of these but one.
    pub fn without(mut self, name: &str) -> Self {
        self.roots.remove(name);
        self
    }

    /// These names, where `event` may come from elsewhere and have extensions of any name.
    pub fn with_extensions(mut self) -> Self {
        self.extensions = true;
        self
    }

    /// These names, where `object` is of one of these kinds, each an API version and a kind. Fields of Kubernetes' own are checked if all are.
    pub fn with_object_of<'k>(mut self, kinds: impl Iterator<Item = (&'k str, &'k str)>) -> Self {
        self.kinds = kinds.map(|(api_version, kind)| format!("{api_version} {kind}")).collect();
        self.kinds.sort();
        self.kinds.dedup();
        self
    }

    /// These names, where `event` tells of one of these. Without any, `event.data` may hold anything.
    pub fn with_told(mut self, told: impl Iterator<Item = Told>) -> Self {
        self.told = told.collect();
        self.told.sort_unstable();
        self.told.dedup();
        self
    }

    /// What `event.data` is made of.
    fn data_shapes(&self) -> Vec<kinds::Shape> {
        self.told.iter().map(|told| told.data()).collect()
    }

    /// What `object` is made of; nothing unless all its kinds are Kubernetes' own.
    fn object_shapes(&self) -> Vec<kinds::Shape> {
        let shape =
            |name: &String| name.split_once(' ').and_then(|(api_version, kind)| kinds::shape_of(api_version, kind));
        self.kinds.iter().map(shape).collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    /// A variable that may be used from here on.
    pub fn add_variable(&mut self, name: &str) {
        self.variables.push(name.to_owned());
    }

    /// An action whose results may be used from here on.
    pub fn add_action(&mut self, name: &str) {
        self.actions.push(name.to_owned());
    }

    /// A value of groups that may be used as `group.<name>`.
    pub fn add_group(&mut self, name: &str) {
        self.groups.push(name.to_owned());
    }

    /// What else there is to say about a name that is not known here.
    fn hint(&self, name: &str) -> &'static str {
        match name {
            "now" => {
                "; conditions of a rule with trigger.held are judged when something changes, not as time passes: they know no `now`"
            }
            "oldObject" => {
                "; `oldObject` is known in rules whose trigger is neither held nor due, but for changedExpressions and silences"
            }
            "count" if self.roots.contains("actions") => "; `count` needs trigger.count or trigger.batch",
            "events" => "; `events` is known in actions of a rule with trigger.batch",
            "value" => "; `value` is known in actions of a rule with trigger.value or trigger.anomaly",
            "baseline" => "; `baseline` is known in actions of a rule with trigger.anomaly",
            "target" => "; `target` is known in waitFor.expression and wait.expression",
            "response" => "; `response` is known in http.expectExpression",
            "failure" => "; `failure` is known in failureActions",
            "count" | "group" => "; `count` and `group` are known in actions",
            _ => "",
        }
    }

    /// The fields of a name, where they are known.
    fn fields_of(&self, root: &str) -> Option<Vec<String>> {
        let own = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        match root {
            "variables" => Some(self.variables.clone()),
            "actions" => Some(self.actions.clone()),
            "group" => Some(self.groups.clone()),
            "event" if self.extensions => None,
            "event" => own(&fields::OF_EVENT),
            "source" => own(&["name"]),
            "rule" => own(&fields::OF_RULE),
            "firing" => own(&["id"]),
            "failure" => own(&["action", "reason", "message"]),
            "response" => own(&["status", "headers", "body"]),
            _ => None,
        }
    }

    /// The type of a name's value.
    fn type_of(&self, root: &str) -> Static {
        match root {
            "event" | "source" | "rule" | "actions" | "firing" | "group" | "response" => Static::Map,
            "count" => Static::Int,
            "now" => Static::Timestamp,
            _ => Static::Dyn,
        }
    }

    /// The type of a field of a name's value.
    fn type_of_field(&self, root: &str, field: &str) -> Static {
        match (root, field) {
            ("event", "id" | "source" | "type" | "subject" | "time") | ("source" | "rule" | "firing", _) => {
                Static::String
            }
            ("response", "status") => Static::Int,
            ("response", "headers") => Static::Map,
            _ => Static::Dyn,
        }
    }
}

/// A compiled expression. Expressions that are written alike share what they were compiled to.
#[derive(Clone)]
pub struct Program(Arc<Compiled>);

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Program").field(&self.0.source).finish()
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Program {
    /// Compiles an expression that uses no other names than these.
    ///
    /// # Errors
    /// The first fault, with its line and column.
    pub fn compile(source: &str, names: &Names) -> Result<Self, CelFault> {
        Self::compile_all(source, names).map_err(|faults| {
            faults.into_iter().next().unwrap_or_else(|| CelFault::at(source, 0, "the expression is wrong"))
        })
    }

    /// As [`Program::compile`], with all faults.
    pub(super) fn compile_all(source: &str, names: &Names) -> Result<Self, Vec<CelFault>> {
        known::compile(source, names).map(Self)
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// What somebody has to look up for it.
    pub(super) fn looked_up(&self) -> LookedUp {
        self.0.looked_up
    }

    /// The values of `oldObject` that it reads.
    pub(super) fn places(&self) -> &[Place] {
        &self.0.places
    }

    /// What it gives, when that is surely neither true nor false.
    pub(super) fn surely_not_bool(&self) -> Option<&'static str> {
        self.0.type_.surely_not_bool()
    }

    /// What it gives, when that is surely no whole number.
    pub(super) fn surely_not_whole(&self) -> Option<&'static str> {
        self.0.type_.surely_not_whole()
    }

    /// The expression's value for what the scope holds, as JSON: times and durations as text.
    ///
    /// # Errors
    /// When the expression fails, costs too much, or gives what JSON cannot say.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Json, EvalError> {
        let value = self.value(scope).map_err(Failure::told)?;
        convert::to_json(&value, &mut { convert::MAX_RENDERED }).map_err(Failure::told)
    }

    /// As [`Program::evaluate`], with nothing for an optional that has no value.
    pub(super) fn evaluate_optional(&self, scope: &Scope<'_>) -> Result<Option<Json>, EvalError> {
        let value = self.value(scope).map_err(Failure::told)?;
        convert::optional_to_json(&value, &mut { convert::MAX_RENDERED }).map_err(Failure::told)
    }

    /// Whether the expression is true for what the scope holds.
    ///
    /// # Errors
    /// When the expression fails, costs too much, or gives neither true nor false.
    pub fn test(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        match self.value(scope).map_err(Failure::told)? {
            Value::Bool(answer) => Ok(answer),
            other => Err(EvalError::new(format!("gave a value of the type {}, not true or false", other.type_name()))),
        }
    }

    fn value<'a>(&self, scope: &Scope<'a>) -> Answer<'a> {
        stack::for_evaluating(self.0.levels, || Run::new(scope).value(&self.0.root))
    }
}
