//! What a rule nearly took.

use super::*;
use crate::api::LastNearMiss;

fn near(generation: i64, nearness: u8, second: i64, condition: &str) -> Part {
    let event = EventRef { id: "e/1".into(), type_: "t".into(), source: "/s".into(), subject: None };
    let told = LastNearMiss { time: Time(time(second)), event, condition: condition.into(), saw: "n = 2".into() };
    Part::NearMiss(NearMiss { rule: rule("web"), generation, nearness, told })
}

const SELECTOR: &str = "sources[s].resource.selector";

#[test]
fn the_nearer_miss_is_told_and_the_last_of_those_that_a_condition_refused() {
    let told = |misses: &[(u8, i64, &'static str)]| {
        let misses = misses.iter().map(|(nearness, second, condition)| near(2, *nearness, *second, condition));
        let parts = parts([spec(2)].into_iter().chain(misses));
        let miss = merge(None, &parts, time(9)).expect("a status").last_near_miss.expect("a near miss");
        (miss.condition, miss.time.0.as_second())
    };
    let names = "sources[s].resource.names";
    assert_eq!(told(&[(2, 1, SELECTOR), (1, 2, names)]), (SELECTOR.into(), 1));
    assert_eq!(told(&[(1, 1, names), (2, 2, SELECTOR), (2, 3, SELECTOR)]), (SELECTOR.into(), 3));
    assert_eq!(told(&[(1, 1, names), (1, 2, "sources[t].resource.names")]), (names.into(), 1));
    assert_eq!(told(&[(10, 1, "when[a]"), (10, 2, "when[b]"), (2, 3, SELECTOR)]), ("when[b]".into(), 2));
    assert_eq!(told(&[(10, 1, "when[a]"), (2, 3700, SELECTOR)]), (SELECTOR.into(), 3700));
}

#[test]
fn a_near_miss_of_another_generation_is_not_told() {
    let before = merge(None, &parts([spec(2), near(2, 10, 1, "when[a]")]), time(1)).expect("a status");
    assert!(before.last_near_miss.is_some());
    let after = merge(Some(&before), &parts([spec(2)]), time(2)).expect("a status");
    assert_eq!(after.last_near_miss, before.last_near_miss, "a restart takes nothing back");
    let edited = merge(Some(&before), &parts([spec(3), near(2, 10, 2, "when[a]")]), time(3)).expect("a status");
    assert_eq!(edited.last_near_miss, None);
    let newer = parts([spec(3), near(3, 1, 3, SELECTOR), near(2, 10, 4, "when[a]")]);
    let newer = merge(Some(&before), &newer, time(4)).expect("a status").last_near_miss.expect("a near miss");
    assert_eq!(newer.condition, SELECTOR);
}

#[test]
fn near_misses_alone_are_written_now_and_then_only() {
    let status = |second, nearness, condition| {
        merge(None, &parts([spec(2), near(2, nearness, second, condition)]), time(1)).expect("a status")
    };
    let none = merge(None, &parts([spec(2)]), time(1)).expect("a status");
    let worth = RuleParts::worth_writing;
    assert!(worth(&none, &status(1, 10, "when[a]")), "the first");
    assert!(!worth(&status(1, 10, "when[a]"), &status(60, 10, "when[b]")));
    assert!(worth(&status(1, 10, "when[a]"), &status(61, 10, "when[b]")), "another condition");
    assert!(!worth(&status(1, 10, "when[a]"), &status(300, 10, "when[a]")));
    assert!(worth(&status(1, 10, "when[a]"), &status(301, 10, "when[a]")));
    assert!(!worth(&status(1, 2, SELECTOR), &status(300, 2, SELECTOR)));
    assert!(worth(&status(1, 2, SELECTOR), &status(301, 2, SELECTOR)));
    assert!(worth(&status(1, 2, SELECTOR), &status(2, 10, "when[a]")), "it came nearer");
}
