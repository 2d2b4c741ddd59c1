//! Single rows of the view.

use super::*;

#[tokio::test]
async fn a_row_is_read_by_its_key_and_big_tables_are_not_read_at_a_start() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bus = open(&dir);
    bus.record(note("1")).expect("record");
    let letter = |value: Option<&[u8]>| vec![(Table::DeadLetters, b"f".to_vec(), value.map(<[u8]>::to_vec))];
    bus.commit(letter(Some(b"kept")), Position(1)).await.expect("commit");
    let read = async |bus: &Embedded, key: &[u8]| bus.row(Table::DeadLetters, key.to_vec()).await;
    assert_eq!(read(&bus, b"f").await.expect("read").as_deref(), Some(&b"kept"[..]));
    assert_eq!(read(&bus, b"g").await.expect("read"), None);
    bus.close().await.expect("close");
    assert!(read(&bus, b"f").await.is_err(), "the folder may be another process's by now");
    let bus = open(&dir);
    assert!(bus.recover().expect("recover").rows.is_empty());
    assert_eq!(read(&bus, b"f").await.expect("read").as_deref(), Some(&b"kept"[..]));
    bus.commit(letter(None), Position(1)).await.expect("commit");
    assert_eq!(read(&bus, b"f").await.expect("read"), None);
}

#[tokio::test]
async fn a_view_that_is_older_than_a_table_is_read_and_gets_it() {
    let dir = written(Settings::default(), 1).await;
    let bus = open(&dir);
    bus.commit(vec![row("a", Some("1"))], Position(1)).await.expect("commit");
    bus.close().await.expect("close");
    let path = dir.path().join("view.redb");
    let database = redb::Database::open(&path).expect("open");
    let write = database.begin_write().expect("write");
    for name in ["dead-letters", "dead-letter-index"] {
        let table: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new(name);
        assert!(write.delete_table(table).expect("delete"), "{name}");
    }
    write.commit().expect("commit");
    drop(database);
    let bus = open(&dir);
    let recovery = bus.recover().expect("recover");
    assert_eq!((recovery.rows.len(), recovery.damage), (1, Vec::new()));
    assert_eq!(bus.row(Table::DeadLetters, b"f".to_vec()).await.expect("read"), None);
    let letter = vec![(Table::DeadLetters, b"f".to_vec(), Some(b"kept".to_vec()))];
    bus.commit(letter, Position(1)).await.expect("commit");
    assert!(bus.row(Table::DeadLetters, b"f".to_vec()).await.expect("read").is_some());
}
