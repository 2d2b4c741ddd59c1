//! What is remembered of events, and what is forgotten.

use super::*;

const SECOND: u64 = 1_000_000;

fn hash_of(id: &str) -> Hash {
    hash(&Event::new(id, "/s", "t", serde_json::Value::Null))
}

fn accept(ids: &Ids, id: &str, at: u64) -> bool {
    match ids.reserve("shop", "u", hash_of(id)) {
        Sight::New(reservation) => {
            reservation.accepted(at);
            true
        }
        Sight::UnderWay | Sight::Accepted => false,
    }
}

fn ids(max: usize) -> Ids {
    Ids::take(&mut HashMap::new(), max)
}

/// What a restart finds after these.
fn restart(origins: &[(&str, u64)], max: usize) -> Ids {
    let seen = |(id, at): &(&str, u64)| (uid("u", Some(&hash_of(id))), Seen::new(*at, 0, "shop/github"));
    let other = WatchKey { api_version: "v1".into(), kind: "Pod".into(), namespace: Some("shop".into()) };
    let mut memory = HashMap::from([
        (event_source::watch("shop"), origins.iter().map(seen).collect()),
        (other.clone(), HashMap::new()),
    ]);
    let ids = Ids::take(&mut memory, max);
    assert_eq!(memory.into_keys().collect::<Vec<_>>(), [other], "the watches' own is left");
    ids
}

#[test]
fn an_id_is_new_once_until_it_is_given_back_also_across_a_restart() {
    let ids = ids(9);
    let Sight::New(first) = ids.reserve("shop", "u", hash_of("a")) else { panic!("new") };
    assert!(matches!(ids.reserve("shop", "u", hash_of("a")), Sight::UnderWay));
    drop(first);
    assert!(accept(&ids, "a", SECOND), "it was not accepted");
    assert!(!accept(&ids, "a", SECOND));
    assert!(matches!(ids.reserve("shop", "v", hash_of("a")), Sight::New(_)), "another source");
    let again = restart(&[("a", SECOND)], 9);
    assert!(!accept(&again, "a", SECOND));
    assert!(accept(&again, "b", SECOND));
}

#[test]
fn what_is_settled_is_forgotten_and_nothing_is_left_of_it() {
    let ids = ids(9);
    let by = told("session 7 content");
    for round in 0..10_000 {
        let Sight::New(new) = ids.reserve("shop", "u", by) else { panic!("{round}") };
        new.accepted(round);
        assert!(matches!(ids.reserve("shop", "u", by), Sight::Accepted));
        if round % 2 == 0 {
            ids.anew("shop", "u", by);
        } else {
            assert!(ids.remembers("shop", "u") && !ids.remembers("shop", "v"));
            assert_eq!(ids.known("shop", "u", &[by, told("other")]).len(), 1);
            ids.settled("shop", "u", &[by, told("other")]);
            assert!(!ids.remembers("shop", "u"));
        }
    }
    assert_eq!(ids.count(), 0);
    let left = ids.inner.lock().sources[0].order.len();
    assert!(left <= BATCH + 2, "{left}");
}

#[test]
fn source_and_id_do_not_run_into_each_other() {
    let event = |source: &str, id: &str| hash(&Event::new(id, source, "t", serde_json::Value::Null));
    assert_ne!(event("a", "bc"), event("ab", "c"));
}

#[test]
fn an_id_is_forgotten_after_a_day_and_the_log_is_told_so() {
    let day = KEPT.as_secs() * SECOND;
    let ids = restart(&[("b", 2 * SECOND), ("a", SECOND)], 9);
    assert_eq!(ids.expired(day), []);
    let gone = ids.expired(day + SECOND);
    assert_eq!(gone, [Origin::new(event_source::watch("shop"), uid("u", Some(&hash_of("a"))), None)]);
    assert!(accept(&ids, "a", day + SECOND));
    assert_eq!(ids.expired(day).len(), 0, "a clock that went back forgets nothing");
    assert_eq!(ids.expired(day + 2 * SECOND).len(), 1);
    assert_eq!(ids.count(), 1);
}

#[test]
fn what_comes_again_and_again_is_remembered_on_and_on() {
    let (day, hash) = (KEPT.as_secs() * SECOND, hash_of("a"));
    let ids = restart(&[("a", SECOND)], 9);
    let renewed = |at: u64| ids.renew("shop", "u", hash, at);
    assert!(!renewed(day / 2), "it is young");
    assert!(renewed(day / 2 + SECOND) && !renewed(day / 2 + SECOND));
    assert_eq!(ids.expired(day + SECOND), [], "it counts from then on");
    assert!(matches!(ids.reserve("shop", "u", hash), Sight::Accepted));
    assert_eq!(ids.expired(day + day / 2 + SECOND).len(), 1);
    assert!(!renewed(9 * day), "what is forgotten is not remembered again");
}

#[test]
fn the_oldest_go_first_when_there_are_too_many() {
    let ids = ids(2);
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        assert!(accept(&ids, id, at as u64 * SECOND));
    }
    assert_eq!(ids.surplus(), [], "in parts");
    assert!(accept(&ids, "d", 9 * SECOND));
    assert_eq!(ids.surplus().len(), 2);
    assert_eq!(ids.count(), 2);
    assert!(accept(&ids, "a", 9 * SECOND) && !accept(&ids, "d", 9 * SECOND));
}

#[test]
fn who_sends_much_forgets_his_own_and_not_what_others_sent() {
    let ids = ids(5 * BATCH);
    let Sight::New(rare) = ids.reserve("shop", "rare", hash_of("a")) else { panic!("new") };
    rare.accepted(SECOND);
    for n in 0..10 * BATCH {
        assert!(accept(&ids, &n.to_string(), 2 * SECOND + n as u64));
        assert!(ids.surplus().iter().all(|gone| gone.uid.starts_with("u/")));
    }
    assert!(ids.count() <= 2 * BATCH + 1, "{}", ids.count());
    assert!(matches!(ids.reserve("shop", "rare", hash_of("a")), Sight::Accepted));
    assert!(accept(&ids, "0", 3 * SECOND), "its own oldest is forgotten");
    assert!(!accept(&ids, &(10 * BATCH - 1).to_string(), 3 * SECOND));
}

#[test]
fn nothing_is_left_of_a_source_that_is_gone_and_others_stay() {
    let ids = ids(9);
    assert!(accept(&ids, "a", SECOND));
    let Sight::New(other) = ids.reserve("shop", "v", hash_of("a")) else { panic!("new") };
    other.accepted(SECOND);
    let gone = ids.forget(&("shop".to_owned(), "u".to_owned()));
    let uids: Vec<&str> = gone.iter().map(|origin| origin.uid.as_str()).collect();
    assert_eq!(uids, [uid("u", Some(&hash_of("a"))), "u/".to_owned()]);
    assert!(gone.iter().all(|origin| origin.seen.is_none()));
    assert!(!ids.sources().contains(&("shop".to_owned(), "u".to_owned())));
    assert!(matches!(ids.reserve("shop", "w", hash_of("a")), Sight::New(_)), "a new one");
    assert!(matches!(ids.reserve("shop", "v", hash_of("a")), Sight::Accepted));
}
