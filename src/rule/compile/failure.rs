//! `failureActions`: what a firing does when it has failed.

use super::{CompiledAction, Compiler};
use crate::api::{EventRuleSpec, OnError, Trigger};

impl Compiler {
    /// They know what failed, and the results of what was done before it.
    pub(super) fn failure_actions(&mut self, spec: &EventRuleSpec) -> Vec<CompiledAction> {
        self.unique("spec.failureActions", spec.failure_actions.iter().map(|one| one.name.as_str()));
        let steps = spec.trigger.as_deref().into_iter().flat_map(Trigger::steps).flat_map(|step| &step.actions);
        let others = || spec.actions.iter().chain(&spec.resolve_actions).chain(steps.clone());
        for (index, action) in spec.failure_actions.iter().enumerate() {
            if others().any(|other| other.name == action.name) {
                let message = format!("there is another action {:?}: results are known by name", action.name);
                self.fault(format!("spec.failureActions[{index}].name"), message);
            }
        }
        for (index, _) in spec.failure_actions.iter().enumerate().filter(|(_, one)| one.on_error == OnError::Undo) {
            let message = "what failureActions do is not undone: Stop or Continue";
            self.fault(format!("spec.failureActions[{index}].onError"), message);
        }
        let before = self.names.clone();
        others().for_each(|other| self.names.add_action(&other.name));
        self.names = std::mem::take(&mut self.names).with("failure");
        let compiled = self.actions(&spec.failure_actions, "spec.failureActions");
        self.names = before;
        compiled
    }
}
