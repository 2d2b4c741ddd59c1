//! The engine: a fold of records into the state of rules, and a pure judgement of events by that state.
//!
//! Same records, same decisions. The shard writes decisions into the log and folds them back with [`Engine::decide`]; after a crash it takes them from
//! the log. `judge` reads the state, `rows` saves it, and what changes it is here.

mod closings;
mod conclude;
mod control;
mod decide;
mod due;
mod group;
mod judge;
mod letters;
mod links;
mod own;
mod restore;
mod rows;
mod same;
mod sequels;
mod so_far;
mod trips;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use closings::{Why, closings};
use control::Switch;
use due::Deadlines;
pub(super) use judge::first_no;
pub use judge::{Judged, SeenBy};
use links::Links;
pub use restore::{event_of_restore, give_back_at_once};
pub use sequels::emitted;
use trips::Trips;
pub(super) use views::Views;

use super::{
    compile::{Rule, compile},
    index::{ClassHash, Index},
    interest::Interest,
    state::{Begun, Progress, Settling, State, Version},
    trigger::Trigger,
    writes::Released,
};
use crate::{
    api::{ActionOutcome, ActionStatus, EventRuleSpec, FiringOutcome, LastError},
    event::Event,
    record::{
        Account, Asked, EventInput, Finished, FiringId, Head, Intent, LogId, OpenFiring, Outcome, Record, RulePut,
        RuleRef, RuleUid, SourceRef, Stamp, approve_command, undone, whole,
    },
    text::cut,
};

/// Characters of a message in status.
const MAX_MESSAGE: usize = 256;
/// Characters of `lastError.message` in status, as its schema says.
const MAX_ERROR: usize = 1024;

/// All rules and their state.
pub struct Engine {
    log: LogId,
    /// States are boxed: a node of the tree has room for eleven, and is two thirds full.
    rules: BTreeMap<RuleUid, (RuleRef, Box<State>)>,
    /// The sources of the versions in force.
    index: Index,
    /// Firings that `recent` shows as running.
    open: BTreeMap<FiringId, RuleUid>,
    /// Steps that are writing an object whose rule listens to such.
    writing: BTreeMap<(FiringId, String), RuleUid>,
    /// Events whose waiting is over.
    released: Vec<Released>,
    deadlines: Deadlines,
    trips: Trips,
    switch: Switch,
    /// What rules wrote last.
    links: Links,
    /// About how many bytes the groups of a namespace take.
    bytes: BTreeMap<String, u64>,
    /// What rules had fired for when they were changed.
    closed: Vec<(RuleRef, String)>,
    /// What ends the incidents of rules that were deleted or suspended.
    closings: Vec<OpenFiring>,
    interest: Arc<Interest>,
    changed: Changed,
}

/// What has changed since somebody last asked.
#[derive(Default)]
struct Changed {
    rows: BTreeSet<RuleUid>,
    groups: BTreeSet<(RuleUid, String)>,
    progress: BTreeSet<RuleUid>,
}

impl Engine {
    /// An engine without rules. The log's id goes into the ids of firings.
    pub fn new(log: LogId) -> Self {
        Self {
            log,
            rules: BTreeMap::new(),
            index: Index::default(),
            open: BTreeMap::new(),
            writing: BTreeMap::new(),
            released: Vec::new(),
            deadlines: Deadlines::default(),
            trips: Trips::default(),
            switch: Switch::default(),
            links: Links::default(),
            bytes: BTreeMap::new(),
            closed: Vec::new(),
            closings: Vec::new(),
            interest: Arc::default(),
            changed: Changed::default(),
        }
    }

    // === Folding ===

    /// Takes in a record of the log. Events and judgements change nothing here. Afterwards [`Engine::take_released`] may have something.
    pub fn fold(&mut self, head: &Head, record: &Record) {
        match record {
            Record::RulePut(put) => self.put(head, put),
            Record::RuleRemove(uid) => self.remove(head, uid),
            Record::Baseline(source) => {
                self.listen(head, source, true);
                self.caught_up(head, source);
            }
            Record::Deaf(source) => self.listen(head, source, false),
            Record::Started => self.settle_down(head),
            Record::Intent(intent) => {
                match &intent.writes {
                    Some(writes) => self.begin_write(writes, &intent.firing, &intent.action),
                    // It only waits from here on.
                    None => self.end_write(&intent.firing, &intent.action, None),
                }
                if let Some(remember) = &intent.remember {
                    self.remember(head, &intent.firing, remember);
                }
                self.asked(intent);
            }
            Record::Written(written) => self.end_write(&written.firing, &written.action, Some(&written.effect)),
            Record::Beside(beside) => self.beside(beside),
            Record::Outcome(outcome) => {
                self.settle(outcome);
                self.end_beside(&outcome.firing, &outcome.action);
                self.end_write(&outcome.firing, &outcome.action, outcome.effect.as_ref());
                if let Some(remember) = &outcome.remember {
                    self.remember(head, &outcome.firing, remember);
                }
            }
            Record::Finished(finished) => {
                self.finish(head, finished);
                self.end_writes(&finished.firing);
                self.given(&finished.rule, &finished.firing);
            }
            // A replay is taken in with [`Engine::fire_again`].
            Record::Event(_) | Record::Seen(_) | Record::Forget(_) | Record::Judgement(_) | Record::Replay(_) => {}
            // What is due was judged before it.
            Record::Tick => self.try_again(head),
            Record::Control(control) => self.control(head, control),
            // Taken in with [`Engine::ended`].
            Record::Observe(_) => {}
        }
        Interest::hear(&mut self.interest, self.index.heard());
    }

    fn put(&mut self, head: &Head, put: &RulePut) {
        let uid = put.rule.uid.clone();
        let compiled = compile(&put.rule, put.generation, &put.spec);
        let (_, state) = self.rules.entry(uid.clone()).or_insert_with(|| (put.rule.clone(), Box::default()));
        self.changed.rows.insert(uid.clone());
        self.changed.progress.insert(uid.clone());
        let same = |version: &Version| version.rule.generation == put.generation && version.rule.spec == put.spec;
        if state.latest().is_some_and(same) {
            return;
        }
        match compiled {
            Ok(rule) => {
                let interest = Arc::make_mut(&mut self.interest);
                interest.insert(&rule);
                if let Some(before) = state.pending.replace(Version::new(rule)) {
                    interest.remove(&before.rule);
                }
            }
            // The controller compiles before it puts: only another version of the program can have put this.
            Err(faults) => {
                let message = faults.first().map(ToString::to_string).unwrap_or_default();
                state.last_error =
                    Some(LastError { time: time(head), place: "spec".to_owned(), message: cut(&message, MAX_ERROR) });
                return;
            }
        }
        self.promote(head, &uid);
    }

    fn remove(&mut self, head: &Head, uid: &RuleUid) {
        let Some((rule, mut state)) = self.rules.remove(uid) else { return };
        if let Some(version) = &state.in_force {
            self.index.remove(&version.rule);
            self.closings.extend(closings(&self.log, head, &version.rule, &state.groups, Why::Deleted));
        }
        self.open.retain(|_, rule| rule != uid);
        self.writing.retain(|_, rule| rule != uid);
        self.changed.rows.insert(uid.clone());
        self.changed.progress.remove(uid);
        for key in state.remembered.keys() {
            self.deadlines.set(uid, "", Some(key), None);
        }
        let groups = state.groups.clear();
        if let Some(bytes) = self.bytes.get_mut(&rule.namespace) {
            *bytes = bytes.saturating_sub(state.weighed);
        }
        self.touch(uid, groups);
        let interest = Arc::make_mut(&mut self.interest);
        state.versions().for_each(|version| interest.remove(&version.rule));
        self.note_breaker(uid, false);
    }

    fn listen(&mut self, head: &Head, source: &SourceRef, live: bool) {
        let Some((_, state)) = self.rules.get_mut(&source.rule) else { return };
        let versions = state.in_force.iter_mut().chain(&mut state.pending);
        for version in versions.filter(|version| version.rule.generation == source.generation) {
            if version.rule.sources.iter().any(|known| known.name == source.source) {
                version.live.insert(source.source.clone(), live);
                self.changed.rows.insert(source.rule.clone());
            }
        }
        if let Some(version) = state.in_force.as_ref().filter(|version| version.rule.generation == source.generation) {
            state.counts.seen += self.index.remove(&version.rule);
            self.index.insert(&version.rule, |source| version.is_live(source), None);
        }
        self.promote(head, &source.rule);
    }

    /// Puts the pending version in force if it waits for nothing more.
    fn promote(&mut self, head: &Head, uid: &RuleUid) {
        let Some((rule, state)) = self.rules.get_mut(uid) else { return };
        if !state.pending.as_ref().is_some_and(Version::is_complete) {
            return;
        }
        if let Some(version) = &state.in_force {
            state.counts.seen += self.index.remove(&version.rule);
            Arc::make_mut(&mut self.interest).remove(&version.rule);
        }
        let was_tripped = state.breaker.trip().is_some();
        let before = state.in_force.as_ref().map(|version| Arc::clone(&version.rule));
        let anew = state.promote();
        let suspended = state.in_force.as_ref().is_some_and(|version| version.rule.spec.suspend);
        let (mut touched, mut closed, mut ends) = (Vec::new(), Vec::new(), None);
        if state.in_force.as_ref().is_some_and(|version| version.rule.spec.follows_objects()) {
            state.begun = Begun::at(head.stamp.at);
        }
        if anew || suspended {
            // What is suspended is not caught up: it may end unseen.
            let before = before.filter(|_| suspended);
            ends = before.map(|before| closings(&self.log, head, &before, &state.groups, Why::Suspended));
            (touched, closed) = state.groups.drop_kept(head.stamp.at);
            state.settling = Settling::default();
        }
        if anew {
            touched.extend(state.groups.clear());
        }
        self.closed.extend(closed.iter().map(|group| (rule.clone(), group.clone())));
        let limit = state.history_limit();
        while state.recent.len() > limit {
            let gone = state.recent.pop_back();
            gone.map(|gone| self.open.remove(&FiringId(gone.id.as_str().into())));
        }
        if let Some(version) = &state.in_force {
            self.index.insert(&version.rule, |source| version.is_live(source), None);
            if version.rule.trigger.as_ref().is_some_and(Trigger::waits_for_sources) {
                // What is due by the new version is so from now on, not before it.
                state.settling.until = state.settling.until.max(head.stamp.at);
            }
        }
        self.changed.rows.insert(uid.clone());
        self.changed.progress.insert(uid.clone());
        self.touch(uid, touched);
        if was_tripped {
            self.note_breaker(uid, true);
        }
        self.let_go(head, uid, &closed);
        for open in ends.into_iter().flatten() {
            self.begin(&open.firing, &open.event);
            self.closings.push(open);
        }
        self.reschedule_all(uid);
        // What came due while no version was in force was not given back.
        self.restore_remembered(uid);
    }

    /// Shows that a step waits for an approval, if it does, and how that is given.
    fn asked(&mut self, intent: &Intent) {
        let Some(asked) = Asked::read(&intent.request) else { return };
        let Some((rule, _)) = self.open.get(&intent.firing).and_then(|uid| self.rules.get(uid)) else { return };
        let command = approve_command(&rule.namespace, &rule.name, &intent.firing);
        let until = Stamp { at: 0, wall: asked.approve_until }.timestamp();
        let message = format!("waits until {until} for: {command}");
        self.show(&intent.firing, &intent.action, ActionOutcome::Running, &message);
    }

    fn settle(&mut self, outcome: &Outcome) {
        if whole(&outcome.action).1 && undone(&outcome.action).is_none() {
            return;
        }
        self.show(&outcome.firing, &outcome.action, outcome.outcome, &outcome.message);
    }

    /// Shows what became of an action of a recent firing.
    fn show(&mut self, firing: &FiringId, action: &str, outcome: ActionOutcome, message: &str) {
        let Some(uid) = self.open.get(firing).cloned() else { return };
        let Some((_, state)) = self.rules.get_mut(&uid) else { return };
        let Some(firing) = state.recent.iter_mut().find(|one| *one.id == *firing.0).map(Arc::make_mut) else { return };
        let status = ActionStatus { name: action.to_owned(), outcome, message: cut(message, MAX_MESSAGE) };
        match firing.actions.iter_mut().find(|one| one.name == action) {
            Some(action) => *action = status,
            None => firing.actions.push(status),
        }
        self.changed.rows.insert(uid.clone());
        self.changed.progress.insert(uid);
    }

    fn finish(&mut self, head: &Head, finished: &Finished) {
        self.open.remove(&finished.firing);
        let Some((_, state)) = self.rules.get_mut(&finished.rule) else { return };
        state.running.remove(&finished.firing);
        match finished.outcome {
            FiringOutcome::Succeeded => state.counts.succeeded += 1,
            FiringOutcome::Failed => {
                state.counts.failed += 1;
                state.last_error = Some(LastError {
                    time: time(head),
                    place: finished.failed_at.clone().unwrap_or_else(|| "actions".to_owned()),
                    message: cut(&finished.message, MAX_ERROR),
                });
            }
            FiringOutcome::Observed => state.counts.observed += 1,
            FiringOutcome::Expired => state.counts.expired += 1,
            FiringOutcome::Running => {}
        }
        let shown = state.recent.iter_mut().find(|firing| *firing.id == *finished.firing.0);
        if let Some(firing) = shown.map(Arc::make_mut) {
            firing.outcome = finished.outcome;
            firing.message = cut(&finished.message, MAX_MESSAGE);
        }
        self.changed.rows.insert(finished.rule.clone());
        self.changed.progress.insert(finished.rule.clone());
    }

    // === Asking ===

    /// What sources need to know of the rules. The same `Arc` until rules change.
    pub fn interest(&self) -> Arc<Interest> {
        Arc::clone(&self.interest)
    }

    /// The version in force.
    pub fn rule(&self, uid: &RuleUid) -> Option<&Arc<Rule>> {
        self.rules.get(uid).and_then(|(_, state)| state.in_force.as_ref()).map(|version| &version.rule)
    }

    /// The event as a source of the rule sees it: with the labels of the object that a Kubernetes Event regards, if the rule's account may read them,
    /// and with `selector: Left` if the object has just left the source's selector.
    pub fn event_for(&self, uid: &RuleUid, source: &str, input: &EventInput) -> Arc<Event> {
        let found = self.rule(uid).and_then(|rule| Some((rule, rule.source(source)?)));
        match found {
            Some((rule, source)) => Views::new(input).of(rule, source),
            None => Arc::clone(&input.event),
        }
    }

    /// The rules and the accounts that they act as: of the version in force, else of the one to come.
    pub fn accounts(&self) -> impl Iterator<Item = (&RuleRef, &Account)> {
        self.rules.values().filter_map(|(rule, state)| Some((rule, &state.versions().next()?.rule.account)))
    }

    /// Whether the rule exists, in force or not.
    pub fn knows(&self, uid: &RuleUid) -> bool {
        self.rules.contains_key(uid)
    }

    /// All rules with the generation and the spec that were put last.
    pub fn known(&self) -> impl Iterator<Item = (&RuleRef, i64, &Arc<EventRuleSpec>)> {
        self.rules.values().filter_map(|(rule, state)| {
            state.latest().map(|version| (rule, version.rule.generation, &version.rule.spec))
        })
    }

    /// What status tells of the rule.
    pub fn progress(&self, uid: &RuleUid) -> Option<Progress> {
        let (_, state) = self.rules.get(uid)?;
        let mut progress = Progress { stopped: self.stopped().cloned(), ..state.progress() };
        progress.counts.seen += self.seen_by_class(uid, state).0;
        Some(progress)
    }

    /// What the rule has seen as one of its class, and by what that is kept.
    fn seen_by_class(&self, uid: &RuleUid, state: &State) -> (u64, Option<(ClassHash, u64)>) {
        state.in_force.as_ref().map_or((0, None), |version| self.index.seen(uid, version.rule.generation))
    }

    /// The rules whose progress has changed since the last call; a change of `counts.seen` alone does not count.
    pub fn dirty_rules(&mut self) -> Vec<RuleUid> {
        std::mem::take(&mut self.changed.progress).into_iter().collect()
    }
}

fn time(head: &Head) -> Time {
    Time(head.stamp.timestamp())
}
