//! The Kubernetes Events that tell a firing's story, on the rule and on what was acted upon.

use crate::{
    api::{ActionOutcome, FiringKind, FiringOutcome},
    event::Event,
    record::{Finished, Firing, FiringId, Intent, Outcome, RuleRef, Stamp, approve_command, undone, whole},
    rule::{Rule, Trip},
    status::{ObjectRef, StatusQueue, Story},
};

/// The rule fired.
pub(super) fn fired(status: &StatusQueue, firing: &Firing, event: &Event, rule: &Rule) {
    let actions: Vec<&str> = firing.actions(&rule.spec).iter().map(|action| action.name.as_str()).collect();
    let reason = event.data.get("reason").and_then(|reason| reason.as_str()).unwrap_or(&event.type_);
    let times = firing.count.map(|count| format!(", {count} times")).unwrap_or_default();
    let what = match (firing.kind, firing.step) {
        (FiringKind::Fired, _) => "fired".to_owned(),
        (FiringKind::Step, step) => format!("step {} of the escalation", step.unwrap_or_default() + 1),
        (FiringKind::Repeated, _) => "fired again".to_owned(),
        (FiringKind::Resolved, _) => "resolved".to_owned(),
        (FiringKind::Restored, _) => "it is time to give back what it was".to_owned(),
    };
    status.event(Story {
        object: ObjectRef::rule(&firing.rule),
        warning: false,
        reason: "Fired".to_owned(),
        action: "Fire".to_owned(),
        note: format!("{what} for {} ({reason}{times}): {}; firing {}", firing.group, actions.join(", "), firing.id),
        times: 1,
    });
}

/// What the rule had fired for has ended.
pub(super) fn resolved(status: &StatusQueue, rule: &RuleRef, group: &str, since: Stamp) {
    over(status, rule, format!("what the rule fired for at {} has ended: {group}", since.timestamp()));
}

/// The rule was changed while what it had fired for lasted.
pub(super) fn closed(status: &StatusQueue, rule: &RuleRef, group: &str) {
    let note = format!("RuleChanged: {group} is not followed any more; if its conditions are true now, it begins anew");
    over(status, rule, note);
}

fn over(status: &StatusQueue, rule: &RuleRef, note: String) {
    status.event(Story {
        object: ObjectRef::rule(rule),
        warning: false,
        reason: "Resolved".to_owned(),
        action: "Resolve".to_owned(),
        note,
        times: 1,
    });
}

/// The breaker of the rule has tripped, or the rule acts again.
pub(super) fn tripped(status: &StatusQueue, rule: &RuleRef, trip: Option<Trip>) {
    let warning = trip.is_some();
    let (reason, note) = match trip {
        Some(Trip { failures, why, .. }) => (
            "Tripped",
            format!("{failures} firings in a row have failed, firings are only observed from now on: {why}"),
        ),
        None => ("Reset", "the breaker is reset: the rule acts again".to_owned()),
    };
    let (reason, action) = (reason.to_owned(), "Break".to_owned());
    status.event(Story { object: ObjectRef::rule(rule), warning, reason, action, note, times: 1 });
}

/// A dead letter is run again.
pub(super) fn fired_again(status: &StatusQueue, firing: &Firing, of: &FiringId) {
    status.event(Story {
        object: ObjectRef::rule(&firing.rule),
        warning: false,
        reason: "Replayed".to_owned(),
        action: "Fire".to_owned(),
        note: format!("firing {of} for {}, which had failed, is run again; firing {}", firing.group, firing.id),
        times: 1,
    });
}

/// A step has an outcome: what was acted upon is told, and a failure is told on the rule.
pub(super) fn settled(status: &StatusQueue, firing: &Firing, outcome: &Outcome) {
    if let Some(effect) = &outcome.effect {
        status.event(Story {
            object: ObjectRef::from(effect),
            warning: false,
            reason: effect.reason.clone(),
            action: "Act".to_owned(),
            note: format!(
                "{} by EventRule {} for {}; firing {}",
                outcome.message, firing.rule, firing.group, firing.id
            ),
            times: 1,
        });
    }
    // Of an action with several objects, the whole tells what failed.
    let is_told = !whole(&outcome.action).1 || undone(&outcome.action).is_some();
    if outcome.outcome == ActionOutcome::Failed && is_told {
        status.event(Story { warning: true, ..of_step(firing, "ActionFailed", ended(firing, outcome)) });
    }
}

/// A step waits for an approval.
pub(super) fn asked(status: &StatusQueue, firing: &Firing, intent: &Intent, until: Stamp) {
    let command = approve_command(&firing.rule.namespace, &firing.rule.name, &firing.id);
    let (action, group, until) = (&intent.action, &firing.group, until.timestamp());
    let note = format!("action {action} for {group} waits until {until} for: {command} (or --deny)");
    status.event(of_step(firing, "ApprovalNeeded", note));
}

/// A step was approved. That one was denied is told as a failure.
pub(super) fn approved(status: &StatusQueue, firing: &Firing, outcome: &Outcome) {
    status.event(of_step(firing, "Approved", ended(firing, outcome)));
}

/// What is told on the rule of a step.
fn of_step(firing: &Firing, reason: &str, note: String) -> Story {
    let object = ObjectRef::rule(&firing.rule);
    Story { object, warning: false, reason: reason.to_owned(), action: "Act".to_owned(), note, times: 1 }
}

fn ended(firing: &Firing, outcome: &Outcome) -> String {
    format!("action {} for {}: {}; firing {}", outcome.action, firing.group, outcome.message, firing.id)
}

/// A firing has ended: told on the rule. A failure was told by its action already.
pub(super) fn finished(status: &StatusQueue, rule: &RuleRef, group: &str, finished: &Finished) {
    let reason = match finished.outcome {
        FiringOutcome::Succeeded => "Succeeded",
        FiringOutcome::Observed => "Observed",
        FiringOutcome::Expired => "Expired",
        FiringOutcome::Failed | FiringOutcome::Running => return,
    };
    status.event(Story {
        object: ObjectRef::rule(rule),
        warning: finished.outcome == FiringOutcome::Expired,
        reason: reason.to_owned(),
        action: "Act".to_owned(),
        note: format!("{} for {group}; firing {}", finished.message, finished.firing),
        times: 1,
    });
}
