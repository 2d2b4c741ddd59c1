//! Why an evaluation ended without a value.

use std::fmt::Display;

use super::value::Value;
use crate::{rule::fault::EvalError, text::cut};

/// Characters of a message that holds part of a value.
const MAX_MESSAGE: usize = 256;

/// An evaluation failed.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The budget is used up; nothing makes up for that.
    Cost(u64),
    /// A field that is not there, by its path.
    Missing(String),
    /// A variable failed.
    Variable(EvalError),
    Other(String),
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }

    /// A function failed for what it was given.
    pub(super) fn of(function: &str, message: impl Display) -> Self {
        Self::Other(format!("{function}(): {message}"))
    }

    /// No overload of the function or operator takes values of these types.
    pub(super) fn no_overload(function: &str, args: &[&Value<'_>]) -> Self {
        let types = args.iter().map(|arg| arg.type_name()).collect::<Vec<_>>().join(", ");
        Self::Other(format!("found no matching overload for '{function}' applied to '({types})'"))
    }

    /// Whether `||` and `&&` may make up for it.
    pub(super) fn may_be_absorbed(&self) -> bool {
        !matches!(self, Self::Cost(_))
    }

    pub(super) fn told(self) -> EvalError {
        match self {
            Self::Cost(limit) => EvalError::new(format!("the expression costs more than {limit} steps for this event")),
            Self::Missing(path) => EvalError::new(format!("no such field: {path}")),
            Self::Variable(error) => error,
            Self::Other(message) => EvalError::new(cut(&message, MAX_MESSAGE)),
        }
    }
}
