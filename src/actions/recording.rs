//! Requests as they are recorded: written before a step acts, and read when it is carried out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;

/// The request as it is recorded.
pub(super) fn of(request: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(request).map_err(|error| Failure::last(format!("record the request: {error}")))
}

/// The request that was recorded.
///
/// # Errors
/// Final when it is of another shape.
pub(super) fn read<'r, R: Deserialize<'r>>(recorded: &'r Value) -> Result<R, Failure> {
    R::deserialize(recorded).map_err(|error| Failure::last(format!("read the recorded request: {error}")))
}
