//! The log thread: takes all that waits, writes it with one write and one fdatasync, says how far it is, does it again.
//!
//! When it has nothing to do it fills the segment with zeros ahead of what is written: an fdatasync that finds length and blocks of the file as they
//! were needs no commit of the file system's journal.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    files::{Handle, is_full},
    frame::{self, HEADER},
    queue::{Pending, Shared},
    segment::{Mark, Sealed, Segments},
};
use crate::{bus::BusError, record::LogId};

/// A buffer grown beyond this is not kept: in the time for which the log thread lingers come some 100 KiB of a busy operator. What a burst needs is
/// allocated anew in a fraction of the time of the sync.
const KEPT_BUFFER: usize = 512 << 10;
/// How many marks a segment has, at most: a start reads 64 KiB too much of one of 64 MiB.
const MARKS: u64 = 1024;
/// How far ahead of the records zeros are written: 1 MiB is a few hundred firings, and takes a few milliseconds.
const AHEAD: u64 = 1 << 20;
/// Zeros that are written at once. A buffer of them all would be allocated, and what the allocator has given once it keeps: 1 MiB more in memory, and
/// up to 2 MiB that it does not give back at other places, for glibc then takes blocks of this size for common ones.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// The log thread's own.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) segments: Arc<Segments>,
    pub(super) id: LogId,
    pub(super) epoch: u64,
    pub(super) segment_bytes: u64,
    pub(super) full_retry: Duration,
    pub(super) active: Option<Active>,
    /// The last position on stable storage.
    pub(super) last: u64,
}

/// The segment being written.
pub(super) struct Active {
    pub(super) file: Box<dyn Handle>,
    pub(super) path: PathBuf,
    /// Its first position.
    pub(super) first: u64,
    /// Where the next frame goes.
    pub(super) len: u64,
    /// The file's length: from `len` to here it holds zeros.
    pub(super) filled: u64,
}

/// What a failed write means.
enum Failure {
    /// Nothing was kept; it can be tried again.
    Full,
    /// The state of the file is not known any more.
    Fatal(io::Error),
}

impl Writer {
    /// Until the log is closed or fails.
    pub(super) fn run(mut self) {
        let end = EndGuard(Arc::clone(&self.shared));
        let mut buffer = Vec::new();
        while let Some(batch) = self.shared.next_batch() {
            if let Err(error) = self.commit(&batch, &mut buffer) {
                tracing::error!(%error, "the log cannot go on");
                end.0.ended(&error);
                return;
            }
            buffer.clear();
            buffer.shrink_to(KEPT_BUFFER);
            if let Err(error) = self.fill_ahead() {
                let error = BusError::Storage(error.to_string().into());
                tracing::error!(%error, "the log cannot go on");
                end.0.ended(&error);
                return;
            }
        }
        if let Some(active) = &mut self.active
            && let Err(error) = active.cut()
        {
            tracing::debug!(%error, "the zeros at the end of the log stay until it is opened");
        }
        end.0.ended(&BusError::Closed);
    }

    /// Fills the segment with zeros when it has few left and nothing waits.
    ///
    /// # Errors
    /// When the state of the file is not known any more. That there is no room for zeros is no error.
    fn fill_ahead(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let goal = (active.len + AHEAD).min(self.segment_bytes);
        if active.filled >= goal.min(active.len + AHEAD / 2) || !self.shared.is_idle() {
            return Ok(());
        }
        let mut at = active.filled;
        while at < goal {
            let zeros = usize::try_from(goal - at).map_or(&ZEROS[..], |left| &ZEROS[..left.min(ZEROS.len())]);
            if active.file.write_at(zeros, at).is_err() {
                return active.cut();
            }
            at += zeros.len() as u64;
        }
        active.file.sync()?;
        active.filled = goal;
        self.shared.active_bytes.store(goal, Ordering::Relaxed);
        Ok(())
    }

    fn commit(&mut self, batch: &[Pending], buffer: &mut Vec<u8>) -> Result<(), BusError> {
        for one in batch {
            frame::write(buffer, one.head, self.epoch, self.last, &one.payload);
        }
        loop {
            match self.write(buffer) {
                Ok(()) => break,
                Err(Failure::Fatal(error)) => return Err(BusError::Storage(error.to_string().into())),
                Err(Failure::Full) => {
                    if !self.shared.disk_full.swap(true, Ordering::Relaxed) {
                        tracing::error!("the log's disk is full: nothing goes on until space returns");
                    }
                    if !self.shared.pause(self.full_retry) {
                        return Err(BusError::Full);
                    }
                }
            }
        }
        if self.shared.disk_full.swap(false, Ordering::Relaxed) {
            tracing::info!("the log's disk has space again");
        }
        self.last = batch.last().map_or(self.last, |last| last.head.position.0);
        self.shared.reached(self.last);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let active = self.active()?;
        if let Err(error) = active.file.write_at(bytes, active.len) {
            active.cut().map_err(Failure::Fatal)?;
            return Err(if is_full(&error) { Failure::Full } else { Failure::Fatal(error) });
        }
        // After a failed fsync the kernel may count the pages as clean: another try would succeed without having written them.
        active.file.sync().map_err(Failure::Fatal)?;
        let (segment, offset) = (active.first, active.len);
        active.len += bytes.len() as u64;
        active.filled = active.filled.max(active.len);
        let filled = active.filled;
        self.shared.active_bytes.store(filled, Ordering::Relaxed);
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        self.segments.mark(Mark { position: self.last + 1, segment, offset }, self.segment_bytes / MARKS);
        Ok(())
    }

    /// The segment to write to: a new one when the last is full.
    fn active(&mut self) -> Result<&mut Active, Failure> {
        if let Some(mut full) = self.active.take_if(|active| active.len >= self.segment_bytes) {
            full.cut().map_err(Failure::Fatal)?;
            self.segments.seal(Sealed { last: self.last, bytes: full.len, path: full.path });
            self.shared.active_bytes.store(0, Ordering::Relaxed);
        }
        match &mut self.active {
            Some(active) => Ok(active),
            empty => {
                let (path, file) = self
                    .segments
                    .create(&self.id, self.last + 1)
                    .map_err(|error| if is_full(&error) { Failure::Full } else { Failure::Fatal(error) })?;
                let (first, len) = (self.last + 1, HEADER as u64);
                Ok(empty.insert(Active { file, path, first, len, filled: len }))
            }
        }
    }
}

impl Active {
    /// Drops what is not a record.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.filled = self.len;
        Ok(())
    }
}

/// Lets nobody wait for a log thread that panicked.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.ended(&BusError::Storage("the log thread ended early".into()));
    }
}
