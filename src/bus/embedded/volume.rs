//! The small files beside the log: who has the volume, the log's identity, the epoch.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::segment::sync_folder;
use crate::{bus::BusError, record::LogId};

/// The folder of one log, locked for this process until dropped or unlocked.
#[derive(Debug)]
pub(super) struct Volume {
    folder: PathBuf,
    lock: File,
}

impl Volume {
    /// Makes the folder where it is missing, and takes the lock.
    pub(super) fn open(folder: &Path) -> Result<Self, BusError> {
        let fail = |error: io::Error| open_error(folder, format!("{error}"));
        std::fs::create_dir_all(folder.join("segments")).map_err(fail)?;
        let path = folder.join("LOCK");
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                let holder = if holder.is_empty() { "unknown".to_owned() } else { holder.trim().to_owned() };
                return Err(BusError::Locked { path: folder.display().to_string(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "pid {} on {}", std::process::id(), host())).map_err(fail)?;
        sync_folder(folder).map_err(fail)?;
        Ok(Self { folder: folder.to_owned(), lock })
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
        match std::fs::read_to_string(&path) {
            Ok(text) if is_id(text.trim()) => return Ok(LogId(text.trim().to_owned())),
            Ok(_) if known.is_none() => {
                return Err(self.error("log-id does not hold 32 hexadecimal digits: restore it from a backup".into()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.error(format!("log-id: {error}"))),
            Ok(_) | Err(_) => {}
        }
        let made = known.map_or_else(random, Ok).and_then(|id| {
            replace(&path, &id)?;
            Ok(LogId(id))
        });
        made.map_err(|error| self.error(format!("log-id: {error}")))
    }

    /// A number greater than `seen` and than those of all opens before.
    pub(super) fn next_epoch(&self, seen: u64) -> Result<u64, BusError> {
        let path = self.folder.join("epoch");
        let kept = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(self.error(format!("epoch: {error}"))),
        };
        let next = seen.max(kept) + 1;
        replace(&path, &next.to_string()).map_err(|error| self.error(format!("epoch: {error}")))?;
        Ok(next)
    }

    pub(super) fn error(&self, reason: String) -> BusError {
        open_error(&self.folder, reason)
    }
}

fn open_error(folder: &Path, reason: String) -> BusError {
    BusError::Open { path: folder.display().to_string(), reason }
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Writes a file whole or not at all, on stable storage.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// In a pod the host is the pod.
fn host() -> String {
    let kept = std::fs::read_to_string("/proc/sys/kernel/hostname");
    kept.map_or_else(|_| "an unknown host".to_owned(), |name| name.trim().to_owned())
}
