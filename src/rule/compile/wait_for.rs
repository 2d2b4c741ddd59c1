//! What can be wrong with `waitFor` of an action.

use super::{Compiler, Program};
use crate::api::{Action, WaitFor};

impl Compiler {
    /// The expression that is waited for, if one is.
    pub(super) fn wait_for(&mut self, action: &Action, path: &str) -> Option<Program> {
        let WaitFor { rollout, expression, .. } = action.wait_for.as_ref()?;
        let path = format!("{path}.waitFor");
        if rollout.is_some() == expression.is_some() {
            self.fault(&path, "exactly one of rollout and expression must be set");
        }
        match action.target() {
            None if action.kind().is_some() => {
                self.fault(&path, "waitFor is for actions that change a target: scale, rollout, patch");
            }
            // What an event leads to is of a kind that is told then.
            Some(target)
                if rollout.is_some()
                    && target.from.is_none()
                    && !["Deployment", "StatefulSet", "DaemonSet"].contains(&target.kind.as_str()) =>
            {
                let message = "is for a Deployment, a StatefulSet or a DaemonSet; for others there is expression";
                self.fault(format!("{path}.rollout"), message);
            }
            _ => {}
        }
        let names = self.names.clone();
        self.names = names.clone().with("target");
        let program = expression.as_ref().and_then(|source| self.condition(source, &format!("{path}.expression")));
        self.names = names;
        program
    }
}
