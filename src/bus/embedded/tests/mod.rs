//! The log in a folder of its own: what the tests share.

mod archive;
mod crash;
mod crashes;
mod damage;
mod disk;
mod memory;
mod order;
mod rows;
mod view;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt,
    process::{Command, Stdio},
    sync::atomic::AtomicU64 as Counter,
    time::{Instant, SystemTime},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    files::{About, Handle},
    *,
};
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
    let found = segment::list(&Disk, &dir.path().join("segments")).expect("list");
    assert_eq!(found.len(), 1);
    found[0].1.clone()
}

fn frames(path: &Path) -> Vec<frame::Frame> {
    frames_of(&std::fs::read(path).expect("read the segment"))
}

fn frames_of(bytes: &[u8]) -> Vec<frame::Frame> {
    frame::scan(bytes, 1, 0).frames
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

/// A log's first segment with these records, each with this format byte, as one process has written them one by one.
pub(crate) fn segment_of(id: &str, format: u8, records: &[Record]) -> Vec<u8> {
    let mut bytes = frame::header(id, 1).to_vec();
    for (before, record) in records.iter().enumerate() {
        let mut payload = queue::encode(record).expect("encode");
        payload[0] = format;
        let (before, at) = (before as u64, before as i64 + 1);
        let head =
            Head { position: Position(before + 1), stamp: crate::clock::Stamp { at, wall: 1_790_000_000_000_000 } };
        frame::write(&mut bytes, head, 1, before, &payload);
    }
    bytes
}

/// What the disk does, and how often it was asked to write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) full: Arc<AtomicBool>,
    sync_fails: Arc<AtomicBool>,
    /// How long an fsync takes on top.
    pub(crate) sync_takes: Arc<Mutex<Duration>>,
    /// Operations after which the process aborts, less those that were done; 0: it does not.
    dies_after: Arc<Counter>,
    tries: Arc<Counter>,
}

#[derive(Debug)]
struct Faulty<T>(T, Faults);

impl Faults {
    /// Counts an operation that changes something.
    fn step(&self) {
        let left = self.dies_after.load(Ordering::Relaxed);
        if left == 1 {
            std::process::abort();
        }
        self.dies_after.store(left.saturating_sub(1), Ordering::Relaxed);
    }

    fn space(&self) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.step();
        std::thread::sleep(*self.sync_takes.lock());
        if self.sync_fails.load(Ordering::Relaxed) { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl Files for Faulty<Disk> {
    fn open(&self, path: &Path, way: Way) -> io::Result<Box<dyn Handle>> {
        if way != Way::Existing {
            self.1.step();
        }
        Ok(Box::new(Faulty(self.0.open(path, way)?, self.1.clone())))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(folder)
    }

    fn about(&self, path: &Path) -> io::Result<About> {
        self.0.about(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.1.step();
        self.0.make_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.1.step();
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.1.step();
        self.0.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.1.sync().and_then(|()| self.0.sync_folder(folder))
    }
}

impl Handle for Faulty<Box<dyn Handle>> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(room, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.step();
        self.1.tries.fetch_add(1, Ordering::Relaxed);
        if let Err(full) = self.1.space() {
            self.0.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(full);
        }
        self.0.write_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.step();
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.sync().and_then(|()| self.0.sync())
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        self.0.try_lock()
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }
}

pub(crate) fn faulty(dir: &TempDir, faults: &Faults, settings: Settings) -> Arc<Embedded> {
    faulty_in(dir.path(), faults, settings)
}

fn faulty_in(dir: &Path, faults: &Faults, settings: Settings) -> Arc<Embedded> {
    Embedded::open_on(Arc::new(Faulty(Disk, faults.clone())), dir, settings).expect("open")
}

fn row(key: &str, value: Option<&str>) -> (Table, Vec<u8>, Option<Vec<u8>>) {
    (Table::Groups, key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
}
