//! What can be wrong with an `approve` action.

use super::{Compiler, Template};
use crate::api::{Action, Approve, Retry};

impl Compiler {
    pub(super) fn approve(&mut self, action: &Action, approve: &Approve, path: &str) -> Option<Template> {
        if action.timeout.is_some() {
            self.fault(format!("{path}.timeout"), "approve has a timeout of its own: approve.timeout");
        }
        if action.retry != Retry::default() {
            self.fault(format!("{path}.retry"), "who has not approved is not asked again: approve takes no retry");
        }
        let path = format!("{path}.approve");
        let fixed = self.json(approve, &path)?;
        Some(Template::fixed(fixed.into(), &path))
    }
}
