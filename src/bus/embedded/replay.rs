//! Reading the log at the start: finds where it ends, cuts a torn end, leaves out damage and says so, gives the records after the view.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    files::{Files, Way, move_aside},
    frame::{self, Frame, HEADER, Header, Scan},
    segment::{Mark, Sealed},
};
use crate::record::{self, Entry, LogId};

/// What the segments hold.
#[derive(Debug)]
pub(super) struct Replay {
    /// The records after the view, in order.
    pub(super) tail: Vec<Entry>,
    /// What was left out, in words.
    pub(super) damage: Vec<String>,
    /// The last position given.
    pub(super) last: u64,
    /// The greatest [`record::Stamp::at`] read.
    pub(super) last_at: i64,
    /// The greatest epoch read.
    pub(super) epoch: u64,
    /// Segments to be written no more.
    pub(super) sealed: Vec<Sealed>,
    /// The segment to go on with: its first position, and its length.
    pub(super) active: Option<(u64, PathBuf, u64)>,
}

/// Why the log cannot be gone on with.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// What it holds, in words.
    Content(String),
    /// A file.
    Files(io::Error),
}

/// Reads the segments that hold records after `applied`, and at least one record if there is any. The first of them is read from the mark on, if there
/// is a record.
///
/// # Errors
/// When a segment is of another version or log, or when a file cannot be read or its end not be mended.
pub(super) fn replay(
    files: &dyn Files,
    found: &[(u64, PathBuf)],
    id: &LogId,
    (applied, mark): (u64, Option<Mark>),
    segment_bytes: u64,
) -> Result<Replay, Unreadable> {
    let start = found.iter().rposition(|&(first, _)| first <= applied.max(1)).unwrap_or(0);
    let begin = found.get(start).map_or(1, |&(first, _)| first);
    let mut fold = Fold { applied, next: begin.min(applied + 1), ..Fold::default() };
    let mut end = None;
    for (index, (first, path)) in found.iter().enumerate().skip(start) {
        let mark = mark.filter(|mark| index == start && mark.segment == *first);
        let part = Part::read(files, path, mark).map_err(Unreadable::Files)?;
        let sound = fold.header(path, *first, &part.bytes, id).map_err(Unreadable::Content)?;
        fold.reach(*first);
        let mut scan = frame::scan(&part.bytes, *first, fold.epoch);
        if index + 1 == found.len() {
            fold.cut(&mut scan);
            end = Some(part.end(sound, &scan));
        }
        fold.take(path, &part.bytes, &scan).map_err(Unreadable::Content)?;
    }
    let last = fold.next - 1;
    let (sealed, active) = close_files(files, found, end, last, segment_bytes, applied).map_err(Unreadable::Files)?;
    if last < applied {
        fold.damage.push(format!("the log ends at position {last}, but the view was made at {applied}"));
    }
    let Fold { tail, damage, last_at, epoch, .. } = fold;
    Ok(Replay { tail, damage, last: last.max(applied), last_at, epoch, sealed, active })
}

/// The end of the last segment.
struct End {
    /// Whether its header can be trusted.
    sound: bool,
    /// Where its last whole record ends.
    len: usize,
    /// Where the records begin that nothing says were synced, and their bytes.
    doubtful: Option<(usize, Vec<u8>)>,
}

/// What was read of a segment: its header, and what comes after so many bytes that were skipped.
struct Part {
    bytes: Vec<u8>,
    skipped: usize,
}

impl Part {
    /// The segment from the mark on; all of it when there is not the record that the mark tells of.
    fn read(files: &dyn Files, path: &Path, mark: Option<Mark>) -> io::Result<Self> {
        if let Some(part) = mark.and_then(|mark| Self::marked(files, path, mark)) {
            return Ok(part);
        }
        Ok(Self { bytes: files.read(path)?, skipped: 0 })
    }

    fn marked(files: &dyn Files, path: &Path, mark: Mark) -> Option<Self> {
        let file = files.open(path, Way::Existing).ok()?;
        let (len, offset) = (usize::try_from(file.len().ok()?).ok()?, usize::try_from(mark.offset).ok()?);
        let skipped = offset.checked_sub(HEADER)?;
        let mut bytes = vec![0; len.checked_sub(skipped)?];
        file.read_at(bytes.get_mut(..HEADER)?, 0).ok()?;
        file.read_at(bytes.get_mut(HEADER..)?, mark.offset).ok()?;
        frame::is_at(&bytes, HEADER, mark.position).then_some(Self { bytes, skipped })
    }

    fn end(&self, sound: bool, scan: &Scan) -> End {
        let len = scan.frames.last().map_or(HEADER, Frame::end);
        let synced = scan.frames.last().map_or(0, |last| last.synced);
        let from = scan.frames.iter().find(|frame| frame.position() > synced).map(Frame::start);
        let doubtful = from.map(|from| (from + self.skipped, self.bytes[from..len].to_vec()));
        End { sound, len: len + self.skipped, doubtful }
    }
}

/// Segments to be written no more, and the one to go on with, with its length.
type Found = (Vec<Sealed>, Option<(u64, PathBuf, u64)>);

/// Makes the last segment end at its last whole record, and decides whether it is gone on with.
fn close_files(
    files: &dyn Files,
    found: &[(u64, PathBuf)],
    end: Option<End>,
    last: u64,
    segment_bytes: u64,
    applied: u64,
) -> io::Result<Found> {
    let (Some((first, path)), Some(end)) = (found.last(), end) else { return Ok((Vec::new(), None)) };
    let len = end.len as u64;
    let mut sealed = Vec::new();
    for pair in found.windows(2) {
        let bytes = files.about(&pair[0].1)?.len;
        sealed.push(Sealed { last: pair[1].0 - 1, bytes, path: pair[0].1.clone() });
    }
    if !end.sound && last < *first {
        // Nothing in it can be read, and its name is needed for the next record.
        move_aside(files, path)?;
        return Ok((sealed, None));
    }
    let file = files.open(path, Way::Existing)?;
    file.set_len(len)?;
    // It is read now, so it must stay. Written anew: after an fsync that failed the kernel counts the pages as clean, and syncs nothing.
    if let Some((from, bytes)) = end.doubtful {
        file.write_at(&bytes, from as u64)?;
    }
    file.sync()?;
    if end.sound && len < segment_bytes && last >= applied {
        return Ok((sealed, Some((*first, path.clone(), len))));
    }
    sealed.push(Sealed { last, bytes: len, path: path.clone() });
    Ok((sealed, None))
}

#[derive(Default)]
struct Fold {
    applied: u64,
    /// The position expected next.
    next: u64,
    last_at: i64,
    epoch: u64,
    tail: Vec<Entry>,
    damage: Vec<String>,
}

impl Fold {
    /// Whether the header can be trusted.
    fn header(&mut self, path: &Path, name: u64, bytes: &[u8], id: &LogId) -> Result<bool, String> {
        let file = path.display();
        match frame::read_header(bytes) {
            Header::Sound { first, id: other } if first == name && other == id.0 => Ok(true),
            Header::Sound { first, id: other } => {
                Err(format!("{file} holds log {other} from position {first}: it does not belong to log {}", id.0))
            }
            Header::Foreign(version) => Err(format!(
                "{file} has format {version}, and this version reads {}: use the version that wrote it, or a newer one",
                frame::VERSION
            )),
            Header::Damaged => {
                self.damage.push(format!("{file}: the header is damaged; its records are read nevertheless"));
                Ok(false)
            }
        }
    }

    /// Goes on at `position`: what is missing before it was confirmed and is lost. What the view holds is not missed.
    fn reach(&mut self, position: u64) {
        let (from, to) = (self.next.max(self.applied + 1), position.saturating_sub(1));
        if from <= to {
            self.damage.push(format!("positions {from} to {to} are damaged or missing and were left out"));
        }
        self.next = self.next.max(position);
    }

    /// Cuts off a write that is not whole: no later frame says that what is missing had been synced, so it was not confirmed, nor was
    /// anything after it. Replaying what comes after it without it would give results of causes that never were.
    fn cut(&mut self, scan: &mut Scan) {
        let Some(synced) = scan.frames.last().map(|frame| frame.synced) else { return };
        let mut next = self.next;
        let torn = scan.frames.iter().position(|frame| {
            let gap = frame.position() > next && synced < next;
            next = frame.position() + 1;
            gap
        });
        if let Some(keep) = torn {
            let from = keep.checked_sub(1).map_or(self.next, |before| scan.frames[before].position() + 1);
            let to = scan.frames.last().map_or(from, Frame::position);
            self.damage
                .push(format!("the last write is not whole: positions {from} to {to}, never confirmed, were cut"));
            scan.frames.truncate(keep);
        }
    }

    fn take(&mut self, path: &Path, bytes: &[u8], scan: &Scan) -> Result<(), String> {
        for position in &scan.stale {
            self.damage
                .push(format!("position {position} was written by a process that had lost the volume: left out"));
        }
        for frame in &scan.frames {
            if frame.position() < self.next {
                continue;
            }
            self.reach(frame.position());
            self.next += 1;
            self.last_at = self.last_at.max(frame.head.stamp.at);
            self.epoch = self.epoch.max(frame.epoch);
            if frame.position() > self.applied {
                let record = record::decode(&bytes[frame.payload.clone()])
                    .map_err(|error| format!("{}, position {}: {error}", path.display(), frame.position()))?;
                self.tail.push(Entry { head: frame.head, record: Arc::new(record) });
            }
        }
        Ok(())
    }
}
