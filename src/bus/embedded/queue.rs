//! What writers, the reader and the log thread share: the order of records, those not yet read, those not yet written.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use super::{LINGER, MAX_RECORD, Settings};
use crate::{
    bus::{BusError, Permit, Reader},
    clock::Clock,
    record::{self, EncodeError, Entry, Head, Position, Record},
};

/// The log thread does not linger when so many bytes wait: 1 MiB is written in about the time that the sync takes anyway.
const EAGER_BYTES: usize = 1 << 20;

/// A record on its way to the disk.
pub(super) struct Pending {
    pub(super) head: Head,
    pub(super) payload: Vec<u8>,
}

/// How far the log thread is.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) durable: Position,
    /// Set when the log thread has ended: `Closed` when it was asked to and all is written.
    pub(super) end: Option<BusError>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the log thread.
    work: Condvar,
    /// Wakes the reader.
    arrived: Notify,
    /// Wakes appends that wait for room.
    room: Notify,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) disk_full: AtomicBool,
    pub(super) syncs: AtomicU64,
    /// Bytes of the segment being written.
    pub(super) active_bytes: AtomicU64,
}

struct State {
    settings: Settings,
    clock: Clock,
    last: u64,
    pending: Vec<Pending>,
    pending_bytes: usize,
    /// When the first of `pending` came.
    oldest: Option<Instant>,
    /// What the reader has not taken. Holds at most what `lag` does.
    queue: VecDeque<Entry>,
    /// Position and bytes of what is not yet both folded and durable. Bounded for appends; what is recorded on top is bounded by the open
    /// firings.
    lag: VecDeque<(u64, usize)>,
    lag_bytes: usize,
    folded: u64,
    durable: u64,
    /// The greatest position that somebody waits for.
    asked: u64,
    /// Why nothing is taken any more.
    end: Option<BusError>,
}

impl State {
    fn has_room(&self) -> bool {
        self.lag.len() < self.settings.capacity_records && self.lag_bytes < self.settings.capacity_bytes
    }

    /// Whether room was made.
    fn release(&mut self) -> bool {
        let had_room = self.has_room();
        let done = self.folded.min(self.durable);
        while let Some(&(position, bytes)) = self.lag.front()
            && position <= done
        {
            self.lag.pop_front();
            self.lag_bytes -= bytes;
        }
        !had_room && self.has_room()
    }

    fn is_due(&self, now: Instant) -> bool {
        self.asked > self.durable
            || self.pending_bytes >= EAGER_BYTES
            || self.end.is_some()
            || self.oldest.is_some_and(|oldest| now.duration_since(oldest) >= LINGER)
    }
}

/// The bytes of a record, if the log takes them.
pub(super) fn encode(record: &Record) -> Result<Vec<u8>, BusError> {
    let mut bytes = Vec::with_capacity(512);
    record::encode(record, &mut bytes).map_err(|error| match error {
        EncodeError::TooDeep => BusError::TooDeep,
        EncodeError::Json(error) => BusError::Storage(error.to_string().into()),
    })?;
    if bytes.len() > MAX_RECORD { Err(BusError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

// === impl Shared ===

impl Shared {
    /// The log after `last`: what is up to there is on stable storage, and given by the recovery.
    pub(super) fn new(settings: Settings, clock: Clock, last: u64) -> Arc<Self> {
        let state = State {
            settings,
            clock,
            last,
            pending: Vec::new(),
            pending_bytes: 0,
            oldest: None,
            queue: VecDeque::new(),
            lag: VecDeque::new(),
            lag_bytes: 0,
            folded: last,
            durable: last,
            asked: 0,
            end: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            arrived: Notify::new(),
            room: Notify::new(),
            progress: watch::Sender::new(Progress { durable: Position(last), end: None }),
            disk_full: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            active_bytes: AtomicU64::new(0),
        })
    }

    /// Appends when there is room, and waits for it otherwise.
    pub(super) async fn append(&self, record: Record) -> Result<Head, BusError> {
        let payload = encode(&record)?;
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // From here on no wake is missed, though it comes before the await.
            room.as_mut().enable();
            {
                let state = self.open_state()?;
                if state.has_room() {
                    return Ok(self.push(state, record, payload));
                }
            }
            room.await;
        }
    }

    /// Appends at once.
    pub(super) fn record(&self, record: Record) -> Result<Head, BusError> {
        let payload = encode(&record)?;
        Ok(self.push(self.open_state()?, record, payload))
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, BusError> {
        let state = self.state.lock();
        match &state.end {
            Some(end) => Err(end.clone()),
            None => Ok(state),
        }
    }

    fn push(&self, mut state: MutexGuard<'_, State>, record: Record, payload: Vec<u8>) -> Head {
        state.last += 1;
        let head = Head { position: Position(state.last), stamp: state.clock.now() };
        let bytes = payload.len();
        let wake_reader = state.queue.is_empty();
        state.queue.push_back(Entry { head, record: Arc::new(record) });
        state.lag.push_back((head.position.0, bytes));
        state.lag_bytes += bytes;
        let before = state.pending_bytes;
        state.pending_bytes += bytes;
        state.pending.push(Pending { head, payload });
        let wake_log = state.oldest.is_none() || (before < EAGER_BYTES && state.pending_bytes >= EAGER_BYTES);
        state.oldest.get_or_insert_with(Instant::now);
        drop(state);
        if wake_log {
            self.work.notify_one();
        }
        if wake_reader {
            self.arrived.notify_one();
        }
        head
    }

    /// Asks for a sync up to `position` and waits for it.
    pub(super) async fn durable(&self, position: Position) -> Result<Permit, BusError> {
        let mut progress = self.progress.subscribe();
        if progress.borrow().durable < position {
            let mut state = self.state.lock();
            let position = position.0.min(state.last);
            if position > state.asked {
                state.asked = position;
                self.work.notify_one();
            }
        }
        let reached = progress.wait_for(|now| now.durable >= position || now.end.is_some()).await;
        // The sender is a field of self.
        let now = reached.map_err(|_| BusError::Closed)?;
        match &now.end {
            Some(end) if now.durable < position => Err(end.clone()),
            _ => Ok(Permit::new(now.durable)),
        }
    }

    /// The log thread's next batch, when it is due; nothing when the log was closed and all is written.
    pub(super) fn next_batch(&self) -> Option<Vec<Pending>> {
        let mut state = self.state.lock();
        loop {
            match state.oldest {
                None if state.end.is_some() => return None,
                None => self.work.wait(&mut state),
                Some(oldest) if !state.is_due(Instant::now()) => {
                    self.work.wait_until(&mut state, oldest + LINGER);
                }
                Some(_) => {
                    state.oldest = None;
                    state.pending_bytes = 0;
                    return Some(mem::take(&mut state.pending));
                }
            }
        }
    }

    /// Whether the log thread has nothing to write.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().pending.is_empty()
    }

    /// Waits while the disk is full. Whether to try again: not when the log was closed meanwhile.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while state.end.is_none() && !self.work.wait_until(&mut state, until).timed_out() {}
        state.end.is_none()
    }

    /// The log thread has put everything up to `position` on stable storage.
    pub(super) fn reached(&self, position: u64) {
        let room = {
            let mut state = self.state.lock();
            state.durable = position;
            state.release()
        };
        self.progress.send_modify(|progress| progress.durable = Position(position));
        if room {
            self.room.notify_waiters();
        }
    }

    /// The shard has folded everything up to `position`.
    pub(super) fn advance(&self, position: Position) {
        let mut state = self.state.lock();
        state.folded = state.folded.max(position.0.min(state.last));
        let room = state.release();
        drop(state);
        if room {
            self.room.notify_waiters();
        }
    }

    /// Takes nothing more; the log thread writes what there is and ends.
    pub(super) fn close(&self) {
        self.stop(BusError::Closed);
    }

    /// The log thread has ended.
    pub(super) fn ended(&self, end: &BusError) {
        self.stop(end.clone());
        self.progress.send_modify(|progress| {
            progress.end.get_or_insert_with(|| end.clone());
        });
    }

    fn stop(&self, end: BusError) {
        self.state.lock().end.get_or_insert(end);
        self.work.notify_one();
        self.arrived.notify_one();
        self.room.notify_waiters();
    }

    /// Number of syncs of segments.
    pub(super) fn sync_count(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Positions appended, durable and folded.
    pub(super) fn positions(&self) -> [Position; 3] {
        let state = self.state.lock();
        [state.last, state.durable, state.folded].map(Position)
    }
}

/// The shard's end of the queue.
pub(super) struct QueueReader(pub(super) Arc<Shared>);

impl Reader for QueueReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Option<Vec<Entry>>> {
        Box::pin(async move {
            loop {
                {
                    let mut state = self.0.state.lock();
                    let count = state.queue.len().min(max.max(1));
                    if count > 0 {
                        return Some(state.queue.drain(..count).collect());
                    }
                    if state.end.is_some() {
                        return None;
                    }
                }
                // Keeps one wake for the only reader, so that none is missed.
                self.0.arrived.notified().await;
            }
        })
    }

    fn advance(&mut self, position: Position) {
        self.0.advance(position);
    }
}
