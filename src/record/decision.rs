//! What the engine decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Change, FiringId, GroupValues, Head, Position, RuleRef, RuleUid, Stamp};
use crate::api::{Action, EventRuleSpec, FiringKind};

/// What the engine decided about one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The input.
    pub input: Position,
    /// Set when the decisions are about an event that has waited until this input: the event's own position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Position>,
    /// Set when the decisions are about something that was due before this input was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// The decisions, in the order of rule uids.
    pub decisions: Vec<Decision>,
}

impl Judgement {
    /// The decisions about the event at `head`: made at once, or at the input at `released`, until which it has waited.
    pub fn of(head: &Head, released: Option<Position>, decisions: &[Decision]) -> Self {
        Self {
            input: released.unwrap_or(head.position),
            event: released.map(|_| head.position),
            deadline: None,
            decisions: decisions.to_vec(),
        }
    }

    /// The decisions about what was due before the record at `head`.
    pub fn of_deadline(head: &Head, deadline: &Deadline, decisions: &[Decision]) -> Self {
        Self { input: head.position, event: None, deadline: Some(deadline.clone()), decisions: decisions.to_vec() }
    }
}

/// Something that a group of a rule waits for, though nothing happens. In the order in which they are judged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Deadline {
    /// When, on the line of [`Stamp::at`].
    pub at: i64,
    /// Set when a remembered value is to be given back: its [`super::Change::key`]; then there is no group. It comes after what is due for groups at the same
    /// instant, which may be why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remembered: Option<String>,
    /// The rule.
    pub rule: RuleUid,
    /// The group.
    pub group: String,
}

impl Deadline {
    /// The instant at which it is judged, told by the record at `head`, which came after it.
    pub fn stamp(&self, head: &Head) -> Stamp {
        let late = head.stamp.at.saturating_sub(self.at).max(0);
        Stamp { at: self.at, wall: head.stamp.wall.saturating_sub(late) }
    }
}

/// One decision of one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Decision {
    /// The rule acts.
    Fired(Firing),
    /// The event matched and was counted; not enough has happened yet.
    Counted {
        /// The rule.
        rule: RuleUid,
        /// The group.
        group: String,
        /// What was counted.
        occurrence: Occurrence,
    },
    /// The trigger keeps something of the group: of an event, or because something was due.
    Noted {
        /// The rule.
        rule: RuleUid,
        /// The group.
        group: String,
        /// What it keeps.
        mark: Mark,
        /// The source that the event came by; empty when something was due.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        source: String,
        /// The values of `groupBy`, where they are kept with the event.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        group_values: GroupValues,
    },
    /// The event is let through, and the same again is not for a time.
    Passed {
        /// The rule.
        rule: RuleUid,
        /// The group.
        group: String,
        /// What is the same, as 64 bits of a hash.
        key: u64,
    },
    /// What the rule had fired for has ended.
    Resolved {
        /// The rule.
        rule: RuleUid,
        /// The group.
        group: String,
        /// When the rule fired for it.
        since: Stamp,
    },
    /// The event matched, but the rule does not act.
    Suppressed {
        /// The rule.
        rule: RuleUid,
        /// The group.
        group: String,
        /// Why not.
        reason: SuppressedReason,
        /// What was counted all the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurrence: Option<Occurrence>,
    },
    /// The event is about an object that a step of the rule is just writing: it waits until it is known whether it tells of that write.
    Deferred {
        /// The rule.
        rule: RuleUid,
        /// The object, as in [`super::Writes::object`].
        object: String,
    },
    /// An expression could not be evaluated: no match.
    Errored {
        /// The rule.
        rule: RuleUid,
        /// Which expression, as a path: `when[often]`.
        place: String,
        /// What went wrong.
        message: String,
        /// Judging the event panicked: it is kept as a dead letter.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        poisoned: bool,
    },
}

/// Why a matching event did not make its rule act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SuppressedReason {
    /// `throttle.cooldown`
    Cooldown,
    /// `groups.max`
    TooManyGroups,
    /// What is kept of groups of the namespace takes too much memory.
    TooMuchState,
    /// `throttle.budget`
    Budget,
    /// More of the rule's firings were open than one rule could have. Earlier versions said so; now firings wait on disk.
    Backlog,
    /// The event tells of what the rule itself has written.
    OwnWrite,
    /// `concurrencyPolicy: Forbid`
    Concurrency,
    /// `dedupe`
    Dedupe,
    /// `activeWindows`
    OutsideActiveWindow,
    /// The switch for all rules is set.
    Stopped,
    /// The rule had a part in how the event came about, or it came by too many steps of rules.
    Loop,
    /// A silence says so.
    Silence,
}

impl SuppressedReason {
    /// The name under which `counts.suppressed` of a rule's status counts it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cooldown => "cooldown",
            Self::TooManyGroups => "tooManyGroups",
            Self::TooMuchState => "tooMuchState",
            Self::Budget => "budget",
            Self::Backlog => "backlog",
            Self::OwnWrite => "ownWrite",
            Self::Concurrency => "concurrency",
            Self::Dedupe => "dedupe",
            Self::OutsideActiveWindow => "outsideActiveWindow",
            Self::Stopped => "stopped",
            Self::Loop => "loop",
            Self::Silence => "silence",
        }
    }
}

/// What a trigger keeps of a group, and since when, on the line of [`Stamp::at`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Mark {
    /// `count`: it happened.
    Occurred(Occurrence),
    /// The conditions hold.
    Holds(i64),
    /// It is over: they do not hold any more, or what was kept is used up or forgotten.
    Ended(i64),
    /// `absent`: the group has reported.
    Heard(i64),
    /// `batch`: the event was put to the others.
    Added {
        /// When.
        at: i64,
        /// Its size as JSON.
        bytes: u64,
    },
    /// `value` and `anomaly`: a sample.
    Sample {
        /// When it was taken.
        at: i64,
        /// What it says.
        value: Number,
    },
    /// `value`: the window has slid on.
    Slid(i64),
    /// `sequence` and `all`: the event is one of those that are waited for.
    Took {
        /// When it happened.
        at: i64,
        /// Which of them, as bits.
        which: u32,
    },
    /// `due`: the time that the object names.
    Due {
        /// On the line of [`Stamp::at`].
        at: i64,
        /// In microseconds since 1970.
        wall: i64,
    },
    /// What is due did not fire, and is to be tried again then.
    Postponed(i64),
    /// What is due, steps included, is silenced until then.
    Hushed(i64),
}

impl Mark {
    /// Whether it is of an event that met every condition.
    pub fn is_match(&self) -> bool {
        match self {
            Self::Occurred(_)
            | Self::Holds(_)
            | Self::Heard(_)
            | Self::Added { .. }
            | Self::Sample { .. }
            | Self::Took { .. }
            | Self::Due { .. } => true,
            Self::Ended(_) | Self::Slid(_) | Self::Postponed(_) | Self::Hushed(_) => false,
        }
    }
}

/// A number that is read as it was written, to the last bit; in JSON a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Number(pub f64);

impl From<Number> for String {
    fn from(number: Number) -> Self {
        number.0.to_string()
    }
}

impl TryFrom<String> for Number {
    type Error = std::num::ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// What an event adds to the count of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, u32)", into = "(i64, u32)")]
pub struct Occurrence {
    /// When it counts, on the line of [`Stamp::at`]: at its acceptance, or earlier when it was accepted late. Never goes back within a group.
    pub at: i64,
    /// How often it happened, 1 at least.
    pub times: u32,
}

impl From<(i64, u32)> for Occurrence {
    fn from((at, times): (i64, u32)) -> Self {
        Self { at, times }
    }
}

impl From<Occurrence> for (i64, u32) {
    fn from(Occurrence { at, times }: Occurrence) -> Self {
        (at, times)
    }
}

/// One decision of a rule to act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// Its id.
    pub id: FiringId,
    /// The rule.
    pub rule: RuleRef,
    /// The generation of the spec that decided and whose actions are run.
    pub generation: i64,
    /// The source that the event came by.
    pub source: String,
    /// The group.
    pub group: String,
    /// `group.<name>` in actions, of rules with `groupBy`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub group_values: GroupValues,
    /// `count` in actions, of rules with `trigger.count` or `trigger.batch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// `value` in actions, of rules with `trigger.value` or `trigger.anomaly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Number>,
    /// `baseline` in actions, of rules with `trigger.anomaly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Number>,
    /// Why the rule fires.
    #[serde(default, skip_serializing_if = "FiringKind::is_fired")]
    pub kind: FiringKind,
    /// Of [`FiringKind::Step`], which of the steps of `trigger.held`, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The event's position; that of the record before which it was due.
    pub input: Position,
    /// The instant of the decision.
    pub stamp: Stamp,
    /// Of rules with `trigger.due`, the time that the object names, in microseconds since 1970: from it on `startingDeadline` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<i64>,
    /// Of [`FiringKind::Restored`], what it gives back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<Box<Change>>,
    /// Of [`FiringKind::Resolved`]: the rule was deleted or suspended while what it had fired for lasted. It ends incidents, and is carried out also when the
    /// rule is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes: bool,
}

impl Firing {
    /// What it does, of all that the spec says.
    pub fn actions<'s>(&self, spec: &'s EventRuleSpec) -> &'s [Action] {
        spec.actions_of(self.kind, self.step)
    }

    /// What it does, and what it does when it has failed.
    pub fn all_actions<'s>(&self, spec: &'s EventRuleSpec) -> impl Iterator<Item = &'s Action> {
        self.actions(spec).iter().chain(&spec.failure_actions)
    }
}
