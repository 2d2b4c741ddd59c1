//! The labels of metrics, and the values that they have.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::record::{Decision, SuppressedReason};

/// How far a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchState {
    /// It is being established.
    Starting,
    /// Changes arrive.
    Established,
    /// It cannot be established, or has been down for a minute.
    Failed,
}

/// What became of one write of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusWrite {
    /// It is in the API.
    Written,
    /// It failed and will be repeated.
    Failed,
    /// The object is gone.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EventLabels {
    pub(super) r#type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DecisionLabels {
    pub(super) decision: &'static str,
}

impl DecisionLabels {
    pub(super) fn of(decision: &Decision) -> Self {
        let decision = match decision {
            Decision::Fired(_) => "Fired",
            Decision::Counted { .. } => "Counted",
            Decision::Noted { .. } => "Noted",
            Decision::Passed { .. } => "Passed",
            Decision::Resolved { .. } => "Resolved",
            Decision::Suppressed { reason: SuppressedReason::Cooldown, .. } => "SuppressedByCooldown",
            Decision::Suppressed { reason: SuppressedReason::TooManyGroups, .. } => "SuppressedByTooManyGroups",
            Decision::Suppressed { reason: SuppressedReason::TooMuchState, .. } => "SuppressedByTooMuchState",
            Decision::Suppressed { reason: SuppressedReason::Budget, .. } => "SuppressedByBudget",
            Decision::Suppressed { reason: SuppressedReason::Backlog, .. } => "SuppressedByBacklog",
            Decision::Suppressed { reason: SuppressedReason::OwnWrite, .. } => "SuppressedByOwnWrite",
            Decision::Suppressed { reason: SuppressedReason::Concurrency, .. } => "SuppressedByConcurrency",
            Decision::Suppressed { reason: SuppressedReason::Dedupe, .. } => "SuppressedByDedupe",
            Decision::Suppressed { reason: SuppressedReason::OutsideActiveWindow, .. } => {
                "SuppressedOutsideActiveWindow"
            }
            Decision::Suppressed { reason: SuppressedReason::Stopped, .. } => "SuppressedByStop",
            Decision::Suppressed { reason: SuppressedReason::Loop, .. } => "SuppressedByLoop",
            Decision::Suppressed { reason: SuppressedReason::Silence, .. } => "SuppressedBySilence",
            Decision::Deferred { .. } => "Deferred",
            Decision::Errored { .. } => "Errored",
        };
        Self { decision }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PositionLabels {
    pub(super) of: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: Name<OutcomeName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WatchLabels {
    pub(super) state: Name<WatchState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WriteLabels {
    pub(super) result: Name<StatusWrite>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OutcomeName {
    Running,
    Succeeded,
    Observed,
    Unchanged,
    Skipped,
    Superseded,
    Failed,
    Expired,
}

/// A variant's name as a label's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name<T>(pub(super) T);

impl<T: fmt::Debug> EncodeLabelValue for Name<T> {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        use fmt::Write as _;
        write!(encoder, "{:?}", self.0)
    }
}
