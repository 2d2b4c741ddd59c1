//! What a watch remembers, and what it makes of an object it sees: pure.

use std::collections::{HashMap, HashSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::Operation,
    event::{
        Event, Malformed, Origin, Seen, WatchKey,
        kubernetes_event::from_kubernetes_event,
        resource::{Change, from_object, origin},
    },
    rule::{Followed, values},
};

/// The uid under which a watch remembers the version of its last whole list. No object has it. Memory without it is of a first list that
/// did not come to its end: comparing with that would take everything it did not reach for new.
pub(in crate::sources) const LISTED: &str = "";

/// The objects of one watch.
pub(super) struct Memory {
    watch: WatchKey,
    objects: HashMap<String, Seen>,
    /// The greatest version seen, also that of bookmarks.
    position: u64,
    complete: bool,
}

/// How an object came to sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// In a list.
    Listed,
    /// Added or changed, in the stream.
    Changed,
    /// Deleted, in the stream.
    Deleted,
}

/// What an object in sight means.
#[derive(Debug)]
pub(in crate::sources) struct Observed {
    /// What is to be remembered.
    pub(in crate::sources) origin: Origin,
    /// What has happened, if anything: an Event object can be an occurrence and the change of an object at once.
    pub(in crate::sources) events: Vec<Event>,
}

impl Memory {
    /// Begins with what the log remembers.
    pub(super) fn new(watch: WatchKey, objects: HashMap<String, Seen>) -> Self {
        let position = objects.values().map(|seen| seen.version).max().unwrap_or_default();
        let mut memory = Self { watch, complete: objects.contains_key(LISTED), objects, position };
        memory.objects.remove(LISTED);
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

    /// Notes how far the watch has come.
    pub(super) fn advance(&mut self, version: u64) {
        self.position = self.position.max(version);
    }

    /// Whether an object of a list is no news: the version, or a later one, was told already.
    pub(super) fn knows(&self, uid: &str, version: u64, followed: &[Followed]) -> bool {
        let known = |seen: &Seen| seen.version > version || (seen.version == version && follows(seen, followed));
        self.complete && self.objects.get(uid).is_some_and(known)
    }

    /// Takes in values of an object that has not changed.
    fn learn(
        &mut self,
        raw: Value,
        source: &str,
        seen_at: Timestamp,
        followed: &[Followed],
    ) -> Result<Observed, Malformed> {
        let change = Change { watch: &self.watch, source, operation: Operation::Update, gap: true, seen_at };
        let (event, mut origin) = from_object(raw, change)?;
        if let Some(object) = event.data.get("object") {
            follow(&mut origin, None, followed, object);
        }
        if let Some(seen) = &origin.seen {
            self.objects.insert(origin.uid.clone(), seen.clone());
        }
        Ok(Observed { origin, events: Vec::new() })
    }

    /// What the object in sight means. Remembers it.
    pub(super) fn observe(
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
                if previous.version == version && !first && !follows(previous, followed) =>
            {
                return Ok(Some(self.learn(raw, source, seen_at, followed)?));
            }
            (_, Some(previous)) if !first && previous.version >= version => return Ok(None),
            (_, Some(_)) => Operation::Update,
            (_, None) => Operation::Create,
        };
        let change = Change { watch: &self.watch, source, operation, gap: sight == Sight::Listed, seen_at };
        let mut observed = if self.watch.kind == "Event" && self.watch.api_version == "v1" {
            observe_event(raw, change, previous)?
        } else {
            let (event, mut origin) = from_object(raw, change)?;
            if let Some(object) = event.data.get("object") {
                follow(&mut origin, previous, followed, object);
            }
            origin.before = change.gap.then(|| previous.map_or(0, |seen| seen.version));
            Observed { origin, events: vec![event] }
        };
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

    /// A list has come to its end: forgets what was not in it. Gives what is to be remembered of that.
    pub(super) fn finish_list(&mut self, version: u64, listed: &HashSet<String>) -> Vec<Origin> {
        let gone: Vec<String> = self.objects.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in &gone {
            self.objects.remove(uid);
        }
        self.complete = true;
        self.advance(version);
        let origin = |uid: String, seen| Origin::new(self.watch.clone(), uid, seen);
        let mark = Seen::new(version, 0, String::new());
        let mut origins: Vec<Origin> = gone.into_iter().map(|uid| origin(uid, None)).collect();
        origins.push(origin(LISTED.to_owned(), Some(mark)));
        origins
    }
}

/// Whether all that is followed is remembered of the object.
fn follows(seen: &Seen, followed: &[Followed]) -> bool {
    followed.iter().all(|one| seen.value(one.id).is_some())
}

/// Notes the values of the object, and which are others than before. What was not asked for before has not changed.
fn follow(origin: &mut Origin, previous: Option<&Seen>, followed: &[Followed], object: &Value) {
    let Some(seen) = &mut origin.seen else { return };
    seen.values = values(followed, object);
    let changed =
        seen.values.iter().flat_map(|values| &values.0).filter(|(id, value)| {
            previous.and_then(|previous| previous.value(*id)).is_some_and(|before| before != *value)
        });
    origin.changed = changed.map(|(id, _)| *id).collect();
}

fn observe_event(raw: Value, change: Change<'_>, previous: Option<&Seen>) -> Result<Observed, Malformed> {
    let normalised = from_kubernetes_event(raw.clone(), change.watch, previous)?;
    let (plain, plain_origin) = from_object(raw, change)?;
    if change.operation == Operation::Delete {
        let events = if normalised.own { Vec::new() } else { vec![plain] };
        return Ok(Observed { origin: plain_origin, events });
    }
    let events = if normalised.own { Vec::new() } else { normalised.event.into_iter().chain([plain]).collect() };
    Ok(Observed { origin: normalised.origin, events })
}

#[cfg(test)]
mod tests;
