//! What can be wrong with the target of an action.

use super::{Compiler, Program};
use crate::{
    api::{Action, ActionKind, Target},
    rule::filter::Selector,
};

impl Compiler {
    pub(super) fn target(&mut self, target: &Target, path: &str) {
        if let Some(fault) = target.fault() {
            self.fault(format!("{path}.target"), fault);
        }
        let filled = target.namespace.as_deref().is_some_and(|namespace| namespace.contains("${"));
        if filled && target.allowed_namespaces.is_empty() {
            let message = "a namespace that is filled in from the event needs allowedNamespaces";
            self.fault(format!("{path}.target.namespace"), message);
        }
        if let Some(selector) = &target.selector {
            Selector::compile(selector, &format!("{path}.target.selector"), &mut self.faults);
        }
    }

    /// `target.filterExpression`, if there is one.
    pub(super) fn filter(&mut self, action: &Action, path: &str) -> Option<Program> {
        let source = action.target()?.filter_expression.as_deref()?;
        let kind = match action.kind()? {
            ActionKind::Scale(_) => "scale",
            ActionKind::Rollout(_) => "rollout",
            ActionKind::Patch(_) => "patch",
            ActionKind::SetImage(_) => "setImage",
            ActionKind::Delete(_) => "delete",
            ActionKind::Evict(_) => "evict",
            _ => return None,
        };
        self.of_target(source, &format!("{path}.{kind}.target.filterExpression"))
    }
}
