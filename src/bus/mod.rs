//! The bus: one ordered, durable log of records, and a lagging view of the state folded from it.
//!
//! The bus knows nothing about rules: it keeps records in order, tells how far they are on stable storage, and stores the view as rows of
//! bytes.

pub mod embedded;
mod firings;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use firings::{Firings, Missing};

use crate::record::{Delta, Entry, Head, LogId, Position, Record, Table};

/// A place where records are kept in order. `Arc<dyn Bus>` is what the rest of the program holds.
pub trait Bus: Send + Sync + 'static {
    /// Identity of the log.
    fn id(&self) -> &LogId;

    /// Appends an input. Waits while the shard or the disk is too far behind: this is the back-pressure that sources feel.
    ///
    /// The record is in the order at once and can be read at once; it is on stable storage when [`Bus::durable`] says so.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing was appended.
    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>>;

    /// Appends a record of the ledger (judgement, intent, outcome, end). Never waits: what is under way must be able to finish.
    ///
    /// # Errors
    /// When the bus has failed or is closed.
    fn record(&self, record: Record) -> Result<Head, BusError>;

    /// Asks that everything up to `position`, which this bus gave, be on stable storage, and resolves when it is. Until somebody asks, records may wait for
    /// company (at most [`embedded::LINGER`]).
    ///
    /// # Errors
    /// When the storage failed; the process must end then, since a failed fsync cannot be repeated.
    fn durable(&self, position: Position) -> BoxFuture<'_, Result<Permit, BusError>>;

    /// The records after those that [`Bus::recover`] gave, in order, before they are durable. One reader per bus: the second call gives nothing.
    fn reader(&self) -> Option<Box<dyn Reader>>;

    /// What a start needs: the rows of the view and the records after it. Given once per bus.
    ///
    /// # Errors
    /// When it was given already.
    fn recover(&self) -> Result<Recovery, BusError>;

    /// Writes changed rows of the view: the state after the record at `position`, all or nothing. Waits until the log is durable up to there,
    /// and while the disk is full. Records up to there may be dropped by retention afterwards.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the rows may still be written.
    ///
    /// # Errors
    /// When the storage failed; the process must end then.
    fn commit(&self, delta: Delta, position: Position) -> BoxFuture<'_, Result<(), BusError>>;

    /// One row of the view, as it was committed last; nothing when there is none.
    ///
    /// # Errors
    /// When the view cannot be read.
    fn row(&self, table: Table, key: Vec<u8>) -> BoxFuture<'_, Result<Option<Vec<u8>>, BusError>>;

    /// The same for a start, before anything else goes on: blocks.
    ///
    /// # Errors
    /// When the view cannot be read.
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BusError>;

    /// Begins to read what is retained of the log, for what was recorded since that wall time, in microseconds since 1970, and is durable now. Beside everything
    /// else: it holds nobody up. A bus that retains nothing, as this does, gives an archive that is empty.
    fn archive(&self, since: i64) -> Box<dyn Archive> {
        let _ = since;
        Box::new(Unkept)
    }

    /// Figures for metrics.
    fn stats(&self) -> Stats;

    /// Writes and syncs what is left and gives the storage free. Appends fail afterwards, and the reader ends after what it has not read.
    ///
    /// # Errors
    /// When not all could be written: what was not confirmed is lost.
    fn close(&self) -> BoxFuture<'_, Result<(), BusError>>;
}

/// The shard's end of the log.
pub trait Reader: Send {
    /// The next records, at least one, at most `max`; nothing when the bus was closed.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no record is lost.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Option<Vec<Entry>>>;

    /// Says that all records up to `position` have been folded, which makes room for appends.
    fn advance(&mut self, position: Position);
}

/// The events that are retained, oldest first.
pub trait Archive: Send {
    /// The next events, out of about so many bytes of the log, perhaps none; nothing at the end. Blocks.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn next(&mut self, bytes: u64) -> Result<Option<Vec<Entry>>, BusError>;

    /// Wall time of the oldest record that was retained when the reading began, in microseconds since 1970; nothing before the first [`Archive::next`], and when
    /// nothing is retained.
    fn begins(&self) -> Option<i64>;

    /// Records among those passed so far that are damaged, or that retention dropped before they were read.
    fn lost(&self) -> u64;
}

/// The archive of a bus that retains nothing.
struct Unkept;

impl Archive for Unkept {
    fn next(&mut self, _: u64) -> Result<Option<Vec<Entry>>, BusError> {
        Ok(None)
    }

    fn begins(&self) -> Option<i64> {
        None
    }

    fn lost(&self) -> u64 {
        0
    }
}

/// Proof that the log is durable up to a position: whoever writes to the outside world must hold one.
#[derive(Clone, Copy, Debug)]
pub struct Permit(Position);

impl Permit {
    pub(in crate::bus) fn new(position: Position) -> Self {
        Self(position)
    }

    /// How far the log is durable at least.
    pub fn position(self) -> Position {
        self.0
    }

    /// A permit of a simulated log.
    #[cfg(test)]
    pub fn simulated(position: Position) -> Self {
        Self(position)
    }

    /// A permit for tests that have no log.
    #[cfg(test)]
    pub fn for_test() -> Self {
        Self(Position(0))
    }
}

/// What a start needs.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The rows of the view that a start reads ([`Table::is_read_at_start`]).
    pub rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    /// The position that the rows tell the state after.
    pub applied: Position,
    /// The records after it, in order.
    pub tail: Vec<Entry>,
    /// What was found damaged and left out, in words; empty when all was well.
    pub damage: Vec<String>,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Last position appended.
    pub appended: Position,
    /// Last position on stable storage.
    pub durable: Position,
    /// Last position folded by the shard.
    pub folded: Position,
    /// Last position that the view holds.
    pub committed: Position,
    /// Bytes of log segments on disk.
    pub log_bytes: u64,
    /// Number of fsyncs of the log.
    pub syncs: u64,
    /// Whether records wait for space on the disk.
    pub disk_full: bool,
}

/// Why the bus cannot go on. Cloned to everybody who waits.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BusError {
    /// Opening or reading failed.
    #[error("open the log in {path}: {reason}")]
    Open {
        /// The folder.
        path: String,
        /// What went wrong, and what to do.
        reason: String,
    },
    /// Another process has the volume.
    #[error("the log in {path} is locked by another process: {holder}")]
    Locked {
        /// The folder.
        path: String,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// Writing or syncing failed: what was not confirmed must be taken as lost, and the process must end.
    #[error("write the log: {0}")]
    Storage(Arc<str>),
    /// The disk was full when the log was to be opened: try again later. Or when it was closed: what was not confirmed is lost. While the log is open, a full
    /// disk is waited for.
    #[error("the log's disk is full")]
    Full,
    /// A record is larger than [`embedded::MAX_RECORD`].
    #[error("record of {0} bytes is larger than the log takes")]
    TooLarge(usize),
    /// A record is nested so deep that it could not be read again.
    #[error("a record is nested deeper than the log takes")]
    TooDeep,
    /// The bus was closed.
    #[error("the log is closed")]
    Closed,
}
