//! Deciding: taking in what was decided, just now or as the log tells it.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Engine, MAX_ERROR, SeenBy, time};
use crate::{
    api::{EventRef, FiringKind, FiringOutcome, FiringStatus, LastError, Suppressed},
    event::Event,
    record::{Decision, EventInput, Firing, FiringId, Head, Mark, RuleUid, SuppressedReason},
    rule::groups::Cause,
    text::cut,
};

impl Engine {
    /// Takes in what was decided about the event: made by [`Engine::judge`] just now, or read from the log.
    pub fn decide(&mut self, head: &Head, input: &EventInput, seen: &SeenBy, decisions: &[Decision]) {
        seen.classes.iter().for_each(|class| self.index.count(*class));
        for uid in &seen.rules {
            if let Some((_, state)) = self.rules.get_mut(uid) {
                state.counts.seen += 1;
                if input.only.is_none() {
                    state.begun.note(&input.origin, head.stamp.at);
                }
                // Not in `progress`: a change of `seen` alone is no reason to write a status.
                self.changed.rows.insert(uid.clone());
            }
        }
        let mut matched = BTreeSet::new();
        for decision in decisions {
            // What has to wait counts when it is judged.
            if let Decision::Deferred { rule, .. } = decision
                && let Some(generation) = self.rule(rule).map(|rule| rule.generation)
            {
                self.index.uncount(rule, generation, &seen.classes);
            }
            if let Some(uid) = matches(decision)
                && matched.insert(uid)
                && let Some((_, state)) = self.rules.get_mut(uid)
            {
                state.counts.matched += 1;
                state.last_match = Some(head.stamp.timestamp());
            }
            self.decide_one(head, Some(input), decision);
        }
    }

    /// Takes in one decision: about the event, or about something that was due at `head`.
    pub(super) fn decide_one(&mut self, head: &Head, input: Option<&EventInput>, decision: &Decision) {
        let uid = of_rule(decision);
        let event = match decision {
            Decision::Noted { source, .. } => input.and_then(|input| self.as_kept(uid, source, input)),
            _ => None,
        };
        let Some((_, state)) = self.rules.get_mut(uid) else { return };
        let now = head.stamp.at;
        let touched = match decision {
            Decision::Fired(firing) => self.take_in(firing, input),
            Decision::Counted { group, occurrence, .. } => state.note(group, Mark::Occurred(*occurrence), None, now),
            Decision::Noted { group, mark, source, group_values, .. } => {
                let kept = |event| Cause::new(source, event, group_values);
                state.note(group, *mark, event.filter(|_| mark.is_match()).map(kept), now)
            }
            Decision::Passed { group, key, .. } => state.passed(group, *key, now),
            Decision::Resolved { group, .. } => {
                state.counts.resolved += 1;
                let touched = state.resolved(group, now);
                self.let_go(head, uid, std::slice::from_ref(group));
                touched
            }
            Decision::Suppressed { group, reason, occurrence, .. } => {
                state.suppressed(group, *reason, head.stamp);
                count(&mut state.counts.suppressed, *reason);
                occurrence.map_or_else(Vec::new, |occurrence| state.note(group, Mark::Occurred(occurrence), None, now))
            }
            Decision::Deferred { object, .. } => {
                if let Some(input) = input {
                    state.own.wait(object.clone(), head.position, input.clone());
                }
                Vec::new()
            }
            Decision::Errored { place, message, .. } => {
                state.counts.errors += 1;
                let message = cut(message, MAX_ERROR);
                state.last_error = Some(LastError { time: time(head), place: place.clone(), message });
                Vec::new()
            }
        };
        if let (Some(input), Some((_, state))) = (input, self.rules.get_mut(uid))
            && !matches!(decision, Decision::Deferred { .. } | Decision::Errored { .. } | Decision::Counted { .. })
        {
            state.own.arrived(input);
        }
        self.touch(uid, touched);
        self.changed.rows.insert(uid.clone());
        self.changed.progress.insert(uid.clone());
    }

    /// Takes in a firing: gives the groups that changed.
    fn take_in(&mut self, firing: &Firing, input: Option<&EventInput>) -> Vec<String> {
        let (uid, about) = (&firing.rule.uid, self.event_of(firing, input));
        let Some((_, state)) = self.rules.get_mut(uid) else { return Vec::new() };
        let touched = match &firing.restores {
            Some(change) => {
                state.remembered.give(&change.key(), &firing.id);
                self.touch_remembered(uid, [change.key()]);
                Vec::new()
            }
            None => state.fired(firing),
        };
        if let Some(about) = about {
            self.begin(firing, &about);
        }
        touched
    }

    /// Counts a firing as fired, and shows it among the recent ones.
    pub(super) fn begin(&mut self, firing: &Firing, event: &Event) {
        let uid = &firing.rule.uid;
        let Some((_, state)) = self.rules.get_mut(uid) else { return };
        state.counts.fired += 1;
        // It is of no group.
        if firing.restores.is_none() {
            state.running.insert(firing.id.clone(), firing.group.as_str().into());
        }
        state.last_firing = Some(firing.stamp.timestamp());
        let limit = state.history_limit();
        if limit > 0 {
            state.recent.push_front(Arc::new(status_of(firing, event)));
            self.open.insert(firing.id.clone(), uid.clone());
        }
        while state.recent.len() > limit {
            let gone = state.recent.pop_back();
            gone.map(|gone| self.open.remove(&FiringId(gone.id.as_str().into())));
        }
        self.changed.rows.insert(uid.clone());
        self.changed.progress.insert(uid.clone());
    }
}

/// Counts an event that did not fire.
fn count(suppressed: &mut Suppressed, reason: SuppressedReason) {
    *match reason {
        SuppressedReason::Cooldown => &mut suppressed.cooldown,
        SuppressedReason::TooManyGroups => &mut suppressed.too_many_groups,
        SuppressedReason::TooMuchState => &mut suppressed.too_much_state,
        SuppressedReason::Budget => &mut suppressed.budget,
        // Only a log that an earlier version wrote says so.
        SuppressedReason::Backlog => return,
        SuppressedReason::Concurrency => &mut suppressed.concurrency,
        SuppressedReason::OutsideActiveWindow => &mut suppressed.outside_active_window,
        SuppressedReason::Silence => &mut suppressed.silence,
        SuppressedReason::Stopped => &mut suppressed.stopped,
        SuppressedReason::Dedupe => &mut suppressed.dedupe,
        SuppressedReason::OwnWrite => &mut suppressed.own_write,
        SuppressedReason::Loop => &mut suppressed.looped,
    } += 1;
}

/// The rule that a decision is of.
fn of_rule(decision: &Decision) -> &RuleUid {
    match decision {
        Decision::Fired(firing) => &firing.rule.uid,
        Decision::Counted { rule, .. }
        | Decision::Noted { rule, .. }
        | Decision::Passed { rule, .. }
        | Decision::Resolved { rule, .. }
        | Decision::Suppressed { rule, .. }
        | Decision::Deferred { rule, .. }
        | Decision::Errored { rule, .. } => rule,
    }
}

/// The rule whose conditions the event met, as this decision says.
fn matches(decision: &Decision) -> Option<&RuleUid> {
    match decision {
        Decision::Fired(Firing { kind: FiringKind::Resolved | FiringKind::Restored, .. })
        | Decision::Resolved { .. }
        | Decision::Deferred { .. }
        | Decision::Errored { .. } => None,
        Decision::Noted { mark, .. } if !mark.is_match() => None,
        other => Some(of_rule(other)),
    }
}

fn status_of(firing: &Firing, event: &Event) -> FiringStatus {
    FiringStatus {
        id: firing.id.to_string(),
        time: Time(firing.stamp.timestamp()),
        group: firing.group.clone(),
        kind: firing.kind,
        event: EventRef::from(event),
        outcome: FiringOutcome::Running,
        message: String::new(),
        actions: Vec::new(),
    }
}
