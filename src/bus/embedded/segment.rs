//! Segments as files: their names, how they are made, and which of them retention drops. Knows no records.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::{
    files::{self, Files, Handle},
    frame,
};
use crate::record::LogId;

/// A segment that is written no more.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) last: u64,
    pub(super) bytes: u64,
    pub(super) path: PathBuf,
}

/// Where a record begins. A start need not read what is before it in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The record.
    pub(super) position: u64,
    /// The segment's first position.
    pub(super) segment: u64,
    /// Where in the segment.
    pub(super) offset: u64,
}

impl Mark {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.position, self.segment, self.offset].iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Reads what [`Mark::to_bytes`] made.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let [position, segment, offset] = words else { return None };
        let [position, segment, offset] = [position, segment, offset].map(|word| u64::from_be_bytes(*word));
        Some(Self { position, segment, offset })
    }
}

/// The folder of segments.
pub(super) struct Segments {
    files: Arc<dyn Files>,
    folder: PathBuf,
    /// Some of the places where a write began that no commit has passed yet, in order.
    marks: Mutex<VecDeque<Mark>>,
    /// Oldest first.
    sealed: Mutex<Vec<Sealed>>,
}

impl Segments {
    pub(super) fn new(files: Arc<dyn Files>, folder: PathBuf, sealed: Vec<Sealed>) -> Self {
        Self { files, folder, marks: Mutex::default(), sealed: Mutex::new(sealed) }
    }

    /// Adds the segment that the log thread has just left.
    pub(super) fn seal(&self, segment: Sealed) {
        self.sealed.lock().push(segment);
    }

    /// Keeps where a write began, unless the last that was kept is less than `apart` bytes before it.
    pub(super) fn mark(&self, mark: Mark, apart: u64) {
        let mut marks = self.marks.lock();
        if marks.back().is_none_or(|last| last.segment != mark.segment || mark.offset - last.offset >= apart) {
            marks.push_back(mark);
        }
    }

    /// The last mark at or before `position`, if there is one. Those before it are forgotten.
    pub(super) fn mark_at(&self, position: u64) -> Option<Mark> {
        let mut marks = self.marks.lock();
        while marks.get(1).is_some_and(|next| next.position <= position) {
            marks.pop_front();
        }
        marks.front().filter(|mark| mark.position <= position).copied()
    }

    /// Bytes of the segments that are written no more.
    pub(super) fn bytes(&self) -> u64 {
        self.sealed.lock().iter().map(|segment| segment.bytes).sum()
    }

    /// Makes the segment that begins at `first`. Whole or not at all: its header is synced under another name first.
    pub(super) fn create(&self, id: &LogId, first: u64) -> io::Result<(PathBuf, Box<dyn Handle>)> {
        let path = self.folder.join(name(first));
        let file = files::replace(&*self.files, &path, &frame::header(&id.0, first))?;
        Ok((path, file))
    }

    /// Drops the oldest segments whose records are all at or before `committed`, while they are older than `age` or the log is longer than
    /// `limit` bytes.
    pub(super) fn retain(&self, committed: u64, age: Duration, limit: u64, active: u64) -> io::Result<()> {
        let mut sealed = self.sealed.lock();
        let mut total = active + sealed.iter().map(|segment| segment.bytes).sum::<u64>();
        let (mut dropped, mut failed) = (0, Ok(()));
        for segment in sealed.iter() {
            if segment.last > committed || (total <= limit && !self.is_older(&segment.path, age)) {
                break;
            }
            match self.files.remove(&segment.path) {
                // Somebody else has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    failed = Err(error);
                    break;
                }
                Ok(()) => {}
            }
            total -= segment.bytes;
            dropped += 1;
        }
        // What is gone is not asked for again, also when one could not be removed.
        if dropped > 0 {
            sealed.drain(..dropped);
            self.files.sync_folder(&self.folder)?;
        }
        failed
    }

    /// The time of a segment's last write is the file's own. One that cannot be told counts as young.
    fn is_older(&self, path: &Path, age: Duration) -> bool {
        let modified = self.files.about(path).map(|about| about.modified);
        modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|passed| passed > age))
    }
}

/// `00000000000000000001.log`
pub(super) fn name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The segments in a folder by first position, and nothing of what a crash left half made.
pub(super) fn list(files: &dyn Files, folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for path in files.list(folder)? {
        match path.extension().and_then(|end| end.to_str()) {
            Some("new") => files.remove(&path)?,
            Some("log") => found.extend(first_of(&path).map(|first| (first, path))),
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// The first position of the segment that has this name; nothing when it is no segment's.
pub(super) fn first_of(path: &Path) -> Option<u64> {
    let first = path.file_stem()?.to_str()?.parse().ok()?;
    path.ends_with(name(first)).then_some(first)
}
