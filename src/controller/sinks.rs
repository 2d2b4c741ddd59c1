//! The controller of EventSinks: decode → build → account → Secrets → status.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Object, Synced, decode,
    secrets::{self, pending},
    watch::Reconcile,
};
use crate::{
    api::{ConditionStatus, EventSink, EventSinkSpec, Reason},
    bus::BusError,
    kubernetes::Cluster,
    sinks::{Deliveries, Entry, Registry},
    status::{Finding, ObjectId, SinkPart, StatusQueue},
};

/// A sink that can be used is looked at again after so long.
const READY: Duration = Duration::from_secs(30);
/// One that cannot be used is looked at again after so long.
const NOT_READY: Duration = Duration::from_secs(5);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The controller of EventSinks.
pub struct Sinks {
    cluster: Cluster,
    registry: Registry,
    status: StatusQueue,
    synced: Synced,
    sinks: HashMap<String, Tracked>,
}

/// One sink.
struct Tracked {
    sink: ObjectId,
    /// The generation that was looked at last.
    generation: i64,
    /// What is wrong with it; then the version before, if any, goes on.
    faults: Vec<String>,
    check_at: Instant,
    deliveries: Deliveries,
}

impl Sinks {
    /// Run it with [`super::run`].
    pub fn new(cluster: Cluster, registry: Registry, status: StatusQueue, synced: Synced) -> Self {
        Self { cluster, registry, status, synced, sinks: HashMap::new() }
    }

    /// Looks whether the sink can be used, and says so.
    async fn check(&mut self, uid: &str) {
        let Some(tracked) = self.sinks.get_mut(uid) else { return };
        let ready = match &tracked.faults[..] {
            [] => {
                let entry = self.registry.get(&tracked.sink.namespace, &tracked.sink.name);
                let look = async {
                    match entry {
                        Some(entry) => look(&self.cluster, &entry).await,
                        None => pending("the sink is being set up"),
                    }
                };
                tokio::time::timeout(PATIENCE, look)
                    .await
                    .unwrap_or_else(|_| pending("the API server did not answer in time"))
            }
            faults => {
                let earlier = self.registry.get(&tracked.sink.namespace, &tracked.sink.name);
                let meanwhile = if earlier.is_some_and(|entry| entry.sink.is_ok()) {
                    "; the version before is used until then"
                } else {
                    ""
                };
                (ConditionStatus::False, Reason::InvalidSpec, format!("{}{meanwhile}", faults.join("; ")))
            }
        };
        let wait = if ready.0 == ConditionStatus::True { READY } else { NOT_READY };
        tracked.check_at = Instant::now() + wait;
        self.status.publish_sink(&tracked.sink, SinkPart::Spec { generation: tracked.generation, ready });
    }

    /// Says what became of notifications since the last time.
    fn tell_deliveries(&mut self) {
        for tracked in self.sinks.values_mut() {
            let entry = self.registry.get(&tracked.sink.namespace, &tracked.sink.name);
            let Some(now) = entry.map(|entry| entry.deliveries()).filter(|now| *now != tracked.deliveries) else {
                continue;
            };
            tracked.deliveries = now.clone();
            let Deliveries { delivered, failed, last_delivery: last, last_error: error } = now;
            self.status.publish_sink(&tracked.sink, SinkPart::Deliveries { delivered, failed, last, error });
        }
    }
}

impl Reconcile for Sinks {
    type Kind = EventSink;

    async fn apply(&mut self, object: Object) -> Result<(), BusError> {
        let Some(decode::Names { uid, namespace, name, generation }) = decode::names(&object) else { return Ok(()) };
        if self.sinks.get(&uid).is_some_and(|tracked| tracked.generation == generation) {
            return Ok(());
        }
        let sink = ObjectId { uid: uid.clone(), namespace, name };
        self.status.known_sink(&sink, decode::status(&object));
        let faults = match decode::spec::<EventSinkSpec>(&object) {
            Ok(spec) => match self.registry.set(&sink.namespace, &sink.name, generation, &spec) {
                Ok(()) => Vec::new(),
                Err(error) => error.0,
            },
            Err(faults) => faults,
        };
        let deliveries = self.sinks.remove(&uid).map(|tracked| tracked.deliveries).unwrap_or_default();
        self.sinks.insert(uid.clone(), Tracked { sink, generation, faults, check_at: Instant::now(), deliveries });
        self.check(&uid).await;
        Ok(())
    }

    async fn gone(&mut self, uid: &str) -> Result<(), BusError> {
        let Some(tracked) = self.sinks.remove(uid) else { return Ok(()) };
        let ObjectId { namespace, name, .. } = &tracked.sink;
        // One of the same name may have come before this one was seen to go.
        if !self.sinks.values().any(|other| other.sink.namespace == *namespace && other.sink.name == *name) {
            self.registry.remove(namespace, name);
        }
        self.status.publish_sink(&tracked.sink, SinkPart::Removed);
        Ok(())
    }

    async fn listed(&mut self, uids: &HashSet<String>) -> Result<(), BusError> {
        let lost: Vec<String> = self.sinks.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        for uid in lost {
            self.gone(&uid).await?;
        }
        self.synced.set();
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), BusError> {
        let now = Instant::now();
        let due: Vec<String> =
            self.sinks.iter().filter(|(_, tracked)| tracked.check_at <= now).map(|(uid, _)| uid.clone()).collect();
        for uid in due {
            self.check(&uid).await;
        }
        self.tell_deliveries();
        self.registry.connections().close_idle();
        Ok(())
    }
}

/// Whether the account may be used and every Secret has its key.
async fn look(cluster: &Cluster, entry: &Entry) -> Finding {
    if let Err(finding) = secrets::usable(cluster, &entry.account).await {
        return finding;
    }
    let keys = entry.sink.as_ref().map(|sink| sink.secrets()).unwrap_or_default();
    match secrets::lacking(cluster, &entry.account, &keys, |_| None).await {
        Ok(lacking) if lacking.what.is_empty() => {
            (ConditionStatus::True, Reason::InForce, "the sink can be used".to_owned())
        }
        Ok(lacking) => (ConditionStatus::False, lacking.reason(), lacking.what.join("; ")),
        Err(finding) => finding,
    }
}

#[cfg(test)]
mod tests;
