//! What a watch remembers, and what it makes of an object it sees: pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::Operation,
    event::{
        Event, Kept, Malformed, Old, Origin, Seen, Values, WatchKey,
        kubernetes_event::{from_kubernetes_event, is_of_events},
        resource::{Change, from_memory, from_object, origin},
    },
    rule::{Followed, values},
};

/// The uid under which a watch remembers the version of its last whole list, and which selectors all objects were asked for then. No object has it. Memory without it is of a first list that
/// did not come to its end: comparing with that would take everything it did not reach for new.
pub(in crate::sources) const LISTED: &str = "";

/// The objects of one watch.
pub struct Memory {
    watch: WatchKey,
    objects: HashMap<String, Seen>,
    /// The greatest version seen, also that of bookmarks.
    position: u64,
    complete: bool,
    /// The selectors of which every object is known to match them or not: those that it matches are among its values.
    asked: BTreeSet<u64>,
}

/// How an object came to sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// In a list.
    Listed,
    /// Added or changed, in the stream.
    Changed,
    /// Deleted, in the stream.
    Deleted,
}

/// What an object in sight means.
#[derive(Debug)]
pub struct Observed {
    /// What is to be remembered.
    pub origin: Origin,
    /// What has happened, if anything: an Event object can be an occurrence and the change of an object at once.
    pub events: Vec<Event>,
}

impl Memory {
    /// Begins with what the log remembers.
    pub fn new(watch: WatchKey, objects: HashMap<String, Seen>) -> Self {
        let position = objects.values().map(|seen| seen.version).max().unwrap_or_default();
        let mut memory = Self { watch, complete: false, objects, position, asked: BTreeSet::new() };
        if let Some(mark) = memory.objects.remove(LISTED) {
            memory.complete = true;
            memory.asked = mark.values.iter().flat_map(|values| &values.hashes).map(|(id, _)| *id).collect();
        }
        memory
    }

    /// The version that a list must have reached to be compared; nothing while no list was ever taken.
    pub(super) fn position(&self) -> Option<u64> {
        self.complete.then_some(self.position)
    }

    /// The versions of the cluster have gone back: what comes is the first list of a new epoch.
    pub(super) fn begin_anew(&mut self) {
        self.complete = false;
        self.position = 0;
    }

    /// The version of an object that is remembered and the one that a list has of it, when the list's is the older one: lists that are compared are
    /// not older than anything seen, so this is another history.
    pub(super) fn contradicts(&self, uid: &str, version: u64) -> Option<(u64, u64)> {
        let known = self.objects.get(uid).filter(|_| self.complete)?.version;
        (known > version).then_some((known, version))
    }

    /// Notes how far the watch has come.
    pub(super) fn advance(&mut self, version: u64) {
        self.position = self.position.max(version);
    }

    /// Whether an object of a list is no news: the version was told already.
    pub(super) fn knows(&self, uid: &str, version: u64, followed: &[Followed]) -> bool {
        let known = |seen: &Seen| seen.version == version && self.follows(seen, followed);
        self.complete && self.objects.get(uid).is_some_and(known)
    }

    /// Only these are followed from now on.
    pub(super) fn follow(&mut self, followed: &[Followed]) {
        self.asked.retain(|id| followed.iter().any(|one| one.id == *id));
    }

    /// Whether all that is followed is known of the object.
    fn follows(&self, seen: &Seen, followed: &[Followed]) -> bool {
        followed.iter().all(|one| match one.is_selector() {
            true => self.asked.contains(&one.id),
            false if one.is_old() => seen.values.as_ref().is_some_and(|values| values.old(one.id).is_some()),
            false => seen.value(one.id).is_some(),
        })
    }

    /// Takes in values of an object that has not changed; nothing when there is none to remember.
    fn learn(
        &mut self,
        raw: Value,
        source: &str,
        seen_at: Timestamp,
        followed: &[Followed],
    ) -> Result<Option<Observed>, Malformed> {
        let change = Change { watch: &self.watch, source, operation: Operation::Update, gap: true, seen_at };
        let (event, mut origin) = from_object(raw, change)?;
        if let Some(object) = event.data.get("object") {
            follow(&mut origin, None, followed, object);
        }
        let Some(seen) = &mut origin.seen else { return Ok(None) };
        if let Some(known) = self.objects.get(&origin.uid) {
            seen.count = known.count;
            if seen == known {
                return Ok(None);
            }
        }
        self.objects.insert(origin.uid.clone(), seen.clone());
        Ok(Some(Observed { origin, events: Vec::new() }))
    }

    /// What the object in sight means. Remembers it.
    ///
    /// # Errors
    /// When the object has no usable uid, version, name or time.
    pub fn observe(
        &mut self,
        raw: Value,
        sight: Sight,
        source: &str,
        seen_at: Timestamp,
        followed: &[Followed],
    ) -> Result<Option<Observed>, Malformed> {
        let now = origin(&raw, &self.watch)?;
        let version = now.seen.as_ref().map_or(0, |seen| seen.version);
        let previous = self.objects.get(&now.uid);
        let first = sight == Sight::Listed && !self.complete;
        let operation = match (sight, previous) {
            (Sight::Deleted, Some(_)) => Operation::Delete,
            // Told already, or never seen.
            (Sight::Deleted, None) => return Ok(None),
            // The same as before, but some of its values were never asked for.
            (Sight::Listed, Some(previous))
                if previous.version == version && !first && !self.follows(previous, followed) =>
            {
                return self.learn(raw, source, seen_at, followed);
            }
            (_, Some(previous)) if !first && previous.version >= version => return Ok(None),
            (_, Some(_)) => Operation::Update,
            (_, None) => Operation::Create,
        };
        let change = Change { watch: &self.watch, source, operation, gap: sight == Sight::Listed, seen_at };
        let old = previous.and_then(|previous| recall(previous, followed));
        let mut observed = if is_of_events(&self.watch) {
            observe_event(raw, change, previous, followed)?
        } else {
            let (event, mut origin) = from_object(raw, change)?;
            if let Some(object) = event.data.get("object") {
                follow(&mut origin, previous, followed, object);
            }
            origin.before = change.gap.then(|| previous.map_or(0, |seen| seen.version));
            Observed { origin, events: vec![event] }
        };
        observed.origin.old = old;
        if first {
            observed.events.clear();
        }
        match &observed.origin.seen {
            Some(seen) => self.objects.insert(observed.origin.uid.clone(), seen.clone()),
            None => self.objects.remove(&observed.origin.uid),
        };
        self.advance(version);
        Ok(Some(observed))
    }

    /// The objects whose names others have now: they are gone. `names`: uids by name, of objects in a list.
    pub(super) fn replaced(&self, names: &HashMap<Box<str>, String>) -> Vec<String> {
        let replaced = |(uid, seen): &(&String, &Seen)| names.get(&seen.name).is_some_and(|other| other != *uid);
        self.sorted(self.objects.iter().filter(replaced))
    }

    /// The objects that a whole list did not have.
    pub(super) fn missing(&self, listed: &HashSet<String>) -> Vec<String> {
        self.sorted(self.objects.iter().filter(|(uid, _)| !listed.contains(*uid)))
    }

    /// By name, so that every run tells them in the same order.
    fn sorted<'a>(&self, objects: impl Iterator<Item = (&'a String, &'a Seen)>) -> Vec<String> {
        let mut objects: Vec<(&Seen, &String)> = objects.map(|(uid, seen)| (seen, uid)).collect();
        objects.sort_by_key(|(seen, uid)| (&seen.name, *uid));
        objects.into_iter().map(|(_, uid)| uid.clone()).collect()
    }

    /// An object is gone: forgets it. Gives what that means; nothing has happened when no whole list was ever taken, or when Signalbox had written
    /// the object, an Event.
    pub(super) fn lose(
        &mut self,
        uid: &str,
        source: &str,
        seen_at: Timestamp,
        followed: &[Followed],
    ) -> Option<Observed> {
        let seen = self.objects.remove(uid)?;
        let selectors = followed.iter().filter(|one| one.is_selector() && self.asked.contains(&one.id));
        let last = Values::of(selectors.map(|one| (one.id, seen.value(one.id).unwrap_or(0))).collect());
        let change = Change { watch: &self.watch, source, operation: Operation::Delete, gap: true, seen_at };
        let (event, origin) = from_memory(uid, &seen, last, change);
        let origin = Origin { old: recall(&seen, followed), ..origin };
        let own = is_of_events(&self.watch) && seen.count == 0;
        let told = self.complete && !own;
        Some(Observed { origin, events: if told { vec![event] } else { Vec::new() } })
    }

    /// A list has come to its end, in which all objects were asked for what is followed. Gives what is to be remembered of that.
    pub fn finish_list(&mut self, version: u64, followed: &[Followed]) -> Origin {
        self.complete = true;
        self.advance(version);
        self.asked = followed.iter().filter(|one| one.is_selector()).map(|one| one.id).collect();
        let asked: Vec<(u64, u64)> = self.asked.iter().map(|id| (*id, 0)).collect();
        let values = (!asked.is_empty()).then(|| Box::new(Values::of(asked)));
        let mark = Seen { values, ..Seen::new(version, 0, String::new()) };
        Origin::new(self.watch.clone(), LISTED.to_owned(), Some(mark))
    }
}

/// The values that are asked for of the object as it was.
fn recall(seen: &Seen, followed: &[Followed]) -> Option<Box<Old>> {
    let old = seen.values.as_ref()?.old.as_ref()?;
    let asked = |(id, _): &&(u64, Kept)| followed.iter().any(|one| one.id == *id);
    let known: Vec<(u64, Kept)> = old.0.iter().filter(asked).cloned().collect();
    (!known.is_empty()).then(|| Box::new(Old(known)))
}

/// Notes the values of the object, and which are others than before: what was not asked for before has not changed. Of selectors those that it matched
/// before and does not match any more.
fn follow(origin: &mut Origin, previous: Option<&Seen>, followed: &[Followed], object: &Value) {
    let Some(seen) = &mut origin.seen else { return };
    seen.values = values(followed, object);
    let Some(previous) = previous else { return };
    let differs = |one: &&Followed| match (previous.value(one.id), seen.value(one.id)) {
        (Some(before), Some(now)) => before != now,
        (before, None) => one.is_selector() && before.is_some(),
        (None, _) => false,
    };
    origin.changed = followed.iter().filter(differs).map(|one| one.id).collect();
}

/// An Event object: an occurrence, in the watch of core/v1 that all `kubernetesEvent` sources have, and the change of an object.
fn observe_event(
    raw: Value,
    change: Change<'_>,
    previous: Option<&Seen>,
    followed: &[Followed],
) -> Result<Observed, Malformed> {
    let normalised = from_kubernetes_event(raw.clone(), change.watch, previous)?;
    let (plain, plain_origin) = from_object(raw, change)?;
    let told = |events: Vec<Event>| if normalised.own { Vec::new() } else { events };
    if change.operation == Operation::Delete {
        return Ok(Observed { origin: plain_origin, events: told(vec![plain]) });
    }
    let mut origin = normalised.origin;
    if let Some(object) = plain.data.get("object") {
        follow(&mut origin, previous, followed, object);
    }
    let occurrence = normalised.event.filter(|_| change.watch.api_version == "v1");
    Ok(Observed { origin, events: told(occurrence.into_iter().chain([plain]).collect()) })
}

#[cfg(test)]
mod tests;
