//! What a rule itself writes: it is no reason for the same rule to fire.
//!
//! That is told by the ledger, never by what stands in an object. A watch can be faster than the answer to a write, so a change of an object that a
//! step of the rule is just writing waits until the step has its answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    compile::Rule,
    filter::{Kind, namespace_of, text},
};
use crate::{
    event::Origin,
    record::{Effect, EventInput, FiringId, Position, RuleUid},
};

/// Events of a rule that may wait at the same time. One more is judged at once, as if somebody else had made it.
const MAX_WAITING: usize = 256;
/// Answered writes of a rule that are remembered until their change arrives. No more than 16 steps of a rule act at the same time, and one that drains a
/// Node evicts the 110 Pods that it has by default, or 256 where it was given more, and each takes its time to go.
const MAX_ANSWERED: usize = 512;

/// A step of a firing.
type Step = (FiringId, String);

/// An event that waits for the answer to a write of the rule's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    object: String,
    position: Position,
    input: EventInput,
}

/// An event that has waited, to be judged by this rule now.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// The rule.
    pub rule: RuleUid,
    /// Where the event stands in the log.
    pub position: Position,
    /// The event.
    pub input: EventInput,
}

/// A write that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answered {
    /// `metadata.uid` of the object.
    uid: String,
    version: u64,
    /// Whether the write was found done: it made this version or one before it, the first that bears the mark.
    found: bool,
    /// Whether the object was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    /// The field manager that was written as.
    mark: String,
}

impl Answered {
    fn new((firing, action): &Step, effect: &Effect) -> Option<Self> {
        let version = effect.resource_version.as_ref().and_then(|version| version.parse().ok());
        // Of what was deleted the version is not told.
        let version = if effect.gone { version.unwrap_or(0) } else { version? };
        let Effect { uid, found, gone, .. } = effect;
        Some(Self { uid: uid.clone(), version, found: *found, gone: *gone, mark: firing.manager(action) })
    }

    /// Whether the change is the write. What was found by comparing lists is more than one change; it is taken for the write if that is among them and
    /// nobody has written the same fields since: mostly what others do then is what controllers do about it.
    fn is(&self, Origin { uid, seen, marks, before, .. }: &Origin) -> bool {
        if self.gone {
            // It is marked for deletion, its finalizers go one by one, and then it goes.
            return *uid == self.uid && seen.as_ref().is_none_or(|seen| seen.version >= self.version);
        }
        let Some(seen) = seen.as_ref().filter(|_| *uid == self.uid) else { return false };
        match before {
            Some(before) => *before < self.version && marks.contains(&self.mark),
            None if self.found => seen.version <= self.version && marks.contains(&self.mark),
            None => seen.version == self.version,
        }
    }
}

/// The writes of one rule to objects of a kind that it listens to.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnWrites {
    /// The steps that are writing, by object.
    open: BTreeMap<String, BTreeSet<Step>>,
    kept: Kept,
}

/// The part that is saved; open writes are those of open firings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Writes whose change has not arrived yet, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    answered: VecDeque<Answered>,
    /// In the order of the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<Waiting>,
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.answered.is_empty() && self.waiting.is_empty()
    }
}

impl OwnWrites {
    pub(super) fn restore(kept: Kept) -> Self {
        Self { open: BTreeMap::new(), kept }
    }

    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// A step is about to write the object, and no other any more. Gives the events that waited for it with those.
    pub(super) fn begin(&mut self, object: String, step: Step) -> Vec<(Position, EventInput)> {
        self.open.retain(|other, steps| {
            let gone = *other != object && steps.remove(&step);
            !gone || !steps.is_empty()
        });
        self.open.entry(object).or_default().insert(step);
        self.release()
    }

    /// A step of an earlier process was about to write the object. What waits goes on waiting: the steps that it waits for may come later.
    pub(super) fn resume(&mut self, object: String, step: Step) {
        self.open.entry(object).or_default().insert(step);
    }

    /// The step has its answer, or will never have one. Gives the events that waited for it, with their positions.
    pub(super) fn end(&mut self, step: &Step, effect: Option<&Effect>) -> Vec<(Position, EventInput)> {
        if let Some(answered) = effect.and_then(|effect| Answered::new(step, effect))
            && !self.kept.answered.contains(&answered)
        {
            self.kept.answered.push_back(answered);
            if self.kept.answered.len() > MAX_ANSWERED {
                self.kept.answered.pop_front();
            }
        }
        self.open.retain(|_, steps| {
            steps.remove(step);
            !steps.is_empty()
        });
        self.release()
    }

    /// Takes out the events about objects that nobody is writing.
    fn release(&mut self) -> Vec<(Position, EventInput)> {
        let waits = |one: &mut Waiting| !self.open.contains_key(&one.object);
        self.kept.waiting.extract_if(.., waits).map(|one| (one.position, one.input)).collect()
    }

    /// The object that the event is about, if a step is just writing it and the event can wait.
    pub(super) fn defers(&self, rule: &Rule, input: &EventInput) -> Option<String> {
        if self.open.is_empty() || self.kept.waiting.len() >= MAX_WAITING {
            return None;
        }
        let object = input.event.data.get("object")?;
        let namespace = match namespace_of(&input.origin.watch, &input.event) {
            "" => &rule.rule.namespace,
            namespace => namespace,
        };
        let object = format!("{namespace}/{}/{}", text(object, &["kind"]), text(object, &["metadata", "name"]));
        self.open.contains_key(&object).then_some(object)
    }

    pub(super) fn wait(&mut self, object: String, position: Position, input: EventInput) {
        self.kept.waiting.push(Waiting { object, position, input });
    }

    /// Whether the event tells of a write of the rule's.
    pub(super) fn is_own(&self, input: &EventInput) -> bool {
        self.kept.answered.iter().any(|one| one.is(&input.origin))
    }

    /// The change of an answered write has arrived.
    pub(super) fn arrived(&mut self, input: &EventInput) {
        let last = input.origin.seen.is_none();
        self.kept.answered.retain(|one| !one.is(&input.origin) || (one.gone && !last));
    }
}

impl Rule {
    /// Whether a write to the object could come back as an event that the rule takes.
    pub(super) fn listens_to(&self, object: &str) -> bool {
        let Some(written) = object.split('/').nth(1) else { return false };
        let same = |kind: &Kind| matches!(kind, Kind::Resource { kind, .. } if kind == written);
        self.sources.iter().any(|source| same(source.filter.kind()))
    }
}
