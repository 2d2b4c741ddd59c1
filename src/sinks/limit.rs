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
mod tests {
    use super::*;
    use crate::sinks::testing::notification;

    fn limit(notifications: u32) -> SinkRateLimit {
        SinkRateLimit { notifications, per: "1m".parse().expect("a duration") }
    }

    fn one(number: usize) -> Parcel {
        Parcel::Notification(Box::new(Notification {
            id: number.to_string(),
            title: format!("n{number}"),
            ..notification()
        }))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_beyond_the_limit_is_told_as_one_and_each_hears_that_it_was() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for number in 0..2 {
            assert!(matches!(limiter.turn(&limit(2), &one(number), true, start + seconds(number as u64)), Turn::Send));
        }
        for number in 2..62 {
            let turn = limiter.turn(&limit(2), &one(number), true, start + seconds(10));
            assert!(matches!(turn, Turn::Wait(wait) if wait == seconds(50)), "{turn:?}");
        }
        let now = start + seconds(60);
        let Turn::Digest(telling) = limiter.turn(&limit(2), &one(30), true, now) else { unreachable!("a digest") };
        assert_eq!(telling.all().len(), 60);
        let told = digest(telling.all()).expect("a digest");
        assert_eq!(told.title, "60 notifications, told as one: the sink's rateLimit was reached");
        assert_eq!((told.text.lines().count(), told.text.lines().last()), (51, Some("and 10 more")));
        assert!(told.text.starts_with("• Warning · shop/web-crashloop · n"), "{}", told.text);
        // It is not taken the first time.
        drop(telling);
        let Turn::Digest(telling) = limiter.turn(&limit(2), &one(30), true, now + seconds(1)) else {
            unreachable!("again")
        };
        assert_eq!(telling.all().len(), 60);
        telling.told(now);
        for number in (2..62).filter(|number| *number != 30) {
            let turn = limiter.turn(&limit(2), &one(number), true, now + seconds(2));
            assert!(matches!(turn, Turn::Told(60)), "{turn:?}");
        }
        assert!(matches!(limiter.turn(&limit(2), &one(99), true, now + seconds(70)), Turn::Send));
    }

    #[test]
    fn what_does_not_come_back_takes_a_turn_now_or_none() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        assert_eq!(limiter.once(&limit(1), start), Ok(()));
        for _ in 0..3 {
            assert_eq!(limiter.once(&limit(1), start + seconds(20)), Err(seconds(40)));
        }
        assert_eq!(limiter.once(&limit(1), start + seconds(60)), Ok(()));
        let turn = limiter.turn(&limit(1), &one(0), false, start + seconds(60));
        assert!(matches!(turn, Turn::Wait(wait) if wait == seconds(60)), "{turn:?}");
        // It is the turn of the one that waits.
        assert_eq!(limiter.once(&limit(1), start + seconds(120)), Err(seconds(60)));
    }

    #[test]
    fn what_is_in_a_digest_on_its_way_is_told_neither_alone_nor_in_the_next_one() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let turn = |number, after| limiter.turn(&limit(2), &one(number), true, start + seconds(after));
        for number in 0..2 {
            assert!(matches!(turn(number, 0), Turn::Send));
        }
        for number in 2..4 {
            assert!(matches!(turn(number, 0), Turn::Wait(_)));
        }
        // All of them ask at the same instant.
        let Turn::Digest(telling) = turn(2, 60) else { unreachable!("a digest") };
        assert!(matches!(turn(3, 60), Turn::Wait(wait) if wait == TELLING), "there was room to tell it alone");
        telling.told(start + seconds(61));
        assert!(matches!(turn(4, 61), Turn::Send), "nothing waits");
        assert!(matches!(turn(3, 61), Turn::Told(2)));
    }

    #[test]
    fn a_digest_is_the_same_only_when_it_tells_of_the_same() {
        let notification = |number: usize| match one(number) {
            Parcel::Notification(one) => *one,
            Parcel::Publication(_) => unreachable!("a notification"),
        };
        let of = |numbers: &[usize]| {
            digest(&numbers.iter().map(|number| notification(*number)).collect::<Vec<_>>()).expect("a digest")
        };
        assert_eq!(of(&[1, 2]).id, of(&[2, 1]).id);
        for other in [of(&[2]).id, of(&[1, 2, 3]).id, "1".to_owned(), "2".to_owned()] {
            assert_ne!(of(&[1, 2]).id, other);
        }
        assert!(!of(&[1, 2]).again);
    }

    #[test]
    fn a_digest_whose_end_is_not_known_may_have_been_told_whoever_sends_it_next() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let turn = |number, after| limiter.turn(&limit(1), &one(number), true, start + seconds(after));
        assert!(matches!(turn(0, 0), Turn::Send));
        assert!(matches!((turn(1, 0), turn(2, 0)), (Turn::Wait(_), Turn::Wait(_))));
        let Turn::Digest(telling) = turn(1, 60) else { unreachable!("a digest") };
        let first = digest(telling.all()).expect("a digest");
        // No answer, or nobody waits for it any more.
        drop(telling);
        assert!(matches!((turn(1, 61), turn(2, 61)), (Turn::Wait(_), Turn::Wait(_))));
        let Turn::Digest(telling) = turn(2, 120) else { unreachable!("a digest") };
        let second = digest(telling.all()).expect("a digest");
        assert_eq!((first.again, second.again, &first.id), (false, true, &second.id));
    }

    #[test]
    fn what_cannot_be_told_as_one_waits_for_its_turn_and_gets_it() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let waits: Vec<Turn> = (0..5).map(|number| limiter.turn(&limit(2), &one(number), false, start)).collect();
        let waits: Vec<u64> =
            waits.iter().map(|turn| if let Turn::Wait(wait) = turn { wait.as_secs() } else { 0 }).collect();
        assert_eq!(waits, [0, 0, 60, 60, 120]);
        assert!(
            matches!(limiter.turn(&limit(2), &one(9), false, start + seconds(60)), Turn::Wait(wait) if wait == seconds(60))
        );
        for (number, after) in [(2, 60), (3, 60), (4, 120), (9, 120)] {
            assert!(
                matches!(limiter.turn(&limit(2), &one(number), false, start + seconds(after)), Turn::Send),
                "{number}"
            );
        }
    }

    #[test]
    fn an_end_is_never_part_of_a_digest() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let end = |id: &str| {
            let operation = NotifyOperation::Resolve;
            Parcel::Notification(Box::new(Notification { id: id.into(), operation, ..notification() }))
        };
        assert!(matches!(limiter.turn(&limit(1), &end("a"), true, now), Turn::Send));
        assert!(matches!(limiter.turn(&limit(1), &end("b"), true, now), Turn::Wait(_)));
        assert!(matches!(limiter.turn(&limit(1), &end("b"), true, now + seconds(60)), Turn::Send));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for number in 0..3 * WAITING {
            limiter.turn(&limit(1), &one(number), number % 2 == 0, now);
        }
        let state = limiter.0.lock();
        assert!(state.waiting.len() <= WAITING && state.reserved.len() <= WAITING && state.sent.len() <= WAITING + 2);
    }
}
