//! What the supervisor tells about a rule's sources.

use crate::{kubernetes::MissingRight, record::RuleRef};

/// How the sources of a rule are doing; sent whenever it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceReport {
    /// The rule.
    pub rule: RuleRef,
    /// The generation of the spec that this is about.
    pub generation: i64,
    /// The worst of what its sources are doing.
    pub listening: Listening,
    /// What may have been missed since this version of the rule began, also when all is well now; sentences.
    pub notices: Vec<String>,
    /// Whether the rule's account may see what the sources look at; else every right it lacks.
    pub authorized: Result<(), Vec<MissingRight>>,
}

/// What a rule's sources are doing, the worst last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listening {
    /// Every change is seen, and from its `Baseline` on judged.
    Established,
    /// Lists are being taken, or rights being asked for.
    Starting,
    /// A watch has been down for more than a minute, or the operator itself may not watch.
    Failed {
        /// Why, and what to do.
        message: String,
    },
    /// The EventSource accepts no events for now.
    EventSourceNotReady {
        /// Which, and why.
        message: String,
    },
    /// There is no such EventSource; one that comes later is enough.
    EventSourceNotFound {
        /// Which.
        message: String,
    },
    /// The API server serves no such kind; it is asked again, so a definition that comes later is enough.
    KindNotFound {
        /// Which.
        message: String,
    },
}
