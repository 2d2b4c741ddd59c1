//! The way in for events of others: EventSources, the server for their senders, and what goes on beside the requests.

use std::{future::Future, sync::Arc};

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::Bus,
    clock::Clock,
    config::Settings,
    controller::{self, Synced},
    event::{Event, Origin},
    kubernetes::Cluster,
    record::{EventInput, Lookups},
    rule::Interest,
    server::hooks::{self, Door},
    shard::WatchMemory,
    sources::{EventSources, NearMisses, webhook::Hooks},
    status::StatusQueue,
    telemetry::Metrics,
};

/// The EventSources, as far as the parts that are started know them.
pub(super) struct Webhooks {
    hooks: Hooks,
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
    /// `misses`.
    pub(super) fn new(
        bus: &Arc<dyn Bus>,
        memory: &mut WatchMemory,
        interest: watch::Receiver<Arc<Interest>>,
        misses: NearMisses,
        metrics: &Arc<Metrics>,
    ) -> Self {
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
        let hooks = Hooks::new(Arc::clone(bus), memory, wanted, Arc::clone(metrics), Clock::real(0));
        Self { hooks, names: EventSources::default(), synced: Synced::default(), metrics: Arc::clone(metrics) }
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
        let (hooks, synced) = (self.hooks.clone(), self.synced.clone());
        async move { Ok(hooks.keep(cluster, move || synced.get(), stop).await?) }
    }

    /// Follows the EventSources.
    pub(super) fn follow(
        self,
        cluster: Cluster,
        status: StatusQueue,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let client = cluster.own().clone();
        let sources = controller::Sources::new(cluster, Arc::new(self.hooks), self.names, status, self.synced);
        async move { Ok(controller::run(sources, client, stop).await?) }
    }
}
