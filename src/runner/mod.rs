//! A firing's way: its actions in order, each rendered, recorded, carried out with retries, and its outcome recorded.
//!
//! Nothing is written to the outside world before the log is durable up to what is about to be done. What a crash or a stop interrupts, the next
//! process goes on with. The runner knows no source of events and decides nothing about rules.

mod approve;
mod backoff;
mod begin;
mod each;
mod firing;
mod gate;
mod halt;
mod holders;
mod lanes;
mod limit;
mod pace;
mod render;
mod restore;
mod step;
mod targets;
mod timeout;
mod told;
mod tries;
mod undo;
mod wait;
mod way;
mod work;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use limit::{Limit, PerHour, Slow, Slowed};

use crate::{
    actions::{self, Action, Services},
    api,
    bus::{Bus, BusError, Firings},
    clock::Clock,
    kubernetes::{Authority, Cluster},
    net::Http,
    record::{Brief, FiringId, RuleUid, whole},
    rule::{Gate, Rule},
    sinks::Registry,
};
use gate::Gates;
use holders::Holders;
use lanes::{Lanes, lane};
use pace::Pace;
use targets::{Held, Targets};
use timeout::Holds;

/// Firings of one rule that are carried out at the same time: a target that hangs holds up its own rule only, and an API server that limits clients
/// to a few hundred requests at once has room for the others.
pub const FIRINGS_PER_RULE: usize = 16;

type Build = dyn Fn(&api::Action) -> Option<Box<dyn Action>> + Send + Sync;

/// Carries firings out. A clone is the same runner; the tasks are owned by it and end with [`Runner::drain`].
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

struct Inner {
    services: Arc<Services>,
    /// Whether anything may be done at all.
    authority: Authority,
    bus: Arc<dyn Bus>,
    firings: Firings,
    build: Box<Build>,
    /// The last version of each rule that was compiled for a firing of an earlier process, or of a rule that is gone, while such firings wait.
    compiled: Mutex<HashMap<RuleUid, Arc<Rule>>>,
    lanes: Mutex<Lanes<Job>>,
    pace: Mutex<Pace>,
    /// Of rules whose breaker is tripped.
    gates: Mutex<Gates>,
    slowed: Box<Slowed>,
    targets: Targets,
    /// Cancelled when the rule is gone; of the rules that have fired.
    rules: Mutex<HashMap<RuleUid, CancellationToken>>,
    tasks: TaskTracker,
    /// Firings may be carried out.
    go: CancellationToken,
    /// Nothing new is done while it is set.
    held: watch::Sender<bool>,
    /// How long it was, all in all.
    holds: Arc<Holds>,
    /// Who holds what is to be given back.
    holders: Holders,
    /// No new attempts.
    stop: CancellationToken,
    /// No attempts at all.
    kill: CancellationToken,
    fatal: watch::Sender<Option<BusError>>,
}

/// A firing to carry out. It waits without what it is about, which is fetched when its turn comes.
struct Job {
    id: FiringId,
    /// Nothing for a firing of an earlier process.
    rule: Option<Arc<Rule>>,
    /// The target of the step that an earlier process began.
    held: Option<Held>,
    /// The rule is gone.
    gone: CancellationToken,
}

impl Runner {
    /// A runner that has nothing to do yet, and carries nothing out before [`Runner::begin`].
    pub fn new(
        cluster: Cluster,
        authority: Authority,
        firings: Firings,
        sinks: Registry,
        http: Http,
        clock: Clock,
        limit: Limit,
    ) -> Self {
        let services = Arc::new(Services { cluster, sinks, http, clock, scales: actions::Scales::default() });
        Self::with_build(services, authority, firings, Box::new(actions::build), limit)
    }

    pub(crate) fn with_build(
        services: Arc<Services>,
        authority: Authority,
        firings: Firings,
        build: Box<Build>,
        limit: Limit,
    ) -> Self {
        Self(Arc::new(Inner {
            services,
            authority,
            bus: Arc::clone(firings.bus()),
            firings,
            build,
            compiled: Mutex::default(),
            lanes: Mutex::new(Lanes::new(FIRINGS_PER_RULE)),
            pace: Mutex::new(Pace::new(limit.firings_per_minute, limit.per_hour)),
            gates: Mutex::default(),
            slowed: limit.slowed,
            targets: Targets::default(),
            rules: Mutex::default(),
            tasks: TaskTracker::new(),
            go: CancellationToken::new(),
            held: watch::Sender::new(false),
            holds: Arc::default(),
            holders: Holders::default(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            fatal: watch::Sender::new(None),
        }))
    }

    /// Begins a firing that was just decided, and that the ledger has; `rule` is compiled of its spec. Returns at once: it runs after the earlier ones
    /// of its group.
    pub fn start(&self, id: &FiringId, open: &Brief, rule: Arc<Rule>) {
        let gone = self.0.gone_of(open);
        self.push(open, Job { id: id.clone(), rule: Some(rule), held: None, gone });
    }

    /// The same for a firing whose rule may be gone: one that gives something back, or ends incidents.
    pub fn start_alone(&self, id: &FiringId, open: &Brief) {
        let gone = self.0.gone_of(open);
        self.push(open, Job { id: id.clone(), rule: None, held: None, gone });
    }

    /// What its actions share.
    pub fn services(&self) -> Arc<Services> {
        Arc::clone(&self.0.services)
    }

    /// From now on firings are carried out. What they may need, such as sinks, is known.
    pub fn begin(&self) {
        self.0.go.cancel();
    }

    /// Goes on with the firings of an earlier process; to be called before anything is started: otherwise what is new could change a target that a step
    /// is in the middle of changing. An action that may have been carried out is not rendered again.
    ///
    /// Steps that were begun come first, each with its target held, and the others in the order of their events: otherwise those could fill the
    /// rule's places while they wait for a target whose holder waits for a place.
    pub fn resume(&self, open: impl IntoIterator<Item = (FiringId, Brief)>) {
        let mut jobs: Vec<_> = open.into_iter().map(|(id, brief)| (self.0.begun(&id, &brief), id, brief)).collect();
        jobs.sort_by_key(|(begun, _, brief)| (begun.is_none(), brief.input, brief.order));
        for (target, id, brief) in jobs {
            let held = target.and_then(|target| self.0.targets.try_hold(target));
            let gone = self.0.gone_of(&brief);
            self.push(&brief, Job { id, rule: None, held, gone });
        }
    }

    /// The rule is gone, and so is the reason for what it has begun: attempts under way come to their end, and no other is begun.
    pub fn remove(&self, rule: &RuleUid) {
        if let Some(gone) = self.0.rules.lock().remove(rule) {
            gone.cancel();
        }
    }

    /// A firing that was to give something back, and had not begun, does not: another one has taken hold of it since.
    pub fn held_again(&self, firing: FiringId) {
        self.0.holders.held_again(firing);
    }

    /// Ends the firings of an earlier process whose rules are gone.
    pub fn end(&self, orphans: impl IntoIterator<Item = (FiringId, Brief)>) {
        for (id, brief) in orphans {
            let gone = CancellationToken::new();
            gone.cancel();
            self.push(&brief, Job { id, rule: None, held: None, gone });
        }
    }

    /// The breaker of the rule says so from now on, of firings that have not begun.
    pub fn gate(&self, rule: RuleUid, gate: Gate) {
        self.0.gates.lock().set(rule, gate);
    }

    /// No attempt is begun until [`Runner::release`]; those under way come to their end. It has been so for a time: what timeouts count begins before it.
    pub fn hold(&self, since: Duration) {
        self.0.holds.begin(since);
        self.0.held.send_replace(true);
    }

    /// Goes on with what waits.
    pub fn release(&self) {
        self.0.holds.end();
        self.0.held.send_replace(false);
    }

    /// How many firings wait for their turn, not counting those that are being carried out.
    pub fn waiting(&self) -> usize {
        self.0.lanes.lock().waiting()
    }

    /// Resolves when the log has failed: the process must end then. Otherwise never.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn failed(&self) -> BusError {
        let mut fatal = self.0.fatal.subscribe();
        loop {
            if let Some(error) = fatal.borrow_and_update().clone() {
                return error;
            }
            if fatal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Begins no more attempts and waits until those under way have ended, at most `grace`; then they are dropped. Gives whether all ended by
    /// themselves. What did not end is resumed by the next process.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.0.stop.cancel();
        self.0.tasks.close();
        let ended = tokio::time::timeout(grace, self.0.tasks.wait()).await.is_ok();
        self.0.kill.cancel();
        self.0.tasks.wait().await;
        ended
    }

    fn push(&self, open: &Brief, job: Job) {
        if self.0.stop.is_cancelled() {
            return;
        }
        let lane = lane(&job.id, open);
        if self.0.lanes.lock().push(&open.rule, &lane, job) {
            self.0.tasks.spawn(Arc::clone(&self.0).work(open.rule.clone()));
        }
    }
}

impl Inner {
    /// Tells when the firing's rule is gone, and with it the reason for the firing. What was changed is given back all the same.
    fn gone_of(&self, brief: &Brief) -> CancellationToken {
        match brief.outlives() {
            true => CancellationToken::new(),
            false => self.rules.lock().entry(brief.rule.clone()).or_default().clone(),
        }
    }

    /// The target of the firing's step that has an intent and no outcome.
    fn begun(&self, id: &FiringId, brief: &Brief) -> Option<String> {
        let open = if brief.acting { self.firings.lend_here(id)? } else { return None };
        open.steps.iter().find_map(|(name, step)| {
            let (Some((_, request)), None) = (&step.intent, &step.outcome) else { return None };
            if let Some(change) = &open.firing.restores {
                return (self.build)(&restore::action(change))?.target_again(&open.firing.rule.namespace, request);
            }
            let spec = open.firing.all_actions(&open.spec).find(|action| action.name == whole(name).0)?;
            (self.build)(spec)?.target_again(&open.firing.rule.namespace, request)
        })
    }

    /// The log has failed: nothing more can be done safely.
    fn fail(&self, error: BusError) {
        if !self.stop.is_cancelled() {
            tracing::error!(%error, "firings cannot be recorded");
            self.fatal.send_replace(Some(error));
            self.stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
