//! The view, and what retention may drop.

use super::*;

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
    let before = segment::list(&Disk, &folder).expect("list");
    let covered = before[2].0;
    bus.commit(Vec::new(), Position(covered)).await.expect("commit");
    let after = segment::list(&Disk, &folder).expect("list");
    assert_eq!(after, before[2..], "the segment that holds {covered} stays, for what comes after it");
    bus.commit(Vec::new(), Position(9)).await.expect("commit");
    assert_eq!(segment::list(&Disk, &folder).expect("list").len(), 1, "the one being written stays");
    // The log thread may be about to fill the segment with zeros.
    let on_disk = || std::fs::metadata(&before.last().expect("some").1).expect("metadata").len();
    let told = async {
        while bus.stats().log_bytes != on_disk() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("what is told is what is on the disk");
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
    let before = segment::list(&Disk, &folder).expect("list");
    let old = SystemTime::now() - Duration::from_hours(25);
    File::options().write(true).open(&before[0].1).and_then(|file| file.set_modified(old)).expect("age");
    bus.commit(Vec::new(), Position(9)).await.expect("commit");
    assert_eq!(segment::list(&Disk, &folder).expect("list"), before[1..]);
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

#[tokio::test]
async fn a_start_reads_from_the_last_mark_before_the_view_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    let long = "x".repeat(100_000);
    write_each(&bus, (1..=6).map(|n| format!("{n}{long}"))).await;
    bus.commit(Vec::new(), Position(4)).await.expect("commit");
    bus.close().await.expect("close");
    let path = segment(&dir);
    let whole = std::fs::read(&path).expect("read");
    // What is before the mark is not looked at: that it is gone goes unnoticed.
    let mut scribbled = whole.clone();
    scribbled[frames(&path)[0].start()..frames(&path)[3].start()].fill(7);
    std::fs::write(&path, &scribbled).expect("write");
    let bus = open(&dir);
    let recovery = bus.recover().expect("recover");
    assert_eq!((positions(&recovery.tail), recovery.damage), (vec![5, 6], vec![]));
    assert_eq!(write_each(&bus, ["7".to_owned()]).await, [7]);
    bus.close().await.expect("close");
    let bus = open(&dir);
    assert_eq!(positions(&bus.recover().expect("recover").tail), [5, 6, 7]);
    bus.close().await.expect("close");
    // A mark that points at nothing whole is no mark.
    let mut other = whole;
    let fourth = frames_of(&other)[3].payload.start + 1;
    other[fourth] ^= 1;
    std::fs::write(&path, &other).expect("write");
    let bus = open(&dir);
    let recovery = bus.recover().expect("recover");
    assert_eq!((positions(&recovery.tail), recovery.damage), (vec![5, 6], vec![]));
}
