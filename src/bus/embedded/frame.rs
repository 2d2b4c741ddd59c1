//! The bytes of a segment: a header, then one frame per record. Pure: knows no files.
//!
//! All integers are little-endian. Header (64 bytes): magic, version u32, crc u32 of the rest, first position u64, log id (32 hexadecimal
//! digits), zeros. Frame (48 bytes, then the record): crc u32 of the rest, length u32, epoch u64, position u64, synced u64, at i64, wall i64.
//! After the last frame there may be zeros up to the end of the file.
//! `synced` is the position up to which the log was on stable storage when the frame was written. It tells a write that power loss tore
//! (nothing written later vouches for the missing records: they were never confirmed) from records that were confirmed and are damaged.

use std::ops::Range;

use super::MAX_RECORD;
use crate::{
    clock::Stamp,
    record::{Head, Position},
};

/// Version of the layout described above.
pub(super) const VERSION: u32 = 1;
/// Length of a segment's header.
pub(super) const HEADER: usize = 64;
/// Length of a frame without its record.
pub(super) const FRAME: usize = 48;

const MAGIC: [u8; 8] = *b"SIGNLBOX";
/// No damage skips more positions than this; it keeps garbage from being checked as a frame.
const LEAP: u64 = 1 << 32;

/// What a segment's first bytes say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Written by this version.
    Sound { first: u64, id: String },
    /// Written by another version, and undamaged.
    Foreign(u32),
    /// Not to be trusted.
    Damaged,
}

/// The header of a segment.
pub(super) fn header(id: &str, first: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[16..24].copy_from_slice(&first.to_le_bytes());
    out[24..56].copy_from_slice(id.as_bytes());
    let crc = header_crc(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads what [`header`] made.
pub(super) fn read_header(bytes: &[u8]) -> Header {
    let Some(bytes) = bytes.first_chunk::<HEADER>() else { return Header::Damaged };
    if bytes[..8] != MAGIC || u32_at(bytes, 12) != header_crc(bytes) {
        return Header::Damaged;
    }
    match u32_at(bytes, 8) {
        VERSION => Header::Sound { first: u64_at(bytes, 16), id: String::from_utf8_lossy(&bytes[24..56]).into_owned() },
        other => Header::Foreign(other),
    }
}

fn header_crc(bytes: &[u8; HEADER]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    crc.finalize()
}

/// A frame found in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: Head,
    pub(super) epoch: u64,
    pub(super) synced: u64,
    /// Where the record's bytes are.
    pub(super) payload: Range<usize>,
}

impl Frame {
    pub(super) fn position(&self) -> u64 {
        self.head.position.0
    }

    /// Where it begins.
    pub(super) fn start(&self) -> usize {
        self.payload.start - FRAME
    }

    /// Where the next frame begins.
    pub(super) fn end(&self) -> usize {
        self.payload.end
    }
}

/// Appends a frame.
pub(super) fn write(out: &mut Vec<u8>, head: Head, epoch: u64, synced: u64, payload: &[u8]) {
    let start = out.len();
    let len = u32::try_from(payload.len()).expect("a record is at most MAX_RECORD bytes");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&len.to_le_bytes());
    for word in [epoch, head.position.0, synced] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&head.stamp.at.to_le_bytes());
    out.extend_from_slice(&head.stamp.wall.to_le_bytes());
    out.extend_from_slice(payload);
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Whole frames, positions growing; a gap between them is damage or a torn write.
    pub(super) frames: Vec<Frame>,
    /// Positions of whole frames of an older epoch after a newer one: a process that had lost the volume wrote them.
    pub(super) stale: Vec<u64>,
}

/// Finds all whole frames of a segment whose first position is `first`, in an order that no epoch goes back in.
///
/// After damage the search goes on byte by byte. A frame's fixed part always has a zero byte (a length is below 2^24) and a record's JSON
/// never has one, so no record can hold bytes that pass for a frame.
pub(super) fn scan(bytes: &[u8], first: u64, mut epoch: u64) -> Scan {
    let mut found = Scan::default();
    let mut after = first.saturating_sub(1);
    let mut from = HEADER;
    while let Some(frame) = (from..bytes.len().saturating_sub(FRAME)).find_map(|at| parse(bytes, at, after)) {
        from = frame.end();
        if frame.epoch < epoch {
            found.stale.push(frame.position());
            continue;
        }
        epoch = frame.epoch;
        after = frame.position();
        found.frames.push(frame);
    }
    found
}

/// Whether a whole frame of this position is there.
pub(super) fn is_at(bytes: &[u8], at: usize, position: u64) -> bool {
    parse(bytes, at, position.saturating_sub(1)).is_some_and(|frame| frame.position() == position)
}

/// The whole frame that begins there, if one of a position after `after` does.
pub(super) fn parse(bytes: &[u8], at: usize, after: u64) -> Option<Frame> {
    let fixed = bytes.get(at..at + FRAME)?;
    let len = u32_at(fixed, 4) as usize;
    let position = u64_at(fixed, 16);
    if !is_plausible(len, position, after) {
        return None;
    }
    let end = at + FRAME + len;
    if crc32fast::hash(bytes.get(at + 4..end)?) != u32_at(fixed, 0) {
        return None;
    }
    let stamp = Stamp { at: u64_at(fixed, 32).cast_signed(), wall: u64_at(fixed, 40).cast_signed() };
    Some(Frame {
        head: Head { position: Position(position), stamp },
        epoch: u64_at(fixed, 8),
        synced: u64_at(fixed, 24),
        payload: at + FRAME..end,
    })
}

/// Up to where bytes are needed to tell whether a frame begins there; `at` itself when none does.
pub(super) fn claimed(bytes: &[u8], at: usize, after: u64) -> usize {
    let Some(fixed) = bytes.get(at..at + FRAME) else { return at + FRAME };
    let (len, position) = (u32_at(fixed, 4) as usize, u64_at(fixed, 16));
    if is_plausible(len, position, after) { at + FRAME + len } else { at }
}

fn is_plausible(len: usize, position: u64, after: u64) -> bool {
    len > 0 && len <= MAX_RECORD && position > after && position - after <= LEAP
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were taken"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn segment(frames: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = header(ID, 1).to_vec();
        for &(position, epoch) in frames {
            let head = Head { position: Position(position), stamp: Stamp { at: 5, wall: -7 } };
            write(&mut bytes, head, epoch, position - 1, b"{\"record\":1}");
        }
        bytes
    }

    fn positions(scan: &Scan) -> Vec<u64> {
        scan.frames.iter().map(Frame::position).collect()
    }

    #[test]
    fn what_is_written_is_found() {
        let bytes = segment(&[(1, 1), (2, 1)]);
        let scan = scan(&bytes, 1, 0);
        assert_eq!(positions(&scan), [1, 2]);
        let frame = &scan.frames[1];
        assert_eq!((frame.synced, frame.head.stamp, frame.epoch), (1, Stamp { at: 5, wall: -7 }, 1));
        assert_eq!(&bytes[frame.payload.clone()], b"{\"record\":1}");
        assert_eq!(frame.end(), bytes.len());
    }

    #[test]
    fn any_flipped_bit_loses_one_frame_only() {
        let good = segment(&[(1, 1), (2, 1), (3, 1)]);
        let one = (good.len() - HEADER) / 3;
        for bit in (HEADER + one) * 8..(HEADER + 2 * one) * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(positions(&scan(&bytes, 1, 0)), [1, 3], "bit {bit}");
        }
    }

    #[test]
    fn a_frame_of_an_older_epoch_is_left_out() {
        let found = scan(&segment(&[(1, 1), (2, 3), (3, 2), (4, 3)]), 1, 0);
        assert_eq!((positions(&found), found.stale), (vec![1, 2, 4], vec![3]));
    }

    #[test]
    fn a_header_tells_sound_from_foreign_from_damaged() {
        let good = header(ID, 9);
        assert_eq!(read_header(&good), Header::Sound { first: 9, id: ID.to_owned() });
        for bit in 0..HEADER * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_header(&bytes), Header::Damaged, "bit {bit}");
        }
        let mut foreign = good;
        foreign[8] = 2;
        let crc = header_crc(&foreign);
        foreign[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read_header(&foreign), Header::Foreign(2));
    }
}
