//! The EventSinks there are, and what became of their notifications.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use parking_lot::{Mutex, RwLock};

use super::{BuildError, Connections, Limiter, Link, Sink, SinkError, Threads, build};
use crate::{
    api::{EventSinkSpec, SinkKind, SinkRateLimit},
    record::Account,
};

/// All EventSinks by namespace and name, and the connections they keep. The controller sets them, the actions `notify` and `publish` look them up, the status
/// writer reads the counts. A clone is the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    entries: Arc<RwLock<Entries>>,
    connections: Connections,
    threads: Threads,
}

type Entries = HashMap<(String, String), Arc<Entry>>;

/// One EventSink.
pub struct Entry {
    /// `metadata.generation` of the spec.
    pub generation: i64,
    /// The field of the spec that says what it is; empty when none does.
    pub kind: &'static str,
    /// The account that reads its Secrets.
    pub account: Account,
    /// The sink, or why its spec makes none.
    pub sink: Result<Sink, BuildError>,
    /// Where people find out more.
    pub link: Option<Link>,
    /// How much it is sent at most.
    pub limit: Option<SinkRateLimit>,
    /// What it was sent lately; shared with the entries of later generations.
    pub limiter: Arc<Limiter>,
    // Shared with the entries of later generations.
    deliveries: Arc<Mutex<Deliveries>>,
}

/// What became of a sink's notifications since this process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// How many were taken.
    pub delivered: u64,
    /// How many failed for good.
    pub failed: u64,
    /// When the last one was taken.
    pub last_delivery: Option<Timestamp>,
    /// Why the last attempt failed; nothing when it did not.
    pub last_error: Option<String>,
}

impl Registry {
    /// Puts a sink or a new version of it; its counts go on.
    ///
    /// # Errors
    /// When the spec has faults; the sink is then known, but takes nothing.
    pub fn set(&self, namespace: &str, name: &str, generation: i64, spec: &EventSinkSpec) -> Result<(), BuildError> {
        let link = spec.link.as_deref().map(Link::new).transpose();
        let (sink, link) = match (build(spec), link) {
            (sink, Ok(link)) => (sink, link),
            (Ok(_), Err(fault)) => (Err(fault), None),
            (Err(BuildError(faults)), Err(BuildError(more))) => (Err(BuildError([faults, more].concat())), None),
        };
        let fault = sink.as_ref().err().cloned();
        let kind = spec.kind().map(SinkKind::name).unwrap_or_default();
        let account = Account { namespace: namespace.to_owned(), name: spec.service_account_name.clone() };
        let mut sinks = self.entries.write();
        let key = (namespace.to_owned(), name.to_owned());
        let deliveries = sinks.get(&key).map(|entry| entry.deliveries.clone()).unwrap_or_default();
        let limiter = sinks.get(&key).map(|entry| entry.limiter.clone()).unwrap_or_default();
        let limit = spec.rate_limit.clone();
        sinks.insert(key, Arc::new(Entry { generation, kind, account, sink, link, limit, limiter, deliveries }));
        fault.map_or(Ok(()), Err)
    }

    /// Takes a sink away.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.entries.write().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// One sink.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.entries.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The connections that sinks keep.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The threads that incidents have in channels.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// What became of every sink's notifications, by namespace and name.
    pub fn deliveries(&self) -> Vec<((String, String), Deliveries)> {
        self.entries.read().iter().map(|(key, entry)| (key.clone(), entry.deliveries())).collect()
    }
}

impl Entry {
    /// What became of its notifications.
    pub fn deliveries(&self) -> Deliveries {
        self.deliveries.lock().clone()
    }

    /// A notification was taken.
    pub fn delivered(&self, now: Timestamp) {
        let mut deliveries = self.deliveries.lock();
        deliveries.delivered += 1;
        deliveries.last_delivery = Some(now);
        deliveries.last_error = None;
    }

    /// An attempt failed; it may be repeated.
    pub fn attempt_failed(&self, error: &SinkError) {
        self.deliveries.lock().last_error = Some(error.message.clone());
    }

    /// A notification failed for good.
    pub fn failed(&self, why: &str) {
        let mut deliveries = self.deliveries.lock();
        deliveries.failed += 1;
        deliveries.last_error = Some(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::testing::sink;

    #[test]
    fn counts_survive_a_new_version_of_the_sink_and_not_its_removal() {
        let registry = Registry::default();
        let spec = sink(r#"{"slack": {"urlSecretRef": {"name": "slack", "key": "url"}}}"#);
        registry.set("shop", "oncall", 1, &spec).expect("a sink");
        registry.get("shop", "oncall").expect("there").delivered(Timestamp::UNIX_EPOCH);
        registry.set("shop", "oncall", 2, &spec).expect("a sink");
        let entry = registry.get("shop", "oncall").expect("there");
        assert_eq!((entry.generation, entry.deliveries().delivered), (2, 1));
        assert_eq!(entry.account.to_string(), "system:serviceaccount:shop:signalbox-rules");
        registry.remove("shop", "oncall");
        assert!(registry.get("shop", "oncall").is_none());
        registry.set("shop", "oncall", 1, &spec).expect("a sink");
        assert_eq!(registry.get("shop", "oncall").expect("there").deliveries(), Deliveries::default());
    }

    #[test]
    fn a_sink_of_no_kind_is_known_and_takes_nothing() {
        let registry = Registry::default();
        registry.set("shop", "odd", 1, &sink("{}")).expect_err("no kind");
        assert!(registry.get("shop", "odd").expect("there").sink.is_err());
    }

    #[test]
    fn a_success_clears_the_last_error() {
        let registry = Registry::default();
        registry.set("shop", "odd", 1, &sink("{}")).expect_err("no kind");
        let entry = registry.get("shop", "odd").expect("there");
        entry.attempt_failed(&SinkError::never("no"));
        assert_eq!(entry.deliveries().last_error.as_deref(), Some("no"));
        assert_eq!(entry.deliveries().failed, 0);
        entry.failed("no");
        assert_eq!(entry.deliveries().failed, 1);
        entry.delivered(Timestamp::UNIX_EPOCH);
        assert_eq!(entry.deliveries().last_error, None);
    }
}
