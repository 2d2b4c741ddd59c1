//! Status of the kinds and Kubernetes Events about rules: one queue, and the only writer.
//!
//! Whoever knows something about a rule, a sink or a source says it to the [`StatusQueue`]; what is said again replaces what was said before. The
//! [`Writer`] makes one status of the parts and writes it when it is worth a write. This module knows neither sources nor actions.

mod board;
mod conditions;
mod rule;
mod sink;
mod source;
mod story;
mod writer;

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

pub use rule::{Parts as RuleParts, merge};
pub use sink::{Parts as SinkParts, merge as merge_sink};
pub use source::{Figures as SourceFigures, Parts as SourceParts, merge as merge_source};
pub use story::{ObjectRef, Story};
pub use writer::Writer;

use crate::{
    api::{ConditionStatus, EventRuleStatus, EventSinkStatus, EventSourceStatus, Reason, Silence},
    kubernetes::EventRecorder,
    record::{RuleRef, RuleUid},
    rule::{NearMiss, Progress, Timetable},
};
use board::{Board, Rank};

/// Rules and sinks that were removed are remembered, so that what is said late about them is not taken for news. 64 bytes each.
const REMEMBERED: usize = 4096;

/// What was found out about one side of a rule: whether it holds, why, and a sentence that says what to do.
pub type Finding = (ConditionStatus, Reason, String);

/// Whether an account may be used, or why not.
pub type Usability = Result<(), (Reason, String)>;

/// What actions of a rule would fail by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreseen {
    /// The API server would refuse what they write: its words.
    Refused(String),
    /// EventSinks are not there: which, and what to do.
    WithoutSink(String),
}

/// Something known about a rule. Each kind replaces the one before it, unless that one is about a later generation.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// What the controller makes of the spec.
    Spec {
        /// `metadata.generation`.
        generation: i64,
        /// All faults, with their places. Not empty: the version before it goes on judging.
        faults: Vec<String>,
        /// `spec.suspend`.
        suspended: bool,
        /// Of the version that judges.
        timetables: Vec<Timetable>,
    },
    /// Whether the account may be used.
    Account {
        /// `metadata.generation` of the spec that names it.
        generation: i64,
        /// Why not.
        usable: Usability,
    },
    /// Whether the account has the rights that the actions need, as far as the rule alone tells.
    Rights {
        /// `metadata.generation` of the spec that has them.
        generation: i64,
        /// What is missing, and the commands that grant it; nothing when nothing is.
        missing: Option<String>,
    },
    /// Whether actions would fail if the rule fired now, as far as the rule alone tells.
    Rehearsed {
        /// `metadata.generation` of the spec that has them.
        generation: i64,
        /// What they would fail by; nothing when they would not.
        fails: Option<Foreseen>,
    },
    /// How the sources of the rule are.
    Sources {
        /// `metadata.generation` of the spec that has them.
        generation: i64,
        /// Whether events of all sources arrive.
        listening: Finding,
        /// Whether the account has the rights that the sources need.
        authorized: Finding,
    },
    /// Which of the rule's groups is slowed down; nothing when none is any more.
    Slowed(Option<Slowed>),
    /// Of all rules this one has the most open firings, so many, while no more events are taken; nothing when that is over.
    Backlog(Option<usize>),
    /// An event that the rule nearly took.
    NearMiss(NearMiss),
    /// What silences the rule, or should and does not.
    Silences(Vec<Silence>),
    /// The rule is gone.
    Removed,
}

/// Whose firings a limit of the operator counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of one group of a rule, in any minute.
    Group,
    /// Those of all rules of a namespace, in any hour.
    Namespace,
    /// Those of all rules, in any hour.
    Everybody,
}

/// A group of a rule that fires faster than the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slowed {
    /// Whose limit it is.
    pub whose: Whose,
    /// The group.
    pub group: String,
    /// How many firings may begin in that time.
    pub limit: usize,
    /// When its next firing begins.
    pub until: Timestamp,
}

/// An EventSink or an EventSource by its three names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

/// Something known about a sink.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkPart {
    /// What the controller makes of the spec, and of the account and the Secrets it names.
    Spec {
        /// `metadata.generation`
        generation: i64,
        /// Whether the sink can be used.
        ready: Finding,
    },
    /// What became of the notifications since this process started.
    Deliveries {
        /// How many were delivered.
        delivered: u64,
        /// How many failed for good.
        failed: u64,
        /// When the last one was delivered.
        last: Option<Timestamp>,
        /// Why the last attempt failed; nothing when it did not.
        error: Option<String>,
    },
    /// The sink is gone.
    Removed,
}

/// How the connection of an EventSource is.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceLink {
    /// Whether there is one.
    pub connected: Finding,
    /// Whether the credentials were taken.
    pub authenticated: Finding,
}

/// Something known about an EventSource.
#[derive(Clone, Debug, PartialEq)]
pub enum SourcePart {
    /// What the controller makes of the spec, and of the account and the Secrets it names.
    Spec {
        /// `metadata.generation`
        generation: i64,
        /// Whether events are accepted.
        ready: Finding,
        /// Of a kind that connects, how the connection is.
        link: Option<SourceLink>,
    },
    /// What became of requests and messages since this process started.
    Figures(SourceFigures),
    /// The EventSource is gone.
    Removed,
}

/// Where everybody says what is known. A clone is the same queue. Nothing here waits: there is one place per object.
#[derive(Clone)]
pub struct StatusQueue(Arc<Inner>);

struct Inner {
    rules: Board<rule::Parts>,
    sinks: Board<sink::Parts>,
    sources: Board<source::Parts>,
    removed: Mutex<HashSet<String>>,
    events: EventRecorder,
}

impl StatusQueue {
    /// A queue whose Kubernetes Events go to `events`, and whose statuses wait for a [`Writer`].
    pub fn new(events: EventRecorder) -> Self {
        let (rules, sinks, sources) = (Board::default(), Board::default(), Board::default());
        Self(Arc::new(Inner { rules, sinks, sources, removed: Mutex::default(), events }))
    }

    /// Says the status that the API holds, before anything else is said about the rule; later calls change nothing.
    pub fn known(&self, rule: &RuleRef, status: Option<EventRuleStatus>) {
        self.0.rules.known(&rule.uid.0, || rule::Parts::new(rule.clone()), status);
    }

    /// Says a part of a rule's status.
    pub fn publish(&self, rule: &RuleRef, part: Part) {
        if part == Part::Removed {
            self.remember_removed(&rule.uid.0);
            self.0.rules.remove(&rule.uid.0);
        } else if !self.was_removed(&rule.uid.0) {
            let rank = if matches!(part, Part::NearMiss(_)) { Rank::Figures } else { Rank::News };
            self.0.rules.update(&rule.uid.0, rank, || rule::Parts::new(rule.clone()), |parts| parts.take(rule, part));
        }
    }

    /// Says how far a rule is. Before the controller has seen the rule this is kept and not written.
    pub fn progress(&self, rule: &RuleUid, progress: Progress) {
        if !self.was_removed(&rule.0) {
            let unnamed =
                || rule::Parts::new(RuleRef { uid: rule.clone(), namespace: String::new(), name: String::new() });
            self.0.rules.update(&rule.0, Rank::Figures, unnamed, |parts| parts.progress = Some(progress));
        }
    }

    /// Says the status of a sink that the API holds; later calls change nothing.
    pub fn known_sink(&self, sink: &ObjectId, status: Option<EventSinkStatus>) {
        self.0.sinks.known(&sink.uid, || sink::Parts::new(sink.clone()), status);
    }

    /// Says a part of a sink's status.
    pub fn publish_sink(&self, sink: &ObjectId, part: SinkPart) {
        if part == SinkPart::Removed {
            self.0.sinks.remove(&sink.uid);
        } else {
            self.0.sinks.update(&sink.uid, Rank::News, || sink::Parts::new(sink.clone()), |parts| parts.take(part));
        }
    }

    /// Says the status of an EventSource that the API holds; later calls change nothing.
    pub fn known_source(&self, source: &ObjectId, status: Option<EventSourceStatus>) {
        self.0.sources.known(&source.uid, || source::Parts::new(source.clone()), status);
    }

    /// Says a part of an EventSource's status.
    pub fn publish_source(&self, source: &ObjectId, part: SourcePart) {
        if part == SourcePart::Removed {
            self.0.sources.remove(&source.uid);
        } else {
            let rank = if matches!(part, SourcePart::Figures(_)) { Rank::Figures } else { Rank::News };
            let new = || source::Parts::new(source.clone());
            self.0.sources.update(&source.uid, rank, new, |parts| parts.take(part));
        }
    }

    /// Tells a story on an object. Never waits; in a flood some are dropped and counted.
    pub fn event(&self, story: Story) {
        self.0.events.record(story.into());
    }

    // The engine may tell about a rule once more after the controller has removed it.
    fn was_removed(&self, uid: &str) -> bool {
        self.0.removed.lock().contains(uid)
    }

    fn remember_removed(&self, uid: &str) {
        let mut removed = self.0.removed.lock();
        if removed.len() >= REMEMBERED {
            removed.clear();
        }
        removed.insert(uid.to_owned());
    }
}

impl std::fmt::Debug for StatusQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusQueue").finish_non_exhaustive()
    }
}

/// Whole seconds, as Kubernetes keeps times in conditions.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
