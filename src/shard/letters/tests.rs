//! How many letters are kept.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{
    api::EventRuleSpec,
    event::Event,
    record::{Finished, Firing, RuleRef, Stamp},
};

fn uid(name: &str) -> RuleUid {
    RuleUid(name.into())
}

fn letter(rule: &str, number: u64) -> DeadLetter {
    let spec: EventRuleSpec = serde_json::from_value(json!({"sources": [], "actions": []})).expect("a spec");
    let event = Event::new("e", "/s", "t", json!({}));
    let id = FiringId(format!("{rule}-{number}").into());
    let firing = Firing {
        id: id.clone(),
        rule: RuleRef { uid: uid(rule), namespace: "shop".into(), name: rule.into() },
        generation: 1,
        source: "s".into(),
        group: "g".into(),
        group_values: BTreeMap::new(),
        count: None,
        kind: Default::default(),
        step: None,
        planned: None,
        restores: None,
        closes: false,
        value: None,
        baseline: None,
        input: Position(number),
        stamp: Stamp::default(),
    };
    DeadLetter {
        open: OpenFiring {
            firing,
            event: Arc::new(event),
            events: Vec::new(),
            spec: Arc::new(spec),
            steps: BTreeMap::new(),
        },
        finished: Finished {
            firing: id,
            rule: uid(rule),
            outcome: FiringOutcome::Failed,
            message: "no".into(),
            failed_at: None,
        },
        stamp: Stamp::default(),
        unjudged: None,
    }
}

fn keep(letters: &mut Letters, rule: &str, number: u64) -> BTreeSet<RuleUid> {
    letters.keep(&Head { position: Position(number), stamp: Stamp::default() }, letter(rule, number))
}

#[test]
fn of_one_rule_the_last_thousand_are_kept_and_the_others_counted() {
    let mut letters = Letters::default();
    keep(&mut letters, "other", 1);
    for number in 2..=1_004 {
        keep(&mut letters, "web", number);
    }
    assert_eq!((letters.count(&uid("web")), letters.count(&uid("other")), letters.len()), (1_000, 1, 1_001));
    let ids: Vec<String> = letters.of_rule(&uid("web")).map(ToString::to_string).collect();
    assert_eq!((&*ids[0], &*ids[999]), ("web-1004", "web-5"), "the newest come first, and the oldest went");
    assert_eq!((letters.take_evicted(), letters.take_evicted()), (3, 0));
    let mut delta = Delta::new();
    letters.delta(&mut delta);
    let gone = delta.iter().filter(|(_, _, row)| row.is_none()).count();
    assert_eq!((gone, delta.len()), (2 * 3, 2 * 1_004));
}

#[test]
fn pages_begin_with_the_newest_and_go_on_where_the_last_ended() {
    let mut letters = Letters::default();
    (1..=5).for_each(|number| drop(keep(&mut letters, "web", number)));
    let page = |before, limit| {
        let (page, more) = letters.page(&uid("web"), before, limit);
        (page.into_iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), more)
    };
    let ids = |numbers: &[u64]| numbers.iter().map(|number| format!("web-{number}")).collect::<Vec<_>>();
    assert_eq!(page(None, 2), (ids(&[5, 4]), Some(Position(4))));
    assert_eq!(page(Some(Position(4)), 2), (ids(&[3, 2]), Some(Position(2))));
    assert_eq!(page(Some(Position(2)), 2), (ids(&[1]), None));
    assert_eq!(page(None, 5), (ids(&[5, 4, 3, 2, 1]), None), "a full page that is the last says so");
}

#[test]
fn rules_that_could_not_judge_the_same_event_have_a_letter_each() {
    let mut letters = Letters::default();
    keep(&mut letters, "a", 1);
    keep(&mut letters, "b", 1);
    let ids = |letters: &Letters, rule: &str| {
        let (page, more) = letters.page(&uid(rule), None, 5);
        (page.into_iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), more)
    };
    assert_eq!((ids(&letters, "a").0, ids(&letters, "b").0), (vec!["a-1".to_owned()], vec!["b-1".to_owned()]));
    letters.take(&FiringId("a-1".into()));
    assert_eq!((ids(&letters, "a").0.len(), ids(&letters, "b").0), (0, vec!["b-1".to_owned()]));
}

#[test]
fn in_all_ten_thousand_are_kept_whosever_is_the_oldest() {
    let mut letters = Letters::default();
    for number in 1..=10_000 {
        keep(&mut letters, &format!("r{}", number % 20), number);
    }
    assert_eq!((letters.len(), letters.take_evicted()), (10_000, 0));
    let touched = keep(&mut letters, "web", 10_001);
    assert_eq!(touched, BTreeSet::from([uid("r1"), uid("web")]), "the rule that lost one is told as well");
    assert_eq!((letters.len(), letters.count(&uid("r1")), letters.take_evicted()), (10_000, 499, 1));
    letters.forget(&uid("web"));
    assert_eq!((letters.len(), letters.find(&FiringId("web-10001".into()))), (9_999, None));
}

#[test]
fn large_letters_are_fewer_and_the_newest_stays() {
    let mut letters = Letters::default();
    let mut large = |number: u64, bytes: usize| {
        let mut one = letter("large", number);
        one.open.event = Arc::new(Event::new("e", "/s", "t", json!("x".repeat(bytes))));
        letters.keep(&Head { position: Position(number), stamp: Stamp::default() }, one);
        (letters.count(&uid("large")), letters.bytes < MAX_BYTES_OF_RULE + (10 << 20))
    };
    assert_eq!((1..=20).map(|number| large(number, 1 << 20)).last(), Some((7, true)));
    assert_eq!(large(21, 9 << 20), (1, true));
    let mut of_others = Letters::default();
    for number in 0..100 {
        let mut one = letter(&format!("r{number}"), number + 1);
        one.open.event = Arc::new(Event::new("e", "/s", "t", json!("x".repeat(1 << 20))));
        of_others.keep(&Head { position: Position(number + 1), stamp: Stamp::default() }, one);
    }
    assert_eq!((of_others.len(), of_others.take_evicted()), (63, 37));
}
