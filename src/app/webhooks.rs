//! The way in for events of others: EventSources, the server for their senders, what goes on beside the requests, and feeds.

use std::{future::Future, sync::Arc};

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::Bus,
    clock::Clock,
    config::Settings,
    controller::{self, Intakes, Synced},
    event::{Event, Origin},
    kubernetes::{Authority, Cluster},
    net::{Connector, Guard},
    record::{EventInput, Lookups},
    rule::Interest,
    server::hooks::{self, Door},
    shard::WatchMemory,
    sources::{Accept, EventSources, NearMisses, feeds::Feeds, webhook::Hooks},
    status::StatusQueue,
    telemetry::Metrics,
};

/// The EventSources, as far as the parts that are started know them.
pub(super) struct Webhooks {
    hooks: Hooks,
    feeds: Feeds,
    interest: watch::Receiver<Arc<Interest>>,
    /// Their names, for who listens for rules.
    pub(super) names: EventSources,
    synced: Synced,
    metrics: Arc<Metrics>,
}

/// Where senders come in.
pub(super) async fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = settings.hooks_address;
    TcpListener::bind(address).await.with_context(|| format!("listen for webhooks on {address}"))
}

impl Webhooks {
    /// None yet. What the log remembers of their events is taken out of `memory`. What rules nearly took of events that concern nobody is told by
    /// `misses`. Feeds connect where `guard` lets them.
    pub(super) fn new(
        bus: &Arc<dyn Bus>,
        memory: &mut WatchMemory,
        interest: watch::Receiver<Arc<Interest>>,
        misses: NearMisses,
        metrics: &Arc<Metrics>,
        guard: Guard,
    ) -> Self {
        let interest_of_rules = interest.clone();
        let wanted = Arc::new(move |origin: &Origin, event: &Event| {
            let interest = Arc::clone(&interest.borrow());
            let any = interest.concern(origin, event).any;
            if !any {
                let input = || EventInput {
                    event: Arc::new(event.clone()),
                    origin: origin.clone(),
                    only: None,
                    lookups: Lookups::default(),
                };
                misses.look(&interest, (&origin.watch, event), Timestamp::now(), input);
            }
            any
        });
        let accept = Accept::new(Arc::clone(bus), memory, wanted, Arc::clone(metrics), Clock::real(0));
        Self {
            hooks: Hooks::new(accept.clone()),
            feeds: Feeds::new(accept, Connector::new(guard)),
            interest: interest_of_rules,
            names: EventSources::default(),
            synced: Synced::default(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Takes requests. Senders are answered from the start, if only with the request to come again.
    pub(super) fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let (hooks, metrics, synced) = (self.hooks.clone(), Arc::clone(&self.metrics), self.synced.clone());
        let door = Door { hooks, metrics, listed: Arc::new(move || synced.get()) };
        async move { hooks::serve(listener, door, stop).await.context("serve senders of events") }
    }

    /// Reads Secrets, and forgets what is old.
    pub(super) fn keep(
        &self,
        cluster: Cluster,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let (hooks, feeds, synced) = (self.hooks.clone(), self.feeds.clone(), self.synced.clone());
        let of_hooks = hooks.clone();
        let known = move || synced.get().then(|| of_hooks.known().into_iter().chain(feeds.known()).collect());
        async move { Ok(hooks.keep(cluster, known, stop).await?) }
    }

    /// Connects to where events are, while this process may act.
    pub(super) fn feed(
        &self,
        cluster: Cluster,
        authority: Authority,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let (feeds, interest) = (self.feeds.clone(), self.interest.clone());
        async move {
            feeds.run(cluster, authority, interest, stop).await;
            Ok(())
        }
    }

    /// Follows the EventSources.
    pub(super) fn follow(
        self,
        cluster: Cluster,
        status: StatusQueue,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let client = cluster.own().clone();
        let intakes = Intakes { hooks: self.hooks, feeds: self.feeds };
        let sources = controller::Sources::new(cluster, Arc::new(intakes), self.names, status, self.synced);
        async move { Ok(controller::run(sources, client, stop).await?) }
    }
}
