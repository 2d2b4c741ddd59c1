//! The operator: opens the log, recovers the state, starts every part, and stops them in the order that loses nothing.

mod start;

use std::{future::Future, net::IpAddr, sync::Arc};

use anyhow::{Context as _, anyhow};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    admission,
    begin::{self, Readiness},
    lease,
    pace::{self, LateStatus},
    webhooks,
};
use crate::{
    bus::{Bus, BusError, Firings},
    clock::Clock,
    config::Settings,
    controller::Synced,
    kubernetes::{Authority, Cluster, Taken},
    net::{Guard, Http},
    runner::Runner,
    server::LateRules,
    shard::{self, Recovered},
    sinks::Registry,
    telemetry::Metrics,
};

type Ended = (&'static str, anyhow::Result<()>);

/// Runs until SIGTERM or SIGINT, or until a part fails.
///
/// # Errors
/// When a part cannot be started or fails: the process is to be started again.
pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let signals = on_signal(stop.clone())?;
    let (mut tasks, mut late) = (JoinSet::new(), JoinSet::new());
    tasks.spawn(named("signals", signals));
    let (metrics, readiness, last_stop) =
        (Arc::new(Metrics::default()), Readiness::default(), CancellationToken::new());
    let rules = LateRules::default();
    // First of all: while the volume is waited for or the log is read, the process lives and is not ready.
    late.spawn(named("server", begin::serve(&settings, &metrics, &readiness, &rules, last_stop.clone()).await?));

    let Some(bus) = begin::open(&settings, &readiness, &stop).await? else { return Ok(()) };
    let cluster = Cluster::connect().await.context("connect to the API server")?;
    let asked = lease::ask(&settings, &cluster, &bus, &readiness, &metrics, last_stop.clone());
    if let Some(keeper) = asked.keeper {
        late.spawn(named("lease", keeper));
    }
    let mut recovered = shard::recover(&*bus, settings.open_firings)?;
    tell(&recovered, &*bus);
    let taken = tokio::select! {
        taken = lease::taken(asked.taken, &stop) => taken,
        ended = late.join_next() => return unasked(&stop, ended),
    };
    let Some(taken) = taken else { return Ok(()) };
    if let Some(displaced) = taken.as_ref().and_then(|taken| taken.from.as_ref()) {
        metrics.bus_lost();
        lease::give_way(displaced, &*bus, &mut recovered)?;
    }
    let firings = Firings::new(bus, recovered.state.ledger.shelf().clone());
    let operator = Operator::new(settings, firings, cluster, asked.authority, metrics, stop, last_stop)?;
    Operator { taken, rules, ..operator }.run(recovered, readiness, tasks, late).await
}

async fn on_signal_inner(
    stop: CancellationToken,
    mut term: tokio::signal::unix::Signal,
    mut int: tokio::signal::unix::Signal,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        _ = term.recv() => tracing::info!("stopping on SIGTERM"),
        _ = int.recv() => tracing::info!("stopping on SIGINT"),
    }
    stop.cancel();
}

fn on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send> {
    let term = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let int = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        on_signal_inner(stop, term, int).await;
        Ok(())
    })
}

async fn named(name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send) -> Ended {
    (name, task.await)
}

fn tell(recovered: &Recovered, bus: &dyn Bus) {
    for damage in &recovered.damage {
        tracing::error!(damage, "part of the state could not be read");
    }
    tracing::info!(
        log = %bus.id().0,
        rules = recovered.state.engine.known().count(),
        firings = recovered.open.len(),
        replayed = recovered.replayed,
        "the state is recovered"
    );
}

/// Everything that lives as long as the process.
struct Operator {
    settings: Settings,
    bus: Arc<dyn Bus>,
    cluster: Cluster,
    registry: Registry,
    runner: Runner,
    /// The gate before actions, and before what is taken from others.
    authority: Authority,
    /// Where the runner tells of rules that run away.
    slowed: LateStatus,
    metrics: Arc<Metrics>,
    /// What people ask about rules.
    rules: LateRules,
    /// How the Lease was taken, where there is one.
    taken: Option<Taken>,
    /// Ends sources and controllers: no new inputs.
    stop: CancellationToken,
    /// Ends the shard, after the runner has ended.
    shard_stop: CancellationToken,
    /// Ends status and server, after the shard has ended.
    last_stop: CancellationToken,
}

impl Operator {
    fn new(
        settings: Settings,
        firings: Firings,
        cluster: Cluster,
        authority: Authority,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
        last_stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let bus = Arc::clone(firings.bus());
        let http = Http::new(guard(&settings)?);
        let registry = Registry::default();
        let slowed = LateStatus::default();
        let limit = pace::limit(&settings, &slowed, &metrics);
        let sinks = registry.clone();
        let runner = Runner::new(cluster.clone(), authority.clone(), firings, sinks, http, Clock::real(0), limit);
        Ok(Self {
            settings,
            bus,
            cluster,
            registry,
            runner,
            authority,
            slowed,
            metrics,
            rules: LateRules::default(),
            taken: None,
            stop,
            shard_stop: CancellationToken::new(),
            last_stop,
        })
    }

    /// Starts every part, waits for the end, and stops them one after another.
    async fn run(
        self,
        recovered: Recovered,
        readiness: Readiness,
        mut tasks: JoinSet<Ended>,
        mut late: JoinSet<Ended>,
    ) -> anyhow::Result<()> {
        let synced = Synced::default();
        let senders = webhooks::listen(&self.settings).await?;
        if let Some(listener) = admission::listen(&self.settings).await? {
            let (settings, cluster, stop) = (self.settings.clone(), self.cluster.clone(), self.stop.clone());
            tasks.spawn(named("admission", admission::run(listener, settings, cluster, stop)));
        }
        let shard = self.start(recovered, senders, &synced, &mut tasks, &mut late)?;
        readiness.started(synced);
        let mut shard = tokio::spawn(shard);

        // The first part that ends unasked ends the process.
        let ended = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            ended = tasks.join_next() => unasked(&self.stop, ended),
            ended = late.join_next() => unasked(&self.stop, ended),
            ended = &mut shard => Err(anyhow!("the shard ended: {:?}", ended.map(|result| result.map_err(|error| error.to_string())))),
            error = self.runner.failed() => Err(error.into()),
        };
        if ended.is_err() {
            self.stop.cancel();
            return ended;
        }
        self.stop_in_order(tasks, shard, late).await
    }

    async fn stop_in_order(
        self,
        mut tasks: JoinSet<Ended>,
        shard: tokio::task::JoinHandle<Result<(), BusError>>,
        mut late: JoinSet<Ended>,
    ) -> anyhow::Result<()> {
        // A part that fails to stop keeps none of the others from stopping in their order; the first failure is told at the end.
        let inputs = join(&mut tasks).await;
        if !self.runner.drain(self.settings.shutdown_grace).await {
            tracing::info!("actions under way are left to the next start");
        }
        self.shard_stop.cancel();
        let shard = shard.await.context("stop the shard").and_then(|ended| ended.context("stop the shard"));
        self.last_stop.cancel();
        let outputs = join(&mut late).await;
        let log = self.bus.close().await.context("close the log");
        inputs.and(shard).and(outputs).and(log)?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Waits until every task has ended, and gives the first failure.
async fn join(tasks: &mut JoinSet<Ended>) -> anyhow::Result<()> {
    let mut first = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let result = match ended {
            Ok((name, result)) => result.with_context(|| format!("stop {name}")),
            Err(panicked) => Err(panicked.into()),
        };
        first = first.and(result);
    }
    first
}

async fn ok(task: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

fn unasked(stop: &CancellationToken, ended: Option<Result<Ended, tokio::task::JoinError>>) -> anyhow::Result<()> {
    match ended {
        _ if stop.is_cancelled() => Ok(()),
        None => Ok(()),
        Some(Err(panicked)) => Err(panicked.into()),
        Some(Ok((name, Err(error)))) => Err(error.context(format!("{name} failed"))),
        Some(Ok((name, Ok(())))) => Err(anyhow!("{name} ended unasked")),
    }
}

/// What sinks may reach: the API server only when the settings say so.
fn guard(settings: &Settings) -> anyhow::Result<Guard> {
    let allowed = settings
        .allow_egress
        .iter()
        .map(|network| network.parse().with_context(|| format!("read --allow-egress {network:?}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let api_server = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse::<IpAddr>().ok());
    Ok(Guard::new(allowed, api_server.into_iter().collect()))
}

#[cfg(test)]
mod tests;
