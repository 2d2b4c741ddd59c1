//! The embedded bus: log segments written by a thread of their own, and a redb view, in one folder locked for one process.
//!
//! Folder: `LOCK` (who has it), `log-id`, `epoch` (one more at each open), `segments/<first position>.log` (see `frame.rs`),
//! `view.redb`. Knows no rules.

mod archive;
mod files;
mod frame;
mod queue;
mod replay;
mod segment;
#[cfg(test)]
pub(crate) mod tests;
mod view;
mod volume;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;

use self::{
    archive::Retained,
    files::{Disk, Files, Way},
    frame::Header,
    queue::{QueueReader, Shared},
    replay::{Replay, Unreadable},
    segment::Segments,
    view::{Rows, Trouble, View},
    volume::Volume,
    writer::{Active, Writer},
};
use super::{Archive, Bus, BusError, Permit, Reader, Recovery, Stats};
use crate::{
    clock::Clock,
    record::{Delta, Head, LogId, Position, Record, Table},
};

/// How long a record that nobody waits for may stay unsynced.
pub const LINGER: Duration = Duration::from_millis(50);
/// The largest record, in bytes.
pub const MAX_RECORD: usize = 8 << 20;

/// What can be chosen about the embedded bus.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A segment is not written further when it is as long as this.
    pub segment_bytes: u64,
    /// Segments that the view covers are dropped when their last record is older.
    pub retention_age: Duration,
    /// Segments that the view covers are dropped while all segments together are longer.
    pub retention_bytes: u64,
    /// Appends wait while so many records are not yet both folded and durable.
    pub capacity_records: usize,
    /// Appends wait while records of so many bytes are not yet both folded and durable.
    pub capacity_bytes: usize,
    /// How long to wait before a full disk is tried again.
    pub full_retry: Duration,
}

impl Default for Settings {
    /// 16,384 events of 1 KiB are 16 MiB; larger ones are stopped by their bytes, at the length of a segment.
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            retention_age: Duration::from_hours(24),
            retention_bytes: 1 << 30,
            capacity_records: 16_384,
            capacity_bytes: 64 << 20,
            full_retry: Duration::from_millis(200),
        }
    }
}

/// The bus in a folder of this machine.
///
/// Dropped without [`Bus::close`], the log thread still writes what it has and ends, but nobody waits for it.
pub struct Embedded {
    id: LogId,
    epoch: u64,
    settings: Settings,
    shared: Arc<Shared>,
    segments: Arc<Segments>,
    view: Arc<View>,
    recovery: Mutex<Option<Recovery>>,
    read: AtomicBool,
    committed: Arc<AtomicU64>,
    /// One commit at a time, in the order of the calls.
    committing: Arc<tokio::sync::Mutex<()>>,
    /// Also held by the log thread and a commit under way: the lock goes with the last of them.
    volume: Arc<Volume>,
}

impl Embedded {
    /// Opens the log in `dir`, or begins one. Blocks while it reads the records after the view.
    ///
    /// # Errors
    /// [`BusError::Locked`] while another process has the folder, and [`BusError::Full`] while the disk is: try again later. [`BusError::Open`] when something in it cannot be
    /// used, with what to do.
    pub fn open(dir: &Path, settings: Settings) -> Result<Arc<Self>, BusError> {
        Self::open_on(Arc::new(Disk), dir, settings)
    }

    fn open_on(files: Arc<dyn Files>, dir: &Path, settings: Settings) -> Result<Arc<Self>, BusError> {
        let volume = Arc::new(Volume::open(Arc::clone(&files), dir)?);
        let found = segment::list(&*files, &volume.segments()).map_err(|error| volume.failed("segments: ", &error))?;
        let id = volume.id(known_id(&*files, &found))?;
        let (view, Rows { rows, applied, mark }, note) = open_view(&volume, &id, &found)?;
        let replay = replay::replay(&*files, &found, &id, (applied, mark), settings.segment_bytes);
        let replay = replay.map_err(|error| match error {
            Unreadable::Content(reason) => volume.error(reason),
            Unreadable::Files(error) => volume.failed("segments: ", &error),
        })?;
        let epoch = volume.next_epoch(replay.epoch)?;
        let Replay { tail, mut damage, last, last_at, sealed, active, .. } = replay;
        damage.extend(note);
        for damage in &damage {
            tracing::error!(damage, "the log is damaged");
        }
        let active = active
            .map(|(first, path, len)| {
                let file = files.open(&path, Way::Existing).map_err(|error| volume.failed("", &error))?;
                Ok(Active { file, path, first, len, filled: len })
            })
            .transpose()?;
        let shared = Shared::new(settings.clone(), Clock::real(last_at), last);
        shared.active_bytes.store(active.as_ref().map_or(0, |active| active.len), Ordering::Relaxed);
        let segments = Arc::new(Segments::new(files, volume.segments(), sealed));
        let writer = Writer {
            shared: Arc::clone(&shared),
            segments: Arc::clone(&segments),
            id: id.clone(),
            epoch,
            segment_bytes: settings.segment_bytes,
            full_retry: settings.full_retry,
            active,
            last,
        };
        let held = Arc::clone(&volume);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                writer.run();
                drop(held);
            })
            .map_err(|error| volume.error(format!("start the log thread: {error}")))?;
        let recovery = Recovery { rows, applied: Position(applied), tail, damage };
        Ok(Arc::new(Self {
            id,
            epoch,
            settings,
            shared,
            segments,
            view: Arc::new(view),
            recovery: Mutex::new(Some(recovery)),
            read: AtomicBool::new(false),
            committed: Arc::new(AtomicU64::new(applied)),
            committing: Arc::default(),
            volume,
        }))
    }

    /// One more than the epoch of the process that had the log before this one; it is in the frame of each record.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn write_view(&self, delta: Delta, position: Position) -> Result<(), BusError> {
        self.shared.durable(position).await?;
        let turn = Arc::new(Arc::clone(&self.committing).lock_owned().await);
        let delta = Arc::new(delta);
        loop {
            let job = Commit {
                delta: Arc::clone(&delta),
                position,
                settings: self.settings.clone(),
                view: Arc::clone(&self.view),
                segments: Arc::clone(&self.segments),
                active: self.shared.active_bytes.load(Ordering::Relaxed),
                committed: Arc::clone(&self.committed),
            };
            // Dropped meanwhile, the job goes on: it keeps its turn and the volume.
            let held = (Arc::clone(&turn), Arc::clone(&self.volume));
            let done = tokio::task::spawn_blocking(move || {
                let done = job.run();
                // The view's file is closed before the volume is free.
                drop(job);
                drop(held);
                done
            });
            match done.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Trouble::Full)) => {}
                Ok(Err(Trouble::Damaged(reason) | Trouble::Failed(reason))) => {
                    return Err(BusError::Storage(format!("view: {reason}").into()));
                }
                Err(error) => return Err(BusError::Storage(format!("view: {error}").into())),
            }
            tracing::warn!("the disk is full: the view is written when space returns");
            self.closed_within(self.settings.full_retry).await?;
        }
    }

    async fn read_view(&self, table: Table, key: Vec<u8>) -> Result<Option<Vec<u8>>, BusError> {
        let (view, held) = (Arc::clone(&self.view), Arc::clone(&self.volume));
        let read = tokio::task::spawn_blocking(move || {
            let row = view.row(table, &key);
            drop(view);
            drop(held);
            row
        });
        match read.await {
            Ok(row) => row.map_err(unread),
            Err(error) => Err(unread(Trouble::Failed(error.to_string()))),
        }
    }

    /// Waits for `time`.
    ///
    /// # Errors
    /// When the log ended meanwhile.
    async fn closed_within(&self, time: Duration) -> Result<(), BusError> {
        let mut progress = self.shared.progress.subscribe();
        let ended = tokio::time::timeout(time, progress.wait_for(|now| now.end.is_some())).await;
        ended.map_or(Ok(()), |_| Err(BusError::Full))
    }

    async fn shut(&self) -> Result<(), BusError> {
        self.shared.close();
        let mut progress = self.shared.progress.subscribe();
        let end = progress.wait_for(|now| now.end.is_some()).await.map_or(None, |now| now.end.clone());
        let turn = Arc::clone(&self.committing).lock_owned().await;
        let (view, volume) = (Arc::clone(&self.view), Arc::clone(&self.volume));
        let closed = tokio::task::spawn_blocking(move || {
            view.close();
            volume.unlock();
            drop(turn);
        });
        closed.await.map_err(|error| BusError::Storage(format!("close: {error}").into()))?;
        match end {
            None | Some(BusError::Closed) => Ok(()),
            Some(error) => Err(error),
        }
    }
}

impl Bus for Embedded {
    fn id(&self) -> &LogId {
        &self.id
    }

    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>> {
        Box::pin(self.shared.append(record))
    }

    fn record(&self, record: Record) -> Result<Head, BusError> {
        self.shared.record(record)
    }

    fn durable(&self, position: Position) -> BoxFuture<'_, Result<Permit, BusError>> {
        Box::pin(self.shared.durable(position))
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        let first = !self.read.swap(true, Ordering::Relaxed);
        first.then(|| Box::new(QueueReader(Arc::clone(&self.shared))) as Box<dyn Reader>)
    }

    fn recover(&self) -> Result<Recovery, BusError> {
        let recovery = self.recovery.lock().take();
        recovery.ok_or_else(|| self.volume.error("what it held was given already; open it again".to_owned()))
    }

    fn commit(&self, delta: Delta, position: Position) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(self.write_view(delta, position))
    }

    fn row(&self, table: Table, key: Vec<u8>) -> BoxFuture<'_, Result<Option<Vec<u8>>, BusError>> {
        Box::pin(self.read_view(table, key))
    }

    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BusError> {
        self.view.row(table, key).map_err(unread)
    }

    fn archive(&self, since: i64) -> Box<dyn Archive> {
        let [_, durable, _] = self.shared.positions();
        let (files, folder) = (Arc::clone(self.volume.files()), self.volume.segments());
        Box::new(Retained::new(files, folder, self.id.clone(), since, durable.0))
    }

    fn stats(&self) -> Stats {
        let [appended, durable, folded] = self.shared.positions();
        Stats {
            appended,
            durable,
            folded,
            committed: Position(self.committed.load(Ordering::Relaxed)),
            log_bytes: self.segments.bytes() + self.shared.active_bytes.load(Ordering::Relaxed),
            syncs: self.shared.sync_count(),
            disk_full: self.shared.disk_full.load(Ordering::Relaxed),
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(self.shut())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A row was not read.
fn unread(trouble: Trouble) -> BusError {
    match trouble {
        Trouble::Full => BusError::Full,
        Trouble::Damaged(reason) | Trouble::Failed(reason) => BusError::Storage(format!("view: {reason}").into()),
    }
}

/// One commit, for a thread that may block.
struct Commit {
    delta: Arc<Delta>,
    position: Position,
    settings: Settings,
    view: Arc<View>,
    segments: Arc<Segments>,
    active: u64,
    committed: Arc<AtomicU64>,
}

impl Commit {
    fn run(&self) -> Result<(), Trouble> {
        self.view.write(&self.delta, self.position, self.segments.mark_at(self.position.0))?;
        self.committed.store(self.position.0, Ordering::Relaxed);
        let Settings { retention_age, retention_bytes, .. } = self.settings;
        if let Err(error) = self.segments.retain(self.position.0, retention_age, retention_bytes, self.active) {
            tracing::warn!(%error, "an old segment of the log was not dropped and is tried again");
        }
        Ok(())
    }
}

/// The log's identity as a segment tells it.
fn known_id(files: &dyn Files, found: &[(u64, PathBuf)]) -> Option<String> {
    found.iter().find_map(|(_, path)| {
        let mut start = [0; frame::HEADER];
        files.open(path, Way::Existing).ok()?.read_at(&mut start, 0).ok()?;
        match frame::read_header(&start) {
            Header::Sound { id, .. } => Some(id),
            Header::Foreign(_) | Header::Damaged => None,
        }
    })
}

/// Opens the view. A damaged one is made again from the log, if the log is whole; the words say so.
fn open_view(volume: &Volume, id: &LogId, found: &[(u64, PathBuf)]) -> Result<(View, Rows, Option<String>), BusError> {
    let path = volume.view();
    let begins = found.first().map_or(1, |&(first, _)| first);
    let too_short = |what: &str| {
        volume.error(format!(
            "{} {what}, and the log begins at position {begins}, so the state cannot be made again: restore view.redb from a backup, or \
             move {} away to begin a new log without what was under way",
            path.display(),
            volume.folder().display(),
        ))
    };
    let fail = |trouble: Trouble| match trouble {
        Trouble::Damaged(reason) | Trouble::Failed(reason) => volume.error(format!("view.redb: {reason}")),
        Trouble::Full => BusError::Full,
    };
    if begins > 1 && volume.files().about(&path).is_err() {
        return Err(too_short("is missing"));
    }
    match View::open(volume.files(), &path, id) {
        Ok((_, Rows { applied: 0, .. })) if begins > 1 => Err(too_short("is empty")),
        Ok((view, rows)) => Ok((view, rows, None)),
        Err(Trouble::Damaged(reason)) if begins > 1 => Err(too_short(&format!("is damaged ({reason})"))),
        Err(Trouble::Damaged(reason)) => {
            let aside = files::move_aside(&**volume.files(), &path)
                .map_err(|error| volume.failed("move view.redb: ", &error))?;
            let (view, rows) = View::open(volume.files(), &path, id).map_err(fail)?;
            let aside = aside.display();
            Ok((
                view,
                rows,
                Some(format!("the view was damaged ({reason}): moved to {aside} and made again from the log")),
            ))
        }
        Err(trouble) => Err(fail(trouble)),
    }
}
