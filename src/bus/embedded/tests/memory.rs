//! A disk of memory that knows what is on stable storage and what is not, and that dies, is full or fails at a chosen operation.
//!
//! What a crash leaves is as bad as POSIX allows: of what was written after the last fsync any sectors, of what was done to a folder after its
//! last fsync any entries, each for itself.

use std::{collections::BTreeMap, ffi::OsString};

use super::*;

/// What a write is torn into.
const SECTOR: usize = 512;

/// What happens at an operation; the first is 1. Reads are not counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The process dies before it.
    Before(u64),
    /// The process dies when half of it is done.
    Within(u64),
    /// From this one on so many find no space, if they need any.
    Full(u64, u64),
    /// It fails. What an fsync should have put on stable storage never gets there, though it can be read until the power is lost.
    Fails(u64),
}

/// What becomes of what is not on stable storage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// All is kept: only the process has died.
    Process,
    /// All is lost.
    Power,
    /// Some is lost.
    Torn(u64),
}

/// The disk. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    folders: BTreeMap<PathBuf, Folder>,
    fault: Option<Fault>,
    dead: bool,
    /// Each operation, in words.
    done: Vec<String>,
}

#[derive(Clone, Debug)]
struct Inode {
    stable: Vec<u8>,
    now: Vec<u8>,
    /// What is between the two.
    pending: Vec<Change>,
    modified: SystemTime,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => write(to, *offset, bytes),
            Self::Len(len) => to.resize(*len, 0),
        }
    }
}

type Entries = BTreeMap<OsString, usize>;

#[derive(Clone, Debug, Default)]
struct Folder {
    /// Whether the folder above knows it on stable storage.
    known: bool,
    stable: Entries,
    now: Entries,
    pending: Vec<Move>,
}

/// A name that is gone, and one that is given.
type Move = (Option<OsString>, Option<(OsString, usize)>);

/// How far an operation gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Whole,
    Half,
}

fn name(path: &Path) -> OsString {
    path.file_name().expect("a name").to_owned()
}

fn above(path: &Path) -> &Path {
    path.parent().expect("a folder above")
}

fn write(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    to.resize(to.len().max(offset + bytes.len()), 0);
    to[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Nobody hears of what was done by half.
fn whole(reach: io::Result<Reach>) -> io::Result<()> {
    match reach? {
        Reach::Whole => Ok(()),
        Reach::Half => Err(io::Error::other("the process is dead")),
    }
}

// === impl Memory ===

impl Memory {
    pub(super) fn strike(&self, fault: Fault) {
        self.0.lock().fault = Some(fault);
    }

    /// The operations so far, in words.
    pub(super) fn done(&self) -> Vec<String> {
        self.0.lock().done.clone()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// The disk after a crash. The fault does not come again.
    pub(super) fn after(&self, crash: Crash) -> Self {
        let mut state = self.0.lock().clone();
        (state.fault, state.dead) = (None, false);
        match crash {
            Crash::Process => {}
            Crash::Power => state.lose(&mut |_| false),
            Crash::Torn(seed) => {
                let mut random = fastrand::Rng::with_seed(seed);
                state.lose(&mut |_| random.bool());
            }
        }
        Self(Arc::new(Mutex::new(state)))
    }
}

// === impl State ===

impl State {
    /// Counts an operation, and says how far it gets.
    fn step(&mut self, what: &str, path: &str, needs_space: bool) -> io::Result<Reach> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        self.done.push(format!("{what} {path}"));
        let number = self.done.len() as u64;
        match self.fault {
            Some(Fault::Before(at)) if at == number => {
                self.dead = true;
                Err(io::Error::other("the process is dead"))
            }
            Some(Fault::Within(at)) if at == number => {
                self.dead = true;
                Ok(Reach::Half)
            }
            Some(Fault::Full(from, count)) if needs_space && (from..from + count).contains(&number) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(Fault::Fails(at)) if at == number => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(Reach::Whole),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        let folder = self.folders.get(above(path)).ok_or(io::ErrorKind::NotFound)?;
        Ok(*folder.now.get(&name(path)).ok_or(io::ErrorKind::NotFound)?)
    }

    fn change(&mut self, inode: usize, change: Change) {
        let inode = &mut self.inodes[inode];
        change.apply(&mut inode.now);
        inode.modified = SystemTime::now();
        inode.pending.push(change);
    }

    fn relink(&mut self, folder: &Path, moved: Move) {
        let folder = self.folders.get_mut(folder).expect("a folder");
        apply(&mut folder.now, &moved);
        folder.pending.push(moved);
    }

    /// Takes back what is not on stable storage, unless it is kept.
    fn lose(&mut self, keep: &mut dyn FnMut(()) -> bool) {
        for inode in &mut self.inodes {
            for change in std::mem::take(&mut inode.pending) {
                match change {
                    Change::Len(len) if keep(()) => inode.stable.resize(len, 0),
                    Change::Len(_) => {}
                    Change::Write(offset, bytes) => {
                        let first = (SECTOR - offset % SECTOR).min(bytes.len());
                        let (head, rest) = bytes.split_at(first);
                        let mut at = offset;
                        for sector in std::iter::once(head).chain(rest.chunks(SECTOR)) {
                            if keep(()) {
                                write(&mut inode.stable, at, sector);
                            }
                            at += sector.len();
                        }
                    }
                }
            }
            inode.now = inode.stable.clone();
        }
        self.folders.retain(|_, folder| folder.known || keep(()));
        for folder in self.folders.values_mut() {
            folder.known = true;
            for moved in std::mem::take(&mut folder.pending) {
                if keep(()) {
                    apply(&mut folder.stable, &moved);
                }
            }
            folder.now = folder.stable.clone();
        }
    }
}

fn apply(entries: &mut Entries, (gone, given): &Move) {
    if let Some(gone) = gone {
        entries.remove(gone);
    }
    if let Some((name, inode)) = given {
        entries.insert(name.clone(), *inode);
    }
}

impl Files for Memory {
    fn open(&self, path: &Path, way: Way) -> io::Result<Box<dyn Handle>> {
        let mut state = self.0.lock();
        let inode = match state.find(path) {
            Ok(inode) => {
                if way == Way::Emptied && !state.inodes[inode].now.is_empty() {
                    state.step("empty", &path.display().to_string(), false)?;
                    state.change(inode, Change::Len(0));
                }
                inode
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound || way == Way::Existing => return Err(error),
            Err(_) => {
                state.step("create", &path.display().to_string(), true)?;
                let inode = state.inodes.len();
                let (stable, now, pending) = (Vec::new(), Vec::new(), Vec::new());
                state.inodes.push(Inode { stable, now, pending, modified: SystemTime::now() });
                state.relink(above(path), (None, Some((name(path), inode))));
                inode
            }
        };
        Ok(Box::new(Opened { memory: self.clone(), inode, path: path.display().to_string() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.lock();
        Ok(state.inodes[state.find(path)?].now.clone())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.0.lock();
        let found = state.folders.get(folder).filter(|_| !state.dead).ok_or(io::ErrorKind::NotFound)?;
        Ok(found.now.keys().map(|name| folder.join(name)).collect())
    }

    fn about(&self, path: &Path) -> io::Result<About> {
        let state = self.0.lock();
        let inode = &state.inodes[state.find(path)?];
        Ok(About { len: inode.now.len() as u64, modified: inode.modified })
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let missing: Vec<_> = path.ancestors().filter(|folder| !state.folders.contains_key(*folder)).collect();
        for folder in missing.into_iter().rev() {
            state.step("make", &folder.display().to_string(), true)?;
            // The root is mounted.
            let made = Folder { known: folder.parent().is_none(), ..Folder::default() };
            state.folders.insert(folder.to_owned(), made);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let inode = state.find(from)?;
        state.step("rename", &format!("{} to {}", from.display(), to.display()), false)?;
        state.relink(above(from), (Some(name(from)), Some((name(to), inode))));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.find(path)?;
        state.step("remove", &path.display().to_string(), false)?;
        state.relink(above(path), (Some(name(path)), None));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let reach = state.step("sync", &path.display().to_string(), false);
        for (_, below) in state.folders.iter_mut().filter(|(below, _)| below.parent() == Some(path)) {
            below.known |= reach.is_ok();
        }
        let folder = state.folders.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        let count = match &reach {
            Ok(Reach::Whole) => folder.pending.len(),
            Ok(Reach::Half) => folder.pending.len() / 2,
            Err(_) => 0,
        };
        folder.pending.drain(..count).for_each(|moved| apply(&mut folder.stable, &moved));
        whole(reach)
    }
}

/// An open file.
#[derive(Debug)]
struct Opened {
    memory: Memory,
    inode: usize,
    path: String,
}

impl Handle for Opened {
    fn len(&self) -> io::Result<u64> {
        Ok(self.memory.0.lock().inodes[self.inode].now.len() as u64)
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.memory.0.lock();
        if state.dead {
            return Err(io::Error::other("the process is dead"));
        }
        let from = usize::try_from(offset).expect("small");
        let found = state.inodes[self.inode].now.get(from..from + room.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        room.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.memory.0.lock();
        let reach = state.step("write", &format!("{} of {} bytes at {offset}", self.path, bytes.len()), true);
        let some = if matches!(reach, Ok(Reach::Whole)) { bytes.len() } else { bytes.len() / 2 };
        let dies = reach.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::StorageFull);
        if !dies {
            state.change(self.inode, Change::Write(usize::try_from(offset).expect("small"), bytes[..some].to_vec()));
        }
        whole(reach)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.memory.0.lock();
        let len = usize::try_from(len).expect("small");
        let grows = len > state.inodes[self.inode].now.len();
        state.step("resize", &format!("{} to {len}", self.path), grows)?;
        state.change(self.inode, Change::Len(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.memory.0.lock();
        let reach = state.step("sync", &self.path, false);
        let (dead, inode) = (state.dead, &mut state.inodes[self.inode]);
        match &reach {
            Ok(Reach::Whole) => {
                std::mem::take(&mut inode.pending).iter().for_each(|change| change.apply(&mut inode.stable));
            }
            // Some of it gets there, by what the crash keeps.
            Ok(Reach::Half) => {}
            // The kernel takes the pages for clean.
            Err(_) if !dead => inode.pending.clear(),
            Err(_) => {}
        }
        whole(reach)
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        Ok(())
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }
}
