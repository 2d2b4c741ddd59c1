//! A watch that runs, as the supervisor knows it.

use std::{collections::BTreeSet, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Done, Supervisor, entry::Entry};
use crate::{
    event::WatchKey,
    kubernetes::Resource,
    rule::Followed,
    sources::watch::{Api, Learned, Notice, Phase, Watch},
    telemetry::WatchState,
};

/// A watch that runs.
pub(super) struct Running {
    pub(super) start: u64,
    pub(super) stop: CancellationToken,
    pub(super) phase: Phase,
    pub(super) learned: Learned,
    pub(super) notice: Notice,
}

impl Running {
    /// How it is doing for whoever follows these values. Where it does not know them yet it will take a list, so that what changes from a rule's
    /// beginning on is known to have changed.
    pub(super) fn phase_for(&self, followed: &[Followed]) -> Phase {
        if self.phase == Phase::Listening && !self.learned.covers(followed) {
            return Phase::Starting;
        }
        self.phase.clone()
    }
}

impl Supervisor {
    /// Starts the watch unless it runs. One that is stopping is started again when it has stopped and was forgotten.
    pub(super) fn ensure(&mut self, key: WatchKey, resource: &Resource) {
        if self.watches.contains_key(&key) {
            return;
        }
        self.serial += 1;
        let (start, stop) = (self.serial, self.stop.child_token());
        let api = Api::new(self.cluster.own().clone(), &resource.api, key.namespace.as_deref());
        let memory = self.memory.remove(&key).unwrap_or_default();
        let metrics = self.metrics.clone();
        // One that begins anew later was not away.
        let away = if memory.is_empty() { Duration::ZERO } else { self.away };
        let watch = Watch::new(key.clone(), start, api, self.emitter(&key), memory, self.phases.0.clone(), metrics)
            .with_away(away);
        self.metrics.watch_moved(None, Some(WatchState::Starting));
        let (learned, notice) = (watch.learned(), watch.notice());
        let running = Running { start, stop: stop.clone(), phase: Phase::Starting, learned, notice };
        self.watches.insert(key.clone(), running);
        tracing::info!(watch = %key, "watch started");
        self.tasks.spawn(async move { Done::Watched { result: watch.run(stop).await, key } });
    }

    /// How a watch is doing. One that is stopping says nothing about the one that will take its place.
    pub(super) fn phase_of(&self, key: &WatchKey) -> Phase {
        let running = self.watches.get(key).filter(|running| !running.stop.is_cancelled());
        running.map_or(Phase::Starting, |running| running.phase_for(&self.interest.borrow().followed(key)))
    }

    /// What the rule's watches may have missed since it began.
    pub(super) fn notices(&self, entry: &Entry) -> Vec<String> {
        let keys: BTreeSet<WatchKey> = entry.to_watch().into_iter().map(|(key, _)| key).collect();
        keys.iter().filter_map(|key| self.watches.get(key)?.notice.since(entry.began())).collect()
    }
}
