//! What can be wrong with an `approve` action.

use super::{
    Compiler, Template,
    wait_for::{LONGEST, TOO_LONG},
};
use crate::api::{Action, Approve, OnError, Retry};

impl Compiler {
    pub(super) fn approve(&mut self, action: &Action, approve: &Approve, path: &str) -> Option<Template> {
        if action.timeout.is_some() {
            self.fault(format!("{path}.timeout"), "approve has a timeout of its own: approve.timeout");
        }
        if action.retry != Retry::default() {
            self.fault(format!("{path}.retry"), "who has not approved is not asked again: approve takes no retry");
        }
        if action.on_error == OnError::Continue {
            self.fault(
                format!("{path}.onError"),
                "what was denied would be done all the same: approve takes Stop or Undo",
            );
        }
        let path = format!("{path}.approve");
        if approve.timeout.get().is_zero() {
            self.fault(format!("{path}.timeout"), "must be longer than 0s");
        }
        if approve.timeout.get() > LONGEST {
            self.fault(format!("{path}.timeout"), TOO_LONG);
        }
        let fixed = self.json(approve, &path)?;
        Some(Template::fixed(fixed.into(), &path))
    }
}
