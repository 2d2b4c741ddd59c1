//! Segments as files: their names, how they are made, and which of them retention drops. Knows no records.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::frame;
use crate::record::LogId;

/// What the log thread does to a segment. Tests put faults between it and the file.
pub(super) trait SegmentFile: Send {
    /// Writes all bytes at the offset.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Puts on stable storage what was written.
    fn sync(&mut self) -> io::Result<()>;
    /// Drops what is beyond `len`.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

impl SegmentFile for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Makes of a file what the log thread writes to.
pub(super) type Wrap = Arc<dyn Fn(File) -> Box<dyn SegmentFile> + Send + Sync>;

/// A segment that is written no more.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) last: u64,
    pub(super) bytes: u64,
    pub(super) path: PathBuf,
}

/// The folder of segments.
pub(super) struct Segments {
    folder: PathBuf,
    /// Oldest first.
    sealed: Mutex<Vec<Sealed>>,
}

impl Segments {
    pub(super) fn new(folder: PathBuf, sealed: Vec<Sealed>) -> Self {
        Self { folder, sealed: Mutex::new(sealed) }
    }

    /// Adds the segment that the log thread has just left.
    pub(super) fn seal(&self, segment: Sealed) {
        self.sealed.lock().push(segment);
    }

    /// Bytes of the segments that are written no more.
    pub(super) fn bytes(&self) -> u64 {
        self.sealed.lock().iter().map(|segment| segment.bytes).sum()
    }

    /// Makes the segment that begins at `first`. Whole or not at all: its header is synced under another name first.
    pub(super) fn create(&self, id: &LogId, first: u64) -> io::Result<(PathBuf, File)> {
        let path = self.folder.join(name(first));
        let new = path.with_extension("new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        file.write_all_at(&frame::header(&id.0, first), 0)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        sync_folder(&self.folder)?;
        Ok((path, file))
    }

    /// Drops the oldest segments whose records are all at or before `committed`, while they are older than `age` or the log is longer than
    /// `limit` bytes.
    pub(super) fn retain(&self, committed: u64, age: Duration, limit: u64, active: u64) -> io::Result<()> {
        let mut sealed = self.sealed.lock();
        let mut total = active + sealed.iter().map(|segment| segment.bytes).sum::<u64>();
        let mut dropped = 0;
        for segment in sealed.iter() {
            if segment.last > committed || (total <= limit && !older(&segment.path, age)) {
                break;
            }
            std::fs::remove_file(&segment.path)?;
            total -= segment.bytes;
            dropped += 1;
        }
        if dropped > 0 {
            sealed.drain(..dropped);
            sync_folder(&self.folder)?;
        }
        Ok(())
    }
}

/// The time of a segment's last write is the file's own. One that cannot be told counts as young.
fn older(path: &Path, age: Duration) -> bool {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|passed| passed > age))
}

/// `00000000000000000001.log`
pub(super) fn name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The segments in a folder by first position, and nothing of what a crash left half made.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        match path.extension().and_then(|end| end.to_str()) {
            Some("new") => std::fs::remove_file(&path)?,
            Some("log") => {
                let first = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
                found.extend(first.filter(|&first| path.ends_with(name(first))).map(|first| (first, path)));
            }
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// Puts a folder's entries on stable storage.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
