//! How what an EventSource has got comes into the log: whether it came before, append, and wait for the disk. One way for requests and for messages.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    append,
    ids::{self, Hash, Ids, Sight, Source},
};
use crate::{
    bus::{Bus, BusError},
    clock::Clock,
    event::{Event, Origin, Seen, WatchKey, event_source},
    record::{EventInput, Lookups, Position, Record},
    telemetry::Metrics,
};

/// Whether a rule may be concerned with an event: only such events are appended.
pub type Wanted = Arc<dyn Fn(&Origin, &Event) -> bool + Send + Sync>;

/// Ids that one record says to forget: 75 kB.
const PART: usize = 500;

/// The way into the log. A clone is the same.
#[derive(Clone)]
pub struct Accept(Arc<Inner>);

struct Inner {
    ids: Ids,
    bus: Arc<dyn Bus>,
    wanted: Wanted,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Numbers the events that have no id of their own, after `began`: microseconds since 1970.
    numbered: AtomicU64,
    began: u64,
}

/// The EventSource that an event came by.
#[derive(Clone, Copy, Debug)]
pub(super) struct By<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is in the order of the log there, and on stable storage once that is.
    New(Position),
    /// It came before, and is on stable storage once this is.
    Before(Position),
    /// The same event is on its way into the log.
    UnderWay,
    /// No rule asks for it: it is neither stored nor remembered. Sent again, a rule that came meanwhile may ask for it.
    Unwanted,
}

impl Accept {
    /// What the log remembers of accepted events is taken out of `memory`.
    pub fn new(
        bus: Arc<dyn Bus>,
        memory: &mut HashMap<WatchKey, HashMap<String, Seen>>,
        wanted: Wanted,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        Self::with_ids(bus, Ids::take(memory, ids::MAX), wanted, metrics, clock)
    }

    pub(super) fn with_ids(bus: Arc<dyn Bus>, ids: Ids, wanted: Wanted, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let began = wall(&clock);
        Self(Arc::new(Inner { ids, bus, wanted, metrics, clock, numbered: AtomicU64::new(0), began }))
    }

    pub(super) fn bus(&self) -> &Arc<dyn Bus> {
        &self.0.bus
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Wall time in microseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        wall(&self.0.clock)
    }

    /// An id for an event that has none: no other event of this log has it.
    pub(super) fn next_id(&self) -> String {
        format!("{:x}-{:x}", self.0.began, self.0.numbered.fetch_add(1, Ordering::Relaxed))
    }

    /// Appends an event, unless it came before or nobody asks for it. `hash` is what it is told by when it comes again; nothing for one that cannot.
    /// `now` is in microseconds since 1970.
    ///
    /// # Errors
    /// When the log does not take it; then it is not remembered.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing was appended.
    pub(super) async fn put(
        &self,
        by: By<'_>,
        event: &Arc<Event>,
        hash: Option<Hash>,
        now: u64,
    ) -> Result<Put, BusError> {
        let reservation = match hash.map(|hash| self.0.ids.reserve(by.namespace, by.uid, hash)) {
            None => None,
            Some(Sight::New(reservation)) => Some(reservation),
            Some(Sight::UnderWay) => return Ok(Put::UnderWay),
            Some(Sight::Accepted) => return self.before(by, hash, now).await,
        };
        let uid = ids::uid(by.uid, hash.as_ref());
        let origin = event_source::origin(by.namespace, by.name, uid, now);
        if !(self.0.wanted)(&origin, event) {
            return Ok(Put::Unwanted);
        }
        let (event, lookups) = (Arc::clone(event), Lookups::default());
        let record = Record::Event(Box::new(EventInput { event, origin, only: None, lookups }));
        let head = self.0.bus.append(record).await?;
        match reservation {
            Some(reservation) => reservation.accepted(now),
            None => self.0.ids.know(by.namespace, by.uid),
        }
        Ok(Put::New(head.position))
    }

    /// Another event is told by this from now on.
    pub(super) fn anew(&self, by: By<'_>, hash: Hash) {
        self.0.ids.anew(by.namespace, by.uid, hash);
    }

    /// Whether any event of the EventSource is remembered.
    pub(super) fn remembers(&self, by: By<'_>) -> bool {
        self.0.ids.remembers(by.namespace, by.uid)
    }

    /// Forgets what events are told by that cannot come again; other events may have the same from then on. It waits until that is on stable storage,
    /// and while the disk is full.
    ///
    /// # Errors
    /// When the log takes nothing any more.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, they may be remembered or not.
    pub(super) async fn settled(&self, by: By<'_>, hashes: &[Hash]) -> Result<(), BusError> {
        let (gone, mut last) = (self.0.ids.known(by.namespace, by.uid, hashes), None);
        for part in gone.chunks(PART) {
            last = Some(append(&self.0.bus, Record::Seen(part.to_vec())).await?.position);
        }
        if let Some(last) = last {
            self.0.bus.durable(last).await?;
        }
        self.0.ids.settled(by.namespace, by.uid, hashes);
        Ok(())
    }

    /// For an event that came before.
    async fn before(&self, by: By<'_>, hash: Option<Hash>, now: u64) -> Result<Put, BusError> {
        if let Some(hash) = hash.filter(|hash| self.0.ids.renew(by.namespace, by.uid, *hash, now)) {
            let uid = ids::uid(by.uid, Some(&hash));
            self.0.bus.append(Record::Seen(vec![event_source::origin(by.namespace, by.name, uid, now)])).await?;
        }
        // It may have been appended a moment ago.
        Ok(Put::Before(self.0.bus.stats().appended))
    }

    /// Lets the log forget ids where there are too many. What it is not told, it forgets when it is read again and found to be too much.
    ///
    /// # Errors
    /// When the log does not take it.
    pub(super) async fn shed(&self) -> Result<(), BusError> {
        let surplus = self.0.ids.surplus();
        if !surplus.is_empty() {
            self.0.metrics.webhooks().ids_evicted(surplus.len());
            self.0.bus.append(Record::Seen(surplus)).await?;
        }
        Ok(())
    }

    /// Forgets ids that are old, and those of sources that are gone. `known` gives all that there are, and nothing before all are known; it is asked after
    /// what is remembered was looked at, so that one that came meanwhile is not taken for gone.
    ///
    /// # Errors
    /// When the log takes nothing any more.
    pub(super) async fn forget(&self, known: impl FnOnce() -> Option<HashSet<Source>>) -> Result<(), BusError> {
        let now = self.now();
        loop {
            let expired = self.0.ids.expired(now);
            if expired.is_empty() {
                break;
            }
            append(&self.0.bus, Record::Seen(expired)).await?;
        }
        let sources = self.0.ids.sources();
        let Some(known) = known() else { return Ok(()) };
        for gone in sources.iter().filter(|source| !known.contains(*source)) {
            let origins: Vec<Origin> = self.0.ids.forget(gone);
            for part in origins.chunks(PART) {
                append(&self.0.bus, Record::Seen(part.to_vec())).await?;
            }
        }
        Ok(())
    }
}

fn wall(clock: &Clock) -> u64 {
    u64::try_from(clock.now().wall).unwrap_or_default()
}
