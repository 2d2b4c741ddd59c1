//! How the parts are started: what each is given of what was recovered, and of the others.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{Ended, Operator, guard, named, ok};
use crate::{
    api::EventRuleSpec,
    app::{control, gap, lease, otlp, webhooks::Webhooks},
    bus::BusError,
    clock::{Clock, Quota},
    controller::{self, Known, Synced},
    kubernetes,
    record::{Brief, FiringId, RuleRef},
    rule::Interest,
    server::Rules,
    shard::{self, Bounds, Recovered, Shard, State, Suppressions, Ticks, WatchMemory},
    sources::{Handle, NearMisses, Supervisor},
    status::{Part, StatusQueue, Writer},
    telemetry::traces::Traces,
};

/// Reports that wait: the relay only copies them into the status queue, so a burst of a few hundred rules fits.
const REPORTS: usize = 256;

/// What those who listen are given.
struct Listening {
    /// What they remember.
    memory: WatchMemory,
    /// What rules are concerned with.
    interest: watch::Receiver<Arc<Interest>>,
    misses: NearMisses,
    /// For how long nobody listened.
    away: Duration,
}

impl Operator {
    /// Starts everything; gives the shard's loop, which the caller runs.
    pub(super) fn start(
        &self,
        recovered: Recovered,
        senders: TcpListener,
        synced: &Synced,
        tasks: &mut JoinSet<Ended>,
        late: &mut JoinSet<Ended>,
    ) -> anyhow::Result<impl Future<Output = Result<(), BusError>> + Send + 'static> {
        let Recovered { mut state, memory, open, orphans, listened, .. } = recovered;
        // Before the shard starts what is new: events come in as soon as EventSources are known.
        self.go_on(&mut state, open, orphans);
        let status = self.status(late);
        let away = gap::away(listened);
        gap::tell(&status, &state, away);
        if let (Some(name), Some(taken)) = (&self.settings.lease, &self.taken) {
            lease::tell(&status, name, taken, &self.bus.id().0);
        }
        let traces = self.traces(late)?;
        let (interest, interest_of_rules) = watch::channel(state.engine.interest());
        let misses = near_misses(&status);
        let listening = Listening { memory, interest: interest_of_rules, misses: misses.clone(), away };
        let sources = self.listen(listening, senders, &status, tasks)?;
        self.follow(&state, sources, &status, synced, tasks)?;

        let (desk, questions) = shard::desk();
        let _ = self.rules.set(Rules::new(desk, Arc::clone(&self.bus), self.runner.services()));
        let reader = self.bus.reader().context("read the log: it has another reader")?;
        let shard = Shard {
            bus: Arc::clone(&self.bus),
            state,
            runner: self.runner.clone(),
            bounds: Bounds::open(self.settings.open_firings),
            status,
            interest,
            misses,
            suppressions: Suppressions::default(),
            questions,
            metrics: Arc::clone(&self.metrics),
            traces,
            clock: Clock::real(0),
            ticks: Ticks::default(),
        };
        Ok(shard.run(reader, self.shard_stop.clone()))
    }

    /// Gives the runner what earlier processes have left.
    fn go_on(&self, state: &mut State, open: Vec<(FiringId, Brief)>, orphans: Vec<(FiringId, Brief)>) {
        for (rule, gate) in state.engine.take_gates() {
            self.runner.gate(rule, gate);
        }
        if let Some(stopped) = state.engine.stopped() {
            self.runner.hold(stopped.lasts(Clock::real(0).now()));
        }
        for (id, brief) in open.iter().filter(|(_, brief)| brief.restores) {
            if !state.engine.gives(&brief.rule, id) {
                self.runner.held_again(id.clone());
            }
        }
        self.runner.resume(open);
        self.runner.end(orphans);
    }

    /// Starts what tells people: statuses and Events.
    fn status(&self, late: &mut JoinSet<Ended>) -> StatusQueue {
        let (events, event_writer) = kubernetes::event_channel(
            self.cluster.own().clone(),
            &self.settings.pod_name,
            self.metrics.kubernetes_events_dropped(),
        );
        let status = StatusQueue::new(events);
        let _ = self.slowed.set(status.clone());
        let last = self.last_stop.clone();
        late.spawn(named("Kubernetes Events", ok(async move { event_writer.run(last).await })));
        let writer = Writer::new(status.clone(), self.cluster.own().clone(), Arc::clone(&self.metrics));
        let last = self.last_stop.clone();
        late.spawn(named("status", ok(async move { writer.run(last).await })));
        status
    }

    /// Traces, and the task that sends them, where an endpoint is configured.
    fn traces(&self, late: &mut JoinSet<Ended>) -> anyhow::Result<Traces> {
        let Some(endpoint) = &self.settings.otlp_endpoint else { return Ok(Traces::default()) };
        let dropped = self.metrics.spans_dropped();
        let (headers, pod) = (&self.settings.otlp_headers, &self.settings.pod_name);
        let exporter = otlp::Exporter::new(endpoint, headers, pod, dropped.clone())?;
        let (traces, spans) = Traces::new(dropped, Clock::real(0).now().wall);
        late.spawn(named("traces", ok(exporter.run(spans, self.last_stop.clone()))));
        Ok(traces)
    }

    /// Starts what listens: watches and timetables, senders and feeds. Gives the handle to tell the former what is wanted.
    fn listen(
        &self,
        listening: Listening,
        senders: TcpListener,
        status: &StatusQueue,
        tasks: &mut JoinSet<Ended>,
    ) -> anyhow::Result<Handle> {
        let Listening { mut memory, interest, misses, away } = listening;
        let (reports, reported) = mpsc::channel(REPORTS);
        let (guard, rules) = (guard(&self.settings)?, interest.clone());
        let webhooks = Webhooks::new(&self.bus, &mut memory, rules, misses.clone(), &self.metrics, guard);
        let (supervisor, sources) =
            Supervisor::new(self.cluster.clone(), Arc::clone(&self.bus), interest, memory, reports);
        let supervisor = supervisor
            .with_metrics(Arc::clone(&self.metrics))
            .with_near_misses(misses)
            .with_event_sources(webhooks.names.clone())
            .with_away(away)
            .with_access_recheck(self.settings.access_recheck);

        let stop = self.stop.clone();
        tasks.spawn(named("sources", async move { Ok(supervisor.run(stop).await?) }));
        tasks.spawn(named("webhooks", webhooks.serve(senders, self.stop.clone())));
        tasks.spawn(named("Secrets of webhooks", webhooks.keep(self.cluster.clone(), self.stop.clone())));
        let fed = webhooks.feed(self.cluster.clone(), self.authority.clone(), self.stop.clone());
        tasks.spawn(named("feeds", fed));
        let followed = webhooks.follow(self.cluster.clone(), status.clone(), self.stop.clone());
        tasks.spawn(named("EventSources", followed));
        let relayed = controller::relay(reported, status.clone(), self.stop.clone());
        tasks.spawn(named("reports", ok(relayed)));
        Ok(sources)
    }

    /// Starts what follows sinks, the switch for all rules, and rules.
    fn follow(
        &self,
        state: &State,
        sources: Handle,
        status: &StatusQueue,
        synced: &Synced,
        tasks: &mut JoinSet<Ended>,
    ) -> anyhow::Result<()> {
        let sinks_synced = Synced::default();
        let sinks =
            controller::Sinks::new(self.cluster.clone(), self.registry.clone(), status.clone(), sinks_synced.clone());
        let (client, stop) = (self.cluster.own().clone(), self.stop.clone());
        tasks.spawn(named("sinks", async move { Ok(controller::run(sinks, client, stop).await?) }));
        let stopped = state.engine.stopped().cloned();
        let switch = control::follow(&self.settings, &self.cluster, &self.bus, stopped, self.stop.clone())?;
        if let Some(switch) = switch {
            tasks.spawn(named("the switch for all rules", switch));
        }
        let rules = controller::Rules::new(
            self.runner.services(),
            Arc::clone(&self.bus),
            Arc::new(sources),
            status.clone(),
            known_rules(state),
            synced.clone(),
        );
        let (runner, client, stop) = (self.runner.clone(), self.cluster.own().clone(), self.stop.clone());
        tasks.spawn(named("rules", async move {
            // Firings may need the sinks.
            if stop.run_until_cancelled(sinks_synced.wait()).await.is_some() {
                runner.begin();
                controller::run(rules, client, stop).await?;
            }
            Ok(())
        }));
        Ok(())
    }
}

/// Rules that are looked at in a second, for what they nearly took: with 50 µs each this is 1 % of a core.
const EXPLAINED_PER_SECOND: u32 = 200;

fn near_misses(status: &StatusQueue) -> NearMisses {
    let status = status.clone();
    NearMisses::new(Quota::per_second(EXPLAINED_PER_SECOND), move |miss| {
        status.publish(&miss.rule.clone(), Part::NearMiss(miss));
    })
}

fn known_rules(state: &State) -> Vec<Known> {
    let known = |(rule, generation, spec): (&RuleRef, i64, &Arc<EventRuleSpec>)| {
        let judging = state.engine.progress(&rule.uid).and_then(|progress| progress.generation);
        let (spec, silences) = (Arc::clone(spec), state.engine.silences(&rule.uid).to_vec());
        Known { rule: rule.clone(), generation, in_force: judging == Some(generation), spec, silences }
    };
    state.engine.known().map(known).collect()
}
