//! The open firings: a fold of decisions, intents and outcomes, and what a restart needs to finish them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Beside, Effect, FailureReason, Finished, Firing, FiringId, Intent, Number, Outcome, Position, Results, RuleUid,
    Shelf, Writes, Written,
};
use crate::{
    api::{ActionOutcome, ConcurrencyPolicy, EventRuleSpec, RuleMode},
    event::{Event, trail::Trail},
};

/// A firing that has not ended, with all that is needed to finish it: the event and the spec it was decided under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenFiring {
    /// The decision.
    pub firing: Firing,
    /// The event that made the rule fire; of what was due, the last one of its group.
    pub event: Arc<Event>,
    /// `events` in actions, of rules with `trigger.batch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Arc<Event>>,
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
    /// When it ends, done or not, in microseconds since 1970; nothing without `timeout`, and while it only waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<i64>,
    /// The object that it is about to write; nothing once it has an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Writes>,
    /// The object that it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrote: Option<Effect>,
    /// The objects that it is about to write beside that one, as [`Writes::object`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub beside: BTreeSet<String>,
    /// What became of it; nothing while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ActionOutcome>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailureReason>,
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

/// The name of the step that undoes a step: `grow.undo`, and of a part `grow.0.undo`.
pub fn undo_of(step: &str) -> String {
    format!("{step}{UNDO}")
}

/// The step that a step of this name undoes, if it is such.
pub fn undone(step: &str) -> Option<&str> {
    step.strip_suffix(UNDO)
}

const UNDO: &str = ".undo";

impl OpenFiring {
    /// How it came about: by the event that made the rule fire, or those of a batch.
    pub fn trail(&self) -> Trail {
        Trail::of(self.events.iter().chain([&self.event]).map(|event| &**event))
    }

    /// The results of the actions that have an outcome.
    pub fn results(&self) -> Results {
        self.steps
            .iter()
            .filter(|(name, step)| step.outcome.is_some() && !whole(name).1)
            .map(|(name, step)| (name.clone(), step.result.clone()))
            .collect()
    }

    /// What the trigger tells of the firing, by the names that expressions use. A float stays one: `value` is compared with floats.
    pub fn named(&self) -> Vec<(&'static str, Value)> {
        let Self { firing, events, .. } = self;
        let number = |number: Number| Value::from(number.0);
        let events = (!events.is_empty()).then(|| serde_json::to_value(events).unwrap_or_default());
        let named =
            [("value", firing.value.map(number)), ("baseline", firing.baseline.map(number)), ("events", events)];
        named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// What memory holds of every open firing: enough to find its turn. About 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// The rule.
    pub rule: RuleUid,
    /// The group.
    pub group: Arc<str>,
    /// Set when it does not wait for others of its group: `concurrencyPolicy: Allow`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub side_by_side: bool,
    /// Set when it gives back a remembered value: [`crate::api::FiringKind::Restored`]. It waits for nobody, and is carried out also when the rule is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restores: bool,
    /// Set when it ends the incidents of a rule that was deleted or suspended: it is carried out also when the rule is gone, after what is under way of its
    /// group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes: bool,
    /// The position of the event, or of the record before which something was due.
    pub input: Position,
    /// Counts the firings in the order in which they were opened: several may have one position.
    #[serde(default)]
    pub order: u64,
    /// Wall time of the decision, in microseconds since 1970.
    pub since: i64,
    /// Set while a step of it has an intent and no outcome: whoever goes on with it has to begin there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acting: bool,
}

impl Brief {
    /// What memory holds of the firing.
    pub fn of(open: &OpenFiring) -> Self {
        let OpenFiring { firing, spec, .. } = open;
        Self {
            rule: firing.rule.uid.clone(),
            group: firing.group.as_str().into(),
            side_by_side: spec.concurrency_policy == ConcurrencyPolicy::Allow || firing.restores.is_some(),
            restores: firing.restores.is_some(),
            closes: firing.closes,
            input: firing.input,
            order: 0,
            since: firing.stamp.wall,
            acting: is_acting(open),
        }
    }

    /// Whether it is carried out also when the rule is gone.
    pub fn outlives(&self) -> bool {
        self.restores || self.closes
    }
}

fn is_acting(open: &OpenFiring) -> bool {
    open.steps.values().any(|step| step.intent.is_some() && step.outcome.is_none())
}

/// All open firings: a brief of each, and on the shelf those that memory needs whole.
///
/// A record about a step, and the end, are taken in by a firing that is on the shelf: whoever carries it out has borrowed it, and a start brings it there.
#[derive(Debug, Default)]
pub struct Ledger {
    open: BTreeMap<FiringId, Brief>,
    /// That of the last one that was opened.
    order: u64,
    shelf: Shelf,
}

impl Ledger {
    /// The ledger that a view held.
    pub fn restore(open: impl IntoIterator<Item = (FiringId, Brief)>) -> Self {
        let mut uids = BTreeSet::<RuleUid>::new();
        let mut one_uid = |brief: Brief| match uids.get(&brief.rule) {
            Some(rule) => Brief { rule: rule.clone(), ..brief },
            None => {
                uids.insert(brief.rule.clone());
                brief
            }
        };
        let open: BTreeMap<_, _> = open.into_iter().map(|(id, brief)| (id, one_uid(brief))).collect();
        let order = open.values().map(|brief| brief.order).max().unwrap_or(0);
        Self { open, order, shelf: Shelf::default() }
    }

    /// The firings that memory holds whole.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// A rule fired.
    pub fn begin(&mut self, open: OpenFiring) {
        if !self.open.contains_key(&open.firing.id) {
            self.reopen(open);
        }
    }

    /// A dead letter is run again.
    pub fn reopen(&mut self, open: OpenFiring) {
        self.order += 1;
        let brief = Brief { order: self.order, ..Brief::of(&open) };
        self.open.insert(open.firing.id.clone(), brief);
        self.shelf.put(open);
    }

    /// A step is about to act.
    pub fn intend(&mut self, intent: &Intent) {
        self.change(&intent.firing, |open| {
            let step = open.steps.entry(intent.action.clone()).or_default();
            step.intent = Some((intent.rendering, intent.request.clone()));
            step.deadline = intent.deadline;
            step.writes.clone_from(&intent.writes);
        });
    }

    /// Nothing was to be done for so many microseconds: steps that are under way end so much later. Gives their firings.
    pub fn put_off(&mut self, by: i64) -> Vec<FiringId> {
        let acting: Vec<_> = self.open.iter().filter(|(_, brief)| brief.acting).map(|(id, _)| id.clone()).collect();
        for id in &acting {
            self.change(id, |open| {
                for step in open.steps.values_mut().filter(|step| step.outcome.is_none()) {
                    step.deadline = step.deadline.map(|deadline| deadline.saturating_add(by));
                }
            });
        }
        acting
    }

    /// A step has written.
    pub fn written(&mut self, written: &Written) {
        self.change(&written.firing, |open| {
            if let Some(step) = open.steps.get_mut(&written.action) {
                step.writes = None;
                step.wrote = Some(written.effect.clone());
            }
        });
    }

    /// A step is about to write one more object, or has.
    pub fn beside(&mut self, beside: &Beside) {
        self.change(&beside.firing, |open| {
            if let Some(step) = open.steps.get_mut(&beside.action) {
                match beside.over {
                    true => step.beside.remove(&beside.writes.object),
                    false => step.beside.insert(beside.writes.object.clone()),
                };
            }
        });
    }

    /// A step has an outcome.
    pub fn settle(&mut self, outcome: &Outcome) {
        self.change(&outcome.firing, |open| {
            let step = open.steps.entry(outcome.action.clone()).or_default();
            step.outcome = Some(outcome.outcome);
            step.beside.clear();
            step.reason = outcome.reason;
            if outcome.effect.is_some() {
                step.wrote.clone_from(&outcome.effect);
            }
            step.message.clone_from(&outcome.message);
            step.result.clone_from(&outcome.result);
        });
    }

    /// A firing is only observed, whatever the mode of its rule.
    pub fn observe(&mut self, id: &FiringId) {
        self.change(id, |open| Arc::make_mut(&mut open.spec).mode = RuleMode::Observe);
    }

    /// A firing has ended; gives what was known of it.
    pub fn finish(&mut self, finished: &Finished) -> Option<OpenFiring> {
        self.open.remove(&finished.firing)?;
        self.shelf.take(&finished.firing).map(Arc::unwrap_or_clone)
    }

    /// One open firing, if memory holds it whole.
    pub fn get(&self, id: &FiringId) -> Option<Arc<OpenFiring>> {
        self.shelf.get(id)
    }

    /// What memory holds of every open firing, of one.
    pub fn brief(&self, id: &FiringId) -> Option<&Brief> {
        self.open.get(id)
    }

    /// All open firings, in no order that means something.
    pub fn open(&self) -> impl Iterator<Item = (&FiringId, &Brief)> {
        self.open.iter()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn change(&mut self, id: &FiringId, change: impl FnOnce(&mut OpenFiring)) {
        if let (Some(open), Some(brief)) = (self.shelf.change(id, change), self.open.get_mut(id)) {
            brief.acting = is_acting(&open);
        }
    }
}
