//! The state that the log folds to: engine, ledger, and what watches remember. Pure: no I/O, no clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::letters::{self, Letters};
use crate::{
    api::EventRuleSpec,
    event::{Origin, Seen, WatchKey, rule_event},
    record::{
        Control, DeadLetter, Deadline, Decision, Delta, Effect, Entry, EventInput, Finished, Firing, FiringId, Head,
        Ledger, LogId, OpenFiring, Position, Record, Release, Remember, Replay, RuleUid, Stamp, Table,
    },
    rule::{Engine, Rule, SeenBy, emitted, event_of_restore, give_back_at_once},
};

/// The row that holds the wall time of the last commit, in microseconds since 1970.
pub(super) const LISTENED: &[u8] = b"listened-until";

/// The state after a position of the log.
pub struct State {
    /// The rules and their groups.
    pub engine: Engine,
    /// The open firings.
    pub ledger: Ledger,
    /// The firings that failed for good.
    pub letters: Letters,
    position: Position,
    touched_firings: BTreeSet<FiringId>,
    /// What the last delta wrote of them.
    written_firings: BTreeSet<FiringId>,
    watches: Watches,
    /// Events that follow from what was folded, for whoever folds to append.
    sequels: Vec<EventInput>,
    /// The log's id, which goes into the ids of firings.
    log: LogId,
    /// Firings that were opened by a record itself, not by a decision: to be started.
    opened: Vec<FiringId>,
}

impl State {
    /// The state that the view's rows told, after `position`.
    pub(super) fn new(
        log: LogId,
        mut engine: Engine,
        ledger: Ledger,
        letters: Letters,
        remembered: &HashMap<WatchKey, HashMap<String, Seen>>,
        position: Position,
    ) -> Self {
        let uids = remembered
            .iter()
            .map(|(watch, objects)| (watch.clone(), objects.keys().map(|uid| uid.as_str().into()).collect()));
        let watches = Watches { uids: uids.collect(), changed: BTreeMap::new() };
        for (id, brief) in ledger.open() {
            engine.resume(id, brief);
            if let Some(open) = ledger.get(id) {
                engine.resume_writes(&open);
            }
        }
        // A version that knows no letters writes rules without their number.
        let rules: Vec<RuleUid> = engine.known().map(|(rule, ..)| rule.uid.clone()).collect();
        for rule in rules {
            engine.keeps_letters(&rule, letters.count(&rule) as u64);
        }
        let (touched_firings, written_firings) = (BTreeSet::new(), BTreeSet::new());
        let (sequels, opened) = (Vec::new(), Vec::new());
        Self { engine, ledger, letters, position, touched_firings, written_firings, watches, sequels, log, opened }
    }

    /// The last position folded.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Folds one record. Of an event this takes in what its watch remembers; its decisions are folded by [`State::decide`].
    pub fn fold(&mut self, head: &Head, record: &Record) {
        match record {
            // `existing: Fire` tells of objects that their watch knows already, and maybe better.
            Record::Event(input) if input.only.is_some() => {}
            // Nothing is to be remembered of what follows from the log.
            Record::Event(input) if rule_event::is_watch(&input.origin.watch) => {}
            Record::Event(input) => self.watches.remember(&input.origin),
            Record::Seen(origins) => origins.iter().for_each(|origin| self.watches.remember(origin)),
            Record::Forget(watch) => self.watches.forget(watch),
            Record::Control(control) => {
                if let (Control::Release, Some(stopped)) = (control, self.engine.stopped()) {
                    let by = i64::try_from(stopped.lasts(head.stamp).as_micros()).unwrap_or(i64::MAX);
                    self.touched_firings.extend(self.ledger.put_off(by));
                }
                self.engine.fold(head, record);
            }
            Record::RulePut(_) | Record::Baseline(_) | Record::Deaf(_) | Record::Started | Record::Tick => {
                self.engine.fold(head, record);
            }
            Record::RuleRemove(uid) => {
                for (firing, spec) in self.engine.left_of(head, uid) {
                    self.give_back(firing, spec);
                }
                self.engine.fold(head, record);
                self.letters.forget(uid);
            }
            Record::Judgement(_) => {}
            Record::Observe(firing) => {
                self.ledger.observe(firing);
                self.touched_firings.insert(firing.clone());
            }
            Record::Intent(intent) => {
                self.engine.fold(head, record);
                self.ledger.intend(intent);
                if let Some(open) = self.ledger.get(&intent.firing).filter(|_| intent.writes.is_some()) {
                    self.engine.writes(&open, &intent.action);
                }
                self.touched_firings.insert(intent.firing.clone());
                self.remember(head, &intent.firing, intent.remember.as_deref());
            }
            Record::Written(written) => {
                self.engine.fold(head, record);
                self.ledger.written(written);
                self.wrote(head, &written.firing, Some(&written.effect));
            }
            Record::Beside(beside) => {
                self.engine.fold(head, record);
                self.ledger.beside(beside);
                self.wrote(head, &beside.firing, beside.effect.as_ref());
            }
            Record::Outcome(outcome) => {
                self.engine.fold(head, record);
                self.ledger.settle(outcome);
                if let Some(open) = self.ledger.get(&outcome.firing) {
                    self.tell(&open, emitted(head, &open, outcome));
                }
                self.wrote(head, &outcome.firing, outcome.effect.as_ref());
                self.remember(head, &outcome.firing, outcome.remember.as_deref());
            }
            Record::Finished(finished) => {
                self.engine.fold(head, record);
                self.finish(head, finished);
            }
            Record::Replay(replay) => self.replay(head, replay),
        }
        for open in self.engine.take_closings() {
            self.open_alone(open);
        }
        self.position = head.position;
    }

    /// The firing is another one now, and its rule knows what it wrote.
    fn wrote(&mut self, head: &Head, firing: &FiringId, effect: Option<&Effect>) {
        if let (Some(open), Some(effect)) = (self.ledger.get(firing), effect) {
            self.engine.wrote(head, &open, effect);
        }
        self.touched_firings.insert(firing.clone());
    }

    fn finish(&mut self, head: &Head, finished: &Finished) {
        if let Some(open) = self.ledger.finish(finished) {
            let told = self.engine.tells_failed(head, &open, finished);
            self.tell(&open, told);
            self.engine.ended(head, &open, finished);
            self.keep(head, open, finished);
        }
        self.touched_firings.insert(finished.firing.clone());
    }

    /// What a step has changed whose rule is gone already is given back at once: nobody else will.
    fn remember(&mut self, head: &Head, firing: &FiringId, remember: Option<&Remember>) {
        let Some(Remember { rule, change, release }) = remember else { return };
        if self.engine.knows(rule) || *release == Release::Undone || change.is_nothing() {
            return;
        }
        let Some(open) = self.ledger.get(firing) else { return };
        self.give_back(give_back_at_once(&self.log, head, &open.firing, change), Arc::clone(&open.spec));
    }

    /// Opens a firing that gives something back of a rule that is gone.
    fn give_back(&mut self, firing: Firing, spec: Arc<EventRuleSpec>) {
        let (event, events, steps) = (event_of_restore(&firing), Vec::new(), BTreeMap::new());
        self.open_alone(OpenFiring { firing, event, events, spec, steps });
    }

    /// Opens a firing that follows from the record itself.
    fn open_alone(&mut self, open: OpenFiring) {
        let id = open.firing.id.clone();
        self.ledger.begin(open);
        self.touched_firings.insert(id.clone());
        self.opened.push(id);
    }

    /// An event follows from what the firing did, and comes of it.
    fn tell(&mut self, open: &OpenFiring, told: Option<EventInput>) {
        if let Some(told) = told {
            self.engine.told(open, &told.event);
            self.sequels.push(told);
        }
    }

    /// The firings that the last records have opened by themselves, since the last call.
    pub fn take_opened(&mut self) -> Vec<FiringId> {
        std::mem::take(&mut self.opened)
    }

    /// Keeps a firing that has failed for good, while there is the rule.
    fn keep(&mut self, head: &Head, open: OpenFiring, finished: &Finished) {
        if !letters::is_kept(&open, finished.outcome) || !self.engine.knows(&finished.rule) {
            return;
        }
        self.keep_letter(head, DeadLetter { open, finished: finished.clone(), stamp: head.stamp, unjudged: None });
    }

    fn keep_letter(&mut self, head: &Head, letter: DeadLetter) {
        for rule in self.letters.keep(head, letter) {
            self.engine.keeps_letters(&rule, self.letters.count(&rule) as u64);
        }
    }

    /// Keeps the event for rules that panicked when they were to judge it. Not for those that follow objects: of an object that is no more what it was,
    /// nothing may be judged later.
    fn keep_unjudged(&mut self, head: &Head, input: &EventInput, decisions: &[Decision]) {
        for decision in decisions {
            let Decision::Errored { rule, message, poisoned: true, .. } = decision else { continue };
            let Some(rule) = self.engine.rule(rule).filter(|rule| !rule.spec.follows_objects()) else { continue };
            let of = (&rule.rule, rule.generation, &rule.spec);
            let letter = DeadLetter::unjudged(&self.log, head, of, input, message);
            self.keep_letter(head, letter);
        }
    }

    /// Opens what is left to do of a dead letter, if it is still there and its rule in force.
    fn replay(&mut self, head: &Head, replay: &Replay) {
        let rule = &replay.open.firing.rule.uid;
        if self.letters.find(&replay.of).is_none_or(|(kept, _)| kept.rule != *rule) {
            return;
        }
        if replay.unjudged.is_some() {
            if self.engine.judge_again(head, replay) {
                self.letters.take(&replay.of);
                self.engine.keeps_letters(rule, self.letters.count(rule) as u64);
            }
            return;
        }
        // A step of escalation, or what is done at the end, may have gone with an edit.
        let firing = &replay.open.firing;
        let does = |in_force: &Arc<Rule>| firing.restores.is_some() || !firing.actions(&in_force.spec).is_empty();
        if !self.engine.rule(rule).is_some_and(does) {
            return;
        }
        let Some(open) = self.engine.fire_again(head, replay) else { return };
        self.letters.take(&replay.of);
        self.engine.keeps_letters(rule, self.letters.count(rule) as u64);
        self.touched_firings.insert(open.firing.id.clone());
        let told = self.engine.tells_fired(&open);
        self.tell(&open, told);
        self.ledger.reopen(open);
    }

    /// What is due first before the record is judged. Before one that says that a process has begun nothing is: what happened meanwhile is not known.
    pub fn due(&self, entry: &Entry) -> Option<Deadline> {
        self.engine.due(&entry.head).filter(|_| !matches!(*entry.record, Record::Started))
    }

    /// Folds the decisions about an event, and opens the firings among them.
    pub fn decide(&mut self, head: &Head, input: &EventInput, seen: &SeenBy, decisions: &[Decision]) {
        self.open(head, Ok(input), decisions);
        self.engine.decide(head, input, seen, decisions);
        self.keep_unjudged(head, input, decisions);
    }

    /// Folds the decisions about what was due before the record at `head`, and opens the firings among them.
    pub fn decide_due(&mut self, head: &Head, deadline: &Deadline, decisions: &[Decision]) {
        self.open(head, Err(deadline), decisions);
        self.engine.decide_due(head, deadline, decisions);
    }

    /// Opens what fires because of this event, or of what was due.
    fn open(&mut self, head: &Head, because: Result<&EventInput, &Deadline>, decisions: &[Decision]) {
        let input = because.ok();
        for decision in decisions {
            let firing = match decision {
                Decision::Fired(firing) => firing,
                Decision::Resolved { rule, group, since } => {
                    let told = self.engine.tells_resolved(head, because, (rule, group, *since));
                    if let (Some(told), Some(input)) = (&told, input) {
                        self.engine.told_end(rule, &told.event, &input.event);
                    }
                    self.sequels.extend(told);
                    continue;
                }
                _ => continue,
            };
            let Some(rule) = self.engine.rule(&firing.rule.uid) else { continue };
            let spec = rule.spec.clone();
            let Some(event) = self.engine.event_of(firing, input) else { continue };
            let events = self.engine.events_of(firing, input);
            let open = OpenFiring { firing: firing.clone(), event, events, spec, steps: BTreeMap::new() };
            let told = self.engine.tells_fired(&open);
            self.tell(&open, told);
            self.ledger.begin(open);
            self.touched_firings.insert(firing.id.clone());
        }
    }

    /// The events that follow from what was folded since the last call: to be appended in this order before anything else is folded, but for those that the
    /// log has. Their ids are the same in every replay.
    pub fn take_sequels(&mut self) -> Vec<EventInput> {
        std::mem::take(&mut self.sequels)
    }

    /// The rows that changed since the last call, and the position they tell the state after; to be called when the last ones are written. `now` is kept as the time until which the
    /// operator is known to have listened.
    pub fn delta(&mut self, now: Stamp) -> (Delta, Position) {
        let mut delta = self.engine.dirty();
        self.written_firings = std::mem::take(&mut self.touched_firings);
        for id in &self.written_firings {
            let key = id.0.as_bytes().to_vec();
            let brief = self.ledger.brief(id);
            // One that could not be read stays as it is until it ends.
            if let (Some(_), None) = (brief, self.ledger.get(id)) {
                continue;
            }
            delta.push((Table::FiringIndex, key.clone(), brief.map(to_json)));
            delta.push((Table::Firings, key, self.ledger.get(id).as_deref().map(to_json)));
        }
        for ((watch, uid), seen) in std::mem::take(&mut self.watches.changed) {
            delta.push((Table::Watches, to_json(&(&watch, &uid)), seen.as_ref().map(to_json)));
        }
        self.letters.delta(&mut delta);
        delta.push((Table::Meta, LISTENED.to_vec(), Some(to_json(&now.wall))));
        (delta, self.position)
    }

    /// The last delta is written: memory lets go of the firings that only wait.
    pub fn committed(&mut self) {
        for id in std::mem::take(&mut self.written_firings) {
            if !self.touched_firings.contains(&id) {
                self.ledger.shelf().stored(&id);
            }
        }
    }

    /// A firing that the view of an earlier version held: the next delta writes it as this one does.
    pub(super) fn rewrite(&mut self, id: FiringId) {
        self.touched_firings.insert(id);
    }
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("rows have string keys only")
}

/// What watches remember, as far as the view needs it: the rows that changed, and which objects there are, so that a watch can be
/// forgotten whole.
#[derive(Default)]
struct Watches {
    uids: HashMap<WatchKey, HashSet<Box<str>>>,
    changed: BTreeMap<(WatchKey, String), Option<Seen>>,
}

impl Watches {
    fn remember(&mut self, origin: &Origin) {
        match self.uids.get_mut(&origin.watch) {
            Some(uids) if origin.seen.is_some() => drop(uids.insert(origin.uid.as_str().into())),
            Some(uids) => drop(uids.remove(origin.uid.as_str())),
            None if origin.seen.is_some() => {
                self.uids.insert(origin.watch.clone(), HashSet::from([origin.uid.as_str().into()]));
            }
            None => {}
        }
        self.changed.insert((origin.watch.clone(), origin.uid.clone()), origin.seen.clone());
    }

    fn forget(&mut self, watch: &WatchKey) {
        for uid in self.uids.remove(watch).into_iter().flatten() {
            self.changed.insert((watch.clone(), uid.into()), None);
        }
    }
}
