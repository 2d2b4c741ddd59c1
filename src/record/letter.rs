//! Dead letters: what is kept of a firing that failed for good, to be looked at and run again.

use serde::{Deserialize, Serialize};

use super::{Finished, OpenFiring, Stamp};

/// A firing that failed for good, with its event and what became of its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The firing as it was when it ended. Its requests hold Secrets by reference only.
    pub open: OpenFiring,
    /// How it ended.
    pub finished: Finished,
    /// When it ended.
    pub stamp: Stamp,
}
