//! Dead letters: what is kept of a firing that failed for good, to be looked at and run again.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    EventInput, Finished, Firing, FiringId, Head, LogId, Lookups, OpenFiring, Position, RuleRef, SourceRef, Stamp,
    Step, undo_of, undone, whole,
};
use crate::{
    api::{Action, ActionKind, ActionOutcome, EventRuleSpec, FiringKind, FiringOutcome, Target},
    event::Origin,
};

/// A firing that failed for good, with its event and what became of its steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The firing as it was when it ended. Its requests hold Secrets by reference only.
    pub open: OpenFiring,
    /// How it ended.
    pub finished: Finished,
    /// When it ended.
    pub stamp: Stamp,
    /// Of an event that could not be judged, what is needed beside it to judge it again. There was no firing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unjudged: Option<Box<Unjudged>>,
}

/// How an event came that made judging a rule panic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unjudged {
    /// What the log remembers of the object.
    pub origin: Origin,
    /// What was looked up for it.
    pub lookups: Lookups,
    /// The only source that it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<SourceRef>,
}

impl DeadLetter {
    /// Of an event at `head` that made judging it by this version of a rule panic.
    pub fn unjudged(
        log: &LogId,
        head: &Head,
        of: (&RuleRef, i64, &Arc<EventRuleSpec>),
        input: &EventInput,
        message: &str,
    ) -> Self {
        let (rule, generation, spec) = of;
        // No group has such a name.
        let id = FiringId::derive(log, head.position, &rule.uid, "\nunjudged");
        let (outcome, failed_at) = (FiringOutcome::Failed, Some("judging".to_owned()));
        let finished =
            Finished { firing: id.clone(), rule: rule.uid.clone(), outcome, message: message.to_owned(), failed_at };
        let firing = Firing {
            id,
            rule: rule.clone(),
            generation,
            source: input.only.as_ref().map(|only| only.source.clone()).unwrap_or_default(),
            group: input.event.subject.clone().unwrap_or_default(),
            group_values: BTreeMap::new(),
            count: None,
            value: None,
            baseline: None,
            kind: FiringKind::default(),
            step: None,
            input: head.position,
            stamp: head.stamp,
            planned: None,
            restores: None,
            closes: false,
        };
        let (event, spec) = (Arc::clone(&input.event), Arc::clone(spec));
        let EventInput { origin, lookups, only, .. } = input.clone();
        Self {
            open: OpenFiring { firing, event, events: Vec::new(), spec, steps: BTreeMap::new() },
            finished,
            stamp: head.stamp,
            unjudged: Some(Box::new(Unjudged { origin, lookups, only })),
        }
    }
}

/// A dead letter is to be run again: it is taken out, and what is left of it to do is a new firing. Of a letter that is not there any more, nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// The firing whose letter it is.
    pub of: FiringId,
    /// The firing as it was kept: to go on with it needs nothing but the log.
    pub open: Box<OpenFiring>,
    /// Of an event that could not be judged: it is judged again, by the version of the rule in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unjudged: Option<Box<Unjudged>>,
}

impl Replay {
    /// The event that is to be judged again by the rule's version of this generation; nothing when a firing is to be gone on with.
    pub fn input(&self, generation: i64) -> Option<EventInput> {
        let Unjudged { origin, lookups, only } = Unjudged::clone(self.unjudged.as_ref()?);
        let only = only.map(|only| SourceRef { generation, ..only });
        Some(EventInput { event: Arc::clone(&self.open.event), origin, only, lookups })
    }

    /// The id of the firing that this opens at `position`. It is not the old one: what was made under that, and keys that a receiver may have
    /// remembered, are not to be mistaken for what is done now.
    pub fn firing(&self, log: &LogId, position: Position) -> FiringId {
        FiringId::derive(log, position, &self.open.firing.rule.uid, &self.open.firing.group)
    }

    /// The firing that this opens at `head`, with the version of the rule in force there: its user may have mended it.
    pub fn opens(&self, log: &LogId, head: &Head, generation: i64, spec: &Arc<EventRuleSpec>) -> OpenFiring {
        let OpenFiring { firing, event, events, .. } = &*self.open;
        let id = self.firing(log, head.position);
        OpenFiring {
            firing: Firing { id, generation, input: head.position, stamp: head.stamp, planned: None, ..firing.clone() },
            event: Arc::clone(event),
            events: events.clone(),
            spec: Arc::clone(spec),
            steps: self.carried(spec),
        }
    }

    /// What is not to be done again: what was done, by the action's name. An action that was skipped before the first failure stays so; after it, its
    /// condition may have looked at what failed. What somebody has approved was the old firing. Of an action with several objects, those that were found stay the same, and those that are
    /// done are left alone.
    fn carried(&self, spec: &EventRuleSpec) -> BTreeMap<String, Step> {
        let (mut carried, mut again) = (BTreeMap::new(), false);
        for action in self.open.firing.actions(spec) {
            let known = self.open.steps.get(&action.name);
            match known {
                Some(step)
                    if (self.is_kept(&action.name) && !is_asked(action))
                        || (!again && step.outcome == Some(ActionOutcome::Skipped)) =>
                {
                    carried.insert(action.name.clone(), without_request(step));
                }
                _ => again = true,
            }
            if let Some(step) = known.filter(|step| !carried.contains_key(&action.name) && step.intent.is_some())
                && action.target().is_some_and(Target::is_several)
                && self.was_several(&action.name)
            {
                carried.insert(action.name.clone(), Step { intent: step.intent.clone(), ..Step::default() });
                let parts = self.open.steps.iter().filter(|(name, step)| {
                    let (of, is_part) = whole(name);
                    is_part && of == action.name && undone(name).is_none() && self.is_kept(name) && is_done(step)
                });
                carried.extend(parts.map(|(name, step)| (name.clone(), without_request(step))));
            }
        }
        carried
    }

    /// Whether the step was done, and was not undone.
    fn is_kept(&self, name: &str) -> bool {
        let undone = |step: &str| self.open.steps.get(&undo_of(step)).is_some_and(is_done);
        let parts = self.open.steps.keys().filter(|step| whole(step) == (name, true) && self::undone(step).is_none());
        self.open.steps.get(name).is_some_and(is_done) && !undone(name) && !parts.into_iter().any(|part| undone(part))
    }

    fn was_several(&self, action: &str) -> bool {
        let before = self.open.firing.actions(&self.open.spec).iter().find(|one| one.name == action);
        before.and_then(|one| one.target()).is_some_and(Target::is_several)
    }
}

/// Whether it waits for a person.
fn is_asked(action: &Action) -> bool {
    matches!(action.kind(), Some(ActionKind::Approve(_)))
}

fn is_done(step: &Step) -> bool {
    matches!(step.outcome, Some(ActionOutcome::Succeeded | ActionOutcome::Unchanged | ActionOutcome::Superseded))
}

/// Its request stays behind: the firing that made it has settled it.
fn without_request(step: &Step) -> Step {
    Step { intent: None, writes: None, ..step.clone() }
}

#[cfg(test)]
mod tests;
