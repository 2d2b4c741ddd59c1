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

// === order and durability ===

#[tokio::test]
async fn what_is_durable_is_read_back_in_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    let id = bus.id().clone();
    let first = bus.append(note("a")).await.expect("append");
    let second = bus.record(note("b")).expect("record");
    assert!(second.stamp.at >= first.stamp.at);
    assert_eq!(bus.durable(second.position).await.expect("durable").position(), second.position);
    bus.close().await.expect("close");

    let again = open(&dir);
    let recovery = again.recover().expect("recover");
    assert_eq!((texts(&recovery.tail), positions(&recovery.tail)), (vec!["a".into(), "b".into()], vec![1, 2]));
    assert_eq!(recovery.tail[1].head, second);
    assert!(recovery.damage.is_empty() && recovery.rows.is_empty());
    assert_eq!(again.id(), &id);
    let third = again.record(note("c")).expect("record");
    assert_eq!(third.position, Position(3));
    assert!(third.stamp.at > second.stamp.at);
    assert!(again.recover().is_err(), "given once");
}

#[tokio::test]
async fn the_reader_gets_records_before_they_are_durable() {
    let dir = tempfile::tempdir().expect("tempdir");
    let stuck = Faults::default();
    stuck.full.store(true, Ordering::Relaxed);
    let bus = faulty(&dir, &stuck, Settings::default());
    let mut reader = bus.reader().expect("the first reader");
    assert!(bus.reader().is_none());
    for text in ["a", "b", "c"] {
        bus.record(note(text)).expect("record");
    }
    assert_eq!(texts(&reader.next(2).await.expect("open")), ["a", "b"]);
    assert_eq!(texts(&reader.next(2).await.expect("open")), ["c"]);
    assert_eq!(bus.stats().durable, Position(0));
    bus.record(note("d")).expect("record");
    assert!(matches!(bus.close().await, Err(BusError::Full)));
    assert_eq!(texts(&reader.next(2).await.expect("what was not read")), ["d"]);
    assert!(reader.next(2).await.is_none());
}

#[tokio::test]
async fn many_records_share_a_sync() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    for n in 0..1000 {
        bus.record(note(&n.to_string())).expect("record");
    }
    bus.durable(Position(1000)).await.expect("durable");
    let stats = bus.stats();
    assert_eq!((stats.appended, stats.durable), (Position(1000), Position(1000)));
    assert!(stats.syncs < 50, "{} syncs", stats.syncs);
}

#[tokio::test]
async fn a_record_nobody_waits_for_becomes_durable() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    let head = bus.record(note("alone")).expect("record");
    let mut progress = bus.shared.progress.subscribe();
    progress.wait_for(|now| now.durable == head.position).await.expect("progress");
}

#[tokio::test]
async fn closing_makes_everything_durable_and_refuses_more() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    let head = bus.record(note("a")).expect("record");
    bus.close().await.expect("close");
    bus.close().await.expect("close again");
    assert_eq!(bus.durable(head.position).await.expect("durable").position(), head.position);
    assert!(matches!(bus.record(note("b")), Err(BusError::Closed)));
    assert!(matches!(bus.append(note("b")).await, Err(BusError::Closed)));
    assert!(matches!(bus.durable(Position(9)).await, Err(BusError::Closed)));
    assert_eq!(texts(&open(&dir).recover().expect("recover").tail), ["a"]);
}

#[tokio::test]
async fn dropped_without_close_the_records_are_written_and_the_lock_goes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    bus.record(note("a")).expect("record");
    let mut progress = bus.shared.progress.subscribe();
    drop(bus);
    progress.wait_for(|now| now.end.is_some()).await.expect("progress");
    let again = loop {
        match Embedded::open(dir.path(), Settings::default()) {
            Err(BusError::Locked { .. }) => tokio::task::yield_now().await,
            other => break other.expect("open"),
        }
    };
    assert_eq!(texts(&again.recover().expect("recover").tail), ["a"]);
}

#[tokio::test]
async fn a_record_too_large_takes_no_position() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    assert!(matches!(bus.record(note(&"x".repeat(MAX_RECORD))), Err(BusError::TooLarge(_))));
    assert_eq!(bus.record(note("a")).expect("record").position, Position(1));
}

#[tokio::test]
async fn a_second_open_is_told_who_has_the_log() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    let error = Embedded::open(dir.path(), Settings::default()).err().expect("locked");
    assert!(matches!(&error, BusError::Locked { holder, .. } if holder.contains(&std::process::id().to_string())));
    bus.close().await.expect("close");
    open(&dir);
}

// === back-pressure ===

#[tokio::test]
async fn append_waits_at_capacity_and_goes_on_after_advance() {
    let dir = tempfile::tempdir().expect("tempdir");
    let settings = Settings { capacity_records: 2, ..Settings::default() };
    let bus = Embedded::open(dir.path(), settings).expect("open");
    let mut reader = bus.reader().expect("reader");
    bus.append(note("1")).await.expect("append");
    let second = bus.append(note("2")).await.expect("append");
    bus.durable(second.position).await.expect("durable");
    let mut third = bus.append(note("3"));
    assert!(futures::poll!(&mut third).is_pending());
    // A record of the ledger is never held up.
    assert_eq!(bus.record(note("ledger")).expect("record").position, Position(3));
    reader.advance(Position(1));
    assert!(futures::poll!(&mut third).is_pending());
    bus.durable(Position(3)).await.expect("durable");
    reader.advance(Position(3));
    assert_eq!(third.await.expect("append").position, Position(4));
    assert_eq!(texts(&reader.next(9).await.expect("open")), ["1", "2", "ledger", "3"]);
}

#[tokio::test]
async fn a_dropped_append_appends_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = Embedded::open(dir.path(), Settings { capacity_bytes: 1, ..Settings::default() }).expect("open");
    bus.append(note("1")).await.expect("append");
    let mut waiting = bus.append(note("2"));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(waiting);
    assert_eq!(bus.stats().appended, Position(1));
}

// === damage ===

#[tokio::test]
async fn a_torn_tail_keeps_all_whole_records() {
    let dir = written(Settings::default(), 6).await;
    let path = segment(&dir);
    let whole = std::fs::read(&path).expect("read");
    let frames = frames(&path);
    for len in frames[2].end()..whole.len() {
        std::fs::write(&path, &whole[..len]).expect("write");
        let kept = frames.iter().filter(|frame| frame.end() <= len).count() as u64;
        let bus = open(&dir);
        let recovery = bus.recover().expect("recover");
        assert_eq!(texts(&recovery.tail), numbered(1..=kept), "cut at {len}");
        assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
        assert_eq!(std::fs::metadata(&path).expect("metadata").len(), frames[kept as usize - 1].end() as u64);
        bus.close().await.expect("close");
    }
}

#[tokio::test]
async fn after_a_torn_tail_is_cut_the_log_goes_on_without_a_gap() {
    let dir = written(Settings::default(), 3).await;
    let path = segment(&dir);
    let len = std::fs::metadata(&path).expect("metadata").len();
    OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(len - 1)).expect("tear");
    let bus = open(&dir);
    assert_eq!(write_each(&bus, ["again".to_owned()]).await, [3]);
    bus.close().await.expect("close");
    assert_eq!(texts(&open(&dir).recover().expect("recover").tail), ["1", "2", "again"]);
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_costs_one_record_and_is_reported() {
    let dir = written(Settings::default(), 4).await;
    let path = segment(&dir);
    flip(&path, frames(&path)[1].payload.start + 3);
    for _ in 0..2 {
        let bus = open(&dir);
        let recovery = bus.recover().expect("recover");
        assert_eq!(positions(&recovery.tail), [1, 3, 4]);
        assert_eq!(recovery.damage, ["positions 2 to 2 are damaged or missing and were left out"]);
        bus.close().await.expect("close");
    }
    assert_eq!(write_each(&open(&dir), ["5".to_owned()]).await, [5]);
}

#[tokio::test]
async fn a_write_with_a_hole_that_was_never_confirmed_is_cut_whole() {
    let dir = written(Settings::default(), 2).await;
    let path = segment(&dir);
    let end = std::fs::metadata(&path).expect("metadata").len();
    let mut write = Vec::new();
    let stamp = frames(&path)[1].head.stamp;
    let mut ends = Vec::new();
    for position in 3..=5 {
        let payload = queue::encode(&note("together")).expect("encode");
        frame::write(&mut write, Head { position: Position(position), stamp }, 1, 2, &payload);
        ends.push(write.len());
    }
    // Power was lost when its middle had not reached the disk.
    write[ends[0]..ends[1]].fill(0);
    OpenOptions::new().write(true).open(&path).and_then(|file| file.write_all_at(&write, end)).expect("write");
    let bus = open(&dir);
    let recovery = bus.recover().expect("recover");
    assert_eq!(positions(&recovery.tail), [1, 2, 3]);
    assert_eq!(recovery.damage, ["the last write is not whole: positions 4 to 5, never confirmed, were cut"]);
    assert_eq!(bus.record(note("next")).expect("record").position, Position(4));
}

#[tokio::test]
async fn damage_at_the_end_of_an_older_segment_is_reported() {
    let dir = written(small(), 6).await;
    let found = segment::list(&dir.path().join("segments")).expect("list");
    assert!(found.len() > 2);
    let (first, path) = &found[0];
    assert_eq!(*first, 1);
    let len = std::fs::metadata(path).expect("metadata").len();
    flip(path, len as usize - 1);
    let recovery = open(&dir).recover().expect("recover");
    let lost = found[1].0 - 1;
    assert_eq!(recovery.damage, [format!("positions {lost} to {lost} are damaged or missing and were left out")]);
    assert_eq!(recovery.tail.len(), 5);
}

#[tokio::test]
async fn a_damaged_header_does_not_cost_the_records() {
    let dir = written(Settings::default(), 2).await;
    flip(&segment(&dir), 20);
    let bus = open(&dir);
    let recovery = bus.recover().expect("recover");
    assert_eq!((recovery.tail.len(), recovery.damage.len()), (2, 1));
    assert_eq!(write_each(&bus, ["3".to_owned()]).await, [3]);
    bus.close().await.expect("close");
    assert_eq!(positions(&open(&dir).recover().expect("recover").tail), [1, 2, 3]);
}

#[tokio::test]
async fn a_last_segment_without_anything_whole_is_moved_aside() {
    let dir = written(small(), 6).await;
    let found = segment::list(&dir.path().join("segments")).expect("list");
    let (first, path) = found.last().expect("some");
    std::fs::write(path, b"nothing of use").expect("write");
    let bus = open(&dir);
    assert_eq!(write_each(&bus, ["again".to_owned()]).await, [*first]);
    assert!(path.with_extension("damaged-1").exists());
}

#[tokio::test]
async fn records_of_a_newer_version_are_refused() {
    let dir = written(Settings::default(), 1).await;
    let path = segment(&dir);
    let mut bytes = std::fs::read(&path).expect("read");
    let frame = frames(&path).remove(0);
    let mut payload = bytes[frame.payload.clone()].to_vec();
    payload[0] = 9;
    bytes.truncate(frame::HEADER);
    frame::write(&mut bytes, frame.head, 1, 0, &payload);
    std::fs::write(&path, bytes).expect("write");
    let error = Embedded::open(dir.path(), Settings::default()).err().expect("refused");
    assert!(error.to_string().contains("format 9"), "{error}");
}

#[tokio::test]
async fn a_segment_of_another_log_is_refused() {
    let dir = written(Settings::default(), 1).await;
    let other = written(Settings::default(), 1).await;
    std::fs::copy(segment(&other), segment(&dir)).expect("copy");
    let error = Embedded::open(dir.path(), Settings::default()).err().expect("refused");
    assert!(error.to_string().contains("does not belong"), "{error}");
}

#[tokio::test]
async fn a_lost_identity_is_taken_from_the_segments() {
    let dir = written(Settings::default(), 1).await;
    let kept = std::fs::read_to_string(dir.path().join("log-id")).expect("log-id");
    std::fs::remove_file(dir.path().join("log-id")).expect("remove");
    assert_eq!(open(&dir).id().0, kept.trim());
}

#[tokio::test]
async fn each_open_has_a_greater_epoch() {
    let dir = written(Settings::default(), 1).await;
    std::fs::remove_file(dir.path().join("epoch")).expect("remove");
    let bus = open(&dir);
    write_each(&bus, ["2".to_owned()]).await;
    bus.close().await.expect("close");
    let epochs: Vec<_> = frames(&segment(&dir)).iter().map(|frame| frame.epoch).collect();
    assert_eq!(epochs, [1, 2]);
}

// === faults of the disk ===

/// What the disk does, and how often it was asked.
#[derive(Clone, Default)]
struct Faults {
    full: Arc<AtomicBool>,
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

fn faulty(dir: &TempDir, faults: &Faults, settings: Settings) -> Arc<Embedded> {
    let faults = faults.clone();
    let wrap: Wrap = Arc::new(move |file| Box::new(Faulty(file, faults.clone())));
    Embedded::open_with(dir.path(), settings, wrap).expect("open")
}

#[tokio::test]
async fn a_failed_fsync_ends_the_log_for_everybody() {
    let dir = tempfile::tempdir().expect("tempdir");
    let faults = Faults::default();
    let settings = Settings { capacity_records: 3, ..Settings::default() };
    let bus = faulty(&dir, &faults, settings);
    let kept = bus.append(note("kept")).await.expect("append");
    bus.durable(kept.position).await.expect("durable");
    faults.sync_fails.store(true, Ordering::Relaxed);
    let lost = bus.record(note("lost")).expect("record");
    assert!(matches!(bus.durable(lost.position).await, Err(BusError::Storage(_))));
    assert!(matches!(bus.record(note("more")), Err(BusError::Storage(_))));
    assert!(matches!(bus.append(note("more")).await, Err(BusError::Storage(_))));
    assert!(matches!(bus.commit(Vec::new(), lost.position).await, Err(BusError::Storage(_))));
    bus.durable(kept.position).await.expect("what was confirmed stays so");
    assert!(matches!(bus.close().await, Err(BusError::Storage(_))));
}

#[tokio::test]
async fn closed_on_a_full_disk_the_log_ends_after_what_was_confirmed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let faults = Faults::default();
    let bus = faulty(&dir, &faults, Settings::default());
    write_each(&bus, ["1".to_owned()]).await;
    let len = std::fs::metadata(segment(&dir)).expect("metadata").len();
    faults.full.store(true, Ordering::Relaxed);
    let second = bus.record(note("2")).expect("record");
    assert!(matches!(bus.close().await, Err(BusError::Full)));
    assert!(matches!(bus.durable(second.position).await, Err(BusError::Full)));
    assert_eq!(std::fs::metadata(segment(&dir)).expect("metadata").len(), len);
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let dir = tempfile::tempdir().expect("tempdir");
    let faults = Faults::default();
    let settings = Settings { capacity_records: 3, ..Settings::default() };
    let bus = faulty(&dir, &faults, settings);
    let mut reader = bus.reader().expect("reader");
    write_each(&bus, ["1".to_owned()]).await;
    faults.full.store(true, Ordering::Relaxed);
    let second = bus.append(note("2")).await.expect("append");
    let mut durable = bus.durable(second.position);
    assert!(futures::poll!(&mut durable).is_pending());
    while faults.tries.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(&mut durable).is_pending());
    assert!(bus.stats().disk_full);
    // The shard folds ahead, yet appends stop when too much is not durable.
    reader.advance(second.position);
    bus.append(note("3")).await.expect("append");
    bus.append(note("4")).await.expect("append");
    reader.advance(Position(4));
    let mut fifth = bus.append(note("5"));
    assert!(futures::poll!(&mut fifth).is_pending());
    faults.full.store(false, Ordering::Relaxed);
    durable.await.expect("durable");
    fifth.await.expect("append");
    assert!(!bus.stats().disk_full);
    bus.close().await.expect("close");
    assert_eq!(texts(&open(&dir).recover().expect("recover").tail), numbered(1..=5));
}

// === the view ===

fn row(key: &str, value: Option<&str>) -> (Table, Vec<u8>, Option<Vec<u8>>) {
    (Table::Groups, key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
}

#[tokio::test]
async fn after_a_commit_a_reopen_gives_the_rows_and_only_the_tail() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    for n in numbered(1..=5) {
        bus.record(note(&n)).expect("record");
    }
    bus.commit(vec![row("a", Some("1")), row("b", Some("2"))], Position(2)).await.expect("commit");
    assert!(bus.stats().durable >= Position(2));
    bus.commit(vec![row("a", None), row("c", Some("3"))], Position(3)).await.expect("commit");
    assert_eq!(bus.stats().committed, Position(3));
    bus.close().await.expect("close");
    let recovery = open(&dir).recover().expect("recover");
    assert_eq!(recovery.applied, Position(3));
    assert_eq!(texts(&recovery.tail), ["4", "5"]);
    let rows: Vec<_> = recovery.rows.iter().map(|(table, key, value)| (*table, &key[..], &value[..])).collect();
    assert_eq!(rows, [(Table::Groups, &b"b"[..], &b"2"[..]), (Table::Groups, b"c", b"3")]);
}

#[tokio::test]
async fn retention_drops_committed_segments_only_and_oldest_first() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = Embedded::open(dir.path(), Settings { retention_bytes: 0, ..small() }).expect("open");
    write_each(&bus, numbered(1..=9)).await;
    let folder = dir.path().join("segments");
    let before = segment::list(&folder).expect("list");
    let covered = before[2].0;
    bus.commit(Vec::new(), Position(covered)).await.expect("commit");
    let after = segment::list(&folder).expect("list");
    assert_eq!(after, before[2..], "the segment that holds {covered} stays, for what comes after it");
    bus.commit(Vec::new(), Position(9)).await.expect("commit");
    assert_eq!(segment::list(&folder).expect("list").len(), 1, "the one being written stays");
    let on_disk = std::fs::metadata(&before.last().expect("some").1).expect("metadata").len();
    assert_eq!(bus.stats().log_bytes, on_disk);
    bus.close().await.expect("close");
    let again = open(&dir);
    assert_eq!(again.recover().expect("recover").tail.len(), 0);
    assert_eq!(write_each(&again, ["10".to_owned()]).await, [10]);
}

#[tokio::test]
async fn retention_by_age_drops_old_segments_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = Embedded::open(dir.path(), small()).expect("open");
    write_each(&bus, numbered(1..=9)).await;
    let folder = dir.path().join("segments");
    let before = segment::list(&folder).expect("list");
    let old = SystemTime::now() - Duration::from_hours(25);
    File::options().write(true).open(&before[0].1).and_then(|file| file.set_modified(old)).expect("age");
    bus.commit(Vec::new(), Position(9)).await.expect("commit");
    assert_eq!(segment::list(&folder).expect("list"), before[1..]);
}

#[tokio::test]
async fn a_damaged_view_is_made_again_from_a_whole_log() {
    for damage in [&b"no database at all"[..], &[0; 8192]] {
        let dir = written(Settings::default(), 3).await;
        let bus = open(&dir);
        bus.commit(vec![row("a", Some("1"))], Position(3)).await.expect("commit");
        bus.close().await.expect("close");
        std::fs::write(dir.path().join("view.redb"), damage).expect("write");
        let recovery = open(&dir).recover().expect("recover");
        assert_eq!((recovery.applied, recovery.tail.len(), recovery.rows.len()), (Position(0), 3, 0));
        assert!(recovery.damage[0].contains("view.redb.damaged-1"), "{:?}", recovery.damage);
    }
}

#[tokio::test]
async fn a_view_with_a_scribbled_page_is_not_trusted() {
    let dir = written(Settings::default(), 3).await;
    let bus = open(&dir);
    let rows = (0..2000).map(|n| row(&format!("key {n}"), Some("a value of some length, to fill pages"))).collect();
    bus.commit(rows, Position(3)).await.expect("commit");
    bus.close().await.expect("close");
    let path = dir.path().join("view.redb");
    let bytes = std::fs::read(&path).expect("read");
    let at = bytes.windows(7).position(|window| window == b"a value").expect("a row");
    flip(&path, at);
    let recovery = open(&dir).recover().expect("recover");
    assert_eq!((recovery.applied, recovery.tail.len(), recovery.damage.len()), (Position(0), 3, 1));
}

#[tokio::test]
async fn without_the_view_a_shortened_log_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = Embedded::open(dir.path(), Settings { retention_bytes: 0, ..small() }).expect("open");
    write_each(&bus, numbered(1..=9)).await;
    bus.commit(Vec::new(), Position(9)).await.expect("commit");
    bus.close().await.expect("close");
    let path = dir.path().join("view.redb");
    for make in [|path: &Path| std::fs::write(path, b"junk"), |path: &Path| std::fs::remove_file(path)] {
        make(&path).expect("damage");
        for _ in 0..2 {
            let error = Embedded::open(dir.path(), Settings::default()).err().expect("refused").to_string();
            assert!(error.contains("restore view.redb from a backup"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_view_ahead_of_the_log_gives_out_no_position_twice() {
    let dir = written(Settings::default(), 3).await;
    let bus = open(&dir);
    bus.commit(Vec::new(), Position(3)).await.expect("commit");
    bus.close().await.expect("close");
    std::fs::remove_file(segment(&dir)).expect("remove");
    let bus = open(&dir);
    assert_eq!(bus.recover().expect("recover").damage.len(), 1);
    assert_eq!(write_each(&bus, ["4".to_owned()]).await, [4]);
    bus.close().await.expect("close");
    let recovery = open(&dir).recover().expect("recover");
    assert_eq!((positions(&recovery.tail), recovery.damage.len()), (vec![4], 0));
}

// === a process that is killed ===

const CHILD: &str = "SIGNALBOX_TEST_LOG";

/// Not a test of its own: what the next test runs in another process.
#[test]
fn child_that_appends_until_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let settings = Settings { segment_bytes: 4096, ..Settings::default() };
        let bus = Embedded::open(Path::new(&dir), settings).expect("open");
        let mut reader = bus.reader().expect("reader");
        loop {
            let heads: Vec<_> = (0..3).map(|n| bus.record(note(&n.to_string())).expect("record")).collect();
            bus.durable(heads[2].position).await.expect("durable");
            println!("durable {}", heads[2].position);
            reader.advance(heads[2].position);
            if heads[2].position.0 % 60 == 0 {
                bus.commit(vec![row("at", Some(&heads[0].position.to_string()))], heads[0].position)
                    .await
                    .expect("commit");
                println!("committed {}", heads[0].position);
            }
        }
    });
}

#[test]
fn what_was_confirmed_survives_kill_9() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut confirmed = 0;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "bus::embedded::tests::child_that_appends_until_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("spawn");
        let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().expect("stdout")));
        let mut said = BTreeMap::from([("durable", 0_u64), ("committed", 0)]);
        let mut hear = |line: String| {
            for (word, position) in &mut said {
                if let Some(rest) = line.strip_prefix(word) {
                    *position = rest.trim().parse().expect("a position");
                }
            }
            said["durable"]
        };
        while hear(lines.next().expect("the child lives").expect("line")) < confirmed + 100 * round {}
        child.kill().expect("kill");
        child.wait().expect("wait");
        for line in lines.map_while(Result::ok) {
            hear(line);
        }

        let bus = open(&dir);
        let recovery = bus.recover().expect("recover");
        assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
        assert!(recovery.applied.0 >= said["committed"]);
        let last = bus.stats().appended.0;
        assert!(last >= said["durable"], "confirmed {}, found {last}", said["durable"]);
        assert_eq!(positions(&recovery.tail), (recovery.applied.0 + 1..=last).collect::<Vec<_>>());
        confirmed = last;
        bus.shared.close();
        drop(bus);
        while matches!(Volume::open(dir.path()), Err(BusError::Locked { .. })) {
            std::thread::yield_now();
        }
    }
}

// === against a model ===

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Commit(u8),
    Reopen,
    Tear(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u8).prop_map(Step::Append),
        2 => any::<u8>().prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => (1..40_u8).prop_map(Step::Tear),
    ]
}

/// Goes through the steps with a log of small segments; the model is the list of texts and the rows.
async fn follow(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("tempdir");
    let settings = Settings { retention_bytes: 1000, segment_bytes: 300, ..Settings::default() };
    let mut bus = Embedded::open(dir.path(), settings.clone()).expect("open");
    let (mut model, mut rows, mut applied) = (Vec::<String>::new(), BTreeMap::<String, String>::new(), 0);
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append(count) => {
                for _ in 0..count {
                    model.push(format!("{number}/{}", model.len()));
                    let head = bus.record(note(&model[model.len() - 1])).expect("record");
                    assert_eq!(head.position.0, model.len() as u64);
                }
                bus.durable(Position(model.len() as u64)).await.expect("durable");
            }
            Step::Commit(pick) => {
                applied += (model.len() as u64 - applied) * u64::from(pick) / 255;
                let key = (pick % 3).to_string();
                let value = (pick % 4 > 0).then(|| number.to_string());
                bus.commit(vec![row(&key, value.as_deref())], Position(applied)).await.expect("commit");
                match value {
                    Some(value) => drop(rows.insert(key, value)),
                    None => drop(rows.remove(&key)),
                }
            }
            Step::Reopen | Step::Tear(_) => {
                bus.close().await.expect("close");
                if let Step::Tear(garbage) = step {
                    let (_, path) = segment::list(&dir.path().join("segments")).expect("list").pop().expect("one");
                    let file = OpenOptions::new().append(true).open(path).expect("open");
                    io::Write::write_all(&mut &file, &vec![garbage; garbage.into()]).expect("write");
                }
                bus = Embedded::open(dir.path(), settings.clone()).expect("open");
                let recovery = bus.recover().expect("recover");
                assert_eq!((recovery.applied.0, recovery.damage), (applied, vec![]));
                assert_eq!(texts(&recovery.tail), model[applied as usize..]);
                let found: BTreeMap<_, _> = recovery
                    .rows
                    .into_iter()
                    .map(|(_, key, value)| {
                        (String::from_utf8(key).expect("key"), String::from_utf8(value).expect("value"))
                    })
                    .collect();
                assert_eq!(found, rows);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_appends_commits_and_restarts_agrees_with_the_model(mut steps in proptest::collection::vec(step(), 1..25)) {
        steps.insert(0, Step::Append(1));
        steps.push(Step::Reopen);
        tokio::runtime::Runtime::new().expect("runtime").block_on(follow(steps));
    }
}
