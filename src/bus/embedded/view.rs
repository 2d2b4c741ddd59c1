//! The view: rows of bytes in a redb file, with the position that they tell the state after. Knows no row.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::{
    files::{Files, Handle, Way, is_full, replace},
    segment::Mark,
};
use crate::record::{Delta, FORMAT, LogId, Position, TABLES, Table};

/// Version of the tables below. One that came later may be missing, and a version of the program that does not know it lets it be.
const VERSION: &[u8] = &[2];
/// The version before it, which has no index of open firings: a start reads them all, and the first write makes the file one of this version.
const WITHOUT_INDEX: &[u8] = &[1];
/// redb would take 1 GiB. Rows are read once, at the start, and written once a second: only inner pages are worth keeping, 400 KiB of 10,000 rows of
/// 4 KiB. What one write changes beyond half of it is written to the file at once, and synced with the rest.
const CACHE: usize = 2 << 20;

const BUS: TableDefinition<&str, &[u8]> = TableDefinition::new("bus");

fn table(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Rules => "rules",
        Table::Groups => "groups",
        Table::Firings => "firings",
        Table::FiringIndex => "firing-index",
        Table::Watches => "watches",
        Table::Meta => "meta",
        Table::DeadLetterIndex => "dead-letter-index",
        Table::DeadLetters => "dead-letters",
    })
}

/// Why the view cannot be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The file is not what was written. It can be made again from a whole log.
    Damaged(String),
    /// The disk is full; nothing was written.
    Full,
    /// Something else, in words.
    Failed(String),
}

/// A row: its table, key and value.
type Row = (Table, Vec<u8>, Vec<u8>);

type Opened = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What a start reads of the view.
pub(super) struct Rows {
    /// The rows of the tables that a start reads.
    pub(super) rows: Vec<Row>,
    /// The position that they tell the state after.
    pub(super) applied: u64,
    /// Where the log may be read from, at or before that.
    pub(super) mark: Option<Mark>,
}

/// The view's file.
pub(super) struct View {
    files: Arc<dyn Files>,
    path: PathBuf,
    /// Nothing after it was closed, or after a failed write: redb takes no more then until it is opened again.
    database: Mutex<Option<Database>>,
}

impl View {
    /// Opens the file, or makes it whole or not at all, and reads it all.
    pub(super) fn open(files: &Arc<dyn Files>, path: &Path, id: &LogId) -> Result<(Self, Rows), Trouble> {
        if files.about(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            make(&**files, path, id)?;
        }
        renew(&**files, path).map_err(|error| trouble(redb::Error::Io(error)))?;
        let database = database(&**files, path, Way::Existing)?;
        let rows = read(&database, id)?;
        let (files, database) = (Arc::clone(files), Mutex::new(Some(database)));
        Ok((Self { files, path: path.to_owned(), database }, rows))
    }

    /// Writes all of it or nothing. Without a mark the last one stays.
    pub(super) fn write(&self, delta: &Delta, position: Position, mark: Option<Mark>) -> Result<(), Trouble> {
        let mut slot = self.database.lock();
        let database = match slot.take() {
            Some(database) => database,
            None => database(&*self.files, &self.path, Way::Existing)?,
        };
        match apply(&database, delta, position, mark).map_err(trouble) {
            Ok(()) => {
                *slot = Some(database);
                Ok(())
            }
            Err(Trouble::Full) => Err(Trouble::Full),
            Err(trouble) => {
                // Whoever opens the file next in this boot reads what may never have reached the disk.
                if let Err(error) = self.files.open(&doubt(&self.path), Way::Kept) {
                    tracing::warn!(%error, "it could not be noted that the view is to be written anew");
                }
                Err(trouble)
            }
        }
    }

    /// One row.
    pub(super) fn row(&self, of: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        let slot = self.database.lock();
        // It is opened again by a write only: after it was closed the folder may be another process's.
        let Some(database) = &*slot else {
            return Err(Trouble::Full);
        };
        one(database, of, key).map_err(trouble)
    }

    /// Gives the file free.
    pub(super) fn close(&self) {
        if let Some(Err(error)) = self.database.lock().take().map(Database::close) {
            tracing::warn!(%error, "the view was not closed cleanly and is checked at the next start");
        }
    }
}

/// The view's file, as redb uses it.
#[derive(Debug)]
struct Backend(Box<dyn Handle>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// A failed fsync is never taken for a full disk, which would be tried again.
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync().map_err(|error| io::Error::other(format!("fsync: {error}")))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}

/// Makes an empty view. A crash leaves nothing by the view's name.
fn make(files: &dyn Files, path: &Path, id: &LogId) -> Result<(), Trouble> {
    let new = path.with_extension("new");
    let database = database(files, &new, Way::Emptied)?;
    begin(&database, id).map_err(trouble)?;
    database.close().map_err(|error| trouble(error.into()))?;
    let named = files.rename(&new, path).and_then(|()| files.sync_folder(path.parent().unwrap_or(Path::new("."))));
    named.map_err(|error| trouble(redb::Error::Io(error)))
}

/// The file whose existence says that the view is to be written anew. It need not survive a loss of power: what was read from memory only is then gone.
fn doubt(path: &Path) -> PathBuf {
    path.with_extension("doubt")
}

/// Writes the view anew after an fsync of it has failed: the kernel counts its pages as clean then, and another fsync would sync nothing.
fn renew(files: &dyn Files, path: &Path) -> io::Result<()> {
    let doubt = doubt(path);
    if files.about(&doubt).is_err() {
        return Ok(());
    }
    replace(files, path, &files.read(path)?)?;
    files.remove(&doubt)
}

fn database(files: &dyn Files, path: &Path, way: Way) -> Result<Database, Trouble> {
    let file = files.open(path, way).map_err(|error| trouble(redb::Error::Io(error)))?;
    let opened = Database::builder()
        .set_cache_size(CACHE)
        // Without it redb may panic on a file that was changed behind its back.
        .set_check_integrity_on_open(true)
        .create_with_backend(Backend(file));
    opened.map_err(|error| trouble(error.into()))
}

fn begin(database: &Database, id: &LogId) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut bus = write.open_table(BUS)?;
        bus.insert("version", VERSION)?;
        bus.insert("log", id.0.as_bytes())?;
        bus.insert("applied_position", 0_u64.to_be_bytes().as_slice())?;
        for one in TABLES {
            write.open_table(table(one))?;
        }
    }
    Ok(write.commit()?)
}

fn read(database: &Database, id: &LogId) -> Result<Rows, Trouble> {
    let read = database.begin_read().map_err(|error| trouble(error.into()))?;
    let bus = read.open_table(BUS).map_err(|error| trouble(error.into()))?;
    let value = |key: &str| match bus.get(key) {
        Ok(Some(value)) => Ok(value.value().to_vec()),
        Ok(None) => Err(Trouble::Damaged(format!("no {key}"))),
        Err(error) => Err(trouble(error.into())),
    };
    let version = value("version")?;
    if version != VERSION && version != WITHOUT_INDEX {
        return Err(Trouble::Failed(format!(
            "the view has format {version:?}, and this version reads {VERSION:?}: use the version that wrote it, or a newer one"
        )));
    }
    // A newer version may have shut down in order: then the log has no record after the view that would tell.
    let format = bus.get("record_format").map_err(|error| trouble(error.into()))?;
    if let Some(format) = format.and_then(|format| format.value().first().copied()).filter(|format| *format > FORMAT) {
        return Err(Trouble::Failed(format!(
            "the view was made of records of format {format}, and this version reads 1 to {FORMAT}: start the version that wrote it, or a newer one"
        )));
    }
    let log = value("log")?;
    if log != id.0.as_bytes() {
        let log = String::from_utf8_lossy(&log).into_owned();
        return Err(Trouble::Failed(format!("the view is of log {log}, but the segments are of log {}", id.0)));
    }
    let applied = value("applied_position")?;
    let applied = applied.try_into().map_err(|_| Trouble::Damaged("applied_position is no number".to_owned()))?;
    let applied = u64::from_be_bytes(applied);
    let mark = bus.get("mark").map_err(|error| trouble(error.into()))?;
    let mark = mark.and_then(|mark| Mark::of(mark.value())).filter(|mark| mark.position <= applied);
    let wanted = |table: Table| table.is_read_at_start() || (version == WITHOUT_INDEX && table == Table::Firings);
    let rows = rows(&read, wanted).map_err(trouble)?;
    Ok(Rows { rows, applied, mark })
}

fn one(database: &Database, of: Table, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
    let Some(rows) = opened(&database.begin_read()?, of)? else { return Ok(None) };
    Ok(rows.get(key)?.map(|row| row.value().to_vec()))
}

/// The table; nothing when it came later than the file and was not written since.
fn opened(read: &redb::ReadTransaction, of: Table) -> Result<Option<Opened>, redb::Error> {
    match read.open_table(table(of)) {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_))
            if matches!(of, Table::FiringIndex | Table::DeadLetterIndex | Table::DeadLetters) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn rows(read: &redb::ReadTransaction, wanted: impl Fn(Table) -> bool) -> Result<Vec<Row>, redb::Error> {
    let mut rows = Vec::new();
    for one in TABLES.into_iter().filter(|one| wanted(*one)) {
        let Some(table) = opened(read, one)? else { continue };
        for row in table.iter()? {
            let (key, value) = row?;
            rows.push((one, key.value().to_vec(), value.value().to_vec()));
        }
    }
    Ok(rows)
}

fn apply(database: &Database, delta: &Delta, position: Position, mark: Option<Mark>) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    for one in TABLES {
        let mut rows = delta.iter().filter(|(table, ..)| *table == one).peekable();
        if rows.peek().is_none() {
            continue;
        }
        let mut open = write.open_table(table(one))?;
        for (_, key, value) in rows {
            match value {
                Some(value) => drop(open.insert(key.as_slice(), value.as_slice())?),
                None => drop(open.remove(key.as_slice())?),
            }
        }
    }
    {
        let mut bus = write.open_table(BUS)?;
        bus.insert("version", VERSION)?;
        bus.insert("record_format", [FORMAT].as_slice())?;
        if let Some(mark) = mark {
            bus.insert("mark", mark.to_bytes().as_slice())?;
        }
        bus.insert("applied_position", position.0.to_be_bytes().as_slice())?;
    }
    Ok(write.commit()?)
}

fn trouble(error: redb::Error) -> Trouble {
    match error {
        redb::Error::Io(error) if is_full(&error) => Trouble::Full,
        redb::Error::Io(error)
            if matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            Trouble::Damaged(error.to_string())
        }
        redb::Error::Corrupted(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::RepairAborted => Trouble::Damaged(error.to_string()),
        error => Trouble::Failed(error.to_string()),
    }
}
