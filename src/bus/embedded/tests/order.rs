//! Order, durability and back-pressure.

use super::*;

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
    let bus = faulty(&dir, &stuck, Settings::default());
    stuck.full.store(true, Ordering::Relaxed);
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
