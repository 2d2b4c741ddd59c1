//! What retention has left of the log, read beside everything else: events only, in pieces, up to where the log was durable when the reading began.
//!
//! Segments are found by their names when the reading begins; retention may remove one before it is read. Nothing here waits for the log thread, and the
//! log thread waits for nothing here.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    files::{Files, Handle, Way},
    frame::{self, FRAME, Frame, HEADER, Header},
    segment,
};
use crate::{
    bus::{Archive, BusError},
    record::{self, Entry, LogId},
};

/// Bytes that are read at once: a few hundred events, in about a millisecond.
const PIECE: usize = 256 << 10;

/// A reading.
pub(super) struct Retained {
    files: Arc<dyn Files>,
    folder: PathBuf,
    id: LogId,
    /// Wall time, in microseconds: what was recorded before it is left out.
    since: i64,
    /// The last position that is read.
    until: u64,
    /// Segments to be read, oldest first; nothing before they were looked for.
    left: Option<VecDeque<(u64, PathBuf)>>,
    open: Option<Open>,
    /// The last position that was read.
    after: u64,
    epoch: u64,
    begins: Option<i64>,
    lost: u64,
}

/// A segment that is being read.
struct Open {
    file: Box<dyn Handle>,
    /// Where in the file the window ends.
    offset: u64,
    /// Bytes that were read.
    window: Vec<u8>,
    /// Up to where in the window they were looked at.
    at: usize,
}

/// What comes next in a segment.
enum Next {
    /// A whole frame, and its record.
    Frame(Frame, Vec<u8>),
    /// Enough was read for now.
    Pause,
    /// No more.
    End,
}

impl Retained {
    pub(super) fn new(files: Arc<dyn Files>, folder: PathBuf, id: LogId, since: i64, until: u64) -> Self {
        Self { files, folder, id, since, until, left: None, open: None, after: 0, epoch: 0, begins: None, lost: 0 }
    }

    /// Looks for the segments, leaves out those whose records are all too old, and notes when the oldest begins.
    fn find(&mut self) -> io::Result<VecDeque<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for path in self.files.list(&self.folder)? {
            found.extend(segment::first_of(&path).map(|first| (first, path)));
        }
        found.sort();
        let mut left: VecDeque<(u64, PathBuf)> = found.into();
        while let Some((first, path)) = left.front() {
            if let Some(wall) = self.first_wall(*first, path)? {
                self.begins.get_or_insert(wall);
                break;
            }
            // Removed a moment ago, or nothing is in it yet.
            left.pop_front();
        }
        while let Some((first, path)) = left.get(1)
            && self.first_wall(*first, path)?.is_some_and(|wall| wall <= self.since)
        {
            left.pop_front();
        }
        self.after = left.front().map_or(0, |(first, _)| first.saturating_sub(1));
        Ok(left)
    }

    /// When the first record of a segment was appended; nothing when there is none that is read.
    fn first_wall(&self, first: u64, path: &Path) -> io::Result<Option<i64>> {
        let Some(mut open) = self.begin(path)? else { return Ok(None) };
        match open.next(first.saturating_sub(1), u64::MAX)? {
            Next::Frame(frame, _) if frame.position() <= self.until => Ok(Some(frame.head.stamp.wall)),
            Next::Frame(..) | Next::Pause | Next::End => Ok(None),
        }
    }

    /// Opens a segment; nothing when retention has removed it, or when it is of no log that this version reads.
    fn begin(&self, path: &Path) -> io::Result<Option<Open>> {
        let file = match self.files.open(path, Way::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.len()? < HEADER as u64 {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        file.read_at(&mut header, 0)?;
        let readable = match frame::read_header(&header) {
            Header::Sound { id, .. } => id == self.id.0,
            Header::Foreign(_) => false,
            // Its records are read nevertheless, as at a start.
            Header::Damaged => true,
        };
        Ok(readable.then(|| Open { file, offset: HEADER as u64, window: Vec::new(), at: 0 }))
    }

    fn read(&mut self, bytes: u64) -> io::Result<Option<Vec<Entry>>> {
        let mut left = match self.left.take() {
            Some(left) => left,
            None => self.find()?,
        };
        if self.open.is_none() {
            let Some((_, path)) = left.pop_front() else {
                self.left = Some(left);
                if self.begins.is_some() {
                    self.lost += self.until.saturating_sub(self.after);
                    self.after = self.until;
                }
                return Ok(None);
            };
            self.open = self.begin(&path)?;
        }
        self.left = Some(left);
        let Some(mut open) = self.open.take() else { return Ok(Some(Vec::new())) };
        let (mut events, limit) = (Vec::new(), open.place() + bytes);
        loop {
            match open.next(self.after, limit)? {
                Next::Frame(frame, _) if frame.position() > self.until => {
                    self.left = Some(VecDeque::new());
                    break;
                }
                // A process that had lost the volume wrote it.
                Next::Frame(frame, _) if frame.epoch < self.epoch => {}
                Next::Frame(frame, payload) => events.extend(self.take(&frame, &payload)),
                Next::Pause => {
                    self.open = Some(open);
                    break;
                }
                Next::End => break,
            }
        }
        Ok(Some(events))
    }

    /// The event that a frame holds, if it is one that is asked for.
    fn take(&mut self, frame: &Frame, payload: &[u8]) -> Option<Entry> {
        self.epoch = frame.epoch;
        self.lost += frame.position() - self.after - 1;
        self.after = frame.position();
        if frame.head.stamp.wall < self.since || !record::is_event(payload) {
            return None;
        }
        match record::decode(payload) {
            Ok(record) => Some(Entry { head: frame.head, record: Arc::new(record) }),
            Err(error) => {
                self.lost += 1;
                tracing::warn!(%error, position = frame.position(), "an old event cannot be read and is left out");
                None
            }
        }
    }
}

// === impl Open ===

impl Open {
    /// Up to where in the file it was looked at.
    fn place(&self) -> u64 {
        self.offset - (self.window.len() - self.at) as u64
    }

    /// The next whole frame of a position after `after`, unless it begins beyond the place `limit`.
    fn next(&mut self, after: u64, limit: u64) -> io::Result<Next> {
        loop {
            if self.place() >= limit {
                return Ok(Next::Pause);
            }
            if let Some(frame) = frame::parse(&self.window, self.at, after) {
                let payload = self.window[frame.payload.clone()].to_vec();
                self.at = frame.end();
                return Ok(Next::Frame(frame, payload));
            }
            let end = frame::claimed(&self.window, self.at, after);
            if end > self.window.len() && self.more()? {
                continue;
            }
            if self.at + FRAME >= self.window.len() {
                return Ok(Next::End);
            }
            // Damaged: what comes after it is looked for byte by byte, as at a start.
            self.at += 1;
        }
    }

    /// Reads a piece more. Whether there was one.
    fn more(&mut self) -> io::Result<bool> {
        self.window.drain(..self.at);
        self.at = 0;
        loop {
            let left = self.file.len()?.saturating_sub(self.offset);
            let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            if piece == 0 {
                return Ok(false);
            }
            let held = self.window.len();
            self.window.resize(held + piece, 0);
            match self.file.read_at(&mut self.window[held..], self.offset) {
                // The zeros at its end were cut off a moment ago.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.window.truncate(held),
                read => {
                    read?;
                    self.offset += piece as u64;
                    return Ok(true);
                }
            }
        }
    }
}

impl Archive for Retained {
    fn next(&mut self, bytes: u64) -> Result<Option<Vec<Entry>>, BusError> {
        self.read(bytes).map_err(|error| BusError::Storage(format!("read the archive: {error}").into()))
    }

    fn begins(&self) -> Option<i64> {
        self.begins
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
