//! Triggers: what turns matching events into firings. One room per kind.
//!
//! A kind says what it keeps of a group, what an event means to that, what is due and when, and how the group goes on; all of it out of what it is
//! given. Times are those of records ([`crate::clock::Stamp::at`]). It knows neither cooldowns nor budgets, nor who else listens.

mod absent;
mod anomaly;
mod batch;
mod compile;
mod count;
mod due;
mod held;
mod level;
mod sequence;
mod value;

use serde::{Deserialize, Serialize};

use super::{cel::Scope, fault::EvalError};
use crate::{
    api::FiringKind,
    clock::Stamp,
    event::Event,
    record::{Firing, Head, Mark},
};
pub(super) use absent::{Absent, Heard};
pub(super) use anomaly::{Anomaly, Usual};
pub(super) use batch::{Batch, Gathered};
pub(super) use count::{Count, Counted};
pub(super) use due::{DueAt, Planned};
pub(super) use held::Held;
pub(super) use level::Level;
pub(super) use sequence::{All, Came, Sequence, Way};
pub(super) use value::{Measure, Window};

/// What one kind of trigger says of a group. `State` is what it keeps of one; nothing as long as that is as of one that was never heard of.
trait Kind {
    type State;

    /// What an event means to the group.
    fn judge(&self, kept: Option<&Self::State>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError>;

    /// What is kept of the group with the mark.
    fn take(&self, kept: Option<Self::State>, mark: Mark, now: i64) -> Option<Self::State>;

    /// What is kept of the group when it has fired.
    fn fired(&self, kept: Option<Self::State>, firing: &Firing) -> Option<Self::State>;

    /// What is kept of the group when what the rule fired for has ended.
    fn resolved(&self, _: Option<Self::State>) -> Option<Self::State> {
        None
    }

    /// When something is due though nothing happens.
    fn deadline(&self, _: &Self::State) -> Option<i64> {
        None
    }

    /// What is due then.
    fn due(&self, _: &Self::State, _: i64) -> Verdict {
        Verdict::default()
    }

    /// What is kept when it may not fire now, but then.
    fn postponed(&self, _: i64) -> Option<Mark> {
        None
    }
}

/// What a kind keeps of a group.
trait State {
    /// When nothing of it counts any more; [`i64::MAX`] while that is not known.
    fn end(&self) -> i64;

    /// Since when it has fired for what has not ended.
    fn active(&self) -> Option<Stamp> {
        None
    }

    /// Until when it is silenced.
    fn hushed(&self) -> Option<i64> {
        None
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> u64 {
        size_of_val(self) as u64
    }
}

/// All kinds: the name in the rows of groups, what it is compiled to, what it keeps.
macro_rules! kinds {
    ($($name:ident($kind:ty, $state:ty)),+ $(,)?) => {
        /// `trigger` of a rule, compiled.
        #[derive(Clone, Debug, PartialEq)]
        pub(super) enum Trigger {
            $($name($kind)),+
        }

        /// What a trigger keeps of one group; part of its row in the view.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub(super) enum Kept {
            $($name($state)),+
        }

        impl Trigger {
            /// What an event means to a group of which this is kept.
            pub(super) fn judge(&self, kept: Option<&Kept>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
                match self {
                    $(Self::$name(kind) => {
                        let kept = if let Some(Kept::$name(kept)) = kept { Some(kept) } else { None };
                        kind.judge(kept, sighting)
                    }),+
                }
            }

            /// What is kept of the group with the mark.
            pub(super) fn take(&self, kept: Option<Kept>, mark: Mark, now: i64) -> Option<Kept> {
                match self {
                    $(Self::$name(kind) => {
                        let kept = if let Some(Kept::$name(kept)) = kept { Some(kept) } else { None };
                        kind.take(kept, mark, now).map(Kept::$name)
                    }),+
                }
            }

            /// What is kept of the group when it has fired.
            pub(super) fn fired(&self, kept: Option<Kept>, firing: &Firing) -> Option<Kept> {
                match self {
                    $(Self::$name(kind) => {
                        let kept = if let Some(Kept::$name(kept)) = kept { Some(kept) } else { None };
                        kind.fired(kept, firing).map(Kept::$name)
                    }),+
                }
            }

            /// What is kept of the group when what the rule fired for has ended.
            pub(super) fn resolved(&self, kept: Option<Kept>) -> Option<Kept> {
                match self {
                    $(Self::$name(kind) => {
                        let kept = if let Some(Kept::$name(kept)) = kept { Some(kept) } else { None };
                        kind.resolved(kept).map(Kept::$name)
                    }),+
                }
            }

            /// When something is due for the group though nothing happens.
            pub(super) fn deadline(&self, kept: &Kept) -> Option<i64> {
                match (self, kept) {
                    $((Self::$name(kind), Kept::$name(kept)) => kind.deadline(kept),)+
                    // Of another kind: the rule was edited, and its groups start anew.
                    _ => None,
                }
            }

            /// What is due for the group at `now`.
            pub(super) fn due(&self, kept: &Kept, now: i64) -> Verdict {
                match (self, kept) {
                    $((Self::$name(kind), Kept::$name(kept)) => kind.due(kept, now),)+
                    _ => Verdict::default(),
                }
            }

            /// What is kept when it may not fire now, but then.
            pub(super) fn postponed(&self, until: i64) -> Option<Mark> {
                match self {
                    $(Self::$name(kind) => kind.postponed(until)),+
                }
            }
        }

        impl Kept {
            /// When nothing of it counts any more.
            pub(super) fn end(&self) -> i64 {
                match self {
                    $(Self::$name(kept) => kept.end()),+
                }
            }

            /// About how many bytes it takes.
            pub(super) fn bytes(&self) -> u64 {
                match self {
                    $(Self::$name(kept) => kept.bytes()),+
                }
            }

            /// Until when it is silenced.
            pub(super) fn hushed(&self) -> Option<i64> {
                match self {
                    $(Self::$name(kept) => kept.hushed()),+
                }
            }

            /// Since when the rule has fired for what has not ended.
            pub(super) fn active(&self) -> Option<Stamp> {
                match self {
                    $(Self::$name(kept) => kept.active()),+
                }
            }
        }
    };
}

kinds! {
    Count(Count, Counted),
    Held(Held, Level),
    Absent(Absent, Heard),
    Value(Measure, Window),
    Anomaly(Anomaly, Usual),
    Sequence(Sequence, Way),
    All(All, Came),
    Batch(Batch, Gathered),
    Due(DueAt, Planned),
}

/// An event that concerns a group.
pub(super) struct Sighting<'s, 'v> {
    pub head: &'s Head,
    pub event: &'s Event,
    /// Whether it met every condition; only triggers that follow objects hear of those that did not.
    pub holds: bool,
    /// The source that it came by.
    pub source: &'s str,
    /// The groups of the namespace take all that they may.
    pub crowded: bool,
    /// What expressions see.
    pub scope: &'s Scope<'v>,
}

/// What an event, or the time, means to a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// What is to be kept of it.
    pub mark: Option<Mark>,
    /// Set when it makes the rule fire.
    pub fires: Option<Fires>,
    /// Set when what the rule fired for then has ended.
    pub ended: Option<Stamp>,
    /// It has not ended, but the group is forgotten.
    pub forgets: bool,
    /// `value` in actions.
    pub value: Option<f64>,
    /// `baseline` in actions.
    pub baseline: Option<f64>,
}

/// How a rule fires.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fires {
    pub kind: FiringKind,
    pub step: Option<u32>,
    /// `count` in actions.
    pub count: Option<u64>,
    /// The time that it was planned for, in microseconds since 1970.
    pub planned: Option<i64>,
}

impl Trigger {
    /// Whether it follows the state of objects: it hears of events that do not meet the conditions as well.
    pub(super) fn follows_objects(&self) -> bool {
        matches!(self, Self::Held(_) | Self::Due(_))
    }

    /// Whether an event is kept with the group, for what is due later.
    pub(super) fn keeps_event(&self) -> bool {
        !matches!(self, Self::Count(_) | Self::Sequence(_) | Self::All(_))
    }

    /// Whether all events are kept with the group: `events` in actions.
    pub(super) fn keeps_events(&self) -> bool {
        matches!(self, Self::Batch(_))
    }

    /// Whether what is due waits, after a start, until sources have caught up.
    pub(super) fn waits_for_sources(&self) -> bool {
        matches!(self, Self::Held(_) | Self::Absent(_) | Self::Value(_) | Self::Anomaly(_) | Self::Due(_))
    }
}
