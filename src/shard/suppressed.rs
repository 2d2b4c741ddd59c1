//! Matching events that did not fire, told as Kubernetes Events on their rule: as a series for each reason.

use std::collections::BTreeMap;

use crate::{
    event::trail,
    record::{Decision, EventInput, RuleUid, SuppressedReason},
    rule::Engine,
    status::{ObjectRef, StatusQueue, Story},
};

/// Stories that are told at a time: the others wait for the next time, so that a storm leaves room for what fires.
const AT_ONCE: usize = 64;

/// What was suppressed since it was told last.
#[derive(Default)]
pub struct Suppressions(BTreeMap<(RuleUid, SuppressedReason), Untold>);

/// Suppressed events of one rule.
struct Untold {
    /// The group of the first.
    group: String,
    times: u32,
    /// Of a loop, the uids of the rules that led to the first.
    rules: Vec<String>,
}

impl Suppressions {
    /// Notes what is suppressed among the decisions about an event, or about what was due.
    pub(super) fn note(&mut self, engine: &Engine, input: Option<&EventInput>, decisions: &[Decision]) {
        for decision in decisions {
            if let Decision::Suppressed { rule, group, reason, .. } = decision
                && words(*reason).is_some()
            {
                let rules = if *reason == SuppressedReason::Loop { led(engine, input) } else { Vec::new() };
                let first = || Untold { group: group.clone(), times: 0, rules };
                let untold = self.0.entry((rule.clone(), *reason)).or_insert_with(first);
                untold.times = untold.times.saturating_add(1);
            }
        }
    }

    /// Tells it.
    pub(super) fn tell(&mut self, status: &StatusQueue, engine: &Engine) {
        for _ in 0..AT_ONCE {
            let Some(((uid, reason), Untold { group, times, rules })) = self.0.pop_first() else { return };
            let (Some(rule), Some((warning, words))) = (engine.rule(&uid), words(reason)) else { continue };
            let led = if rules.is_empty() { String::new() } else { format!(": {}", names(engine, &rules)) };
            status.event(Story {
                object: ObjectRef::rule(&rule.rule),
                warning,
                reason: "Suppressed".to_owned(),
                action: format!("{reason:?}"),
                note: format!(
                    "an event for {group} matched and did not fire: {words}{led}; status.counts.suppressed counts them"
                ),
                times,
            });
        }
    }
}

/// The uids of the rules that led to the event, each once, the first of them first.
fn led(engine: &Engine, input: Option<&EventInput>) -> Vec<String> {
    let Some(EventInput { event, origin, .. }) = input else { return Vec::new() };
    let emitted = trail::rules(event).map(str::to_owned);
    let wrote = engine.led(event, origin).into_iter().rev().map(|rule| rule.0.to_string());
    let mut rules: Vec<String> = Vec::new();
    for rule in emitted.chain(wrote) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// Rules by their names, in the order in which they led to each other.
fn names(engine: &Engine, rules: &[String]) -> String {
    let name = |uid: &String| match engine.rule(&RuleUid(uid.as_str().into())) {
        Some(rule) => rule.rule.name.clone(),
        None => uid.clone(),
    };
    rules.iter().map(name).collect::<Vec<_>>().join(" → ")
}

/// Why it did not fire, and whether somebody may have to look; nothing of what is told nowhere but in the counts.
fn words(reason: SuppressedReason) -> Option<(bool, &'static str)> {
    Some(match reason {
        SuppressedReason::Cooldown => (false, "its group is within throttle.cooldown of a firing"),
        SuppressedReason::Budget => (false, "throttle.budget is used up"),
        SuppressedReason::Concurrency => (false, "a firing of its group is open, and concurrencyPolicy is Forbid"),
        SuppressedReason::Dedupe => (false, "dedupe knows its key"),
        SuppressedReason::OutsideActiveWindow => (false, "it is outside of activeWindows"),
        SuppressedReason::Silence => (false, "a silence says so; status.silences tells whose, and until when"),
        SuppressedReason::Stopped => (true, "the switch for all rules is set"),
        SuppressedReason::TooManyGroups => (true, "there are as many groups as groups.max allows"),
        SuppressedReason::TooMuchState => (true, "what is kept of groups of the namespace takes more than 64 MiB"),
        SuppressedReason::Loop => (true, "rules set each other off, and the chain of them ends here"),
        SuppressedReason::OwnWrite | SuppressedReason::Backlog => return None,
    })
}
