//! What waits, what is told as one, and what becomes of it.

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
        assert!(matches!(limiter.turn(&limit(2), &one(number), false, start + seconds(after)), Turn::Send), "{number}");
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
