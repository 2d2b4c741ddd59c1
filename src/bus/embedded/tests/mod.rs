//! The log in a folder of its own: what the tests share.

mod crash;
mod damage;
mod disk;
mod order;
mod rows;
mod view;

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::FileExt,
    process::{Command, Stdio},
    sync::atomic::AtomicU64 as Counter,
    time::SystemTime,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{segment::SegmentFile, *};
use crate::record::{Entry, Record, RuleUid, SourceRef, Table};

fn note(text: &str) -> Record {
    Record::Deaf(SourceRef { rule: RuleUid(text.into()), generation: 1, source: String::new() })
}

fn text(entry: &Entry) -> String {
    match &*entry.record {
        Record::Deaf(source) => source.rule.0.to_string(),
        other => format!("{other:?}"),
    }
}

fn texts(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(text).collect()
}

fn positions(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.head.position.0).collect()
}

fn open(dir: &TempDir) -> Arc<Embedded> {
    Embedded::open(dir.path(), Settings::default()).expect("open")
}

fn small() -> Settings {
    Settings { segment_bytes: 200, ..Settings::default() }
}

/// Appends each text as a write of its own.
async fn write_each(bus: &Embedded, texts: impl IntoIterator<Item = String>) -> Vec<u64> {
    let mut positions = Vec::new();
    for text in texts {
        let head = bus.record(note(&text)).expect("record");
        bus.durable(head.position).await.expect("durable");
        positions.push(head.position.0);
    }
    positions
}

fn numbered(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// The log's only segment.
fn segment(dir: &TempDir) -> PathBuf {
    let found = segment::list(&dir.path().join("segments")).expect("list");
    assert_eq!(found.len(), 1);
    found[0].1.clone()
}

fn frames(path: &Path) -> Vec<frame::Frame> {
    let bytes = std::fs::read(path).expect("read the segment");
    frame::scan(&bytes, 1, 0).frames
}

fn flip(path: &Path, offset: usize) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("open the segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset as u64).expect("read");
    file.write_all_at(&[byte[0] ^ 4], offset as u64).expect("write");
}

/// A folder whose log was written and closed.
async fn written(settings: Settings, count: u64) -> TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = Embedded::open(dir.path(), settings).expect("open");
    write_each(&bus, numbered(1..=count)).await;
    bus.close().await.expect("close");
    dir
}

/// What the disk does, and how often it was asked.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    pub(crate) full: Arc<AtomicBool>,
    sync_fails: Arc<AtomicBool>,
    tries: Arc<Counter>,
}

struct Faulty(File, Faults);

impl SegmentFile for Faulty {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.tries.fetch_add(1, Ordering::Relaxed);
        if self.1.full.load(Ordering::Relaxed) {
            SegmentFile::write_at(&mut self.0, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        SegmentFile::write_at(&mut self.0, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.1.sync_fails.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.0.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

pub(crate) fn faulty(dir: &TempDir, faults: &Faults, settings: Settings) -> Arc<Embedded> {
    let faults = faults.clone();
    let wrap: Wrap = Arc::new(move |file| Box::new(Faulty(file, faults.clone())));
    Embedded::open_with(dir.path(), settings, wrap).expect("open")
}

fn row(key: &str, value: Option<&str>) -> (Table, Vec<u8>, Option<Vec<u8>>) {
    (Table::Groups, key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
}
