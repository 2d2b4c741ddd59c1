//! Which events were accepted, so that one that is sent again is no second event.
//!
//! What is remembered is part of what the log folds to, as what watches remember is: it survives restarts. An event is told by its `source` and `id`.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::event::{Event, Origin, Seen, WatchKey, event_source};

/// How long an id is remembered.
pub(super) const KEPT: Duration = Duration::from_hours(24);
/// Ids of all sources together. One takes 50 to 100 bytes here, as full as the tables are, and about as much in the shard: 200 MB at most.
pub(super) const MAX: usize = 1_000_000;
/// One source has at most this part of them: a broker of many messages takes no ids from those who send few.
const SHARE: usize = 5;
/// Ids that the log is told to forget in one record, of about 150 bytes each: 75 kB.
const BATCH: usize = 500;
/// The id of an event that has none of its own: it is not remembered.
const NONE: &str = "";

/// An EventSource: its namespace and `metadata.uid`.
pub(in crate::sources) type Source = (String, String);

/// The start of the SHA-256 of `source` and `id`.
pub(super) type Hash = [u8; 16];

/// What was accepted of all sources.
pub(super) struct Ids {
    max: usize,
    share: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Each source once: a key holds its place here.
    sources: Vec<Known>,
    /// When each was accepted, in seconds since 1970.
    accepted: HashMap<Key, u32>,
    /// Those that are on their way into the log.
    pending: HashSet<Key>,
}

/// What is known of a source. One that is gone has no name, and leaves its place to another.
#[derive(Default)]
struct Known {
    source: Source,
    /// Its ids in the order of acceptance, and such as are not accepted any more.
    order: VecDeque<(Hash, u32)>,
    /// How many are accepted.
    held: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: u32,
    hash: Hash,
}

/// What is known of an id.
pub(super) enum Sight<'a> {
    /// Nothing: it is this caller's now.
    New(Reservation<'a>),
    /// The same event is on its way into the log.
    UnderWay,
    /// The event is in the log.
    Accepted,
}

/// An id that nobody else can have meanwhile. Dropped, it was not accepted.
pub(super) struct Reservation<'a> {
    ids: &'a Ids,
    key: Key,
}

/// What an event is told by.
pub(super) fn hash(event: &Event) -> Hash {
    let digest = Sha256::new().chain_update(&event.source).chain_update([0]).chain_update(&event.id).finalize();
    std::array::from_fn(|at| digest[at])
}

/// What an event without an id of its own is told by. No other event has such a hash by its id.
pub(super) fn told(by: &str) -> Hash {
    let digest = Sha256::new().chain_update([0, 0]).chain_update(by).finalize();
    std::array::from_fn(|at| digest[at])
}

/// What the log remembers an event by; nothing is remembered of one without an id of its own, but that the source is there.
pub(super) fn uid(source_uid: &str, hash: Option<&Hash>) -> String {
    format!("{source_uid}/{}", hash.map_or(NONE.to_owned(), |hash| HEXLOWER.encode(hash)))
}

impl Ids {
    /// What the log remembers, taken out of what it remembers of all watches.
    pub(super) fn take(memory: &mut HashMap<WatchKey, HashMap<String, Seen>>, max: usize) -> Self {
        let mut inner = Inner::default();
        let watches: Vec<WatchKey> = memory.keys().filter(|watch| event_source::is_watch(watch)).cloned().collect();
        let mut found: Vec<(Key, u32)> = Vec::new();
        for watch in watches {
            let namespace = watch.namespace.clone().unwrap_or_default();
            for (uid, seen) in memory.remove(&watch).into_iter().flatten() {
                let (source_uid, hash) = uid.split_once('/').unwrap_or((&uid, NONE));
                let source = inner.source(&namespace, source_uid);
                let hash = HEXLOWER.decode(hash.as_bytes()).ok().and_then(|hash| Hash::try_from(hash).ok());
                found.extend(hash.map(|hash| (Key { source, hash }, seconds(seen.version))));
            }
        }
        found.sort_unstable_by_key(|(_, at)| *at);
        found.into_iter().for_each(|(key, at)| inner.remember(key, at));
        Self { max, share: max.div_ceil(SHARE).max(BATCH), inner: Mutex::new(inner) }
    }

    /// Looks for an id, and reserves it when it is new.
    pub(super) fn reserve(&self, namespace: &str, source_uid: &str, hash: Hash) -> Sight<'_> {
        let mut inner = self.inner.lock();
        let key = Key { source: inner.source(namespace, source_uid), hash };
        if inner.accepted.contains_key(&key) {
            return Sight::Accepted;
        }
        if inner.pending.insert(key) { Sight::New(Reservation { ids: self, key }) } else { Sight::UnderWay }
    }

    /// Another event is told by this from now on: the one before cannot come again.
    pub(super) fn anew(&self, namespace: &str, source_uid: &str, hash: Hash) {
        let mut inner = self.inner.lock();
        let key = Key { source: inner.source(namespace, source_uid), hash };
        inner.let_go(&key);
    }

    /// What the log is to forget of events that cannot come again: those of them that are remembered.
    pub(super) fn known(&self, namespace: &str, source_uid: &str, hashes: &[Hash]) -> Vec<Origin> {
        let mut inner = self.inner.lock();
        let source = inner.source(namespace, source_uid);
        let keys = hashes.iter().map(|hash| Key { source, hash: *hash });
        keys.filter(|key| inner.accepted.contains_key(key)).map(|key| inner.gone(&key)).collect()
    }

    /// Events that cannot come again, and that the log has forgotten, are remembered no more.
    pub(super) fn settled(&self, namespace: &str, source_uid: &str, hashes: &[Hash]) {
        let mut inner = self.inner.lock();
        let source = inner.source(namespace, source_uid);
        for hash in hashes {
            inner.let_go(&Key { source, hash: *hash });
        }
    }

    /// Whether any event of the source is remembered.
    pub(super) fn remembers(&self, namespace: &str, source_uid: &str) -> bool {
        let inner = self.inner.lock();
        let is_it = |known: &&Known| known.source.0 == namespace && known.source.1 == source_uid;
        inner.sources.iter().find(is_it).is_some_and(|known| known.held > 0)
    }

    /// Whether an id that came again is remembered anew from `now` on (microseconds since 1970), because half of the time is over: what is sent again and again,
    /// as alerts are, stays the same event. The log is to be told.
    pub(super) fn renew(&self, namespace: &str, source_uid: &str, hash: Hash, now: u64) -> bool {
        let (now, mut inner) = (seconds(now), self.inner.lock());
        let key = Key { source: inner.source(namespace, source_uid), hash };
        let half = u32::try_from(KEPT.as_secs() / 2).unwrap_or(u32::MAX);
        if inner.accepted.get(&key).is_none_or(|at| now.saturating_sub(*at) < half) {
            return false;
        }
        inner.remember(key, now);
        true
    }

    /// Notes that the log remembers something of the source: an event without an id of its own.
    pub(super) fn know(&self, namespace: &str, source_uid: &str) {
        self.inner.lock().source(namespace, source_uid);
    }

    /// What the log is to forget, in parts: ids that are older than 24 hours at `now` (microseconds since 1970).
    pub(super) fn expired(&self, now: u64) -> Vec<Origin> {
        let (now, kept) = (seconds(now), u32::try_from(KEPT.as_secs()).unwrap_or(u32::MAX));
        let mut inner = self.inner.lock();
        let mut places = 0..inner.sources.len();
        // Those of one source at a time.
        let found = places.find_map(|place| {
            let origins = inner.pop(place, |_, at| now.saturating_sub(at) >= kept);
            (!origins.is_empty()).then_some(origins)
        });
        found.unwrap_or_default()
    }

    /// What the log is to forget earlier, because there are too many ids, of all sources or of one: the oldest of the one that has most. Gives them in
    /// parts, so that not each event makes a record.
    pub(super) fn surplus(&self) -> Vec<Origin> {
        let mut inner = self.inner.lock();
        let of_most = inner.sources.iter().enumerate().max_by_key(|(_, known)| known.held);
        let Some((place, most)) = of_most.map(|(place, known)| (place, known.held)) else { return Vec::new() };
        let (all, batch) = (inner.accepted.len(), BATCH.min(self.max));
        if all < self.max + batch && most < self.share + batch {
            return Vec::new();
        }
        let surplus = all.saturating_sub(self.max).max(most.saturating_sub(self.share));
        inner.pop(place, |popped, _| popped < surplus)
    }

    /// The sources of which something is remembered.
    pub(super) fn sources(&self) -> Vec<Source> {
        let inner = self.inner.lock();
        inner.sources.iter().map(|known| &known.source).filter(|source| !source.1.is_empty()).cloned().collect()
    }

    /// What the log is to forget of a source that is gone. It is remembered no more.
    pub(super) fn forget(&self, gone: &Source) -> Vec<Origin> {
        let mut inner = self.inner.lock();
        let Some(place) = inner.sources.iter().position(|known| known.source == *gone) else { return Vec::new() };
        let keys: Vec<Key> = inner.accepted.keys().filter(|key| key.source as usize == place).copied().collect();
        let mut origins: Vec<Origin> = keys.iter().map(|key| inner.gone(key)).collect();
        origins.push(Origin::new(event_source::watch(&gone.0), uid(&gone.1, None), None));
        inner.accepted.retain(|key, _| key.source as usize != place);
        // Others are told by their places: this one stays, and is no source's any more.
        inner.sources[place] = Known::default();
        origins
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.inner.lock().accepted.len()
    }
}

impl Inner {
    /// The place of a source.
    fn source(&mut self, namespace: &str, uid: &str) -> u32 {
        let is_it = |known: &Known| known.source.0 == namespace && known.source.1 == uid;
        let place = self.sources.iter().position(is_it).unwrap_or_else(|| {
            let is_free = |(place, known): (usize, &Known)| {
                known.source.1.is_empty() && !self.pending.iter().any(|key| key.source as usize == place)
            };
            let free = (0..).zip(&self.sources).position(is_free);
            let place = free.unwrap_or_else(|| {
                self.sources.push(Known::default());
                self.sources.len() - 1
            });
            self.sources[place].source = (namespace.to_owned(), uid.to_owned());
            place
        });
        u32::try_from(place).expect("there are fewer EventSources than that")
    }

    /// Notes when an id was accepted.
    fn remember(&mut self, key: Key, at: u32) {
        let known = &mut self.sources[key.source as usize];
        if known.source.1.is_empty() {
            // It went while the event was on its way.
            return;
        }
        let is_new = self.accepted.insert(key, at).is_none();
        known.order.push_back((key.hash, at));
        known.held += usize::from(is_new);
    }

    /// Remembers an id no more; tells whether it was remembered.
    fn let_go(&mut self, key: &Key) -> bool {
        let Self { sources, accepted, .. } = self;
        let was = accepted.remove(key).is_some();
        let known = &mut sources[key.source as usize];
        known.held -= usize::from(was);
        // Its order would grow for a day otherwise.
        if known.order.len() > 2 * known.held + BATCH {
            known.order.retain(|(hash, at)| accepted.get(&Key { source: key.source, hash: *hash }) == Some(at));
        }
        was
    }

    /// Takes the oldest of a source away while they are to go, given how many were taken and when each was accepted; [`BATCH`] at most.
    fn pop(&mut self, place: usize, goes: impl Fn(usize, u32) -> bool) -> Vec<Origin> {
        let mut origins = Vec::new();
        let source = u32::try_from(place).unwrap_or(u32::MAX);
        while let Some(&(hash, at)) = self.sources[place].order.front() {
            let key = Key { source, hash };
            let is_known = self.accepted.get(&key) == Some(&at);
            if origins.len() >= BATCH || (is_known && !goes(origins.len(), at)) {
                break;
            }
            self.sources[place].order.pop_front();
            if is_known {
                origins.push(self.gone(&key));
                self.let_go(&key);
            }
        }
        origins
    }

    fn gone(&self, key: &Key) -> Origin {
        let (namespace, source_uid) = &self.sources[key.source as usize].source;
        Origin::new(event_source::watch(namespace), uid(source_uid, Some(&key.hash)), None)
    }
}

impl Reservation<'_> {
    /// The event is in the order of the log, `at` microseconds since 1970.
    pub(super) fn accepted(self, at: u64) {
        self.ids.inner.lock().remember(self.key, seconds(at));
        // Dropping it takes it out of those under way.
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.ids.inner.lock().pending.remove(&self.key);
    }
}

fn seconds(microseconds: u64) -> u32 {
    u32::try_from(microseconds / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
