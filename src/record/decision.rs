//! What the engine decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FiringId, GroupValues, Head, Position, RuleRef, RuleUid, Stamp};

/// What the engine decided about one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The input.
    pub input: Position,
    /// Set when the decisions are about an event that has waited until this input: the event's own position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Position>,
    /// The decisions, in the order of rule uids.
    pub decisions: Vec<Decision>,
}

impl Judgement {
    /// The decisions about the event at `head`: made at once, or at the input at `released`, until which it has waited.
    pub fn of(head: &Head, released: Option<Position>, decisions: &[Decision]) -> Self {
        Self {
            input: released.unwrap_or(head.position),
            event: released.map(|_| head.position),
            decisions: decisions.to_vec(),
        }
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
    },
}

/// Why a matching event did not make its rule act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SuppressedReason {
    /// `throttle.cooldown`
    Cooldown,
    /// `groups.max`
    TooManyGroups,
    /// `throttle.budget`
    Budget,
    /// More of the rule's firings were open than one rule could have. Earlier versions said so; now firings wait on disk.
    Backlog,
    /// The event tells of what the rule itself has written.
    OwnWrite,
    /// `concurrencyPolicy: Forbid`
    Concurrency,
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
    /// `count` in actions, of rules with `trigger.count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The event's position.
    pub input: Position,
    /// The instant of the decision.
    pub stamp: Stamp,
}
