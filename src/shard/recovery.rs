//! The start: the state out of the view's rows and the log's tail.
//!
//! Judgements that are in the log are taken from it, never made again; events that were not judged before the end are judged now.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::{State, letters::Letters, state};
use crate::{
    bus::{Bus, BusError},
    event::{Seen, WatchKey, rule_event},
    record::{
        Brief, Deadline, Decision, Entry, EventInput, FiringId, Head, Judgement, Ledger, OpenFiring, Position, Record,
        Table,
    },
    rule::{Engine, Judged},
};

/// What watches remember, by watch and `metadata.uid`.
pub type WatchMemory = HashMap<WatchKey, HashMap<String, Seen>>;

/// What a start begins with.
pub struct Recovered {
    /// The state after the last record.
    pub state: State,
    /// What watches remember.
    pub memory: WatchMemory,
    /// Firings that have not ended: to be resumed.
    pub open: Vec<(FiringId, Brief)>,
    /// Firings that have not ended and whose rules are gone: to be ended.
    pub orphans: Vec<(FiringId, Brief)>,
    /// What could not be read, in words.
    pub damage: Vec<String>,
    /// How many records were read after the view.
    pub replayed: usize,
    /// Wall time, in microseconds since 1970, until which the operator is known to have listened; nothing for a new log.
    pub listened: Option<i64>,
}

/// Why there is no state to begin with.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The log or the view could not be read, or a judgement could not be recorded.
    #[error("recover the state: {0}")]
    Bus(#[from] BusError),
}

/// Reads the view and the tail, and judges what was not judged before the end. The first record of the new process is [`Record::Started`].
/// `most` is [`super::Bounds::open`]: while so many firings are open, what is due goes on waiting.
///
/// # Errors
/// When the bus cannot be read or written.
pub fn recover(bus: &dyn Bus, most: usize) -> Result<Recovered, RecoveryError> {
    let recovery = bus.recover()?;
    // First of all: nothing is due by what is recorded from here on before the sources have caught up.
    bus.record(Record::Started)?;
    let mut damage = recovery.damage;
    let Rows { mut memory, briefs, whole, engine, letters, listened } = Rows::read(recovery.rows, &mut damage);
    let (engine, lost) = Engine::restore(bus.id().clone(), engine);
    damage.extend(lost);
    let (letters, lost) = Letters::restore(letters, |rule| engine.knows(rule));
    damage.extend(lost);
    let ledger = ledger(bus, briefs, &whole, &mut damage);
    let mut state = State::new(bus.id().clone(), engine, ledger, letters, &memory, recovery.applied);
    whole.into_iter().for_each(|open| state.rewrite(open.firing.id));
    replay(bus, &mut state, &mut memory, (recovery.applied, recovery.tail.as_slice()), &mut damage, most)?;
    // The process that evicted them has counted them.
    state.letters.take_evicted();
    // They are among the open ones.
    state.take_opened();
    // A rule whose row could not be read may be there all the same.
    let known =
        |(_, brief): &(FiringId, Brief)| brief.outlives() || !damage.is_empty() || state.engine.knows(&brief.rule);
    let (open, orphans) = state.ledger.open().map(|(id, brief)| (id.clone(), brief.clone())).partition(known);
    let last =
        recovery.tail.iter().rev().find(|entry| !tells_of_start(&entry.record)).map(|entry| entry.head.stamp.wall);
    Ok(Recovered { state, memory, open, orphans, damage, replayed: recovery.tail.len(), listened: listened.max(last) })
}

/// A row of the view: its table, key and value.
type Row = (Table, Vec<u8>, Vec<u8>);

/// The rows of the view, as far as they are read here.
#[derive(Default)]
struct Rows {
    memory: WatchMemory,
    briefs: Vec<(FiringId, Brief)>,
    /// Of a view without an index of open firings.
    whole: Vec<OpenFiring>,
    /// For the engine.
    engine: Vec<Row>,
    /// Keys and values of the index of dead letters.
    letters: Vec<(Vec<u8>, Vec<u8>)>,
    /// As [`Recovered::listened`], by the view.
    listened: Option<i64>,
}

impl Rows {
    /// What cannot be read is told by `damage`.
    fn read(rows: Vec<Row>, damage: &mut Vec<String>) -> Self {
        let mut all = Self::default();
        for (table, key, value) in rows {
            match table {
                Table::FiringIndex => match serde_json::from_slice::<Brief>(&value) {
                    Ok(brief) => all.briefs.push((FiringId(String::from_utf8_lossy(&key).into()), brief)),
                    Err(error) => damage.push(format!("open firing {}: {error}", String::from_utf8_lossy(&key))),
                },
                Table::Firings => match serde_json::from_slice::<OpenFiring>(&value) {
                    Ok(open) => all.whole.push(open),
                    Err(error) => damage.push(format!("open firing {}: {error}", String::from_utf8_lossy(&key))),
                },
                Table::Watches => match watch_row(&key, &value) {
                    Ok((watch, uid, seen)) => drop(all.memory.entry(watch).or_default().insert(uid, seen)),
                    Err(error) => damage.push(format!("watch memory {}: {error}", String::from_utf8_lossy(&key))),
                },
                Table::Meta if key == state::LISTENED => all.listened = serde_json::from_slice(&value).ok(),
                Table::Rules | Table::Groups | Table::Meta => all.engine.push((table, key, value)),
                Table::DeadLetterIndex => all.letters.push((key, value)),
                Table::DeadLetters => {}
            }
        }
        all
    }
}

/// Folds the tail, which comes after the position that is applied, and decides what was not decided before the end.
fn replay(
    bus: &dyn Bus,
    state: &mut State,
    memory: &mut WatchMemory,
    (applied, tail): (Position, &[Entry]),
    damage: &mut Vec<String>,
    most: usize,
) -> Result<(), BusError> {
    let mut judgements = Judgements::of(applied, tail);
    let sequels: HashSet<&str> = tail.iter().filter_map(|entry| sequel(&entry.record)).collect();
    for entry in tail {
        note(memory, &entry.record);
        if let Some(id) = entry.record.firing() {
            bring(bus, &state.ledger, id, damage);
        }
        while let Some(deadline) = state.due(entry) {
            if !decide_due(bus, state, entry, &deadline, &mut judgements, most)? {
                break;
            }
        }
        if let Record::Event(input) = &*entry.record {
            let judged = state.engine.judge(&entry.head, input);
            decide(bus, state, &entry.head, input, judged, None, &mut judgements)?;
        }
        state.fold(&entry.head, &entry.record);
        for released in state.engine.take_released() {
            let judged = state.engine.judge_released(&entry.head, &released);
            let head = released.head(&entry.head);
            decide(bus, state, &head, &released.input, judged, Some(entry.head.position), &mut judgements)?;
        }
        // What follows from a record comes after it: where it is missing, so is everything after it.
        for sequel in state.take_sequels().into_iter().filter(|sequel| !sequels.contains(sequel.event.id.as_str())) {
            bus.record(Record::Event(Box::new(sequel)))?;
        }
    }
    Ok(())
}

/// Whether a process may have recorded this when it started, before it listened.
fn tells_of_start(record: &Record) -> bool {
    matches!(record, Record::Started | Record::Judgement(_) | Record::Forget(_) | Record::Finished(_))
}

/// The open firings that the view held. Whole are those that steps are at work for, and all of a view without an index.
fn ledger(bus: &dyn Bus, briefs: Vec<(FiringId, Brief)>, whole: &[OpenFiring], damage: &mut Vec<String>) -> Ledger {
    let acting: Vec<_> = briefs.iter().filter(|(_, brief)| brief.acting).map(|(id, _)| id.clone()).collect();
    let mut ledger = Ledger::restore(briefs);
    acting.iter().for_each(|id| bring(bus, &ledger, id, damage));
    whole.iter().for_each(|open| ledger.reopen(open.clone()));
    ledger
}

/// Brings an open firing into memory that is in the view only.
fn bring(bus: &dyn Bus, ledger: &Ledger, id: &FiringId, damage: &mut Vec<String>) {
    if ledger.brief(id).is_none() || ledger.get(id).is_some() {
        return;
    }
    let row = bus.read(Table::Firings, id.0.as_bytes()).map_err(|error| error.to_string());
    let open = row.and_then(|row| {
        let row = row.ok_or("it is not in the view")?;
        serde_json::from_slice::<OpenFiring>(&row).map_err(|error| error.to_string())
    });
    match open {
        Ok(open) => drop(ledger.shelf().bring(open)),
        Err(error) => damage.push(format!("open firing {id}: {error}")),
    }
}

fn watch_row(key: &[u8], value: &[u8]) -> Result<(WatchKey, String, Seen), serde_json::Error> {
    let (watch, uid) = serde_json::from_slice(key)?;
    Ok((watch, uid, serde_json::from_slice(value)?))
}

/// What is judged in the order of the log: the input, and what of it.
type Turn = (Position, What);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// What was due before it.
    Due(Deadline),
    /// It.
    Itself,
    /// Those that have waited for it, one after the other.
    Released(Position),
}

fn turn(judgement: &Judgement) -> Turn {
    let what = match (&judgement.deadline, judgement.event) {
        (Some(deadline), _) => What::Due(deadline.clone()),
        (None, Some(event)) => What::Released(event),
        (None, None) => What::Itself,
    };
    (judgement.input, what)
}

/// The judgements that the tail holds.
struct Judgements<'a> {
    through: Turn,
    /// Of one turn there may be several: a group may have more than one thing due at one time.
    by_turn: BTreeMap<Turn, VecDeque<&'a Judgement>>,
}

impl<'a> Judgements<'a> {
    fn of(applied: Position, tail: &'a [Entry]) -> Self {
        let mut judgements = Self { through: (applied, What::Itself), by_turn: BTreeMap::new() };
        for entry in tail {
            if let Record::Judgement(judgement) = &*entry.record {
                let turn = turn(judgement);
                judgements.through = judgements.through.clone().max(turn.clone());
                judgements.by_turn.entry(turn).or_default().push_back(judgement);
            }
        }
        judgements
    }

    /// What was decided then, each time that it is asked for; nothing when it was not judged before the end.
    fn recorded(&mut self, turn: &Turn) -> Option<&'a [Decision]> {
        self.in_tail(turn).or_else(|| (*turn < self.through).then_some(&[]))
    }

    /// What the tail says was decided then.
    fn in_tail(&mut self, turn: &Turn) -> Option<&'a [Decision]> {
        self.by_turn.get_mut(turn).and_then(VecDeque::pop_front).map(|judgement| judgement.decisions.as_slice())
    }
}

/// As [`decide`], of what was due before the record. Gives false when it was not judged then, though later things were, and is not judged now: it has to
/// wait, for too many firings are open. As in [`super::Shard::run`], no event overtakes it.
fn decide_due(
    bus: &dyn Bus,
    state: &mut State,
    entry: &Entry,
    deadline: &Deadline,
    judgements: &mut Judgements<'_>,
    most: usize,
) -> Result<bool, BusError> {
    let head = &entry.head;
    let turn = (head.position, What::Due(deadline.clone()));
    if let Some(recorded) = judgements.in_tail(&turn) {
        state.decide_due(head, deadline, recorded);
        return Ok(true);
    }
    let waits = state.ledger.len() >= most && !matches!(*entry.record, Record::Event(_));
    if turn < judgements.through || waits {
        return Ok(false);
    }
    let decisions = state.engine.judge_due(head, deadline);
    // Also when it decides nothing: what is not in the log was not judged.
    bus.record(Record::Judgement(Judgement::of_deadline(head, deadline, &decisions)))?;
    state.decide_due(head, deadline, &decisions);
    Ok(true)
}

/// Takes what was decided from the log; what was not judged before the end is recorded now.
fn decide(
    bus: &dyn Bus,
    state: &mut State,
    head: &Head,
    input: &EventInput,
    judged: Judged,
    released: Option<Position>,
    judgements: &mut Judgements<'_>,
) -> Result<(), BusError> {
    let judgement = Judgement::of(head, released, &judged.decisions);
    if let Some(recorded) = judgements.recorded(&turn(&judgement)) {
        state.decide(head, input, &judged.seen, recorded);
        return Ok(());
    }
    if !judgement.decisions.is_empty() {
        bus.record(Record::Judgement(judgement))?;
    }
    state.decide(head, input, &judged.seen, &judged.decisions);
    Ok(())
}

/// The id of an event that follows from an earlier record.
fn sequel(record: &Record) -> Option<&str> {
    match record {
        Record::Event(input) if rule_event::is_watch(&input.origin.watch) => Some(&input.event.id),
        _ => None,
    }
}

fn note(memory: &mut WatchMemory, record: &Record) {
    let mut remember = |origin: &crate::event::Origin| {
        let objects = memory.entry(origin.watch.clone()).or_default();
        match &origin.seen {
            Some(seen) => drop(objects.insert(origin.uid.clone(), seen.clone())),
            None => drop(objects.remove(&origin.uid)),
        }
    };
    match record {
        Record::Event(input) if input.only.is_none() && sequel(record).is_none() => remember(&input.origin),
        Record::Seen(origins) => origins.iter().for_each(remember),
        Record::Forget(watch) => drop(memory.remove(watch)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RuleUid, Stamp, SuppressedReason};

    #[test]
    fn what_was_decided_twice_of_one_turn_is_taken_twice_and_in_order() {
        let deadline = Deadline { at: 5, rule: RuleUid("r".into()), group: "g".into(), remembered: None };
        let head = |position| Head { position: Position(position), stamp: Stamp { at: 5, wall: 5 } };
        let of = |group: &str| {
            let (rule, group) = (deadline.rule.clone(), group.to_owned());
            let decided = Decision::Suppressed { rule, group, reason: SuppressedReason::Cooldown, occurrence: None };
            Record::Judgement(Judgement::of_deadline(&head(3), &deadline, &[decided]))
        };
        let tail = [(4, of("first")), (5, of("second"))];
        let tail = tail.map(|(position, record)| Entry { head: head(position), record: std::sync::Arc::new(record) });
        let mut judgements = Judgements::of(Position(2), &tail);
        let turn = (Position(3), What::Due(deadline.clone()));
        let mut next = || judgements.recorded(&turn).map(|decisions| format!("{decisions:?}"));
        assert!(next().is_some_and(|first| first.contains("first")));
        assert!(next().is_some_and(|second| second.contains("second")));
        assert_eq!(next(), None, "it was not judged a third time");
        assert_eq!(judgements.recorded(&(Position(2), What::Itself)), Some(&[][..]), "nothing was decided of it");
    }
}
