//! What the loop tells of brakes that concern the runner: breakers that are tripped, and the switch for all rules.

use super::{Shard, stories};

impl Shard {
    /// Tells which rules tripped, and which act again.
    pub(super) fn tell_trips(&mut self) {
        for (rule, trip) in self.state.engine.take_trips() {
            stories::tripped(&self.status, &rule, trip);
        }
    }

    /// Tells the runner which firings are only to be observed.
    pub(super) fn set_gates(&mut self) {
        for (rule, gate) in self.state.engine.take_gates() {
            self.runner.gate(rule, gate);
        }
        self.metrics.tripped_rules(self.state.engine.tripped());
    }

    /// Holds the runner while nothing is to be acted upon.
    pub(super) fn switch(&self) {
        let stopped = self.state.engine.stopped();
        self.metrics.stopped(stopped.is_some());
        match stopped {
            Some(stopped) => {
                tracing::warn!(by = stopped.by, why = stopped.why, "nothing new is acted upon");
                self.runner.hold(stopped.lasts(self.clock.now()));
            }
            None => {
                tracing::info!("rules act again");
                self.runner.release();
            }
        }
    }
}
