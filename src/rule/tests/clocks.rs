//! Clocks that jump: what lasts is measured on the line of the log's stamps, which no clock moves.

use super::*;

/// A record so many seconds on the line, under a wall clock that is wrong by `wrong` seconds.
fn stamped(position: u64, seconds: i64, wrong: i64) -> Head {
    let mut head = head(position, seconds);
    head.stamp.wall += wrong * SECOND;
    head
}

/// What becomes of events at these seconds, when the clock begins to be wrong with the second of them. Their producer's clock is right.
fn judged(body: Value, wrong: i64, seconds: &[i64]) -> Vec<String> {
    let mut engine = engine_with(body);
    let mut words = Vec::new();
    for (number, second) in seconds.iter().enumerate() {
        let head = stamped(10 + number as u64, *second, if number == 0 { 0 } else { wrong });
        let mut input = about("shop", "web", "BackOff", json!({}));
        let time = k8s_openapi::jiff::Timestamp::from_second(1_790_000_000 + second).expect("a time");
        Arc::make_mut(&mut input.event).time = Some(time);
        let judged = engine.judge(&head, &input);
        engine.decide(&head, &input, &judged.seen, &judged.decisions);
        words.extend(judged.decisions.iter().map(word));
    }
    words
}

const FIRED: &str = "fired shop/Pod/web by any";
const COOLDOWN: &str = "cooldown shop/Pod/web";

#[test]
fn a_clock_that_jumps_neither_shortens_a_cooldown_nor_holds_it_up() {
    for wrong in [0, 3_600, -3_600, 86_400 * 365] {
        let words = judged(json!({"throttle": {"cooldown": "15m"}}), wrong, &[0, 60, 899, 900, 960]);
        assert_eq!(words, [FIRED, COOLDOWN, COOLDOWN, FIRED, COOLDOWN], "{wrong}");
    }
}

#[test]
fn a_clock_that_jumps_neither_opens_a_budget_nor_closes_it() {
    for wrong in [0, 3_600, -3_600] {
        let budget = json!({"throttle": {"budget": {"firings": 2, "per": "10m"}}});
        let words = judged(budget, wrong, &[0, 60, 120, 599, 601]);
        let spent = "budget shop/Pod/web";
        assert_eq!(words, [FIRED, FIRED, spent, spent, FIRED], "{wrong}");
    }
}

#[test]
fn a_clock_that_jumps_neither_fires_a_count_early_nor_loses_one() {
    for wrong in [0, 3_600, -3_600] {
        let count = json!({"trigger": {"count": {"atLeast": 3, "within": "10m"}}});
        let counted = "counted shop/Pod/web";
        let words = judged(count, wrong, &[0, 100, 200, 300]);
        assert_eq!(words, [counted, counted, "fired shop/Pod/web by any x3", counted], "{wrong}");
    }
}
