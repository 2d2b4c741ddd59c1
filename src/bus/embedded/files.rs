//! What the bus does to files: everything goes through here, so that tests can count it, let it fail, and die before, in and after each operation.
//! Knows no bytes of the log.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The files and folders of a volume. What is done to a folder's entries is on stable storage after [`Files::sync_folder`] only.
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, way: Way) -> io::Result<Box<dyn Handle>>;
    /// All bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// What is in a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// What can be told of a file without reading it.
    fn about(&self, path: &Path) -> io::Result<About>;
    /// Makes a folder and those above it, where missing.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Puts a folder's entries on stable storage.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// An open file. What is written is on stable storage after [`Handle::sync`] only.
pub(super) trait Handle: fmt::Debug + Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads as many bytes as there is room for, from the offset on.
    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all bytes at the offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Drops what is beyond, or adds zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Puts on stable storage what was written, and the length.
    fn sync(&self) -> io::Result<()>;
    /// Keeps other processes from locking it.
    fn try_lock(&self) -> Result<(), TryLockError>;
    /// Ends that.
    fn unlock(&self) -> io::Result<()>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It must exist.
    Existing,
    /// It is made where missing, and else kept as it is.
    Kept,
    /// It is made where missing, and else emptied.
    Emptied,
}

/// What can be told of a file without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) len: u64,
    /// When it was written last.
    pub(super) modified: SystemTime,
}

/// The machine's own files.
#[derive(Debug)]
pub(super) struct Disk;

impl Files for Disk {
    fn open(&self, path: &Path, way: Way) -> io::Result<Box<dyn Handle>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(way != Way::Existing).truncate(way == Way::Emptied);
        Ok(Box::new(options.open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn about(&self, path: &Path) -> io::Result<About> {
        let found = std::fs::metadata(path)?;
        Ok(About { len: found.len(), modified: found.modified()? })
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

impl Handle for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(room, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        File::try_lock(self)
    }

    fn unlock(&self) -> io::Result<()> {
        File::unlock(self)
    }
}

/// Whether space may return.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes a file whole or not at all, on stable storage. A name with the ending `new` beside it is used, and may be left by a crash.
pub(super) fn replace(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn Handle>> {
    let new = path.with_extension("new");
    let file = files.open(&new, Way::Emptied)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    files.rename(&new, path)?;
    files.sync_folder(path.parent().unwrap_or(Path::new(".")))?;
    Ok(file)
}

/// Moves a file that cannot be used out of the way, and tells where to.
pub(super) fn move_aside(files: &dyn Files, path: &Path) -> io::Result<PathBuf> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    let mut aside = (1..).map(|n| path.with_extension(format!("{ending}.damaged-{n}")));
    let aside = aside.find(|aside| files.about(aside).is_err()).expect("the numbers do not end");
    files.rename(path, &aside)?;
    files.sync_folder(path.parent().unwrap_or(Path::new(".")))?;
    Ok(aside)
}
