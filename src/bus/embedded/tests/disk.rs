//! A disk that is full or fails.

use super::*;

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
    let path = segment(&dir);
    let len = frames(&path).last().expect("a frame").end() as u64;
    faults.full.store(true, Ordering::Relaxed);
    let second = bus.record(note("2")).expect("record");
    assert!(matches!(bus.close().await, Err(BusError::Full)));
    assert!(matches!(bus.durable(second.position).await, Err(BusError::Full)));
    assert_eq!(std::fs::metadata(&path).expect("metadata").len(), len);
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
    while !bus.stats().disk_full {
        tokio::task::yield_now().await;
    }
    let tried = faults.tries.load(Ordering::Relaxed);
    while faults.tries.load(Ordering::Relaxed) == tried {
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(&mut durable).is_pending());
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

#[tokio::test]
async fn zeros_ahead_of_the_records_are_no_records_after_a_crash() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    write_each(&bus, numbered(1..=3)).await;
    let path = segment(&dir);
    let written = frames(&path).last().expect("a frame").end() as u64;
    while bus.stats().log_bytes <= written {
        tokio::task::yield_now().await;
    }
    // What a crash leaves: the file as it is now, not as the end of the process makes it.
    let crashed = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(crashed.path().join("segments")).expect("a folder");
    let copy = crashed.path().join("segments").join(path.file_name().expect("a name"));
    std::fs::copy(&path, &copy).expect("copy");
    assert!(std::fs::metadata(&copy).expect("metadata").len() > written);
    bus.close().await.expect("close");
    assert_eq!(std::fs::metadata(&path).expect("metadata").len(), written, "an end in order leaves no zeros");

    let again = open(&crashed);
    let recovery = again.recover().expect("recover");
    assert_eq!((texts(&recovery.tail), recovery.damage), (numbered(1..=3), vec![]));
    assert_eq!(write_each(&again, ["4".to_owned()]).await, [4]);
    again.close().await.expect("close");
    assert_eq!(texts(&open(&crashed).recover().expect("recover").tail), numbered(1..=4));
}

#[tokio::test]
async fn a_slow_fsync_delays_what_waits_for_it_and_no_more() {
    const SLOW: Duration = Duration::from_millis(500);
    let dir = tempfile::tempdir().expect("tempdir");
    let faults = Faults::default();
    let bus = faulty(&dir, &faults, Settings::default());
    write_each(&bus, ["1".to_owned()]).await;
    *faults.sync_takes.lock() = SLOW;
    let (begin, before) = (Instant::now(), bus.stats().syncs);
    // 200 senders, one after the other has its answer four times.
    let senders = (0..200).map(|sender| {
        let bus = Arc::clone(&bus);
        async move {
            for n in 0..4 {
                let asked = Instant::now();
                let head = bus.append(note(&format!("{sender}/{n}"))).await.expect("append");
                bus.durable(head.position).await.expect("durable");
                assert!(bus.stats().durable >= head.position);
                assert!(asked.elapsed() >= SLOW, "no answer comes before an fsync that began after the append");
                assert!(asked.elapsed() < Duration::from_secs(5), "no sender waits until it gives up");
            }
        }
    });
    futures::future::join_all(senders).await;
    let syncs = bus.stats().syncs - before;
    assert!(syncs <= 9, "800 records went out with {syncs} fsyncs in {:?}", begin.elapsed());
    *faults.sync_takes.lock() = Duration::ZERO;
    bus.close().await.expect("close");
    assert_eq!(open(&dir).recover().expect("recover").tail.len(), 801);
}
