//! Damage to the files.

use super::*;

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
async fn whichever_bit_of_a_middle_record_flips_only_it_is_left_out() {
    let dir = written(Settings::default(), 4).await;
    let path = segment(&dir);
    let good = std::fs::read(&path).expect("read");
    let frame = frames(&path).remove(1);
    // What is read of a frame with a flipped bit is told by `frame.rs`, for each bit; here, what a start makes of it.
    for bit in (frame.start() * 8..frame.end() * 8).step_by(7) {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bytes).expect("write");
        let bus = open(&dir);
        let recovery = bus.recover().expect("recover");
        assert_eq!(positions(&recovery.tail), [1, 3, 4], "bit {bit}");
        assert_eq!(recovery.damage, ["positions 2 to 2 are damaged or missing and were left out"]);
        bus.close().await.expect("close");
    }
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
    let found = segment::list(&Disk, &dir.path().join("segments")).expect("list");
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
    let found = segment::list(&Disk, &dir.path().join("segments")).expect("list");
    let (first, path) = found.last().expect("some");
    std::fs::write(path, b"nothing of use").expect("write");
    let bus = open(&dir);
    assert_eq!(write_each(&bus, ["again".to_owned()]).await, [*first]);
    assert!(path.with_extension("log.damaged-1").exists());
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
async fn a_segment_of_a_newer_layout_is_refused_with_what_to_do() {
    let dir = written(Settings::default(), 1).await;
    let path = segment(&dir);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[8] += 1;
    let crc = crc32fast::hash(&[&bytes[..12], &bytes[16..frame::HEADER]].concat());
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).expect("write");
    let error = Embedded::open(dir.path(), Settings::default()).err().expect("refused").to_string();
    assert!(
        error.contains("has format 2") && error.contains("use the version that wrote it, or a newer one"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).expect("read"), bytes, "it is left as it was");
}

#[tokio::test]
async fn a_view_of_a_newer_version_is_refused_with_what_to_do() {
    for (key, words) in [("version", "view has format"), ("record_format", "made of records of format")] {
        let dir = written(Settings::default(), 1).await;
        // Shut down in order by a newer version, the log has nothing after the view.
        let bus = open(&dir);
        bus.commit(Vec::new(), Position(1)).await.expect("commit");
        bus.close().await.expect("close");
        let database = redb::Database::open(dir.path().join("view.redb")).expect("open the view");
        let write = database.begin_write().expect("begin");
        let table = redb::TableDefinition::<&str, &[u8]>::new("bus");
        write.open_table(table).expect("a table").insert(key, &[crate::record::FORMAT + 1][..]).expect("insert");
        write.commit().expect("commit");
        drop(database);
        let error = Embedded::open(dir.path(), Settings::default()).err().expect("refused").to_string();
        assert!(error.contains(words) && error.contains("the version that wrote it, or a newer one"), "{error}");
    }
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
