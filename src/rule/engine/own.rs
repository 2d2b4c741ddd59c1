//! The engine's part in own writes: what steps are writing, and the events that waited for them.

use std::sync::Arc;

use super::Engine;
use crate::{
    record::{Beside, Brief, Effect, EventInput, FiringId, Head, OpenFiring, Position, RuleUid, Writes},
    rule::{engine::Views, state::State, writes::Released},
};

impl Engine {
    /// Goes on with a firing of an earlier process.
    pub fn resume(&mut self, id: &FiringId, open: &Brief) {
        if let Some((_, state)) = self.rules.get_mut(&open.rule).filter(|_| !open.restores) {
            state.running.insert(id.clone(), Arc::clone(&open.group));
        }
    }

    /// Goes on with what a firing of an earlier process was writing.
    pub fn resume_writes(&mut self, open: &OpenFiring) {
        for (action, step) in &open.steps {
            if step.outcome.is_some() {
                continue;
            }
            if let Some(writes) = &step.writes {
                self.writes(open, action);
                self.resume_write(writes, (open.firing.id.clone(), action.clone()));
            }
            for object in &step.beside {
                let writes = Writes { rule: open.firing.rule.uid.clone(), object: object.clone() };
                self.resume_write(&writes, (open.firing.id.clone(), part(action, object)));
            }
        }
    }

    fn resume_write(&mut self, writes: &Writes, step: (FiringId, String)) {
        if let Some(state) = self.listener(writes) {
            state.own.resume(writes.object.clone(), step.clone());
            self.writing.insert(step, writes.rule.clone());
        }
    }

    pub(super) fn begin_write(&mut self, writes: &Writes, firing: &FiringId, action: &str) {
        let Some(state) = self.listener(writes) else { return };
        let step = (firing.clone(), action.to_owned());
        let released = state.own.begin(writes.object.clone(), step.clone());
        self.writing.insert(step, writes.rule.clone());
        self.release(&writes.rule, released);
    }

    /// The rule that writes, if what it writes could come back to it as an event.
    fn listener(&mut self, writes: &Writes) -> Option<&mut State> {
        let (_, state) = self.rules.get_mut(&writes.rule)?;
        let listens = state.versions().any(|version| version.rule.listens_to(&writes.object));
        listens.then_some(&mut **state)
    }

    pub(super) fn end_write(&mut self, firing: &FiringId, action: &str, effect: Option<&Effect>) {
        self.writes_no_more(firing, action);
        let step = (firing.clone(), action.to_owned());
        let Some(rule) = self.writing.remove(&step) else { return };
        let Some((_, state)) = self.rules.get_mut(&rule) else { return };
        let released = state.own.end(&step, effect);
        self.release(&rule, released);
        self.changed.rows.insert(rule);
    }

    /// A step writes one more object: as if a step of its own did.
    pub(super) fn beside(&mut self, beside: &Beside) {
        let Beside { firing, action, writes, over, effect } = beside;
        let part = part(action, &writes.object);
        match over {
            false => self.begin_write(writes, firing, &part),
            true => self.end_write(firing, &part, effect.as_ref()),
        }
    }

    /// What the step was still writing beside has no answer.
    pub(super) fn end_beside(&mut self, firing: &FiringId, action: &str) {
        let first = part(action, "");
        let parts = self.writing.range((firing.clone(), first.clone())..);
        let parts = parts.take_while(|((one, name), _)| one == firing && name.starts_with(&first));
        let parts: Vec<String> = parts.map(|((_, name), _)| name.clone()).collect();
        for part in parts {
            self.end_write(firing, &part, None);
        }
    }

    fn release(&mut self, rule: &RuleUid, released: Vec<(Position, EventInput)>) {
        let released = released.into_iter().map(|(position, input)| Released { rule: rule.clone(), position, input });
        self.released.extend(released);
    }

    /// What the firing was still writing has no answer.
    pub(super) fn end_writes(&mut self, firing: &FiringId) {
        self.none_writes(firing);
        let of_firing = self.writing.range((firing.clone(), String::new())..).take_while(|((one, _), _)| one == firing);
        let actions: Vec<String> = of_firing.map(|((_, action), _)| action.clone()).collect();
        for action in actions {
            self.end_write(firing, &action, None);
        }
    }

    /// The events whose waiting is over since the last call, in the order in which they are to be judged: each by [`Engine::judge_released`] and then
    /// taken in with [`Engine::decide`].
    pub fn take_released(&mut self) -> Vec<Released> {
        std::mem::take(&mut self.released)
    }

    /// What the rule that an event has waited for says to it now. `head` is of the record that released it.
    pub fn judge_released(&self, head: &Head, released: &Released) -> super::Judged {
        let head = released.head(head);
        let mut judged = super::Judged::default();
        let Some(rule) = self.rule(&released.rule) else { return judged };
        let slots = self.index.of_rule(&released.rule, rule.generation);
        self.judge_rule(&head, &mut Views::new(&released.input), &slots, &mut judged);
        judged
    }
}

/// What a step that writes several objects is called while it writes this one. No step has such a name.
fn part(action: &str, object: &str) -> String {
    format!("{action}/{object}")
}

impl Released {
    /// Its place in the log, and the time at which it is judged: that of the record at `head`, which released it.
    pub fn head(&self, head: &Head) -> Head {
        Head { position: self.position, stamp: head.stamp }
    }
}
