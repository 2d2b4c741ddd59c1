//! Feeds: sources that connect to where events are, brokers and others.
//!
//! [`Feeds`] knows the EventSources of such kinds and owns a task for each, which begins anew when it is edited, when a Secret changes or when the connection
//! breaks. A task takes events only while a rule in force listens to the EventSource, so that what is there waits for the rule, and only while the log has
//! the Lease, so that no two processes take the same.
//!
//! Where the protocol carries several over one connection, those of a namespace with the same server, Secrets and TLS share it ([`lines`]): streams of
//! JetStream, queues of AMQP, and whatever asks for a depth there or of Redis. The others have one each: the client of NATS tells of what it had no room for
//! without saying whose it was, and nothing sends that again; a server of Redis holds a connection for as long as a question for entries waits; a session of
//! MQTT is known by the name of its only client; and a client of Kafka is a member of one group.
//!
//! To add a kind: its file in `api/event_source` and its line in the union there; a file here with a function that connects and takes what comes until
//! the connection breaks, made so that it can be dropped at any time; its arms in `kind`. A message is acknowledged after [`feed::Feed::take`] only.

#[cfg(feature = "amqp")]
mod amqp;
mod feed;
#[cfg(feature = "kafka")]
mod kafka;
mod kind;
#[allow(dead_code, reason = "which kinds are built decides what is used")]
mod lines;
mod link;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "nats")]
mod nats;
mod pod_logs;
mod prometheus;
mod queue_lag;
#[cfg(feature = "redis")]
mod redis;
mod task;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use feed::Net;
pub use link::{Down, DownReason, Link};
pub use pod_logs::{missing_rights, rights};
use task::{Tools, Version};

use super::{accept::Accept, figures::Figures};
use crate::{
    api::EventSourceSpec,
    kubernetes::{Authority, Cluster},
    net::Connector,
    record::Account,
    rule::Interest,
};

/// Namespace and name.
type Name = (String, String);

/// All EventSources of kinds that connect. The controller sets them. A clone is the same.
#[derive(Clone)]
pub struct Feeds(Arc<Inner>);

struct Inner {
    feeds: RwLock<HashMap<Name, Known>>,
    /// The uids of those of which no version can be used.
    faulty: RwLock<HashMap<Name, String>>,
    /// Why those of these names take nothing, whatever their specs say.
    holds: RwLock<HashMap<Name, String>>,
    accept: Accept,
    net: Arc<Net>,
    changed: Notify,
    versions: AtomicU64,
}

/// An EventSource, in one version.
struct Known {
    number: u64,
    version: Version,
}

/// A task that was begun.
struct Running {
    number: u64,
    task: AbortHandle,
}

impl Feeds {
    /// None yet. What they connect to, `connector` lets through.
    pub fn new(accept: Accept, connector: Connector) -> Self {
        let (feeds, faulty, holds) = (RwLock::default(), RwLock::default(), RwLock::default());
        let net = Arc::new(Net::new(connector));
        Self(Arc::new(Inner { feeds, faulty, holds, accept, net, changed: Notify::new(), versions: AtomicU64::new(0) }))
    }

    /// Puts an EventSource or a new version of it; its figures go on. A version that says the same goes on as it is.
    ///
    /// # Errors
    /// Lists all faults of the spec; then the version before, if any, goes on.
    pub fn set(&self, namespace: &str, name: &str, uid: &str, spec: &EventSourceSpec) -> Result<(), Vec<String>> {
        let faults = kind::faults(spec);
        if !faults.is_empty() {
            // One of another uid is gone, although nobody has said so.
            self.0.feeds.write().retain(|key, of| *key != (namespace.into(), name.into()) || of.version.uid == uid);
            self.0.changed.notify_one();
            return Err(self.refused((namespace.to_owned(), name.to_owned()), uid, faults));
        }
        let account = Account { namespace: namespace.to_owned(), name: spec.service_account_name.clone() };
        let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.to_owned());
        let key = (namespace.clone(), name.clone());
        let mut feeds = self.0.feeds.write();
        let before = feeds.get(&key).filter(|before| before.version.uid == uid);
        if before.is_some_and(|before| *before.version.spec == *spec) {
            return Ok(());
        }
        let shared = before.map(|before| Arc::clone(&before.version.shared)).unwrap_or_default();
        shared.set(Link::Connecting);
        let version = Version { namespace, name, uid, account, spec: Arc::new(spec.clone()), shared };
        let number = self.0.versions.fetch_add(1, Ordering::Relaxed);
        self.0.faulty.write().remove(&key);
        feeds.insert(key, Known { number, version });
        drop(feeds);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Notes that there is such an EventSource, where no version of it can be used: what came by it before is not to be forgotten.
    fn refused(&self, key: Name, uid: &str, faults: Vec<String>) -> Vec<String> {
        let feeds = self.0.feeds.read();
        if feeds.get(&key).is_none_or(|before| before.version.uid != uid) {
            self.0.faulty.write().insert(key, uid.to_owned());
        }
        faults
    }

    /// Takes an EventSource away.
    pub fn remove(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.faulty.write().remove(&key);
        if self.0.feeds.write().remove(&key).is_some() {
            self.0.changed.notify_one();
        }
    }

    /// Takes nothing for this name as long as there is a reason, whichever version is set.
    pub fn hold(&self, namespace: &str, name: &str, why: Option<String>) {
        let key = (namespace.to_owned(), name.to_owned());
        let before = match why {
            Some(why) => self.0.holds.write().insert(key, why).is_some(),
            None => self.0.holds.write().remove(&key).is_none(),
        };
        if !before {
            self.0.changed.notify_one();
        }
    }

    /// How the connection of this name is; nothing where there is no such EventSource.
    pub fn link(&self, namespace: &str, name: &str) -> Option<Link> {
        let key = (namespace.to_owned(), name.to_owned());
        let link = self.0.feeds.read().get(&key)?.version.shared.link();
        Some(self.0.holds.read().get(&key).map_or(link, |why| Link::Idle(why.clone())))
    }

    /// What became of its messages since this process started.
    pub fn figures(&self, namespace: &str, name: &str) -> Option<Figures> {
        Some(self.0.feeds.read().get(&(namespace.to_owned(), name.to_owned()))?.version.shared.counted.get())
    }

    /// Namespace and uid of each, also of those whose only version has faults.
    pub fn known(&self) -> HashSet<(String, String)> {
        let feeds = self.0.feeds.read();
        let good = feeds.values().map(|known| (known.version.namespace.clone(), known.version.uid.clone()));
        let faulty = self.0.faulty.read();
        good.chain(faulty.iter().map(|((namespace, _), uid)| (namespace.clone(), uid.clone()))).collect()
    }

    /// Works until it is told to stop: then every connection has ended.
    pub async fn run(
        &self,
        cluster: Cluster,
        authority: Authority,
        mut interest: watch::Receiver<Arc<Interest>>,
        stop: CancellationToken,
    ) {
        let (accept, net) = (self.0.accept.clone(), Arc::clone(&self.0.net));
        let tools = Tools { cluster, authority, accept, net };
        let (mut tasks, mut running) = (JoinSet::new(), HashMap::<Name, Running>::new());
        while !stop.is_cancelled() {
            let current = Arc::clone(&interest.borrow_and_update());
            self.settle(&current, &tools, &mut tasks, &mut running);
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.0.changed.notified() => {}
                changed = interest.changed() => if changed.is_err() {
                    // The shard has ended, and with it the process.
                    stop.cancelled().await;
                },
                Some(ended) = tasks.join_next_with_id() => {
                    let id = match &ended {
                        Ok((id, ())) => *id,
                        Err(error) => error.id(),
                    };
                    running.retain(|_, running| running.task.id() != id);
                }
            }
        }
        tasks.shutdown().await;
    }

    /// Ends tasks that are not wanted, and begins those that are. One of the same name begins when the one before has ended.
    fn settle(
        &self,
        interest: &Interest,
        tools: &Tools,
        tasks: &mut JoinSet<()>,
        running: &mut HashMap<Name, Running>,
    ) {
        let (feeds, holds) = (self.0.feeds.read(), self.0.holds.read());
        let is_wanted = |name: &Name| !holds.contains_key(name) && interest.hears(&name.0, &name.1);
        for (name, running) in &*running {
            let same = feeds.get(name).is_some_and(|known| known.number == running.number);
            if !same || !is_wanted(name) {
                running.task.abort();
            }
        }
        for (name, known) in &*feeds {
            known.version.shared.listen(interest.hears(&name.0, &name.1));
            if !is_wanted(name) {
                known.version.shared.set(Link::Unasked);
            } else if !running.contains_key(name) {
                known.version.shared.set(Link::Connecting);
                let task = tasks.spawn(task::keep(known.version.clone(), tools.clone()));
                running.insert(name.clone(), Running { number: known.number, task });
            }
        }
    }
}

impl fmt::Debug for Feeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeds").finish_non_exhaustive()
    }
}
