//! A watch that runs, as the supervisor knows it.

use tokio_util::sync::CancellationToken;

use crate::{
    rule::Followed,
    sources::watch::{Learned, Phase},
};

/// A watch that runs.
pub(super) struct Running {
    pub(super) start: u64,
    pub(super) stop: CancellationToken,
    pub(super) phase: Phase,
    pub(super) learned: Learned,
}

impl Running {
    /// How it is doing for whoever follows these values. Where it does not know them yet it will take a list, so that what changes from a rule's
    /// beginning on is known to have changed.
    pub(super) fn phase_for(&self, followed: &[Followed]) -> Phase {
        if self.phase == Phase::Listening && !self.learned.covers(followed) {
            return Phase::Starting;
        }
        self.phase.clone()
    }
}
