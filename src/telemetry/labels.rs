//! The labels of metrics, and the values that they have.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

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
