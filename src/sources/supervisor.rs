//! The supervisor: owns every watch and every timetable, knows the EventSources, and says for each rule's source when it listens and when it cannot.
//!
//! One watch serves all rules that look at the same resource in the same scope. A source gets its `Baseline` once its watches have their
//! lists, its rule's account may see them and the shard knows the rule; a `Deaf` when it cannot be listened to. Judging is the shard's.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    EventSources, NearMisses, SourceReport, append, existing,
    lookups::Looker,
    plan::{Probe, probe},
    schedule::{Reached, Ticker},
    watch::{Api, Emitter, Phase, Phases},
};
use crate::{
    bus::{Bus, BusError},
    clock::Clock,
    event::{Seen, WatchKey},
    kubernetes::Cluster,
    record::{Record, RuleUid, SourceRef},
    rule::Interest,
    telemetry::{Metrics, WatchState},
};
use entry::{Entry, Mark};
use handle::Command;
pub use handle::{Handle, Wanted};
use running::Running;

mod entry;
mod forget;
mod handle;
mod running;

/// Rights are asked for again after so long, if not said otherwise.
const ACCESS_RECHECK: Duration = Duration::from_secs(120);

/// Commands that wait: a start sets every rule, a few thousand at most, faster than they are taken only for moments.
const COMMANDS: usize = 256;
/// Phases that wait: each watch sends one when it changes, and waits then.
const PHASES: usize = 256;

/// Why the supervisor ended; the process must end then.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The log takes nothing any more.
    #[error("append what sources saw: {0}")]
    Bus(#[from] BusError),
    /// A task panicked.
    #[error("run a source: {0}")]
    Task(#[from] JoinError),
}

/// What a task of the supervisor ended with.
enum Done {
    Probed { rule: RuleUid, serial: u64, source: usize, probe: Probe },
    Watched { key: WatchKey, result: Result<(), BusError> },
    Fired(Result<(), BusError>),
    Ticked(Result<(), BusError>),
    Stopped,
}

/// Owns the watches.
pub struct Supervisor {
    cluster: Cluster,
    bus: Arc<dyn Bus>,
    interest: watch::Receiver<Arc<Interest>>,
    looker: Looker,
    memory: HashMap<WatchKey, HashMap<String, Seen>>,
    reached: Reached,
    clock: Clock,
    reports: mpsc::Sender<SourceReport>,
    metrics: Arc<Metrics>,
    misses: Option<NearMisses>,
    event_sources: EventSources,
    access_recheck: Duration,
    away: Duration,
    commands: mpsc::Receiver<Command>,
    phases: (Phases, mpsc::Receiver<(WatchKey, u64, Phase)>),
    tasks: JoinSet<Done>,
    rules: BTreeMap<RuleUid, Entry>,
    watches: HashMap<WatchKey, Running>,
    stop: CancellationToken,
    serial: u64,
    settled: bool,
}

impl Supervisor {
    /// A supervisor with what the log remembers of each watch, and the handle to tell it what is wanted. Reports must be taken by somebody
    /// who does not wait for the handle.
    pub fn new(
        cluster: Cluster,
        bus: Arc<dyn Bus>,
        interest: watch::Receiver<Arc<Interest>>,
        mut memory: HashMap<WatchKey, HashMap<String, Seen>>,
        reports: mpsc::Sender<SourceReport>,
    ) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let supervisor = Self {
            looker: Looker::new(cluster.clone()),
            cluster,
            bus,
            interest,
            reached: Reached::take(&mut memory),
            memory,
            clock: Clock::real(0),
            reports,
            metrics: Arc::default(),
            misses: None,
            event_sources: EventSources::default(),
            access_recheck: ACCESS_RECHECK,
            away: Duration::ZERO,
            commands,
            phases: mpsc::channel(PHASES),
            tasks: JoinSet::new(),
            rules: BTreeMap::new(),
            watches: HashMap::new(),
            stop: CancellationToken::new(),
            serial: 0,
            settled: false,
        };
        (supervisor, Handle(sender))
    }

    /// Counts watches and what they could not read in these metrics.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// Tells timetables the time by this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Tells what rules nearly took of the events that concern nobody.
    #[must_use]
    pub fn with_near_misses(self, misses: NearMisses) -> Self {
        Self { misses: Some(misses), ..self }
    }

    /// Tells by these which EventSources there are.
    #[must_use]
    pub fn with_event_sources(self, event_sources: EventSources) -> Self {
        Self { event_sources, ..self }
    }

    /// Asks so often whether accounts may still see what their rules watch.
    #[must_use]
    pub fn with_access_recheck(self, access_recheck: Duration) -> Self {
        Self { access_recheck, ..self }
    }

    /// Nobody listened for so long before the start.
    #[must_use]
    pub fn with_away(self, away: Duration) -> Self {
        Self { away, ..self }
    }

    /// Works until it is told to shut down; then every task has ended.
    ///
    /// # Errors
    /// When the log takes nothing any more.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), SupervisorError> {
        let ended = shutdown.run_until_cancelled(self.work()).await;
        self.stop.cancel();
        let mut last = ended.unwrap_or(Ok(()));
        while let Some(done) = self.tasks.join_next().await {
            if let Err(error) = done.map_err(SupervisorError::from).and_then(|done| Ok(ended_well(done)?)) {
                last = last.and(Err(error));
            }
        }
        last
    }

    async fn work(&mut self) -> Result<(), SupervisorError> {
        let mut event_sources = self.event_sources.changes();
        loop {
            let due = self.rules.values().filter_map(Entry::next_probe).min();
            tokio::select! {
                Some(command) = self.commands.recv() => self.command(command).await?,
                Some((key, start, phase)) = self.phases.1.recv() => self.phase(key, start, phase).await?,
                Some(done) = self.tasks.join_next() => self.done(done?).await?,
                Ok(()) = self.interest.changed() => self.settle_all(|entry| !entry.is_live()).await?,
                Ok(()) = event_sources.changed() => self.settle_all(Entry::refers).await?,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.start_probes(),
            }
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), SupervisorError> {
        match command {
            Command::Set(wanted) => {
                self.serial += 1;
                let before = self.rules.remove(&wanted.rule.uid);
                let entry = match before {
                    Some(entry) if entry.is_same(&wanted) => entry,
                    before => Entry::new(*wanted, self.serial, before, &self.stop),
                };
                let rule = entry.wanted().rule.uid.clone();
                self.rules.insert(rule.clone(), entry);
                self.start_probes();
                // A timetable has nothing to ask for, and neither have other rules.
                self.settle(&rule).await?;
            }
            Command::Remove(rule) => {
                self.rules.remove(&rule);
            }
            Command::Settled => self.settled = true,
        }
        self.forget_unneeded().await
    }

    async fn phase(&mut self, key: WatchKey, start: u64, phase: Phase) -> Result<(), SupervisorError> {
        match self.watches.get_mut(&key) {
            Some(running) if running.start == start => {
                self.metrics.watch_moved(Some(state(&running.phase)), Some(state(&phase)));
                running.phase = phase;
            }
            _ => return Ok(()),
        }
        self.settle_all(|entry| entry.uses(&key)).await
    }

    async fn done(&mut self, done: Done) -> Result<(), SupervisorError> {
        match done {
            Done::Probed { rule, serial, source, probe } => {
                if let Some(entry) = self.rules.get_mut(&rule).filter(|entry| entry.serial() == serial) {
                    entry.probed(source, probe, self.access_recheck);
                    self.settle(&rule).await?;
                }
            }
            Done::Watched { key, result } => {
                result?;
                if let Some(running) = self.watches.remove(&key) {
                    self.metrics.watch_moved(Some(state(&running.phase)), None);
                }
                append(&self.bus, Record::Forget(key.clone())).await?;
                // Somebody may have come to want it while it was stopping.
                self.settle_all(|entry| entry.uses(&key)).await?;
            }
            Done::Fired(result) | Done::Ticked(result) => result?,
            Done::Stopped => {}
        }
        Ok(())
    }

    fn start_probes(&mut self) {
        // Half: an answer that another rule has just got is used, and one of the last time is not.
        let (now, age) = (Instant::now(), self.access_recheck / 2);
        for (rule, entry) in &mut self.rules {
            for (source, plan) in entry.begin_probes(now) {
                let (cluster, account, stop) = (self.cluster.clone(), entry.wanted().account.clone(), entry.stop());
                let (rule, serial) = (rule.clone(), entry.serial());
                self.tasks.spawn(async move {
                    match stop.run_until_cancelled(probe(&cluster, &account, &plan, age)).await {
                        Some(probe) => Done::Probed { rule, serial, source, probe },
                        None => Done::Stopped,
                    }
                });
            }
        }
    }

    async fn settle_all(&mut self, which: impl Fn(&Entry) -> bool) -> Result<(), SupervisorError> {
        let rules: Vec<RuleUid> =
            self.rules.iter().filter(|(_, entry)| which(entry)).map(|(rule, _)| rule.clone()).collect();
        for rule in rules {
            self.settle(&rule).await?;
        }
        Ok(())
    }

    /// Brings a rule as far as it can come: starts its watches, appends the marks of its sources, reports.
    async fn settle(&mut self, rule: &RuleUid) -> Result<(), SupervisorError> {
        let Some(mut entry) = self.rules.remove(rule) else { return Ok(()) };
        for (key, resource) in entry.to_watch() {
            self.ensure(key, &resource);
        }
        let known = self.interest.borrow().knows(rule, entry.wanted().generation);
        let verdicts = entry.verdicts(|key| self.phase_of(key), &self.event_sources);
        for (source, verdict) in verdicts.iter().enumerate() {
            let Some(mark) = entry.next_mark(source, verdict, known) else { continue };
            let of = entry.source_ref(source);
            let record = match mark {
                Mark::Baseline => Record::Baseline(of.clone()),
                Mark::Deaf => Record::Deaf(of.clone()),
            };
            append(&self.bus, record).await?;
            if entry.marked(source, mark) {
                self.fire_existing(&entry, source, &of);
            }
            if mark == Mark::Baseline {
                self.start_schedule(&entry, source);
            }
        }
        let replaced = entry.drop_former();
        let report = entry.report(&verdicts, self.notices(&entry));
        self.rules.insert(rule.clone(), entry);
        if let Some(report) = report {
            // Fails when the app is ending.
            let _ = self.reports.send(report).await;
        }
        if replaced { self.forget_unneeded().await } else { Ok(()) }
    }

    fn fire_existing(&mut self, entry: &Entry, source: usize, only: &SourceRef) {
        for (key, resource) in entry.keys(source) {
            let api = Api::new(self.cluster.own().clone(), &resource.api, key.namespace.as_deref());
            let (emitter, only, stop) = (self.emitter(&key), only.clone(), entry.stop());
            self.tasks.spawn(async move {
                let ended = stop.run_until_cancelled(existing::fire(api, key, only, emitter)).await;
                ended.map_or(Done::Stopped, Done::Fired)
            });
        }
    }

    fn start_schedule(&mut self, entry: &Entry, source: usize) {
        let Some((schedule, missed)) = entry.schedule(source) else { return };
        let emitter = self.emitter(&schedule.watch());
        let (reached, clock, stop) = (self.reached.clone(), self.clock.clone(), entry.stop());
        let ticker = Ticker { schedule, missed, reached, emitter, clock };
        self.tasks.spawn(async move { Done::Ticked(ticker.run(stop).await) });
    }

    fn emitter(&self, key: &WatchKey) -> Emitter {
        let (bus, interest, looker) = (self.bus.clone(), self.interest.clone(), self.looker.clone());
        let emitter = Emitter::new(key.clone(), bus, interest, looker, self.metrics.clone());
        emitter.with_near_misses(self.misses.clone())
    }
}

fn state(phase: &Phase) -> WatchState {
    match phase {
        Phase::Starting => WatchState::Starting,
        Phase::Listening => WatchState::Established,
        Phase::Failed(_) | Phase::Forbidden(_) | Phase::KindNotFound(_) => WatchState::Failed,
    }
}

/// Whether a task ended well after the shutdown began: the log may have been closed by then.
fn ended_well(done: Done) -> Result<(), BusError> {
    match done {
        Done::Watched { result: Err(BusError::Closed), .. }
        | Done::Fired(Err(BusError::Closed))
        | Done::Ticked(Err(BusError::Closed)) => Ok(()),
        Done::Watched { result, .. } | Done::Fired(result) | Done::Ticked(result) => result,
        Done::Probed { .. } | Done::Stopped => Ok(()),
    }
}

#[cfg(test)]
mod tests;
