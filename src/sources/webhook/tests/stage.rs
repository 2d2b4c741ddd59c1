//! The EventSource `shop/github` with a log behind it whose disk and room a test rules over.

use std::sync::atomic::AtomicBool;

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::*;
use crate::{
    bus::{BusError, Permit, Reader, Recovery, Stats},
    clock::Stamp,
    record::{Delta, Head, LogId, Position, Record, Table},
    sources::{accept::Wanted, ids::Ids, testing::Collected},
};

pub(super) const NOW: i64 = 1_793_603_399_000_000;
pub(super) const BATCH: &str = "application/cloudevents-batch+json";

/// A log that collects, and whose disk and room the test rules over.
pub(super) struct Narrow {
    pub(super) log: Arc<Collected>,
    pub(super) room: watch::Sender<bool>,
    /// How long an append takes.
    pub(super) pace: parking_lot::Mutex<Duration>,
    pub(super) durable: watch::Sender<bool>,
    pub(super) full: AtomicBool,
}

impl Bus for Narrow {
    fn id(&self) -> &LogId {
        self.log.id()
    }

    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>> {
        Box::pin(async {
            let pace = *self.pace.lock();
            tokio::time::sleep(pace).await;
            self.room.subscribe().wait_for(|room| *room).await.expect("it is this one's");
            self.log.append(record).await
        })
    }

    fn record(&self, record: Record) -> Result<Head, BusError> {
        self.log.record(record)
    }

    fn durable(&self, _: Position) -> BoxFuture<'_, Result<Permit, BusError>> {
        Box::pin(async {
            self.durable.subscribe().wait_for(|durable| *durable).await.expect("it is this one's");
            Ok(Permit::for_test())
        })
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        None
    }

    fn recover(&self) -> Result<Recovery, BusError> {
        self.log.recover()
    }

    fn commit(&self, delta: Delta, position: Position) -> BoxFuture<'_, Result<(), BusError>> {
        self.log.commit(delta, position)
    }

    fn row(&self, table: Table, key: Vec<u8>) -> BoxFuture<'_, Result<Option<Vec<u8>>, BusError>> {
        self.log.row(table, key)
    }

    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BusError> {
        self.log.read(table, key)
    }

    fn stats(&self) -> Stats {
        let appended = Position(self.log.short().len() as u64);
        Stats { appended, disk_full: self.full.load(Ordering::Relaxed), ..Stats::default() }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BusError>> {
        self.log.close()
    }
}

/// The EventSource `shop/github`, and the log behind it.
pub(super) struct Stage {
    pub(super) hooks: Hooks,
    pub(super) bus: Arc<Narrow>,
    pub(super) metrics: Arc<Metrics>,
}

impl Stage {
    pub(super) fn new(webhook: Value) -> Self {
        Self::after(&[], webhook)
    }

    /// After a restart of a log that was told these.
    pub(super) fn after(origins: &[Origin], webhook: Value) -> Self {
        let mut memory: HashMap<WatchKey, HashMap<String, Seen>> = HashMap::new();
        for origin in origins.iter().cloned() {
            let of_watch = memory.entry(origin.watch).or_default();
            match origin.seen {
                Some(seen) => drop(of_watch.insert(origin.uid, seen)),
                None => drop(of_watch.remove(&origin.uid)),
            }
        }
        let (room, durable) = (watch::Sender::new(true), watch::Sender::new(true));
        let (full, pace) = (AtomicBool::new(false), parking_lot::Mutex::default());
        let bus = Arc::new(Narrow { log: Collected::new(), room, pace, durable, full });
        // Rules ask for everything but this.
        let wanted: Wanted = Arc::new(|_, event| event.type_ != "com.example.unwanted");
        let (clock, metrics) = (Clock::simulated(Stamp { at: NOW, wall: NOW }), Arc::new(Metrics::default()));
        let ids = Ids::take(&mut memory, 4);
        let hooks = Hooks::new(Accept::with_ids(bus.clone(), ids, wanted, metrics.clone(), clock));
        hooks.set("shop", "github", "u-1", 1, &spec(webhook)).expect("a spec");
        Self { hooks, bus, metrics }
    }

    pub(super) fn hook(&self) -> Arc<Hook> {
        self.hooks.get("shop", "github").expect("it is there")
    }

    pub(super) async fn send(&self, headers: &[(&str, &str)], body: &str) -> Result<Received, Refusal> {
        self.hooks.receive(&self.hook(), &header_map(headers), body.as_bytes()).await
    }

    /// Sends CloudEvents of these ids in a batch.
    pub(super) async fn batch(&self, ids: &[&str]) -> Result<Received, Refusal> {
        let events: Vec<Value> = ids.iter().map(|id| event(id, "com.example.temp")).collect();
        self.send(&[("content-type", BATCH)], &Value::from(events).to_string()).await
    }

    /// The ids of the events in the log.
    pub(super) fn stored(&self) -> Vec<String> {
        self.bus.log.events().iter().map(|input| input.event.id.clone()).collect()
    }
}
