//! The conditions of a rule: whether it is in force, hears, may, and does, each with a sentence that says what to do.

use k8s_openapi::jiff::Timestamp;

use super::{
    Finding, Foreseen, Slowed, Whose,
    board::MAX_MESSAGE,
    rule::{MAX_SHORT, Parts, Spec},
    seconds,
};
use crate::{
    api::{ConditionStatus, ConditionType, EventRuleStatus, FiringOutcome, Reason, StatusCondition},
    record::Stopped,
    rule::Trip,
    text::cut,
};

/// All conditions of a rule: what its parts say, and how the last firing went by `status`.
pub(super) fn conditions(
    previous: Option<&EventRuleStatus>,
    spec: &Spec,
    parts: &Parts,
    status: &EventRuleStatus,
    now: Timestamp,
) -> Vec<StatusCondition> {
    let findings = [
        (ConditionType::Ready, ready(spec, parts)),
        (ConditionType::Listening, listening(spec, parts)),
        (ConditionType::Authorized, authorized(spec, parts)),
        (ConditionType::Acting, held_up(parts).or_else(|| refused(spec, parts)).unwrap_or_else(|| acting(status))),
    ];
    findings.into_iter().map(|(type_, finding)| condition(previous, type_, finding, spec.generation, now)).collect()
}

fn condition(
    previous: Option<&EventRuleStatus>,
    type_: ConditionType,
    finding: Finding,
    generation: i64,
    now: Timestamp,
) -> StatusCondition {
    let before = previous.and_then(|status| status.conditions.iter().find(|one| one.type_ == type_));
    match before {
        // After a restart nothing is known for a moment. That is no reason to take back what held for this very spec: what has
        // become of it meanwhile is said soon, and is then True or False.
        Some(before)
            if finding.0 == ConditionStatus::Unknown
                && before.status == ConditionStatus::True
                && before.observed_generation == Some(generation) =>
        {
            before.clone()
        }
        before => super::board::condition(before, type_, finding, generation, now),
    }
}

fn ready(spec: &Spec, parts: &Parts) -> Finding {
    let in_force = parts.progress.as_ref().and_then(|progress| progress.generation);
    let before = |generation: i64| format!("generation {generation} judges until then");
    if !spec.faults.is_empty() {
        let meanwhile = match in_force {
            Some(generation) => format!("; {}", before(generation)),
            None => String::new(),
        };
        return (ConditionStatus::False, Reason::InvalidSpec, list(&spec.faults, &meanwhile));
    }
    if spec.suspended {
        let message = "suspend is set: no event is evaluated, and what happens meanwhile is not caught up; what waits at brokers that no other rule listens to comes afterwards";
        return (ConditionStatus::False, Reason::Suspended, message.to_owned());
    }
    let sides = [authorized(spec, parts), listening(spec, parts)];
    if let Some(bad) = sides.iter().find(|side| side.0 == ConditionStatus::False) {
        return bad.clone();
    }
    let known = sides.iter().all(|side| side.0 == ConditionStatus::True);
    match in_force {
        Some(generation) if generation == spec.generation && known => {
            (ConditionStatus::True, Reason::InForce, "the rule is in force".to_owned())
        }
        Some(generation) if generation != spec.generation => {
            (ConditionStatus::Unknown, Reason::Pending, format!("is being put in force; {}", before(generation)))
        }
        _ => (ConditionStatus::Unknown, Reason::Pending, "is being put in force".to_owned()),
    }
}

fn authorized(spec: &Spec, parts: &Parts) -> Finding {
    if !spec.faults.is_empty() {
        return waits("the spec has faults");
    }
    match parts.account.as_ref().filter(|(generation, _)| *generation == spec.generation) {
        None => waits("the account was not looked at yet"),
        Some((_, Err((Reason::Pending, message)))) => (ConditionStatus::Unknown, Reason::Pending, message.clone()),
        Some((_, Err((reason, message)))) => (ConditionStatus::False, *reason, message.clone()),
        Some((_, Ok(()))) => match sources(spec, parts) {
            Some((_, authorized)) => with_actions(authorized, spec, parts),
            None => waits("the rights of the account were not looked at yet"),
        },
    }
}

/// What the sources need, and what the actions need. Until that was looked at, what the sources need decides.
fn with_actions(sources: &Finding, spec: &Spec, parts: &Parts) -> Finding {
    let rights = parts.rights.as_ref().filter(|(generation, _)| *generation == spec.generation);
    let Some((_, missing)) = rights else { return sources.clone() };
    let told = |also: &str| format!("{}; {also}", sources.2);
    match (sources.0, missing) {
        (ConditionStatus::True, None) => {
            let also = "what actions do is allowed as far as the rule alone tells";
            (sources.0, sources.1, told(also))
        }
        (ConditionStatus::True, Some(missing)) => (ConditionStatus::False, Reason::RightMissing, missing.clone()),
        (ConditionStatus::False, Some(missing)) => (sources.0, sources.1, told(missing)),
        _ => sources.clone(),
    }
}

fn listening(spec: &Spec, parts: &Parts) -> Finding {
    if !spec.faults.is_empty() {
        return waits("the spec has faults");
    }
    if parts.account.as_ref().is_some_and(|(generation, usable)| *generation == spec.generation && usable.is_err()) {
        return waits("no event is taken until the account may be used");
    }
    match sources(spec, parts) {
        Some((listening, _)) => listening.clone(),
        None => waits("watches were not asked for yet"),
    }
}

fn sources<'a>(spec: &Spec, parts: &'a Parts) -> Option<(&'a Finding, &'a Finding)> {
    let (generation, listening, authorized) = parts.sources.as_ref()?;
    (*generation == spec.generation).then_some((listening, authorized))
}

/// How the last firing that has ended went.
fn acting(status: &EventRuleStatus) -> Finding {
    // One that was not carried out tells nothing about what the actions can do.
    let unknown = [FiringOutcome::Running, FiringOutcome::Expired];
    let ended = status.recent.iter().find(|firing| !unknown.contains(&firing.outcome));
    match ended {
        Some(firing) if firing.outcome == FiringOutcome::Failed => {
            let message = format!("firing {} for {}: {}", firing.id, firing.group, firing.message);
            (ConditionStatus::False, Reason::ActionFailed, message)
        }
        Some(firing) if firing.outcome == FiringOutcome::Observed => {
            let message =
                format!("firing {} was observed: it would succeed; mode: Enforce makes the rule act", firing.id);
            (ConditionStatus::True, Reason::Observed, message)
        }
        Some(firing) => (ConditionStatus::True, Reason::Succeeded, format!("firing {} was carried out", firing.id)),
        // With `historyLimit: 0` there are only counts.
        None if status.counts.succeeded + status.counts.failed + status.counts.observed > 0 => match &status.last_error
        {
            Some(error) if error.place.starts_with("actions") && status.counts.failed > 0 => {
                let message = format!("{}: {}", error.place, error.message);
                (ConditionStatus::False, Reason::ActionFailed, message)
            }
            _ => (ConditionStatus::True, Reason::Succeeded, "firings were carried out".to_owned()),
        },
        None => (ConditionStatus::True, Reason::NoFailures, "no firing has ended yet".to_owned()),
    }
}

/// What would fail if the rule fired now.
fn refused(spec: &Spec, parts: &Parts) -> Option<Finding> {
    let (_, fails) = parts.rehearsed.as_ref().filter(|(generation, _)| *generation == spec.generation)?;
    let (reason, message) = match fails.as_ref()? {
        Foreseen::WithoutSink(why) => (Reason::SinkNotFound, format!("if the rule fired now it would fail: {why}")),
        Foreseen::Refused(why) => {
            let message = format!(
                "the API server would refuse what the rule writes, it says to a dry run: {why}; mend it: kubectl edit eventrule"
            );
            (Reason::ManifestRefused, message)
        }
    };
    Some((ConditionStatus::False, reason, message))
}

/// Nothing is lost, but somebody should know.
fn held_up(parts: &Parts) -> Option<Finding> {
    let slowed = || parts.slowed.as_ref().map(runs_away);
    let tripped = parts.progress.as_ref().and_then(|progress| progress.tripped.as_ref()).map(tripped);
    let stopped = parts.progress.as_ref().and_then(|progress| progress.stopped.as_ref()).map(stopped);
    stopped.or(tripped).or_else(|| parts.backlog.map(backlog)).or_else(slowed)
}

fn stopped(stopped: &Stopped) -> Finding {
    let Stopped { since, by, why } = stopped;
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    let message = format!(
        "{by} stops all rules since {}{why}: what matches meanwhile does not fire and is counted under suppressed.stopped; firings that wait go on when its \
         field stop is taken out",
        seconds(since.timestamp())
    );
    (ConditionStatus::False, Reason::Stopped, message)
}

fn tripped(trip: &Trip) -> Finding {
    let Trip { failures, why, until } = trip;
    let next = match until {
        Some(until) => {
            format!("until {} firings are only observed, then the next is a trial", seconds(until.timestamp()))
        }
        None => "the next firing is a trial, the others are only observed".to_owned(),
    };
    let message = format!(
        "{failures} firings in a row have failed: {next}. The rule acts again when one succeeds, also a dead letter that is run again by kubectl \
         signalbox replay, or when its spec is changed. The last failure: {why}"
    );
    (ConditionStatus::False, Reason::Tripped, message)
}

fn backlog(open: usize) -> Finding {
    let message = format!(
        "{open} firings of the rule wait or are under way, so many that no more events are taken for any rule until some have ended; none is lost. \
         Does what it acts upon answer? The limit is limits.openFirings of the chart"
    );
    (ConditionStatus::False, Reason::Backlog, message)
}

fn runs_away(slowed: &Slowed) -> Finding {
    let Slowed { whose, group, limit, until } = slowed;
    let (of, value) = match whose {
        Whose::Group => return alone(group, *limit, *until),
        Whose::Namespace => ("all rules of the namespace together", "namespace"),
        Whose::Everybody => ("all rules together", "everybody"),
    };
    let message = format!(
        "{of} may begin {limit} firings an hour and have done so; firings wait, none is dropped, and the next for {} may begin at {}. If so many are \
         meant, the limit is limits.firingsPerHour.{value} of the chart",
        cut(group, MAX_SHORT),
        seconds(*until)
    );
    (ConditionStatus::False, Reason::LimitReached, message)
}

fn alone(group: &str, limit: usize, until: Timestamp) -> Finding {
    let message = format!(
        "{} fires more than {limit} times a minute and is slowed down to that; its firings wait, the next begins at {}. Is the rule set off by what it \
         does itself? Narrow its sources or when, or set throttle.cooldown; the limit is limits.firingsPerMinute of the chart",
        cut(group, MAX_SHORT),
        seconds(until)
    );
    (ConditionStatus::False, Reason::RunawayRule, message)
}

fn waits(why: &str) -> Finding {
    (ConditionStatus::Unknown, Reason::Pending, why.to_owned())
}

/// The faults as one message: as many as there is room for, and how many more.
fn list(faults: &[String], end: &str) -> String {
    // Room for "; and 1000000 more".
    let room = MAX_MESSAGE.saturating_sub(end.chars().count() + 20);
    let mut message = String::new();
    for (index, fault) in faults.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let used = message.chars().count() + separator.len();
        if used + fault.chars().count() > room {
            match index {
                0 => message = cut(fault, room),
                _ => message.push_str(&format!("; and {} more", faults.len() - index)),
            }
            break;
        }
        message.push_str(separator);
        message.push_str(fault);
    }
    message + end
}
