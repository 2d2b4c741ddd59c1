//! Why a step failed for good.

use serde::{Deserialize, Serialize};

/// Why a step failed for good: `failure.reason` in `failureActions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureReason {
    /// An expression or a text of it could not be evaluated.
    InvalidExpression,
    /// It cannot succeed by repeating: a missing right, a missing target, a refusal.
    Refused,
    /// It was repeated as often as `retry` allows.
    RetriesExhausted,
    /// It was not done within `timeout`, or what it waited for has not come about in time.
    TimedOut,
    /// It was carried out and failed by itself, such as a Job. Also what records of earlier versions do not tell.
    #[default]
    Failed,
}

impl FailureReason {
    /// As expressions see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidExpression => "InvalidExpression",
            Self::Refused => "Refused",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::TimedOut => "TimedOut",
            Self::Failed => "Failed",
        }
    }
}
