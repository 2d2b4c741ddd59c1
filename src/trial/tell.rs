//! Decisions in words.

use crate::{
    record::{Decision, Mark, SuppressedReason},
    rule::{Engine, Rule},
};

/// What is to be said of a decision but that the rule fired, and whether it is an error.
pub(super) fn decision(engine: &Engine, rule: &Rule, decision: &Decision, now: i64) -> Option<(String, bool)> {
    let so_far =
        |group: &str| engine.so_far(&rule.rule.uid, group, now).map(|text| format!(": {text}")).unwrap_or_default();
    let text = match decision {
        Decision::Fired(_) => return None,
        Decision::Counted { group, .. } => format!("counted for {group}{}", so_far(group)),
        Decision::Passed { group, .. } => format!("the first of its kind for {group}"),
        Decision::Noted { group, mark, .. } => format!("{} {group}{}", noted(mark)?, so_far(group)),
        Decision::Resolved { group, .. } => format!("ended for {group}"),
        Decision::Suppressed { group, reason, .. } => format!("suppressed for {group} by {}", brake(*reason)),
        Decision::Deferred { object, .. } => format!("waits for the write to {object}"),
        Decision::Errored { place, message, .. } => return Some((format!("error in {place}: {message}"), true)),
    };
    Some((text, false))
}

fn noted(mark: &Mark) -> Option<String> {
    Some(match mark {
        Mark::Occurred(_) => "counted for".to_owned(),
        Mark::Holds(_) => "the conditions hold for".to_owned(),
        Mark::Ended(_) => "it is over for".to_owned(),
        Mark::Heard(_) => "heard of".to_owned(),
        Mark::Added { .. } => "put to the others of".to_owned(),
        Mark::Sample { value, .. } => format!("a sample of {} for", value.0),
        Mark::Took { .. } => "one of those that are waited for, of".to_owned(),
        Mark::Due { .. } => "a time is named by".to_owned(),
        Mark::Slid(_) | Mark::Postponed(_) | Mark::Hushed(_) => return None,
    })
}

/// The field that suppressed a firing, or why else.
fn brake(reason: SuppressedReason) -> &'static str {
    match reason {
        SuppressedReason::Cooldown => "throttle.cooldown",
        SuppressedReason::TooManyGroups => "groups.max",
        SuppressedReason::TooMuchState => "what is kept of groups, which is too much",
        SuppressedReason::Budget => "throttle.budget",
        SuppressedReason::Backlog => "a backlog",
        SuppressedReason::OwnWrite => "its own write, of which the event tells",
        SuppressedReason::Concurrency => "concurrencyPolicy: Forbid",
        SuppressedReason::Dedupe => "dedupe",
        SuppressedReason::OutsideActiveWindow => "activeWindows",
        SuppressedReason::Stopped => "the switch that stops all rules",
        SuppressedReason::Silence => "a silence",
        SuppressedReason::Loop => "its own part in how the event came about",
    }
}
