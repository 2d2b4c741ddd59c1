//! A bus whose disk is memory: what was synced survives a crash, of what was not some may.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::{
    bus::{Bus, BusError, Permit, Reader, Recovery, Stats},
    clock::Clock,
    event::TYPE_RESOURCE_UPDATED,
    record::{self, Delta, Entry, FiringId, Head, Intent, LogId, Position, Record, Table},
};

/// What survives.
#[derive(Clone, Default)]
pub(super) struct Disk {
    /// What is read of the records' bytes, in order. They are decoded once: each life reads all of them.
    pub(super) records: Vec<Entry>,
    /// The intents among them.
    intents: Vec<(Position, Intent)>,
    /// The ids of the events among them.
    events: BTreeSet<String>,
    changes: usize,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    applied: Position,
}

impl Disk {
    fn count(&mut self, position: Position, record: &Record) {
        match record {
            Record::Intent(intent) => self.intents.push((position, intent.clone())),
            Record::Event(input) => {
                self.events.insert(input.event.id.clone());
                self.changes += usize::from(input.event.type_ == TYPE_RESOURCE_UPDATED);
            }
            _ => {}
        }
    }
}

/// One life's bus.
#[derive(Clone)]
pub(super) struct SimulatedBus(Arc<Inner>);

struct Inner {
    id: LogId,
    clock: Clock,
    state: Mutex<State>,
    arrived: Notify,
    crashed: Notify,
}

struct State {
    disk: Disk,
    synced: usize,
    given: Option<Position>,
    folded: Position,
    committed: Position,
    read: bool,
    /// Operations until the crash.
    left: u64,
    dead: bool,
    random: fastrand::Rng,
    operations: u64,
}

impl SimulatedBus {
    /// A bus on what has survived, which dies after so many operations.
    pub(super) fn new(disk: Disk, clock: Clock, left: u64, random: fastrand::Rng) -> Self {
        let (synced, committed) = (disk.records.len(), disk.applied);
        let state = State {
            disk,
            synced,
            given: None,
            folded: Position(0),
            committed,
            read: false,
            left,
            dead: false,
            random,
            operations: 0,
        };
        Self(Arc::new(Inner {
            id: LogId("simulated".into()),
            clock,
            state: Mutex::new(state),
            arrived: Notify::new(),
            crashed: Notify::new(),
        }))
    }

    /// One operation of the life. False: it is over, and whoever asked must never go on.
    pub(super) fn lives(&self) -> bool {
        let mut state = self.0.state.lock();
        state.operations += 1;
        self.0.clock.advance(Duration::from_micros(state.random.u64(1..2_000_000)));
        state.left = state.left.saturating_sub(1);
        if state.left == 0 && !state.dead {
            state.dead = true;
            self.0.crashed.notify_one();
        }
        !state.dead
    }

    /// Resolves when the life is over.
    pub(super) async fn crash(&self) {
        self.0.crashed.notified().await;
    }

    /// A random number below `below`.
    pub(super) fn random(&self, below: u64) -> u64 {
        self.0.state.lock().random.u64(0..below)
    }

    /// Waits for a random time, in which others may go on.
    pub(super) async fn dawdle(&self) {
        let micros = self.random(3000);
        if micros < 1000 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
    }

    /// How far the run is, for whoever finds that it does not end.
    pub(super) fn tell(&self) -> String {
        let state = self.0.state.lock();
        let Disk { records, changes, .. } = &state.disk;
        format!("{} records, {changes} changes, folded {}", records.len(), state.folded)
    }

    /// Ids of the events that are in the log.
    pub(super) fn events(&self) -> BTreeSet<String> {
        self.0.state.lock().disk.events.clone()
    }

    /// Changes of objects that are in the log.
    pub(super) fn changes(&self) -> usize {
        self.0.state.lock().disk.changes
    }

    /// How far the log is on the disk.
    pub(super) fn synced(&self) -> Position {
        Position(self.0.state.lock().synced as u64)
    }

    /// Every record so far, also what is not on the disk yet.
    pub(super) fn written(&self) -> Disk {
        self.0.state.lock().disk.clone()
    }

    /// Operations of this life.
    pub(super) fn operations(&self) -> u64 {
        self.0.state.lock().operations
    }

    /// What the crash leaves: what was synced, and some of the rest.
    pub(super) fn survivors(&self) -> Disk {
        let mut state = self.0.state.lock();
        let (synced, all) = (state.synced, state.disk.records.len());
        let kept = synced + state.random.usize(0..=all - synced);
        let mut disk = Disk {
            records: state.disk.records[..kept].to_vec(),
            rows: std::mem::take(&mut state.disk.rows),
            applied: state.disk.applied,
            ..Disk::default()
        };
        for entry in state.disk.records.drain(..kept) {
            disk.count(entry.head.position, &entry.record);
        }
        disk
    }

    /// Whether exactly this is about to be done, and that is on the disk.
    pub(super) fn is_recorded(&self, firing: &FiringId, action: &str, request: &Value) -> bool {
        let state = self.0.state.lock();
        state.disk.intents.iter().any(|(position, intent)| {
            position.0 as usize <= state.synced
                && intent.firing == *firing
                && intent.action == action
                && intent.request == *request
        })
    }

    fn push(&self, record: &Record) -> Head {
        let mut bytes = Vec::new();
        record::encode(record, &mut bytes).expect("it can be encoded");
        let read = Arc::new(record::decode(&bytes).expect("what was written is read"));
        let mut state = self.0.state.lock();
        let head = Head { position: Position(state.disk.records.len() as u64 + 1), stamp: self.0.clock.now() };
        state.disk.records.push(Entry { head, record: read });
        state.disk.count(head.position, record);
        drop(state);
        self.0.arrived.notify_one();
        head
    }

    fn apply(&self, delta: Delta, position: Position) {
        let mut state = self.0.state.lock();
        for (table, key, value) in delta {
            match value {
                Some(value) => drop(state.disk.rows.insert((table, key), value)),
                None => drop(state.disk.rows.remove(&(table, key))),
            }
        }
        state.disk.applied = position;
        state.committed = position;
    }

    /// Puts everything up to the position on the disk, and maybe more.
    fn sync(&self, position: Position) {
        let mut state = self.0.state.lock();
        let all = state.disk.records.len();
        let at_least = (usize::try_from(position.0).expect("small")).min(all).max(state.synced);
        state.synced = state.random.usize(at_least..=all);
    }
}

impl Bus for SimulatedBus {
    fn id(&self) -> &LogId {
        &self.0.id
    }

    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>> {
        Box::pin(async move {
            self.dawdle().await;
            if self.lives() { Ok(self.push(&record)) } else { pending().await }
        })
    }

    fn record(&self, record: Record) -> Result<Head, BusError> {
        if self.lives() { Ok(self.push(&record)) } else { Err(BusError::Closed) }
    }

    fn durable(&self, position: Position) -> BoxFuture<'_, Result<Permit, BusError>> {
        Box::pin(async move {
            if self.synced() < position {
                self.dawdle().await;
                if !self.lives() {
                    return pending().await;
                }
                self.sync(position);
            }
            // On the disk, and the life may be over before anybody hears of it.
            if self.lives() { Ok(Permit::simulated(self.synced())) } else { pending().await }
        })
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        let mut state = self.0.state.lock();
        let first = !std::mem::replace(&mut state.read, true);
        let at = state.given.expect("recovered before it is read");
        first.then(|| Box::new(SimulatedReader { bus: self.clone(), at }) as Box<dyn Reader>)
    }

    fn recover(&self) -> Result<Recovery, BusError> {
        let mut state = self.0.state.lock();
        let applied = state.disk.applied;
        let tail = state.disk.records[usize::try_from(applied.0).expect("small")..].to_vec();
        state.given = Some(tail.last().map_or(applied, |last| last.head.position));
        let rows = state.disk.rows.iter().filter(|((table, _), _)| table.is_read_at_start());
        let rows = rows.map(|((table, key), value)| (*table, key.clone(), value.clone())).collect();
        Ok(Recovery { rows, applied, tail, damage: Vec::new() })
    }

    fn commit(&self, delta: Delta, position: Position) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async move {
            self.durable(position).await?;
            self.apply(delta, position);
            if self.lives() { Ok(()) } else { pending().await }
        })
    }

    fn row(&self, table: Table, key: Vec<u8>) -> BoxFuture<'_, Result<Option<Vec<u8>>, BusError>> {
        Box::pin(async move {
            self.dawdle().await;
            if self.lives() { self.read(table, &key) } else { pending().await }
        })
    }

    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BusError> {
        Ok(self.0.state.lock().disk.rows.get(&(table, key.to_vec())).cloned())
    }

    fn stats(&self) -> Stats {
        let state = self.0.state.lock();
        Stats {
            appended: Position(state.disk.records.len() as u64),
            durable: Position(state.synced as u64),
            folded: state.folded,
            committed: state.committed,
            ..Stats::default()
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }
}

struct SimulatedReader {
    bus: SimulatedBus,
    at: Position,
}

impl Reader for SimulatedReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Option<Vec<Entry>>> {
        Box::pin(async move {
            loop {
                let most = 1 + usize::try_from(self.bus.random(max.min(16) as u64)).expect("small");
                let entries: Vec<Entry> = {
                    let state = self.bus.0.state.lock();
                    let from = usize::try_from(self.at.0).expect("small");
                    state.disk.records[from..].iter().take(most).cloned().collect()
                };
                if let Some(last) = entries.last() {
                    self.at = last.head.position;
                    return Some(entries);
                }
                self.bus.0.arrived.notified().await;
            }
        })
    }

    fn advance(&mut self, position: Position) {
        self.bus.0.state.lock().folded = position;
    }
}
