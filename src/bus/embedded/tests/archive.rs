//! What is retained, read beside everything else.

use super::*;
use crate::{
    bus::Archive,
    event::{Event, Origin, WatchKey},
    record::{EventInput, Lookups},
};

fn event(id: &str) -> Record {
    let watch = WatchKey { api_version: "v1".into(), kind: "Pod".into(), namespace: None };
    let event = Arc::new(Event::new(id, "/api/v1/pods", "dev.signalbox.resource.created", serde_json::Value::Null));
    let origin = Origin::new(watch, "u".into(), None);
    Record::Event(Box::new(EventInput { event, origin, only: None, lookups: Lookups::default() }))
}

/// Appends each as a write of its own, a note before each event.
async fn write_events(bus: &Embedded, ids: std::ops::RangeInclusive<u64>) -> Vec<crate::record::Head> {
    let mut heads = Vec::new();
    for id in ids {
        bus.record(note("between")).expect("record");
        let head = bus.record(event(&id.to_string())).expect("record");
        bus.durable(head.position).await.expect("durable");
        heads.push(head);
    }
    heads
}

fn ids(entries: &[Entry]) -> Vec<String> {
    let id = |entry: &Entry| match &*entry.record {
        Record::Event(input) => input.event.id.clone(),
        other => format!("no event: {other:?}"),
    };
    entries.iter().map(id).collect()
}

/// The rest, in pieces of so many bytes.
fn rest(archive: &mut dyn Archive, bytes: u64) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(entries) = archive.next(bytes).expect("read") {
        all.extend(ids(&entries));
    }
    all
}

#[tokio::test]
async fn events_come_in_order_over_all_segments_from_the_time_on_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = Embedded::open(dir.path(), Settings { segment_bytes: 600, ..small() }).expect("open");
    let heads = write_events(&bus, 1..=9).await;
    assert!(segment::list(&Disk, &dir.path().join("segments")).expect("list").len() > 2);
    for bytes in [1, 1_000, 1 << 20] {
        let mut archive = bus.archive(0);
        assert_eq!((archive.begins(), rest(&mut *archive, bytes)), (None, numbered(1..=9)), "{bytes}");
        let begins = archive.begins().expect("there is something");
        assert!(begins <= heads[0].stamp.wall && begins > heads[0].stamp.wall - 60_000_000);
        assert_eq!(archive.lost(), 0);
    }
    assert_eq!(rest(&mut *bus.archive(heads[6].stamp.wall), 1_000), numbered(7..=9));
    assert_eq!(rest(&mut *bus.archive(i64::MAX), 1_000), Vec::<String>::new());
    bus.close().await.expect("close");
    let again = Embedded::open(dir.path(), small()).expect("open");
    assert_eq!(rest(&mut *again.archive(0), 1_000), numbered(1..=9), "also of a life before");
}

#[tokio::test]
async fn an_empty_log_has_an_empty_archive() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut archive = open(&dir).archive(0);
    assert_eq!((rest(&mut *archive, 1), archive.begins(), archive.lost()), (Vec::new(), None, 0));
}

#[tokio::test]
async fn what_is_not_durable_when_the_reading_begins_is_not_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let faults = Faults::default();
    let bus = faulty(&dir, &faults, Settings::default());
    write_events(&bus, 1..=2).await;
    faults.full.store(true, Ordering::Relaxed);
    let tries = faults.tries.load(Ordering::Relaxed);
    bus.record(event("torn")).expect("record");
    let mut archive = bus.archive(0);
    while faults.tries.load(Ordering::Relaxed) == tries {
        tokio::task::yield_now().await;
    }
    assert_eq!(rest(&mut *archive, 1), numbered(1..=2), "half of the third is in the file, or was");
    let mut before = bus.archive(0);
    faults.full.store(false, Ordering::Relaxed);
    bus.durable(Position(5)).await.expect("durable");
    assert_eq!(rest(&mut *before, 1), numbered(1..=2));
    assert_eq!((rest(&mut *bus.archive(0), 1).len(), before.lost()), (3, 0));
}

#[tokio::test]
async fn what_retention_drops_before_it_is_read_is_counted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let settings = Settings { segment_bytes: 600, retention_bytes: 1, ..Settings::default() };
    let bus = Embedded::open(dir.path(), settings).expect("open");
    write_events(&bus, 1..=9).await;
    let mut archive = bus.archive(0);
    let first = ids(&archive.next(1).expect("read").expect("there is more"));
    bus.commit(Vec::new(), Position(18)).await.expect("commit");
    let after = rest(&mut *archive, 1);
    assert!(after.len() < 8 && after.ends_with(&["9".to_owned()]), "{first:?} {after:?}");
    assert!(archive.lost() > 0);
    let mut later = bus.archive(0);
    assert!(rest(&mut *later, 1).len() < 9);
    assert_eq!(later.lost(), 0, "what was gone before is not missed: it tells when it begins");
}

#[tokio::test]
async fn what_is_damaged_is_left_out_and_counted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    write_events(&bus, 1..=4).await;
    bus.close().await.expect("close");
    let path = segment(&dir);
    let third = frames(&path)[5].payload.clone();
    let again = open(&dir);
    flip(&path, third.start + 4);
    let mut archive = again.archive(0);
    assert_eq!((rest(&mut *archive, 1), archive.lost()), (vec!["1".into(), "2".into(), "4".into()], 1));
}

#[tokio::test]
async fn an_event_that_is_longer_than_a_piece_is_read_whole() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    let long = "x".repeat(3 << 20);
    let head = bus.record(event(&long)).expect("record");
    bus.record(event("short")).expect("record");
    bus.durable(Position(head.position.0 + 1)).await.expect("durable");
    assert!(rest(&mut *bus.archive(0), 1) == [long, "short".to_owned()]);
}
