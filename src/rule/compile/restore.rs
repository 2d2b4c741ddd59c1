//! What can be wrong with `restore` of an action.

use super::Compiler;
use crate::api::{Action, EventRuleSpec, Restore, Trigger};

impl Compiler {
    /// In all lists: in `resolveActions` and `failureActions` there is no end to wait for.
    pub(super) fn restores(&mut self, spec: &EventRuleSpec) {
        let has_end = spec.trigger.as_ref().is_some_and(|trigger| trigger.has_end());
        let needs =
            "when: Resolved needs a trigger that has an end: held, absent, value or anomaly; else there is after";
        let over = "when: Resolved is for what is done while it lasts: here there is after";
        let why = (!has_end).then_some(needs);
        self.restores_of(&spec.actions, "spec.actions", why);
        self.restores_of(&spec.resolve_actions, "spec.resolveActions", Some(over));
        self.restores_of(&spec.failure_actions, "spec.failureActions", Some(over));
        for (index, step) in spec.trigger.as_deref().into_iter().flat_map(Trigger::steps).enumerate() {
            self.restores_of(&step.actions, &format!("spec.trigger.held.steps[{index}].actions"), why);
        }
    }

    fn restores_of(&mut self, actions: &[Action], path: &str, never_resolved: Option<&str>) {
        for (index, action) in actions.iter().enumerate() {
            let Some(Restore { after, when }) = action.restore() else { continue };
            let kind = if action.scale.is_some() { "scale" } else { "patch" };
            let path = format!("{path}[{index}].{kind}.restore");
            if after.is_some() == when.is_some() {
                self.fault(&path, "exactly one of after and when must be set");
            }
            if after.is_some_and(|after| after.get().is_zero()) {
                self.fault(format!("{path}.after"), "must be longer than 0s");
            }
            if let (Some(_), Some(why)) = (when, never_resolved) {
                self.fault(format!("{path}.when"), why);
            }
            if action.target().is_some_and(|target| target.kind == "Secret") {
                self.fault(&path, "is not for a Secret: what it held is not kept");
            }
        }
    }
}
