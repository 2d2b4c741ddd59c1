//! What a step tells of its writes while it goes on, so that the rule knows them for its own.

use std::sync::Arc;

use super::way::Way;
use crate::{
    actions::{Side, TellBeside},
    record::{Beside, Effect, Record, Writes, Written},
};

impl Way<'_> {
    /// Records what a step wrote. It rides with the next record that is waited for: a crash in between costs no more than one event that the rule hears
    /// of its own doing.
    pub(super) fn wrote(&self, step: &str) -> Arc<dyn Fn(&Effect) + Send + Sync> {
        let (bus, firing, action) = (Arc::clone(&self.inner.bus), self.open.firing.id.clone(), step.to_owned());
        Arc::new(move |effect| {
            let written = Written { firing: firing.clone(), action: action.clone(), effect: effect.clone() };
            if let Err(error) = bus.record(Record::Written(written)) {
                tracing::debug!(%error, "what was written is told by its outcome only");
            }
        })
    }

    /// Records that a step begins or ends with one more object. It rides along as [`Way::wrote`] does; it stands in the log before anything that comes of the
    /// write can.
    pub(super) fn beside(&self, step: &str) -> TellBeside {
        let (bus, firing, action) = (Arc::clone(&self.inner.bus), self.open.firing.id.clone(), step.to_owned());
        let rule = self.open.firing.rule.uid.clone();
        Arc::new(move |object, side| {
            let writes = Writes { rule: rule.clone(), object: object.to_owned() };
            let (over, effect) = match side {
                Side::Begins => (false, None),
                Side::Over(effect) => (true, effect.cloned()),
            };
            let beside = Beside { firing: firing.clone(), action: action.clone(), writes, over, effect };
            if let Err(error) = bus.record(Record::Beside(beside)) {
                tracing::debug!(%error, "the rule may take what comes of its own write for another's");
            }
        })
    }
}
