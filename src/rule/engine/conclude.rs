//! Concluding: what is decided after what the trigger of a rule says, of an event or of what was due.

use super::{Engine, judge::errored};
use crate::{
    api::FiringKind,
    event::Event,
    record::{Deadline, Decision, Firing, FiringId, GroupValues, Head, Mark, Number, SuppressedReason},
    rule::{
        compile::Rule,
        silences::{About, Hush},
        state::State,
        trigger::{Fires, Trigger, Verdict},
    },
};

impl Engine {
    /// What is decided after what the trigger says.
    pub(super) fn conclude(&self, moment: &Moment<'_>, rule: &Rule, state: &State, verdict: Verdict) -> Vec<Decision> {
        let (uid, group) = (&rule.rule.uid, moment.group);
        let mut decisions = Vec::new();
        let numbers = (verdict.value.map(Number), verdict.baseline.map(Number));
        // An end first: what is noted may be a new beginning.
        if let Some(since) = verdict.ended {
            decisions.push(Decision::Resolved { rule: uid.clone(), group: group.to_owned(), since });
        }
        let occurrence = match verdict.mark {
            Some(Mark::Occurred(occurrence)) => Some(occurrence),
            Some(mark) => {
                decisions.push(moment.noted(rule, mark));
                None
            }
            None => None,
        };
        if verdict.ended.is_some() && !verdict.forgets && !rule.spec.resolve_actions.is_empty() {
            let fires = Fires { kind: FiringKind::Resolved, ..Fires::default() };
            decisions.push(Decision::Fired(self.firing(moment, rule, fires, numbers)));
        }
        let Some(fires) = verdict.fires else {
            let counted = |occurrence| Decision::Counted { rule: uid.clone(), group: group.to_owned(), occurrence };
            decisions.extend(occurrence.map(counted));
            return decisions;
        };
        let stopped = self.stopped().map(|_| SuppressedReason::Stopped).filter(|_| fires.kind != FiringKind::Step);
        let Hush { until: hushed, errors } = match stopped {
            None => state.silences.hush(rule, &moment.about()),
            Some(_) => Hush::default(),
        };
        // What cannot be told silences nothing.
        decisions.extend(errors.into_iter().map(|error| errored(uid, error)));
        let silenced = hushed.map(|_| SuppressedReason::Silence);
        let braked = || suppressed(moment, rule, state).filter(|_| fires.kind != FiringKind::Step);
        match stopped.or(silenced).or_else(braked) {
            None => decisions.push(Decision::Fired(self.firing(moment, rule, fires, numbers))),
            Some(reason) => {
                let (rule_uid, group) = (uid.clone(), group.to_owned());
                decisions.push(Decision::Suppressed { rule: rule_uid, group, reason, occurrence });
                let postponed = rule.trigger.as_ref().and_then(|trigger| trigger.postponed(again(moment, rule, state)));
                let postponed = match (postponed, hushed) {
                    (Some(Mark::Postponed(_)), Some(until)) => Some(Mark::Hushed(until)),
                    (postponed, _) => postponed,
                };
                decisions.extend(postponed.map(|mark| moment.noted(rule, mark)));
            }
        }
        decisions
    }

    fn firing(
        &self,
        moment: &Moment<'_>,
        rule: &Rule,
        fires: Fires,
        (value, baseline): (Option<Number>, Option<Number>),
    ) -> Firing {
        let (uid, group) = (&rule.rule.uid, moment.group);
        let id = match moment.deadline {
            None => FiringId::derive(&self.log, moment.head.position, uid, group),
            Some(deadline) => FiringId::derive_due(&self.log, deadline, &format!("{:?} {:?}", fires.kind, fires.step)),
        };
        Firing {
            id,
            rule: rule.rule.clone(),
            generation: rule.generation,
            source: moment.source.to_owned(),
            group: group.to_owned(),
            group_values: moment.values.clone(),
            count: fires.count,
            value,
            baseline,
            kind: fires.kind,
            step: fires.step,
            input: moment.head.position,
            stamp: moment.head.stamp,
            planned: fires.planned,
            restores: None,
            closes: false,
        }
    }
}

/// What a group of a rule does not do now is tried again after so long at the least, in microseconds.
const AGAIN: i64 = 1_000_000;

/// When what is suppressed now is tried again.
fn again(moment: &Moment<'_>, rule: &Rule, state: &State) -> i64 {
    let stamp = moment.head.stamp;
    let until = state.free_at(rule, moment.group).max(stamp.at.saturating_add(AGAIN));
    let now = stamp.timestamp();
    // Only what waits for a time of its own does; the calendar costs more than all else here.
    let waits = rule.trigger.as_ref().is_some_and(Trigger::waits_for_sources) && !rule.windows.contain(now);
    let opens = if waits { rule.windows.opening(now) } else { None };
    let opens = opens.map_or(0, |opens| opens.as_microsecond().saturating_sub(stamp.wall).saturating_add(stamp.at));
    until.max(opens)
}

/// The instant and the group that something is decided for.
pub(super) struct Moment<'m> {
    pub(super) head: Head,
    pub(super) source: &'m str,
    /// The event, or the one that is kept with the group.
    pub(super) event: Option<&'m Event>,
    pub(super) group: &'m str,
    pub(super) values: GroupValues,
    /// What was due; nothing for an event.
    pub(super) deadline: Option<&'m Deadline>,
}

impl Moment<'_> {
    fn about(&self) -> About<'_> {
        About { event: self.event, source: self.source, values: &self.values, stamp: self.head.stamp }
    }

    fn noted(&self, rule: &Rule, mark: Mark) -> Decision {
        let keeps = mark.is_match() && rule.trigger.as_ref().is_some_and(Trigger::keeps_event);
        Decision::Noted {
            rule: rule.rule.uid.clone(),
            group: self.group.to_owned(),
            mark,
            source: if keeps { self.source.to_owned() } else { String::new() },
            group_values: if keeps { self.values.clone() } else { GroupValues::new() },
        }
    }
}

/// Why the group does not fire now, though its trigger says so.
fn suppressed(moment: &Moment<'_>, rule: &Rule, state: &State) -> Option<SuppressedReason> {
    let (group, now) = (moment.group, moment.head.stamp.at);
    if !rule.windows.contain(moment.head.stamp.timestamp()) {
        Some(SuppressedReason::OutsideActiveWindow)
    } else if state.is_busy(rule, group) {
        Some(SuppressedReason::Concurrency)
    } else if rule.cooldown.is_some() && state.groups.is_cooling(group, now) {
        Some(SuppressedReason::Cooldown)
    } else {
        let is_spent = rule.budget.is_some_and(|budget| state.is_spent(&budget, group, now));
        is_spent.then_some(SuppressedReason::Budget)
    }
}
