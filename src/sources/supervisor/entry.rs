//! One rule at the supervisor: what its sources need, how far each has come, and what follows. Pure but for the clock of its next look.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Wanted;
use crate::{
    api::{Existing, Missed},
    event::{WatchKey, schedule::Schedule},
    kubernetes::{MissingRight, Resource},
    record::SourceRef,
    sources::{
        EventSources, Listening, SourceReport,
        event_sources::EventSourceState,
        plan::{Plan, Probe, WatchPlan, plan},
        watch::Phase,
    },
};

/// Rights that are missing are asked for again after so long, or sooner when those that are there are.
const RECHECK_DENIED: Duration = Duration::from_secs(10);
/// The longest wait for a kind that is not there: one that comes later works soon.
const RECHECK_UNKNOWN: Duration = Duration::from_secs(15);

/// What was appended last for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Baseline,
    Deaf,
}

/// How a source is doing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Its rights are being asked for, or its lists taken.
    Waiting,
    /// All its watches see everything.
    Live,
    /// The account lacks rights.
    Denied(Vec<MissingRight>),
    /// There is no such kind.
    NotFound(String),
    /// There is no such EventSource.
    NoEventSource(String),
    /// The EventSource accepts no events now, and why. What it has accepted is judged.
    Closed(String),
    /// The API server could not be asked.
    Unavailable(String),
    /// A watch does not work, and why.
    Down(String),
    /// The kind of a watch was there and is gone.
    Gone(String),
}

struct Source {
    plan: Plan,
    probe: Option<Probe>,
    /// The kind as it was found, from when the account was first allowed to see it: from then on its watches are needed.
    allowed: Option<Arc<Resource>>,
    mark: Option<Mark>,
    fired: bool,
    probing: bool,
    next_probe: Instant,
    failures: u32,
}

/// One version of a rule.
pub(super) struct Entry {
    wanted: Wanted,
    serial: u64,
    sources: Vec<Source>,
    /// What the version before needs, while that one judges.
    former: BTreeSet<WatchKey>,
    began: Instant,
    reported: Option<SourceReport>,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

impl Entry {
    pub(super) fn new(wanted: Wanted, serial: u64, before: Option<Entry>, stop: &CancellationToken) -> Self {
        let now = Instant::now();
        // A trigger that follows objects may begin anew with another condition: what it knows already it takes without harm.
        let follows = wanted.spec.follows_objects();
        let source = |plan: Plan| {
            let done = !follows
                && before.as_ref().is_some_and(|before| before.sources.iter().any(|one| one.plan == plan && one.fired));
            Source {
                plan,
                probe: None,
                allowed: None,
                mark: None,
                fired: done || !wanted.fresh,
                probing: false,
                next_probe: now,
                failures: 0,
            }
        };
        let sources = plan(&wanted.spec, &wanted.rule.namespace).into_iter().map(source).collect();
        let former = before.as_ref().map(Entry::needed).unwrap_or_default();
        let stop = stop.child_token();
        Self {
            wanted,
            serial,
            sources,
            former,
            began: now,
            reported: None,
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
        }
    }

    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Tells this version's tasks from those of others.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// When this version came, in this process.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Cancelled when the version is replaced or removed.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub(super) fn is_same(&self, other: &Wanted) -> bool {
        let mine = &self.wanted;
        mine.generation == other.generation && mine.account == other.account && mine.spec == other.spec
    }

    /// Whether every source has its `Baseline`.
    pub(super) fn is_live(&self) -> bool {
        self.sources.iter().all(|source| source.mark == Some(Mark::Baseline))
    }

    pub(super) fn source_ref(&self, source: usize) -> SourceRef {
        SourceRef {
            rule: self.wanted.rule.uid.clone(),
            generation: self.wanted.generation,
            source: self.sources[source].plan.source().to_owned(),
        }
    }

    // === asking ===

    /// When the API server is to be asked next.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.sources.iter().filter(|source| source.may_be_asked_for()).map(|source| source.next_probe).min()
    }

    /// What to ask now.
    pub(super) fn begin_probes(&mut self, now: Instant) -> Vec<(usize, Plan)> {
        let sources = self.sources.iter_mut().enumerate();
        let due = sources.filter(|(_, source)| source.may_be_asked_for() && source.next_probe <= now);
        due.map(|(index, source)| {
            source.probing = true;
            (index, source.plan.clone())
        })
        .collect()
    }

    /// Takes the answer. Rights that are there are asked for again after `recheck`.
    pub(super) fn probed(&mut self, source: usize, probe: Probe, recheck: Duration) {
        let source = &mut self.sources[source];
        source.probing = false;
        let wait = match &probe {
            Probe::Found { resource, missing } => {
                source.failures = 0;
                if missing.is_empty() {
                    source.allowed = resource.clone();
                    recheck
                } else {
                    RECHECK_DENIED.min(recheck)
                }
            }
            Probe::NotFound(_) | Probe::Unavailable(_) => {
                source.failures = source.failures.saturating_add(1);
                // 1, 2, 4, 8, 15 s
                Duration::from_secs(1 << (source.failures - 1).min(4)).min(RECHECK_UNKNOWN)
            }
        };
        source.next_probe = Instant::now() + wait;
        // An API server that does not answer takes nothing back.
        if !matches!((&probe, &source.probe), (Probe::Unavailable(_), Some(Probe::Found { .. } | Probe::NotFound(_)))) {
            source.probe = Some(probe);
        }
    }

    // === watches ===

    /// The watches of a source whose account was allowed to see them.
    pub(super) fn keys(&self, source: usize) -> Vec<(WatchKey, Arc<Resource>)> {
        self.sources[source].keys()
    }

    /// The watches that must run for this version.
    pub(super) fn to_watch(&self) -> Vec<(WatchKey, Arc<Resource>)> {
        self.sources.iter().flat_map(Source::keys).collect()
    }

    /// The watches that must not be stopped.
    pub(super) fn needed(&self) -> BTreeSet<WatchKey> {
        self.to_watch().into_iter().map(|(key, _)| key).chain(self.former.iter().cloned()).collect()
    }

    /// Whether this version needs the watch.
    pub(super) fn uses(&self, key: &WatchKey) -> bool {
        self.sources.iter().any(|source| source.keys().iter().any(|(one, _)| one == key))
    }

    /// Whether the watch may turn out to be needed when all is known.
    pub(super) fn may_use(&self, key: &WatchKey) -> bool {
        let fits = |plan: &WatchPlan| {
            plan.api_version == key.api_version
                && plan.kind == key.kind
                && (key.namespace.is_none() || plan.scopes.contains(&key.namespace))
        };
        self.former.contains(key) || self.sources.iter().filter_map(|source| source.plan.watch()).any(fits)
    }

    /// Lets go of what the version before needed, once this one is in force.
    pub(super) fn drop_former(&mut self) -> bool {
        let in_force = self.sources.iter().all(|source| source.mark.is_some());
        in_force && !std::mem::take(&mut self.former).is_empty()
    }

    // === schedules ===

    /// The source's timetable, if it is one.
    pub(super) fn schedule(&self, source: usize) -> Option<(Schedule, Missed)> {
        let rule = &self.wanted.rule;
        match &self.sources[source].plan {
            Plan::Schedule { source, spec } => {
                Some((Schedule::new(&rule.uid.0, &rule.namespace, &rule.name, source, spec), spec.missed))
            }
            Plan::Watch(_) | Plan::Reference { .. } | Plan::Rules { .. } => None,
        }
    }

    /// All timetables.
    pub(super) fn schedules(&self) -> impl Iterator<Item = Schedule> {
        (0..self.sources.len()).filter_map(|source| self.schedule(source)).map(|(schedule, _)| schedule)
    }

    // === judging ===

    /// Whether a source is an EventSource.
    pub(super) fn refers(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.plan, Plan::Reference { .. }))
    }

    /// How each source is doing.
    pub(super) fn verdicts(&self, phase: impl Fn(&WatchKey) -> Phase, event_sources: &EventSources) -> Vec<Verdict> {
        let namespace = &self.wanted.rule.namespace;
        let verdict = |source: &Source| match source.verdict(&phase) {
            Verdict::Live => source.reference(namespace, event_sources),
            other => other,
        };
        self.sources.iter().map(verdict).collect()
    }

    /// What is to be appended for the source. `known`: the shard knows this version, so that what comes after a `Baseline` is not passed over.
    pub(super) fn next_mark(&self, source: usize, verdict: &Verdict, known: bool) -> Option<Mark> {
        let mark = self.sources[source].mark;
        match verdict {
            Verdict::Live | Verdict::Closed(_) => (known && mark != Some(Mark::Baseline)).then_some(Mark::Baseline),
            Verdict::Denied(_) => (mark != Some(Mark::Deaf)).then_some(Mark::Deaf),
            // What cannot be listened to must not keep a new version from its other sources. Later, and after a restart, nothing needs to be said:
            // the watch catches up by itself, and what it finds then is to be judged.
            Verdict::NotFound(_) | Verdict::NoEventSource(_) | Verdict::Down(_) | Verdict::Gone(_) => {
                (self.wanted.fresh && mark.is_none()).then_some(Mark::Deaf)
            }
            Verdict::Waiting | Verdict::Unavailable(_) => None,
        }
    }

    /// Notes what was appended. True when what exists is to be fired now.
    pub(super) fn marked(&mut self, source: usize, mark: Mark) -> bool {
        let source = &mut self.sources[source];
        source.mark = Some(mark);
        let existing = source.plan.watch().map_or(Existing::Ignore, |plan| plan.existing);
        let fire = mark == Mark::Baseline && existing == Existing::Fire && !source.fired;
        source.fired |= fire;
        fire
    }

    /// What is to be reported, if it has changed; nothing until every source was asked for.
    pub(super) fn report(&mut self, verdicts: &[Verdict], notices: Vec<String>) -> Option<SourceReport> {
        if self.sources.iter().any(|source| source.plan.is_asked_for() && source.probe.is_none()) {
            return None;
        }
        let mut missing: Vec<MissingRight> = Vec::new();
        let mut listening = Listening::Established;
        for (source, verdict) in self.sources.iter().zip(verdicts) {
            let one = match verdict {
                Verdict::Live if source.mark == Some(Mark::Baseline) => Listening::Established,
                Verdict::Live | Verdict::Waiting => Listening::Starting,
                Verdict::Denied(rights) => {
                    missing.extend(rights.iter().filter(|right| !missing.contains(right)).cloned().collect::<Vec<_>>());
                    Listening::Starting
                }
                Verdict::NotFound(message) | Verdict::Gone(message) => {
                    Listening::KindNotFound { message: message.clone() }
                }
                Verdict::NoEventSource(message) => Listening::EventSourceNotFound { message: message.clone() },
                Verdict::Closed(message) => Listening::EventSourceNotReady { message: message.clone() },
                Verdict::Unavailable(message) | Verdict::Down(message) => {
                    Listening::Failed { message: message.clone() }
                }
            };
            listening = listening.max(one);
        }
        let report = SourceReport {
            rule: self.wanted.rule.clone(),
            generation: self.wanted.generation,
            listening,
            notices,
            authorized: if missing.is_empty() { Ok(()) } else { Err(missing) },
        };
        let changed = self.reported.as_ref() != Some(&report);
        changed.then(|| self.reported.insert(report).clone())
    }
}

impl Source {
    fn may_be_asked_for(&self) -> bool {
        !self.probing && self.plan.is_asked_for()
    }

    fn keys(&self) -> Vec<(WatchKey, Arc<Resource>)> {
        let (Some(resource), Some(plan)) = (&self.allowed, self.plan.watch()) else { return Vec::new() };
        plan.keys(resource).into_iter().map(|key| (key, Arc::clone(resource))).collect()
    }

    fn verdict(&self, phase: impl Fn(&WatchKey) -> Phase) -> Verdict {
        match &self.probe {
            None if !self.plan.is_asked_for() => return Verdict::Live,
            None => return Verdict::Waiting,
            Some(Probe::NotFound(message)) => return Verdict::NotFound(message.clone()),
            Some(Probe::Unavailable(message)) => return Verdict::Unavailable(message.clone()),
            Some(Probe::Found { missing, .. }) if !missing.is_empty() => return Verdict::Denied(missing.clone()),
            Some(Probe::Found { .. }) => {}
        }
        let mut verdict = Verdict::Live;
        for (key, resource) in self.keys() {
            match phase(&key) {
                Phase::Listening => {}
                Phase::Starting => verdict = Verdict::Waiting,
                Phase::Failed(message) => return Verdict::Down(message),
                Phase::KindNotFound(message) => return Verdict::Gone(message),
                Phase::Forbidden(_) => return Verdict::Down(operator_lacks(&resource, key.namespace.as_deref())),
            }
        }
        verdict
    }
}

impl Source {
    /// Whether the EventSource is there, of a source that may listen to it.
    fn reference(&self, namespace: &str, event_sources: &EventSources) -> Verdict {
        let Plan::Reference { source, name } = &self.plan else { return Verdict::Live };
        match event_sources.state(namespace, name) {
            EventSourceState::Unknown => Verdict::Waiting,
            EventSourceState::Open => Verdict::Live,
            EventSourceState::Closed(why) => Verdict::Closed(format!(
                "sources[{source}].ref: EventSource {namespace}/{name} accepts no events: {why}"
            )),
            EventSourceState::Missing => Verdict::NoEventSource(format!(
                "sources[{source}].ref: EventSource {namespace}/{name} does not exist: create it, or mend the name; kubectl get eventsources -n \
                 {namespace} lists those there are"
            )),
        }
    }
}

/// What to do when the operator itself may not watch.
fn operator_lacks(resource: &Resource, namespace: Option<&str>) -> String {
    let what = match resource.api.group.as_str() {
        "" => resource.api.plural.clone(),
        group => format!("{}.{group}", resource.api.plural),
    };
    let place = namespace.map_or("the whole cluster".to_owned(), |namespace| format!("namespace {namespace}"));
    let role = format!("signalbox-watch-{what}");
    format!(
        "the operator itself may not list and watch {what} in {place}; allow it with: kubectl create clusterrole {role} --verb=list,watch \
         --resource={what} && kubectl label clusterrole {role} signalbox.dev/aggregate-to-watch=true"
    )
}
