//! What no rule needs any more: its watches are stopped, and what the log remembers of them is forgotten.

use std::collections::{BTreeSet, HashSet};

use super::{Entry, Supervisor, SupervisorError};
use crate::{event::WatchKey, record::Record, sources::append};

impl Supervisor {
    /// Stops watches that no rule needs; once the rules of the start are known, also forgets what is remembered of others.
    pub(super) async fn forget_unneeded(&mut self) -> Result<(), SupervisorError> {
        let needed: BTreeSet<WatchKey> = self.rules.values().flat_map(Entry::needed).collect();
        for (key, running) in
            self.watches.iter().filter(|(key, running)| !needed.contains(key) && !running.stop.is_cancelled())
        {
            tracing::info!(watch = %key, "watch stopped: no rule needs it");
            running.stop.cancel();
        }
        if !self.settled {
            return Ok(());
        }
        let unneeded: Vec<WatchKey> =
            self.memory.keys().filter(|key| !self.rules.values().any(|entry| entry.may_use(key))).cloned().collect();
        for key in unneeded {
            self.memory.remove(&key);
            append(&self.bus, Record::Forget(key)).await?;
        }
        self.forget_schedules().await
    }

    async fn forget_schedules(&mut self) -> Result<(), SupervisorError> {
        let needed: HashSet<String> =
            self.rules.values().flat_map(Entry::schedules).map(|schedule| schedule.uid()).collect();
        let gone = self.reached.forget(&needed);
        if !gone.is_empty() {
            append(&self.bus, Record::Seen(gone)).await?;
        }
        Ok(())
    }
}
