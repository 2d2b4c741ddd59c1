//! What is known and not written yet: one place per object, and when its next write is due.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};

use super::{Finding, seconds};
use crate::{
    api::{ConditionType, StatusCondition},
    text::cut,
};

/// The first news waits so long for company: a new rule's parts come one after the other.
const COMPANY: Duration = Duration::from_millis(200);
/// One object's status is written at most so often.
pub(super) const SPACING: Duration = Duration::from_secs(2);
/// A write that failed is repeated after 2, 4, 8 … s, at most this.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The longest message of a condition, in characters, as its schema says.
pub(super) const MAX_MESSAGE: usize = 1024;

/// Parts that make a status.
pub(super) trait Subject: Clone + Send + 'static {
    /// The kind that has the status.
    type Kind: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>;
    /// The status.
    type Status: Clone + Serialize + Send + Sync + 'static;

    /// Namespace, name and uid.
    fn names(&self) -> (&str, &str, &str);
    /// Takes in the status that the API holds, before anything is written.
    fn known(&mut self, _status: &Self::Status) {}
    /// The status, or nothing when too little is known to write one.
    fn merge(&self, previous: Option<&Self::Status>, now: Timestamp) -> Option<Self::Status>;
    /// Whether the difference is worth a write.
    fn worth_writing(old: &Self::Status, new: &Self::Status) -> bool;
}

/// All objects of one kind.
pub(super) struct Board<S: Subject> {
    state: Mutex<State<S>>,
    /// Wakes the writer when something becomes due that was not.
    pub(super) changed: Notify,
}

struct State<S: Subject> {
    /// Boxed: a place has some KiB, and a table has room for up to twice as many as it holds.
    places: HashMap<String, Box<Place<S>>>,
    /// By rank.
    due: [BTreeSet<(Instant, String)>; 3],
}

/// Which of the statuses that are due are written first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// The object has no status yet.
    First,
    /// Somebody waits for it: what became of a spec, whether something works.
    News,
    /// Counts and samples, which many objects may have at the same time.
    Figures,
}

struct Place<S: Subject> {
    subject: S,
    /// What the API holds, as far as we know.
    written: Option<S::Status>,
    known: bool,
    due: Option<Instant>,
    rank: Rank,
    /// No write before this.
    not_before: Option<Instant>,
    failures: u32,
}

/// A status to be written.
pub(super) struct Write<S: Subject> {
    pub(super) subject: S,
    pub(super) status: S::Status,
}

impl<S: Subject> Default for Board<S> {
    fn default() -> Self {
        Self { state: Mutex::new(State { places: HashMap::new(), due: Default::default() }), changed: Notify::new() }
    }
}

impl<S: Subject> Board<S> {
    /// Says the status that the API holds. Later calls change nothing.
    pub(super) fn known(&self, uid: &str, new: impl FnOnce() -> S, status: Option<S::Status>) {
        let mut state = self.state.lock();
        let place = state.place(uid, new);
        if !place.known {
            place.known = true;
            if let Some(status) = status {
                place.subject.known(&status);
                place.written.get_or_insert(status);
            }
        }
    }

    /// Changes what is known of an object.
    pub(super) fn update(&self, uid: &str, rank: Rank, new: impl FnOnce() -> S, change: impl FnOnce(&mut S)) {
        let mut state = self.state.lock();
        let place = state.place(uid, new);
        change(&mut place.subject);
        let rank = if place.written.is_none() { Rank::First } else { rank };
        let at = match place.due {
            Some(_) if place.rank <= rank => return,
            Some(at) => {
                let before = std::mem::replace(&mut place.rank, rank);
                state.due[before as usize].remove(&(at, uid.to_owned()));
                at
            }
            None => {
                let at = Instant::now() + COMPANY;
                let at = place.not_before.map_or(at, |not_before| at.max(not_before));
                (place.due, place.rank) = (Some(at), rank);
                at
            }
        };
        state.due[rank as usize].insert((at, uid.to_owned()));
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets an object.
    pub(super) fn remove(&self, uid: &str) {
        let mut state = self.state.lock();
        if let Some(place) = state.places.remove(uid)
            && let Some(at) = place.due
        {
            state.due[place.rank as usize].remove(&(at, uid.to_owned()));
        }
    }

    /// When the next write is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.state.lock().due.iter().filter_map(|due| due.first()).map(|(at, _)| *at).min()
    }

    /// The next status that is due and worth a write, by rank, and oldest first. Whoever takes it says how it went.
    pub(super) fn take(&self, until: Option<Instant>, now: Timestamp) -> Option<Write<S>> {
        let mut state = self.state.lock();
        loop {
            let is_due = |due: &&mut BTreeSet<(Instant, String)>| {
                due.first().is_some_and(|(at, _)| until.is_none_or(|until| *at <= until))
            };
            let (_, uid) = state.due.iter_mut().find(is_due)?.pop_first()?;
            let Some(place) = state.places.get_mut(&uid) else { continue };
            place.due = None;
            let Some(status) = place.subject.merge(place.written.as_ref(), now) else { continue };
            if place.written.as_ref().is_none_or(|old| S::worth_writing(old, &status)) {
                return Some(Write { subject: place.subject.clone(), status });
            }
        }
    }

    /// The status is in the API.
    pub(super) fn wrote(&self, write: Write<S>) {
        let uid = write.subject.names().2.to_owned();
        let mut state = self.state.lock();
        if let Some(place) = state.places.get_mut(&uid) {
            place.written = Some(write.status);
            place.failures = 0;
            state.not_before(&uid, SPACING);
        }
    }

    /// The write failed: it is due again later, with what is known then.
    pub(super) fn failed(&self, write: &Write<S>) {
        let uid = write.subject.names().2.to_owned();
        let mut state = self.state.lock();
        if let Some(place) = state.places.get_mut(&uid) {
            let wait = SPACING.saturating_mul(1 << place.failures.min(16)).min(MAX_BACKOFF);
            place.failures += 1;
            state.not_before(&uid, wait);
            let place = state.places.get_mut(&uid).expect("it was there just now");
            if let (None, Some(at)) = (place.due, place.not_before) {
                place.due = Some(at);
                let rank = place.rank;
                state.due[rank as usize].insert((at, uid));
            }
        }
    }
}

impl<S: Subject> State<S> {
    fn place(&mut self, uid: &str, new: impl FnOnce() -> S) -> &mut Place<S> {
        let place = || Place {
            subject: new(),
            written: None,
            known: false,
            due: None,
            rank: Rank::Figures,
            not_before: None,
            failures: 0,
        };
        self.places.entry(uid.to_owned()).or_insert_with(|| Box::new(place()))
    }

    /// No write of the object for so long from now; one that has become due meanwhile is put off.
    fn not_before(&mut self, uid: &str, wait: Duration) {
        let Some(place) = self.places.get_mut(uid) else { return };
        let at = Instant::now() + wait;
        place.not_before = Some(at);
        if let Some(due) = place.due.filter(|due| *due < at) {
            place.due = Some(at);
            let rank = place.rank as usize;
            self.due[rank].remove(&(due, uid.to_owned()));
            self.due[rank].insert((at, uid.to_owned()));
        }
    }
}

/// A condition, whose transition time changes only when its status does.
pub(super) fn condition(
    before: Option<&StatusCondition>,
    type_: ConditionType,
    (status, reason, message): Finding,
    generation: i64,
    now: Timestamp,
) -> StatusCondition {
    let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    StatusCondition {
        type_,
        status,
        reason,
        message: cut(&message, MAX_MESSAGE),
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or_else(|| Time(seconds(now))),
    }
}
