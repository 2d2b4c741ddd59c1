//! Filled-in texts: a text that is exactly one `${ }` keeps its value's type, and must become a text where only texts are taken.

use serde_json::Value;

use super::Failure;

/// The value as text: numbers, lists and maps are written as JSON.
///
/// # Errors
/// Final when there is none: an absent value is an error and not the text `null`.
pub(super) fn of(value: Option<&Value>, field: &str) -> Result<String, Failure> {
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) | None => Err(Failure::last(format!("{field} is null"))),
        Some(value) => Ok(value.to_string()),
    }
}
