//! The engine's part in dead letters: their number, and firing again for one. The letters themselves are the shard's business.

use std::sync::Arc;

use super::Engine;
use crate::{
    record::{Head, OpenFiring, Replay, RuleUid},
    rule::writes::Released,
};

impl Engine {
    /// So many dead letters of the rule are kept now. Status tells their number.
    pub fn keeps_letters(&mut self, uid: &RuleUid, kept: u64) {
        let Some((_, state)) = self.rules.get_mut(uid) else { return };
        if state.counts.dead_lettered != kept {
            state.counts.dead_lettered = kept;
            self.changed.rows.insert(uid.clone());
            self.changed.progress.insert(uid.clone());
        }
    }

    /// An event that could not be judged is judged again, by the version in force: [`Engine::take_released`] has it. False while there is none, while that
    /// is suspended, and while all rules are stopped: nothing would judge it, or come of it.
    pub fn judge_again(&mut self, head: &Head, replay: &Replay) -> bool {
        let uid = &replay.open.firing.rule.uid;
        let in_force = self.rule(uid).filter(|rule| !rule.spec.suspend && self.stopped().is_none());
        let Some(input) = in_force.and_then(|rule| replay.input(rule.generation)) else { return false };
        self.released.push(Released { rule: uid.clone(), position: head.position, input });
        true
    }

    /// Fires again for a dead letter, with the version in force; nothing while there is none. Cooldown and budget have no say in it.
    pub fn fire_again(&mut self, head: &Head, replay: &Replay) -> Option<OpenFiring> {
        let rule = Arc::clone(self.rule(&replay.open.firing.rule.uid)?);
        let open = replay.opens(&self.log, head, rule.generation, &rule.spec);
        // A restart takes what the rule does not remember for held by another firing.
        if let (Some(change), Some((_, state))) = (&open.firing.restores, self.rules.get_mut(&open.firing.rule.uid)) {
            state.remembered.give_again(change, &open.firing.id);
            self.touch_remembered(&open.firing.rule.uid, [change.key()]);
        }
        self.begin(&open.firing, &open.event);
        if let Some((_, state)) = self.rules.get_mut(&open.firing.rule.uid)
            && state.in_force.as_ref().is_some_and(|version| version.rule.breaker.is_some())
        {
            state.breaker.ask(&open.firing.id);
            self.note_breaker(&open.firing.rule.uid, false);
        }
        for action in open.firing.actions(&open.spec) {
            let known = open.steps.get(&action.name).and_then(|step| Some((step.outcome?, step)));
            if let Some((outcome, step)) = known {
                self.show(&open.firing.id, &action.name, outcome, &step.message);
            }
        }
        Some(open)
    }
}
