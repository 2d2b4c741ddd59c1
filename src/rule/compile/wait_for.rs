//! What can be wrong with `waitFor` of an action, and with the action `wait`.

use std::time::Duration;

use super::{Compiler, Program, Template, actions::TARGET_TEXTS};
use crate::api::{Action, Autoscaler, Retry, Wait, WaitFor};

/// How long a firing may wait for something. While it does it is open, and of those there may be so many before no more events are taken.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Why it may not wait longer.
pub(super) const TOO_LONG: &str = "must be at most 720h: a firing that waits is open, and takes the place of others";

impl Compiler {
    /// The expression that is waited for, if one is.
    pub(super) fn wait_for(&mut self, action: &Action, path: &str) -> Option<Program> {
        let WaitFor { rollout, expression, .. } = action.wait_for.as_ref()?;
        let path = format!("{path}.waitFor");
        if rollout.is_some() == expression.is_some() {
            self.fault(&path, "exactly one of rollout and expression must be set");
        }
        if action.kind().is_some() && !action.can_wait_for() {
            let kinds = "scale, rollout, setImage, patch, apply, create";
            self.fault(&path, format!("waitFor is for actions that change or create an object: {kinds}"));
        } else if action.scale.as_ref().is_some_and(|scale| scale.autoscaler == Some(Autoscaler::Adjust)) {
            self.fault(&path, "is not for autoscaler: Adjust, which changes the autoscaler and not the target");
        } else if let Some(kind) = action.written_kind().filter(|_| rollout.is_some())
            && !["Deployment", "StatefulSet", "DaemonSet"].contains(&kind)
        {
            // What an event leads to is of a kind that is told then.
            let message = "is for a Deployment, a StatefulSet or a DaemonSet; for others there is expression";
            self.fault(format!("{path}.rollout"), message);
        }
        if action.wait_for.as_ref().is_some_and(|wait| wait.timeout.get() > LONGEST) {
            self.fault(format!("{path}.timeout"), TOO_LONG);
        }
        self.of_target(expression.as_deref()?, &format!("{path}.expression"))
    }

    /// `wait.expression`, if there is one.
    pub(super) fn wait_expression(&mut self, action: &Action, path: &str) -> Option<Program> {
        self.of_target(action.wait.as_ref()?.expression.as_deref()?, &format!("{path}.wait.expression"))
    }

    /// `failExpression` of either, if there is one.
    pub(super) fn fails_when(&mut self, action: &Action, path: &str) -> Option<Program> {
        let of_change = action.wait_for.as_ref().and_then(|wait| wait.fail_expression.as_deref());
        let of_wait = action.wait.as_ref().and_then(|wait| wait.fail_expression.as_deref());
        match (of_change, of_wait) {
            (Some(source), _) => self.of_target(source, &format!("{path}.waitFor.failExpression")),
            (None, Some(source)) => self.of_target(source, &format!("{path}.wait.failExpression")),
            (None, None) => None,
        }
    }

    pub(super) fn of_target(&mut self, source: &str, path: &str) -> Option<Program> {
        let names = self.names.clone();
        self.names = names.clone().with("target");
        let program = self.condition(source, path);
        self.names = names;
        program
    }

    pub(super) fn wait(&mut self, action: &Action, wait: &Wait, path: &str) -> Option<Template> {
        let Wait { time, expression, fail_expression, target, timeout } = wait;
        let at = format!("{path}.wait");
        match (time, expression, target) {
            (Some(time), None, None) if time.get().is_zero() => {
                self.fault(format!("{at}.for"), "must be longer than 0s")
            }
            (Some(time), None, None) if time.get() > LONGEST => self.fault(format!("{at}.for"), TOO_LONG),
            (Some(_), None, None) if timeout.is_some() => self.fault(format!("{at}.timeout"), "is for expression"),
            (Some(_), None, None) if fail_expression.is_some() => {
                self.fault(format!("{at}.failExpression"), "is for expression");
            }
            (Some(_), None, Some(_)) => self.fault(format!("{at}.target"), "is for expression"),
            (None, Some(_), None) => self.fault(&at, "expression needs a target, the object that it looks at"),
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => self.fault(&at, "exactly one of for and expression must be set"),
        }
        if timeout.is_some_and(|timeout| timeout.get().is_zero()) {
            self.fault(format!("{at}.timeout"), "must be longer than 0s");
        }
        if timeout.is_some_and(|timeout| timeout.get() > LONGEST) {
            self.fault(format!("{at}.timeout"), TOO_LONG);
        }
        if action.timeout.is_some() {
            self.fault(format!("{path}.timeout"), "is not for wait: it ends by itself, or with wait.timeout");
        }
        if action.retry != Retry::default() {
            self.fault(format!("{path}.retry"), "is not for wait: it looks again until it ends");
        }
        if let Some(target) = target {
            self.target(target, &at);
            if target.is_several() {
                self.fault(format!("{at}.target"), "may be several objects: wait looks at one");
            }
        }
        self.fields(wait, TARGET_TEXTS, &at)
    }
}
