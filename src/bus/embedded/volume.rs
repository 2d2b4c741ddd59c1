//! The small files beside the log: who has the volume, the log's identity, the epoch.

use std::{
    fs::{File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::files::{Files, Handle, Way, is_full, replace};
use crate::{bus::BusError, record::LogId};

/// The folder of one log, locked for this process until dropped or unlocked.
#[derive(Debug)]
pub(super) struct Volume {
    files: Arc<dyn Files>,
    folder: PathBuf,
    lock: Box<dyn Handle>,
}

impl Volume {
    /// Makes the folder where it is missing, and takes the lock.
    pub(super) fn open(files: Arc<dyn Files>, folder: &Path) -> Result<Self, BusError> {
        let fail = |error: io::Error| open_error(folder, "", &error);
        files.make_folder(&folder.join("segments")).map_err(fail)?;
        let path = folder.join("LOCK");
        let lock = files.open(&path, Way::Kept).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = files.read(&path).unwrap_or_default();
                let holder = String::from_utf8_lossy(&holder).trim().to_owned();
                let holder = if holder.is_empty() { "unknown".to_owned() } else { holder };
                return Err(BusError::Locked { path: folder.display().to_string(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let holder = format!("pid {} on {}\n", std::process::id(), host());
        lock.set_len(0).and_then(|()| lock.write_at(holder.as_bytes(), 0)).map_err(fail)?;
        // Also what a process that was killed has done to the folders: what is found there is relied on.
        files.sync_folder(&folder.join("segments")).and_then(|()| files.sync_folder(folder)).map_err(fail)?;
        if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
            files.sync_folder(above).map_err(fail)?;
        }
        Ok(Self { files, folder: folder.to_owned(), lock })
    }

    pub(super) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn segments(&self) -> PathBuf {
        self.folder.join("segments")
    }

    pub(super) fn view(&self) -> PathBuf {
        self.folder.join("view.redb")
    }

    /// Lets another process have the volume.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the log's lock was not released before the process ends");
        }
    }

    /// The log's identity. A lost one is taken from `known`, else a new one is made.
    pub(super) fn id(&self, known: Option<String>) -> Result<LogId, BusError> {
        let path = self.folder.join("log-id");
        match self.text(&path) {
            Ok(text) if is_id(&text) => return Ok(LogId(text)),
            Ok(_) if known.is_none() => {
                return Err(self.error("log-id does not hold 32 hexadecimal digits: restore it from a backup".into()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed("log-id: ", &error)),
            Ok(_) | Err(_) => {}
        }
        let made = known.map_or_else(random, Ok).and_then(|id| {
            self.put(&path, &id)?;
            Ok(LogId(id))
        });
        made.map_err(|error| self.failed("log-id: ", &error))
    }

    /// A number greater than `seen` and than those of all opens before.
    pub(super) fn next_epoch(&self, seen: u64) -> Result<u64, BusError> {
        let path = self.folder.join("epoch");
        let kept = match self.text(&path) {
            Ok(text) => text.parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(self.failed("epoch: ", &error)),
        };
        let next = seen.max(kept) + 1;
        self.put(&path, &next.to_string()).map_err(|error| self.failed("epoch: ", &error))?;
        Ok(next)
    }

    fn text(&self, path: &Path) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.files.read(path)?).trim().to_owned())
    }

    /// Writes a line whole or not at all, on stable storage.
    fn put(&self, path: &Path, text: &str) -> io::Result<()> {
        replace(&*self.files, path, format!("{text}\n").as_bytes()).map(drop)
    }

    /// The volume cannot be used as it is, for a reason in words.
    pub(super) fn error(&self, reason: String) -> BusError {
        BusError::Open { path: self.folder.display().to_string(), reason }
    }

    /// The volume cannot be opened now. `what` ends in a colon, or is empty.
    pub(super) fn failed(&self, what: &str, error: &io::Error) -> BusError {
        open_error(&self.folder, what, error)
    }
}

fn open_error(folder: &Path, what: &str, error: &io::Error) -> BusError {
    if is_full(error) {
        return BusError::Full;
    }
    BusError::Open { path: folder.display().to_string(), reason: format!("{what}{error}") }
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// In a pod the host is the pod.
fn host() -> String {
    let kept = std::fs::read_to_string("/proc/sys/kernel/hostname");
    kept.map_or_else(|_| "an unknown host".to_owned(), |name| name.trim().to_owned())
}
