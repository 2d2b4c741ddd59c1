//! What must be true in the end, whatever has happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{EMITS, disk::Disk, world::World};
use crate::{
    api::{ActionOutcome, FiringOutcome},
    event::{FIELD_MANAGER, TYPE_RESOURCE_UPDATED, rule_event},
    record::{
        Deadline, Decision, Entry, EventInput, Firing, FiringId, Head, Judgement, Ledger, LogId, Position, Record,
        SuppressedReason, undo_of,
    },
    rule::{Engine, Judged},
    shard::{State, letters::Letters},
};

/// What is judged in the order of the log.
/// Of one deadline there may be several: a group may have more than one thing due at one time.
type Turn = (Position, Option<Position>, Option<(Deadline, usize)>);
type Judgements = BTreeMap<Turn, Vec<Decision>>;

/// Checks the whole log, and the world, of a run that has come to rest. `acked` are the events of which the log has said that they are safe.
pub(super) fn check(disk: &Disk, world: &World, acked: &BTreeSet<String>) {
    let entries = &disk.records;
    let mut log = Log::read(entries);
    let missing: Vec<_> = acked.difference(&log.events).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    let (judgements, state, again, sequels) = again(entries, &log.judgements);
    assert_eq!(log.sequels, sequels, "what follows from the log is in it, once and in order");
    chains(&log);
    assert_eq!(log.judgements, judgements, "a judgement that is made again is the same");
    assert!(state.ledger.is_empty(), "every firing has ended");
    log.firings.extend(again);
    for id in log.firings.keys() {
        assert_eq!(log.finished.get(id), Some(&1), "{id} has one end");
    }
    effects(&log, world);
    undone(&log);
    given_back(&log, world);
    own(&log, world);
}

/// The log by what it tells.
#[derive(Default)]
struct Log {
    events: BTreeSet<String>,
    judgements: Judgements,
    firings: BTreeMap<FiringId, Firing>,
    finished: BTreeMap<FiringId, usize>,
    failed: BTreeSet<FiringId>,
    /// By field manager.
    outcomes: BTreeMap<String, ActionOutcome>,
    /// The ids of the events that rules made.
    sequels: Vec<String>,
    /// Versions of changed objects, by position.
    changes: BTreeMap<Position, u64>,
}

impl Log {
    fn read(entries: &[Entry]) -> Self {
        let mut log = Self::default();
        for entry in entries {
            match &*entry.record {
                Record::Event(input) => {
                    assert!(log.events.insert(input.event.id.clone()), "{} is in the log twice", input.event.id);
                    if rule_event::is_watch(&input.origin.watch) {
                        log.sequels.push(input.event.id.clone());
                    }
                    if let (TYPE_RESOURCE_UPDATED, Some(seen)) = (input.event.type_.as_str(), &input.origin.seen) {
                        log.changes.insert(entry.head.position, seen.version);
                    }
                }
                Record::Judgement(judgement) => log.judged(judgement),
                Record::Outcome(outcome) => {
                    let known = log.outcomes.insert(outcome.firing.manager(&outcome.action), outcome.outcome);
                    assert_eq!(known, None, "{} {} has one outcome", outcome.firing, outcome.action);
                }
                Record::Finished(finished) => {
                    *log.finished.entry(finished.firing.clone()).or_default() += 1;
                    if finished.outcome == FiringOutcome::Failed {
                        log.failed.insert(finished.firing.clone());
                    }
                }
                _ => {}
            }
        }
        log
    }

    fn judged(&mut self, judgement: &Judgement) {
        let turn = turn(&self.judgements, judgement.input, judgement.event, judgement.deadline.as_ref());
        let before = self.judgements.insert(turn.clone(), judgement.decisions.clone());
        assert_eq!(before, None, "{turn:?} is judged once");
        for decision in &judgement.decisions {
            if let Decision::Fired(firing) = decision {
                let before = self.firings.insert(firing.id.clone(), firing.clone());
                assert_eq!(before, None, "{} is decided once", firing.id);
            }
        }
    }
}

/// The turn of what is judged next.
fn turn(known: &Judgements, input: Position, event: Option<Position>, deadline: Option<&Deadline>) -> Turn {
    let of_time = |number: usize| (input, event, deadline.map(|deadline| (deadline.clone(), number)));
    let mut number = 0;
    while deadline.is_some() && known.contains_key(&of_time(number)) {
        number += 1;
    }
    of_time(number)
}

/// The judgements of a shard that reads the log from its beginning and never crashes.
/// Also the firings of dead letters that were run again and those that deletions brought, and the events that follow from all that. What was due and is not
/// in the log as judged then had to wait.
fn again(entries: &[Entry], judged: &Judgements) -> (Judgements, State, BTreeMap<FiringId, Firing>, Vec<String>) {
    let log = LogId("simulated".into());
    let engine = Engine::new(log.clone());
    let mut state =
        State::new(log.clone(), engine, Ledger::default(), Letters::default(), &HashMap::new(), Position(0));
    let (mut judgements, mut replayed, mut sequels) = (Judgements::new(), BTreeMap::new(), Vec::new());
    let mut decide = |state: &mut State, head: &Head, input: &EventInput, judged: Judged, released| {
        let judgement = Judgement::of(head, released, &judged.decisions);
        if !judgement.decisions.is_empty() {
            judgements.insert((judgement.input, judgement.event, None), judgement.decisions);
        }
        state.decide(head, input, &judged.seen, &judged.decisions);
    };
    let mut of_time = Judgements::new();
    for entry in entries {
        while let Some(deadline) = state.due(entry)
            && let turn = turn(&of_time, entry.head.position, None, Some(&deadline))
            && judged.contains_key(&turn)
        {
            let decisions = state.engine.judge_due(&entry.head, &deadline);
            state.decide_due(&entry.head, &deadline, &decisions);
            assert_eq!(of_time.insert(turn, decisions), None, "it is due once");
        }
        if let Record::Event(input) = &*entry.record {
            let judged = state.engine.judge(&entry.head, input);
            decide(&mut state, &entry.head, input, judged, None);
        }
        state.fold(&entry.head, &entry.record);
        if let Record::Replay(replay) = &*entry.record
            && let Some(open) = state.ledger.get(&replay.firing(&log, entry.head.position))
        {
            replayed.insert(open.firing.id.clone(), open.firing.clone());
        }
        for id in state.take_opened() {
            let open = state.ledger.get(&id).expect("it was opened just now");
            replayed.insert(id, open.firing.clone());
        }
        for released in state.engine.take_released() {
            let judged = state.engine.judge_released(&entry.head, &released);
            decide(&mut state, &released.head(&entry.head), &released.input, judged, Some(entry.head.position));
        }
        sequels.extend(state.take_sequels().into_iter().map(|sequel| sequel.event.id.clone()));
    }
    judgements.extend(of_time);
    (judgements, state, replayed, sequels)
}

/// What succeeded was done once, and nothing was done twice or for nothing.
fn effects(log: &Log, world: &World) {
    let mut done = BTreeMap::<&str, usize>::new();
    for change in &world.changes {
        change.by.as_deref().into_iter().for_each(|by| *done.entry(by).or_default() += 1);
    }
    for (mark, times) in &done {
        assert_eq!(*times, 1, "{mark} is done once");
        assert!(log.outcomes.contains_key(*mark), "{mark} was asked for");
    }
    for (mark, outcome) in &log.outcomes {
        let may_be_theirs =
            mark.ends_with(".undo") || mark.ends_with("-restore") || *outcome != ActionOutcome::Superseded;
        assert!(may_be_theirs, "{mark}: nobody else writes");
        let expected = *outcome == ActionOutcome::Succeeded && !mark.ends_with(EMITS);
        assert!(!expected || done.contains_key(mark.as_str()), "{mark} succeeded and was not done");
    }
    for (name, object) in &world.objects {
        let added: i64 = world.changes.iter().filter(|change| change.name == *name).map(|change| change.added).sum();
        assert_eq!(object.number as i64, added, "{name}");
    }
}

/// What the firings of the rule `undo` have done is undone, or was tried to be, if they have failed, and only then.
fn undone(log: &Log) {
    for (id, firing) in log.firings.iter().filter(|(_, firing)| &*firing.rule.uid.0 == "undo") {
        let failed = log.failed.contains(id);
        for step in ["a", "b", "c"] {
            let (done, undone) = (id.manager(step), id.manager(&undo_of(step)));
            let done = log.outcomes.get(&done) == Some(&ActionOutcome::Succeeded);
            let undone = log.outcomes.contains_key(&undone);
            assert!(!done || undone == failed, "{} {step}: failed {failed}, undone {undone}", firing.id);
        }
    }
}

/// What the rule `lends` has taken is given back, where nothing of it failed and nobody else, such as `echo`, has changed it since.
fn given_back(log: &Log, world: &World) {
    let of_rule: Vec<_> = log.firings.values().filter(|firing| &*firing.rule.uid.0 == "lends").collect();
    let failed = |firing: &Firing| {
        let steps = ["a", "restore"].map(|step| log.outcomes.get(&firing.id.manager(step)));
        steps.contains(&Some(&ActionOutcome::Failed)) || log.failed.contains(&firing.id)
    };
    let by_rule = |mark: &str| of_rule.iter().any(|firing| mark.contains(&*firing.id.0));
    let mut changes = world.changes.iter().filter(|change| change.name == "lent");
    let alone = changes.all(|change| change.by.as_deref().is_some_and(by_rule));
    if alone && !of_rule.iter().any(|firing| failed(firing)) {
        let lent = world.objects.get("lent").map_or(0, |object| object.number);
        assert_eq!(lent, 0, "all is given back: {of_rule:?}");
    }
}

/// What was emitted was so by a step that succeeded, and each such step has emitted; what failed was told but by the rule that hears of it; and a
/// chain ends where it comes back to its beginning.
fn chains(log: &Log) {
    for (mark, outcome) in log.outcomes.iter().filter(|(mark, _)| mark.ends_with(EMITS)) {
        let id = mark.strip_prefix(FIELD_MANAGER).expect("a step's field manager");
        let emitted = log.sequels.iter().any(|one| one == id);
        assert_eq!(emitted, *outcome == ActionOutcome::Succeeded, "{id} has {outcome:?}");
    }
    let of = |rule: &str| log.firings.values().filter(move |firing| &*firing.rule.uid.0 == rule).count();
    let emitted = |rule: &str| {
        let by = |id: &&String| {
            log.firings
                .values()
                .any(|one| &*one.rule.uid.0 == rule && id.starts_with(&*one.id.0) && id.ends_with(EMITS))
        };
        log.sequels.iter().filter(by).count()
    };
    assert!(of("pong") <= emitted("ping") && of("ping") <= emitted("starts"), "none answers what came of itself");
}

/// The rule `echo` has heard of every change, and has not answered its own. A write that counts as failed cannot be told from another's.
fn own(log: &Log, world: &World) {
    let mut heard = BTreeMap::<u64, (usize, usize)>::new();
    for ((input, event, _), decisions) in &log.judgements {
        let Some(version) = log.changes.get(&event.unwrap_or(*input)) else { continue };
        for decision in decisions {
            match decision {
                Decision::Fired(firing) if &*firing.rule.uid.0 == "echo" => heard.entry(*version).or_default().0 += 1,
                Decision::Suppressed { rule, reason: SuppressedReason::OwnWrite, .. } if &*rule.0 == "echo" => {
                    heard.entry(*version).or_default().1 += 1;
                }
                Decision::Suppressed { rule, .. } if &*rule.0 == "echo" => heard.entry(*version).or_default().0 += 1,
                _ => {}
            }
        }
    }
    let by_echo =
        |mark: &str| log.firings.values().any(|firing| &*firing.rule.uid.0 == "echo" && mark.contains(&*firing.id.0));
    for change in &world.changes {
        let own = change.by.as_deref().filter(|mark| by_echo(mark));
        let failed = own.is_some_and(|mark| log.outcomes[mark] == ActionOutcome::Failed);
        let (fired, suppressed) = heard.get(&change.version).copied().unwrap_or_default();
        assert_eq!(fired + suppressed, 1, "version {} is judged once", change.version);
        assert!(failed || suppressed == usize::from(own.is_some()), "version {} of {:?}", change.version, change.by);
    }
}
