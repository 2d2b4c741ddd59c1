//! How much a sink is sent: what is beyond its `rateLimit` waits, and people get it as one digest.
//!
//! A step whose notification waits has it recorded and tries again when told to, so a crash loses nothing: what waited is told after the start. Nothing here
//! survives a restart.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Notification, Parcel, fit::one_line};
use crate::{
    api::{NotifyOperation, Severity, SinkRateLimit},
    text::cut,
};

/// Notifications of one sink that wait, at most: of some KiB each.
const WAITING: usize = 1_000;
/// What is not asked for any more is forgotten after so long.
const FORGET: Duration = Duration::from_secs(7_200);
/// Lines of a digest, and characters of one.
const LINES: usize = 50;
const LINE: usize = 200;
/// What is in a digest on its way asks after so long what became of it.
const TELLING: Duration = Duration::from_secs(1);

/// What may be done with a parcel now.
#[derive(Debug)]
pub enum Turn<'a> {
    /// It is sent.
    Send,
    /// All that wait are told as one with it.
    Digest(Telling<'a>),
    /// It waits for so long.
    Wait(Duration),
    /// It was told with so many, as one.
    Told(usize),
}

/// A digest on its way. Dropped before it is known to be taken, the others that are in it wait again.
#[derive(Debug)]
pub struct Telling<'a> {
    limiter: &'a Limiter,
    /// Whose turn it was.
    id: String,
    /// All of them; empty when they were told.
    all: Vec<Notification>,
}

/// What one sink was sent lately.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When something was sent, or will be; the latest last.
    sent: VecDeque<Instant>,
    /// When those that do not go into a digest are sent, by their ids.
    reserved: HashMap<String, Instant>,
    /// Those that go into the next digest, since when.
    waiting: BTreeMap<String, (Instant, Notification)>,
    /// Those that are in a digest on its way, since when.
    telling: HashMap<String, Instant>,
    /// Those that were told in one, when, and with how many.
    told: HashMap<String, (Instant, usize)>,
}

impl Limiter {
    /// What may be done with the parcel now. `digests` says whether the sink is for people, who can be told of many as one.
    pub fn turn(&self, limit: &SinkRateLimit, parcel: &Parcel, digests: bool, now: Instant) -> Turn<'_> {
        let (most, per) = (limit.notifications.max(1) as usize, limit.per.get());
        let mut state = self.0.lock();
        state.forget(per, now);
        match parcel {
            Parcel::Notification(one) if digests && one.operation == NotifyOperation::Trigger => {
                match state.together(one, (most, per), now) {
                    Together::Alone => Turn::Send,
                    Together::Wait(wait) => Turn::Wait(wait),
                    Together::Told(count) => Turn::Told(count),
                    Together::All(all) => Turn::Digest(Telling { limiter: self, id: one.id.clone(), all }),
                }
            }
            Parcel::Notification(one) => state.alone(&one.id, (most, per), now),
            Parcel::Publication(one) => state.alone(&one.event.id, (most, per), now),
        }
    }

    /// Takes a turn that is free now, for what does not come back for a later one.
    ///
    /// # Errors
    /// How long none is free.
    pub fn once(&self, limit: &SinkRateLimit, now: Instant) -> Result<(), Duration> {
        let (most, per) = (limit.notifications.max(1) as usize, limit.per.get());
        let mut state = self.0.lock();
        state.forget(per, now);
        let at = state.free((most, per), now);
        if at > now {
            return Err(at - now);
        }
        state.sent.push_back(now);
        Ok(())
    }
}

impl Telling<'_> {
    /// All that it tells of.
    pub fn all(&self) -> &[Notification] {
        &self.all
    }

    /// It was taken: the others hear that they were told.
    pub fn told(mut self, now: Instant) {
        let all = std::mem::take(&mut self.all);
        let mut state = self.limiter.0.lock();
        for one in all.iter().filter(|one| one.id != self.id) {
            state.telling.remove(&one.id);
            state.waiting.remove(&one.id);
            state.told.insert(one.id.clone(), (now, all.len()));
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.limiter.0.lock();
        for one in std::mem::take(&mut self.all).into_iter().filter(|one| one.id != self.id) {
            state.telling.remove(&one.id);
            // It may have been taken all the same.
            state.waiting.insert(one.id.clone(), (now, Notification { again: true, ..one }));
        }
    }
}

/// What may be done with one that can be told with others.
enum Together {
    Alone,
    All(Vec<Notification>),
    Wait(Duration),
    Told(usize),
}

impl State {
    fn forget(&mut self, per: Duration, now: Instant) {
        let since = |then: Instant| now.saturating_duration_since(then);
        while self.sent.front().is_some_and(|sent| since(*sent) >= per) {
            self.sent.pop_front();
        }
        self.reserved.retain(|_, at| since(*at) < FORGET);
        self.waiting.retain(|_, (then, _)| since(*then) < FORGET);
        self.telling.retain(|_, then| since(*then) < FORGET);
        self.told.retain(|_, (then, _)| since(*then) < FORGET);
    }

    /// When the next one may be sent.
    fn free(&self, (most, per): (usize, Duration), now: Instant) -> Instant {
        match self.sent.len().checked_sub(most).and_then(|at| self.sent.get(at)) {
            Some(earlier) => (*earlier + per).max(now),
            None => now,
        }
    }

    fn alone(&mut self, id: &str, limit: (usize, Duration), now: Instant) -> Turn<'static> {
        let at = match self.reserved.get(id) {
            Some(at) => *at,
            None => {
                let at = self.free(limit, now);
                if at > now && self.reserved.len() >= WAITING {
                    return Turn::Wait(at - now);
                }
                self.sent.push_back(at);
                self.reserved.insert(id.to_owned(), at);
                at
            }
        };
        if at > now {
            return Turn::Wait(at - now);
        }
        self.reserved.remove(id);
        Turn::Send
    }

    fn together(&mut self, one: &Notification, limit: (usize, Duration), now: Instant) -> Together {
        if let Some((_, count)) = self.told.remove(&one.id) {
            self.waiting.remove(&one.id);
            return Together::Told(count);
        }
        if self.telling.contains_key(&one.id) {
            return Together::Wait(TELLING);
        }
        let at = self.free(limit, now);
        if at > now {
            let has_room = self.waiting.len() < WAITING;
            match self.waiting.get_mut(&one.id) {
                Some((since, _)) => *since = now,
                None if has_room => {
                    self.waiting.insert(one.id.clone(), (now, one.clone()));
                }
                None => {}
            }
            return Together::Wait(at - now);
        }
        self.sent.push_back(now);
        let known = self.waiting.remove(&one.id);
        if self.waiting.is_empty() {
            return Together::Alone;
        }
        let again = one.again || known.is_some_and(|(_, known)| known.again);
        self.telling.extend(self.waiting.keys().map(|id| (id.clone(), now)));
        let others = std::mem::take(&mut self.waiting).into_values().map(|(_, one)| one);
        Together::All(others.chain([Notification { again, ..one.clone() }]).collect())
    }
}

/// The notification that tells of all these: the last one's, with their titles as its text. It is the same one, by its id, only when it tells of the same:
/// what was told of fewer is not found to be told already.
pub fn digest(all: &[Notification]) -> Option<Notification> {
    let last = all.last()?;
    let rank = |one: &&Notification| match one.severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Error => 2,
        Severity::Critical => 3,
    };
    let mut worst: Vec<&Notification> = all.iter().collect();
    worst.sort_by_key(|one| std::cmp::Reverse(rank(one)));
    let line = |one: &&Notification| {
        let text = one_line(one.text.lines().next().unwrap_or_default());
        let text = if text.is_empty() { text } else { format!(" – {text}") };
        cut(&format!("• {:?} · {} · {}{text}", one.severity, one.rule, one.headline()), LINE)
    };
    let mut lines: Vec<String> = worst.iter().take(LINES).map(line).collect();
    if all.len() > LINES {
        lines.push(format!("and {} more", all.len() - LINES));
    }
    let mut ids: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
    ids.sort_unstable();
    let hash: String = Sha256::digest(ids.join("\n"))[..10].iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("digest-{hash}");
    Some(Notification {
        severity: worst.first()?.severity,
        title: format!("{} notifications, told as one: the sink's rateLimit was reached", all.len()),
        text: lines.join("\n"),
        fields: Vec::new(),
        incident: id.clone(),
        id,
        again: all.iter().any(|one| one.again),
        ..last.clone()
    })
}

#[cfg(test)]
mod tests;
