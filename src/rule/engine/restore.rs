//! The engine's part in `restore`: what rules remember, and the firings that give it back.

use std::sync::Arc;

use serde_json::json;

use super::Engine;
use crate::{
    api::{EventRuleSpec, FiringKind},
    event::{Event, title},
    record::{Change, Deadline, Decision, Firing, FiringId, GroupValues, Head, LogId, Remember, RuleRef, RuleUid},
};

/// The type of the event that firings of this kind have: nothing has happened but that time is over.
const TYPE: &str = "dev.signalbox.restore";

impl Engine {
    /// A step has changed an object, and it is to be given back.
    pub(super) fn remember(&mut self, head: &Head, firing: &FiringId, remember: &Remember) {
        let Some((_, state)) = self.rules.get_mut(&remember.rule) else { return };
        let group = state.running.get(firing).map(|group| group.as_ref().to_owned());
        let lasts = group.as_ref().is_some_and(|group| state.groups.active().any(|(_, active)| active == group));
        let touched = state.remembered.remember(remember, &group.unwrap_or_default(), lasts, head.stamp.at);
        self.touch_remembered(&remember.rule, touched);
    }

    /// The firing has ended what it was to give back.
    pub(super) fn given(&mut self, rule: &RuleUid, firing: &FiringId) {
        let Some((_, state)) = self.rules.get_mut(rule) else { return };
        let touched = state.remembered.given(firing);
        self.touch_remembered(rule, touched);
    }

    /// Whether the firing is still to give back what it was decided to, of a rule that is there; another may have taken hold of it.
    pub fn gives(&self, rule: &RuleUid, firing: &FiringId) -> bool {
        self.rules.get(rule).is_none_or(|(_, state)| state.remembered.gives(firing))
    }

    /// What the rule had fired for has ended for these groups.
    pub(super) fn let_go(&mut self, head: &Head, rule: &RuleUid, groups: &[String]) {
        let Some((_, state)) = self.rules.get_mut(rule) else { return };
        let touched: Vec<_> = groups.iter().flat_map(|group| state.remembered.resolved(group, head.stamp.at)).collect();
        self.touch_remembered(rule, touched);
    }

    pub(super) fn touch_remembered(&mut self, rule: &RuleUid, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            let at = self.rules.get(rule).and_then(|(_, state)| state.remembered.deadline(&key));
            self.set_deadline(rule, "", Some(&key), at);
            self.changed.rows.insert(rule.clone());
        }
    }

    /// Takes up what a view's row told.
    pub(super) fn restore_remembered(&mut self, rule: &RuleUid) {
        let Some((_, state)) = self.rules.get(rule) else { return };
        let keys: Vec<String> = state.remembered.keys().cloned().collect();
        for key in keys {
            let at = self.rules.get(rule).and_then(|(_, state)| state.remembered.deadline(&key));
            self.set_deadline(rule, "", Some(&key), at);
        }
    }

    /// The decision to give back what is due.
    pub(super) fn give_back(&self, head: &Head, deadline: &Deadline, key: &str) -> Option<Decision> {
        let (rule, state) = self.rules.get(&deadline.rule)?;
        let change = state.remembered.change(key)?;
        let generation = state.in_force.as_ref()?.rule.generation;
        let id = FiringId::derive_due(&self.log, deadline, &format!("Restored {key}"));
        let head = Head { position: head.position, stamp: deadline.stamp(head) };
        Some(Decision::Fired(firing(id, rule, generation, &head, change)))
    }

    /// What the rule, which is about to go, has still to give back.
    pub fn left_of(&self, head: &Head, uid: &RuleUid) -> Vec<(Firing, Arc<EventRuleSpec>)> {
        let Some((rule, state)) = self.rules.get(uid) else { return Vec::new() };
        let Some(version) = state.in_force.as_ref().or(state.pending.as_ref()) else { return Vec::new() };
        let (generation, spec) = (version.rule.generation, &version.rule.spec);
        let one = |(key, change): (&String, &Change)| {
            (firing(of_key(&self.log, head, uid, key), rule, generation, head, change), Arc::clone(spec))
        };
        state.remembered.left().map(one).collect()
    }
}

/// The firing that gives back what a step has changed whose rule is gone already.
pub fn give_back_at_once(log: &LogId, head: &Head, by: &Firing, change: &Change) -> Firing {
    let id = of_key(log, head, &by.rule.uid, &change.key());
    firing(id, &by.rule, by.generation, head, change)
}

fn of_key(log: &LogId, head: &Head, rule: &RuleUid, key: &str) -> FiringId {
    FiringId::derive(log, head.position, rule, &format!("\0restore\0{key}"))
}

fn firing(id: FiringId, rule: &RuleRef, generation: i64, head: &Head, change: &Change) -> Firing {
    Firing {
        id,
        rule: rule.clone(),
        generation,
        source: String::new(),
        group: title(&change.kind, change.namespace.as_deref(), &change.name),
        group_values: GroupValues::new(),
        count: None,
        value: None,
        baseline: None,
        kind: FiringKind::Restored,
        step: None,
        input: head.position,
        stamp: head.stamp,
        planned: None,
        restores: Some(Box::new(change.clone())),
        closes: false,
    }
}

/// The event of a firing that gives something back.
pub fn event_of_restore(firing: &Firing) -> Arc<Event> {
    let subject = Some(firing.group.clone());
    let source = format!("/rules/{}/{}", firing.rule.namespace, firing.rule.name);
    Arc::new(Event { subject, ..Event::new(firing.id.to_string(), source, TYPE, json!({})) })
}
