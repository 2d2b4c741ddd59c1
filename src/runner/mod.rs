//! A firing's way: its actions in order, each rendered, recorded, carried out with retries, and its outcome recorded.
//!
//! Nothing is written to the outside world before the log is durable up to what is about to be done. What a crash or a stop interrupts, the next
//! process goes on with. The runner knows no source of events and decides nothing about rules.

mod backoff;
mod each;
mod firing;
mod lanes;
mod pace;
mod step;
mod targets;
mod wait;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actions::{self, Action, Services},
    api::{self, ConcurrencyPolicy},
    bus::{Bus, BusError},
    clock::Clock,
    kubernetes::{Authority, Cluster},
    net::Http,
    record::{OpenFiring, RuleRef, RuleUid, whole},
    rule::Rule,
    sinks::Registry,
};
use lanes::Lanes;
use pace::Pace;
use targets::{Held, Targets};

/// Firings of one rule that are carried out at the same time: a target that hangs holds up its own rule only, and an API server that limits clients
/// to a few hundred requests at once has room for the others.
pub const FIRINGS_PER_RULE: usize = 16;

type Build = dyn Fn(&api::Action) -> Option<Box<dyn Action>> + Send + Sync;

/// Is told when a group of a rule is slowed down, and until when; and when no group of the rule is any more.
pub type Slowed = dyn Fn(&RuleRef, Option<Slow>) + Send + Sync;

/// How fast one group of a rule may fire.
pub struct Limit {
    /// How many firings a group may begin in any minute; those beyond wait, in order. 0: any number.
    pub firings_per_minute: u32,
    /// Who is told.
    pub slowed: Box<Slowed>,
}

impl Limit {
    /// No limit.
    pub fn none() -> Self {
        Self { firings_per_minute: 0, slowed: Box::new(|_, _| ()) }
    }
}

/// A group of a rule that fires faster than the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// The group.
    pub group: String,
    /// How many firings it may begin in a minute.
    pub limit: usize,
    /// How long until it goes on.
    pub wait: Duration,
}

/// Carries firings out. A clone is the same runner; the tasks are owned by it and end with [`Runner::drain`].
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

struct Inner {
    services: Arc<Services>,
    /// Whether anything may be done at all.
    authority: Authority,
    bus: Arc<dyn Bus>,
    build: Box<Build>,
    lanes: Mutex<Lanes<Job>>,
    pace: Mutex<Pace>,
    slowed: Box<Slowed>,
    targets: Targets,
    tasks: TaskTracker,
    /// No new attempts.
    stop: CancellationToken,
    /// No attempts at all.
    kill: CancellationToken,
    fatal: watch::Sender<Option<BusError>>,
}

/// A firing to carry out.
struct Job {
    open: OpenFiring,
    /// Nothing for a firing of an earlier process.
    rule: Option<Arc<Rule>>,
    /// The target of the step that an earlier process began.
    held: Option<Held>,
}

impl Runner {
    /// A runner that has nothing to do yet.
    pub fn new(
        cluster: Cluster,
        authority: Authority,
        bus: Arc<dyn Bus>,
        sinks: Registry,
        http: Http,
        clock: Clock,
        limit: Limit,
    ) -> Self {
        let services = Arc::new(Services { cluster, sinks, http, clock, scales: actions::Scales::default() });
        Self::with_build(services, authority, bus, Box::new(actions::build), limit)
    }

    pub(crate) fn with_build(
        services: Arc<Services>,
        authority: Authority,
        bus: Arc<dyn Bus>,
        build: Box<Build>,
        limit: Limit,
    ) -> Self {
        Self(Arc::new(Inner {
            services,
            authority,
            bus,
            build,
            lanes: Mutex::new(Lanes::new(FIRINGS_PER_RULE)),
            pace: Mutex::new(Pace::new(limit.firings_per_minute)),
            slowed: limit.slowed,
            targets: Targets::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            fatal: watch::Sender::new(None),
        }))
    }

    /// Begins a firing that was just decided; `rule` is compiled of its spec. Returns at once: it runs after the earlier ones of its group.
    pub fn start(&self, open: OpenFiring, rule: Arc<Rule>) {
        self.push(Job { open, rule: Some(rule), held: None });
    }

    /// Goes on with the firings of an earlier process; to be called before anything is started. An action that may have been carried out is not
    /// rendered again.
    ///
    /// Steps that were begun come first, each with its target held, and the others in the order of their events: otherwise those could fill the
    /// rule's places while they wait for a target whose holder waits for a place.
    pub fn resume(&self, open: impl IntoIterator<Item = OpenFiring>) {
        let mut jobs: Vec<_> = open.into_iter().map(|open| (self.0.begun(&open), open)).collect();
        jobs.sort_by_key(|(begun, open)| (begun.is_none(), open.firing.input));
        for (target, open) in jobs {
            let held = target.and_then(|target| self.0.targets.try_hold(target));
            self.push(Job { open, rule: None, held });
        }
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

    fn push(&self, job: Job) {
        if self.0.stop.is_cancelled() {
            return;
        }
        let rule = job.open.firing.rule.uid.clone();
        let group = lane(&job.open);
        if self.0.lanes.lock().push(&rule, &group, job) {
            self.0.tasks.spawn(Arc::clone(&self.0).work(rule));
        }
    }
}

/// Firings of one lane are carried out one after the other: those of a group, unless the rule wants them side by side.
fn lane(open: &OpenFiring) -> String {
    let OpenFiring { firing, spec, .. } = open;
    match spec.concurrency_policy {
        ConcurrencyPolicy::Queue | ConcurrencyPolicy::Forbid => firing.group.clone(),
        ConcurrencyPolicy::Allow => format!("{}\0{}", firing.group, firing.id),
    }
}

fn is_lane(lane: &str, group: &str) -> bool {
    lane.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('\0'))
}

impl Inner {
    /// The target of the firing's step that has an intent and no outcome.
    fn begun(&self, open: &OpenFiring) -> Option<String> {
        open.steps.iter().find_map(|(name, step)| {
            let (Some((_, request)), None) = (&step.intent, &step.outcome) else { return None };
            let spec = open.spec.actions.iter().find(|action| action.name == whole(name).0)?;
            (self.build)(spec)?.target_again(&open.firing.rule.namespace, request)
        })
    }

    /// Carries out firings of the rule until none is ready.
    async fn work(self: Arc<Self>, rule: RuleUid) {
        while !self.stop.is_cancelled() {
            let Some((group, job)) = self.next(&rule) else { return };
            // What an earlier process began is finished at once. A dead letter that is run again has steps, and is begun here.
            let begun = job.held.is_some() || (job.rule.is_none() && !job.open.steps.is_empty());
            let wait = if begun { None } else { self.pace.lock().begin(&rule, &job.open.firing.group, Instant::now()) };
            if let Some(wait) = wait {
                self.park(group, job, wait);
                continue;
            }
            let (name, paced) = (job.open.firing.rule.clone(), job.open.firing.group.clone());
            tokio::select! {
                () = self.kill.cancelled() => return,
                () = firing::carry_out(&self, job) => {}
            }
            let mut lanes = self.lanes.lock();
            let rests = lanes.done(&rule, &group) && !lanes.has(&rule, |lane| is_lane(lane, &paced));
            drop(lanes);
            if rests && self.pace.lock().rests(&rule, &paced) {
                (self.slowed)(&name, None);
            }
        }
    }

    fn next(&self, rule: &RuleUid) -> Option<(String, Job)> {
        self.lanes.lock().take(rule)
    }

    /// Lets the group rest for so long, with the firing as its next.
    fn park(self: &Arc<Self>, group: String, job: Job, wait: Duration) {
        let rule = job.open.firing.rule.clone();
        let limit = self.pace.lock().limit();
        (self.slowed)(&rule, Some(Slow { group: job.open.firing.group.clone(), limit, wait }));
        self.lanes.lock().park(&rule.uid, &group, job);
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            if inner.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
                let more = inner.lanes.lock().unpark(&rule.uid, group);
                if more {
                    inner.work(rule.uid).await;
                }
            }
        });
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
