//! What the loop tells others of what it has folded and judged: status, Kubernetes Events, traces, metrics, and the runner of what fired.

use std::{sync::Arc, time::Duration};

use super::{Shard, stories};
use crate::{
    api::ActionOutcome,
    clock::Stamp,
    record::{Asked, Decision, Entry, EventInput, FiringId, Head, Intent, Outcome, Record, Replay, whole},
    rule::Rule,
};

impl Shard {
    /// Tells what was decided, about an event or about what was due, and starts what fired.
    pub(super) fn tell(&mut self, event: Option<(&Head, &EventInput)>, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Fired(firing) => {
                    let Some(open) = self.state.ledger.get(&firing.id) else { continue };
                    let Some(rule) = self.state.engine.rule(&firing.rule.uid) else { continue };
                    let rule: Arc<Rule> = Arc::clone(rule);
                    stories::fired(&self.status, &firing, &open.event, &rule);
                    if let Some((head, input)) = event {
                        self.traces.fired(head, input, &firing, self.clock.now());
                    }
                    self.start(&firing.id, rule);
                }
                Decision::Resolved { rule, group, since } => {
                    let Some(rule) = self.state.engine.rule(&rule) else { continue };
                    stories::resolved(&self.status, &rule.rule, &group, since);
                }
                _ => {}
            }
        }
    }

    /// Starts what a dead letter has opened again; of a letter that was not there any more, nothing.
    pub(super) fn start_again(&self, head: &Head, replay: &Replay) {
        let id = replay.firing(self.bus.id(), head.position);
        let Some(open) = self.state.ledger.get(&id) else { return };
        let Some(rule) = self.state.engine.rule(&open.firing.rule.uid) else { return };
        stories::fired_again(&self.status, &open.firing, &replay.of);
        self.start(&id, Arc::clone(rule));
    }

    pub(super) fn start(&self, id: &FiringId, rule: Arc<Rule>) {
        if let Some(brief) = self.state.ledger.brief(id) {
            self.runner.start(id, brief, rule);
        }
    }

    /// Says of samples of the events what rules nearly took. Last in a turn: what fired is under way.
    pub(super) fn explain(&self, entries: &[Entry]) {
        let interest = self.state.engine.interest();
        for entry in entries {
            if let Record::Event(input) = &*entry.record {
                let about = (&input.origin.watch, &*input.event);
                let stamp = entry.head.stamp.timestamp();
                for rule in self.misses.look(&interest, about, stamp, || EventInput::clone(input)) {
                    // `seen` goes with it: otherwise the miss would be of an event that nobody saw.
                    if let Some(progress) = self.state.engine.progress(&rule) {
                        self.status.progress(&rule, progress);
                    }
                }
            }
        }
    }

    /// Tells that a step waits for an approval.
    pub(super) fn asked(&self, intent: &Intent) {
        if let (Some(asked), Some(open)) = (Asked::read(&intent.request), self.state.ledger.get(&intent.firing)) {
            let until = Stamp { at: 0, wall: asked.approve_until };
            stories::asked(&self.status, &open.firing, intent, until);
        }
    }

    pub(super) fn settled(&mut self, head: &Head, outcome: &Outcome) {
        let Some(open) = self.state.ledger.get(&outcome.firing) else { return };
        let micros = head.stamp.at.saturating_sub(open.firing.stamp.at).max(0);
        if !whole(&outcome.action).1 {
            self.metrics.action_settled(outcome.outcome, Duration::from_micros(micros.unsigned_abs()));
        }
        stories::settled(&self.status, &open.firing, outcome);
        let asked = open.steps.get(&outcome.action).and_then(|step| Asked::read(&step.intent.as_ref()?.1));
        if asked.is_some() && outcome.outcome == ActionOutcome::Succeeded {
            stories::approved(&self.status, &open.firing, outcome);
        }
        self.traces.settled(head, &open, outcome);
    }

    /// Tells everything once: status knows nothing of earlier processes.
    pub(super) fn publish_all(&mut self) {
        for (rule, ..) in self.state.engine.known() {
            if let Some(progress) = self.state.engine.progress(&rule.uid) {
                self.status.progress(&rule.uid, progress);
            }
        }
        self.publish();
    }

    /// Tells sources and status what has changed.
    pub(super) fn publish(&mut self) {
        let interest = self.state.engine.interest();
        self.interest.send_if_modified(|current| {
            let changed = !Arc::ptr_eq(current, &interest);
            if changed {
                *current = interest;
            }
            changed
        });
        self.set_gates();
        for uid in self.state.engine.dirty_rules() {
            if let Some(progress) = self.state.engine.progress(&uid) {
                self.status.progress(&uid, progress);
            }
        }
        self.metrics.bus(self.bus.stats());
        self.metrics.open_firings(self.state.ledger.len());
        self.metrics.dead_letters(self.state.letters.len(), self.state.letters.take_evicted());
    }
}
