//! The attempts of a step: how many there were, and whether there is another.

use std::time::Duration;

use super::{backoff, step::Recorded};
use crate::{
    actions::{Failure, FailureKind},
    api::Retry,
};

/// Renderings after conflicts that are not counted as failures: a controller's status writes are no failure of ours.
const CONFLICTS: u32 = 20;
/// A conflict comes of another writer, who is done in a moment.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);

/// The attempts of a step so far.
#[derive(Default)]
pub(super) struct Tries {
    pub(super) recorded: Option<Recorded>,
    pub(super) renderings: u32,
    pub(super) failures: u32,
    conflicts: u32,
}

impl Tries {
    /// So many renderings were recorded by earlier processes.
    pub(super) fn after(renderings: u32) -> Self {
        Self { renderings, ..Self::default() }
    }

    /// How long until the next attempt after this failure; nothing when there is none.
    pub(super) fn pause(&mut self, failure: &Failure, retry: &Retry) -> Option<Duration> {
        match failure.kind {
            FailureKind::Final | FailureKind::Invalid | FailureKind::Interrupted => None,
            FailureKind::Turn(wait) => Some(wait),
            FailureKind::Conflict if self.conflicts < CONFLICTS => {
                self.conflicts += 1;
                // The first time it may be that what was remembered of the target is old: then nobody is at work.
                Some(if self.conflicts == 1 { Duration::ZERO } else { backoff::jittered(AFTER_CONFLICT) })
            }
            FailureKind::Conflict | FailureKind::Retryable { .. } => {
                self.failures += 1;
                let after = if let FailureKind::Retryable { after } = failure.kind { after } else { None };
                (self.failures <= retry.limit).then(|| backoff::wait(retry, self.failures, after))
            }
        }
    }
}
