//! The open firings: a fold of decisions, intents and outcomes, and what a restart needs to finish them.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Effect, Finished, Firing, FiringId, Intent, Outcome, Results, Writes, Written};
use crate::{
    api::{ActionOutcome, EventRuleSpec},
    event::Event,
};

/// A firing that has not ended, with all that is needed to finish it: the event and the spec it was decided under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenFiring {
    /// The decision.
    pub firing: Firing,
    /// The event that made the rule fire.
    pub event: Arc<Event>,
    /// The spec whose actions are run, also when the rule was edited meanwhile.
    pub spec: Arc<EventRuleSpec>,
    /// The steps begun so far, by the action's name, or by [`part`] of it.
    pub steps: BTreeMap<String, Step>,
}

/// One step of a firing, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The last intent: its rendering and its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<(u32, Value)>,
    /// The object that it is about to write; nothing once it has an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Writes>,
    /// The object that it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrote: Option<Effect>,
    /// What became of it; nothing while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ActionOutcome>,
    /// The message of the outcome.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `actions.<name>` for later expressions.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
}

/// The name of the step that does an action's work on one of its objects. No action has such a name: names are identifiers.
pub fn part(action: &str, number: usize) -> String {
    format!("{action}.{number}")
}

/// The action that a step belongs to, and whether the step is one of several parts of it.
pub fn whole(step: &str) -> (&str, bool) {
    step.split_once('.').map_or((step, false), |(action, _)| (action, true))
}

impl OpenFiring {
    /// The results of the actions that have an outcome.
    pub fn results(&self) -> Results {
        self.steps
            .iter()
            .filter(|(name, step)| step.outcome.is_some() && !whole(name).1)
            .map(|(name, step)| (name.clone(), step.result.clone()))
            .collect()
    }
}

/// All open firings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    open: BTreeMap<FiringId, OpenFiring>,
}

impl Ledger {
    /// The ledger that a view held.
    pub fn restore(open: impl IntoIterator<Item = OpenFiring>) -> Self {
        Self { open: open.into_iter().map(|one| (one.firing.id.clone(), one)).collect() }
    }

    /// A rule fired.
    pub fn begin(&mut self, firing: Firing, event: Arc<Event>, spec: Arc<EventRuleSpec>) -> &OpenFiring {
        let id = firing.id.clone();
        self.open.entry(id).or_insert(OpenFiring { firing, event, spec, steps: BTreeMap::new() })
    }

    /// A dead letter is run again.
    pub fn reopen(&mut self, open: OpenFiring) {
        self.open.insert(open.firing.id.clone(), open);
    }

    /// A step is about to act.
    pub fn intend(&mut self, intent: &Intent) {
        if let Some(open) = self.open.get_mut(&intent.firing) {
            let step = open.steps.entry(intent.action.clone()).or_default();
            step.intent = Some((intent.rendering, intent.request.clone()));
            step.writes.clone_from(&intent.writes);
        }
    }

    /// A step has written.
    pub fn written(&mut self, written: &Written) {
        let open = self.open.get_mut(&written.firing);
        if let Some(step) = open.and_then(|open| open.steps.get_mut(&written.action)) {
            step.writes = None;
            step.wrote = Some(written.effect.clone());
        }
    }

    /// A step has an outcome.
    pub fn settle(&mut self, outcome: &Outcome) {
        if let Some(open) = self.open.get_mut(&outcome.firing) {
            let step = open.steps.entry(outcome.action.clone()).or_default();
            step.outcome = Some(outcome.outcome);
            if outcome.effect.is_some() {
                step.wrote.clone_from(&outcome.effect);
            }
            step.message.clone_from(&outcome.message);
            step.result.clone_from(&outcome.result);
        }
    }

    /// A firing has ended; gives what was known of it.
    pub fn finish(&mut self, finished: &Finished) -> Option<OpenFiring> {
        self.open.remove(&finished.firing)
    }

    /// One open firing.
    pub fn get(&self, id: &FiringId) -> Option<&OpenFiring> {
        self.open.get(id)
    }

    /// All open firings, oldest input first within equal rules.
    pub fn open(&self) -> impl Iterator<Item = &OpenFiring> {
        self.open.values()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
