//! A rule's status out of its parts.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Finding, Part, Slowed, Usability, board::Subject, seconds};
use crate::{
    api::{
        ActiveGroup, ConditionStatus, ConditionType, EventRef, EventRule, EventRuleStatus, FiringOutcome, FiringStatus,
        LastError, LastNearMiss, Reason, StatusCondition,
    },
    record::RuleRef,
    rule::{NearMiss, Progress, Timetable},
    text::cut,
};

/// A status is at most so large, in bytes of JSON; recent firings are left out until it is.
const MAX_STATUS: usize = 16 << 10;
/// The longest message of a condition, in characters, as its schema says.
const MAX_MESSAGE: usize = 1024;
/// The longest message of a firing or an action, in characters.
const MAX_SHORT: usize = 256;

/// Seconds for which an event that came nearer is told rather than later ones that did not.
const OLD_MISS: i64 = 3600;
/// Seconds between two writes that tell of nothing but an event that the same condition, or part of a filter, has refused as before: one tells as
/// much as the next, and rules that look at busy things have many. 1,000 such rules make 3 writes a second.
const SAME_SPACING: i64 = 300;
/// The same when another condition has refused it.
const OTHER_SPACING: i64 = 60;

/// What is known about a rule.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The rule.
    pub rule: RuleRef,
    /// What the controller makes of the spec; without it nothing is written.
    pub spec: Option<Spec>,
    /// The generation, and why the account may not be used.
    pub account: Option<(i64, Usability)>,
    /// The generation, and which rights the account lacks for actions.
    pub rights: Option<(i64, Option<String>)>,
    /// The generation, `Listening` and `Authorized`.
    pub sources: Option<(i64, Finding, Finding)>,
    /// What the engine tells.
    pub progress: Option<Progress>,
    /// A group that is slowed down.
    pub slowed: Option<Slowed>,
    /// Open firings, while they keep inputs waiting.
    pub backlog: Option<usize>,
    /// What the rule nearly took.
    pub near: Option<NearMiss>,
}

/// What the controller makes of a spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `metadata.generation`
    pub generation: i64,
    /// All faults.
    pub faults: Vec<String>,
    /// `spec.suspend`
    pub suspended: bool,
    /// Of the version that judges.
    pub timetables: Vec<Timetable>,
}

impl Parts {
    /// Nothing known yet.
    pub fn new(rule: RuleRef) -> Self {
        let (spec, account, rights, sources, progress) = (None, None, None, None, None);
        Self { rule, spec, account, rights, sources, progress, slowed: None, backlog: None, near: None }
    }

    /// Takes in a part about the rule, unless it is about an older generation than what is known.
    pub fn take(&mut self, rule: &RuleRef, part: Part) {
        self.rule.clone_from(rule);
        match part {
            Part::Spec { generation, faults, suspended, timetables } => {
                if self.spec.as_ref().is_none_or(|known| known.generation <= generation) {
                    self.spec = Some(Spec { generation, faults, suspended, timetables });
                }
            }
            Part::Account { generation, usable } => {
                if self.account.as_ref().is_none_or(|known| known.0 <= generation) {
                    if usable.is_err() {
                        // Nobody listens for it any more.
                        self.sources = None;
                    }
                    self.account = Some((generation, usable));
                }
            }
            Part::Rights { generation, missing } => {
                if self.rights.as_ref().is_none_or(|known| known.0 <= generation) {
                    self.rights = Some((generation, missing));
                }
            }
            Part::Sources { generation, listening, authorized } => {
                if self.sources.as_ref().is_none_or(|known| known.0 <= generation) {
                    self.sources = Some((generation, listening, authorized));
                }
            }
            Part::Slowed(slowed) => self.slowed = slowed,
            Part::Backlog(open) => self.backlog = open,
            Part::NearMiss(miss) => {
                if self.near.as_ref().is_none_or(|known| replaces(&miss, known)) {
                    self.near = Some(miss);
                }
            }
            Part::Removed => {}
        }
    }
}

impl Subject for Parts {
    type Kind = EventRule;
    type Status = EventRuleStatus;

    fn names(&self) -> (&str, &str, &str) {
        (&self.rule.namespace, &self.rule.name, &self.rule.uid.0)
    }

    fn merge(&self, previous: Option<&EventRuleStatus>, now: Timestamp) -> Option<EventRuleStatus> {
        merge(previous, self, now)
    }

    fn worth_writing(old: &EventRuleStatus, new: &EventRuleStatus) -> bool {
        let mut new = new.clone();
        new.counts.seen = old.counts.seen;
        if let (Some(before), Some(now)) = (&old.last_near_miss, &new.last_near_miss)
            && is_little_news(before, now)
        {
            new.last_near_miss.clone_from(&old.last_near_miss);
        }
        *old != new
    }
}

/// The rule's status: what was known before, and what the parts say now. Nothing as long as the controller has not seen the spec.
pub fn merge(previous: Option<&EventRuleStatus>, parts: &Parts, now: Timestamp) -> Option<EventRuleStatus> {
    let spec = parts.spec.as_ref()?;
    let mut status = previous.cloned().unwrap_or_default();
    if let Some(progress) = &parts.progress {
        status.counts = progress.counts.clone();
        status.last_match_time = progress.last_match.map(|time| Time(seconds(time)));
        status.last_firing_time = progress.last_firing.map(|time| Time(seconds(time)));
        status.last_error = progress.last_error.clone().map(short_error);
        status.active = progress.active.iter().take(10).cloned().map(short_group).collect();
        status.active_total = (progress.active_total > 0).then_some(progress.active_total);
        status.recent = progress.recent.iter().take(10).cloned().map(short_firing).collect();
    }
    if status.observed_generation != Some(spec.generation) {
        status.last_near_miss = None;
    }
    if let Some(near) = parts.near.as_ref().filter(|near| near.generation == spec.generation) {
        let (time, event) = (Time(seconds(near.told.time.0)), short_event(&near.told.event));
        status.last_near_miss = Some(LastNearMiss { time, event, ..near.told.clone() });
    }
    status.next_schedule_time = next_instant(spec, now);
    let findings = [
        (ConditionType::Ready, ready(spec, parts)),
        (ConditionType::Listening, listening(spec, parts)),
        (ConditionType::Authorized, authorized(spec, parts)),
        (ConditionType::Acting, held_up(parts).unwrap_or_else(|| acting(&status))),
    ];
    status.conditions = findings
        .into_iter()
        .map(|(type_, finding)| condition(previous, type_, finding, spec.generation, now))
        .collect();
    status.observed_generation = Some(spec.generation);
    while !status.recent.is_empty() && size(&status) > MAX_STATUS {
        status.recent.pop();
    }
    Some(status)
}

/// The instant that the rule's timetables wait for.
fn next_instant(spec: &Spec, now: Timestamp) -> Option<Time> {
    let waiting = if spec.suspended { &[] } else { spec.timetables.as_slice() };
    waiting.iter().filter_map(|timetable| timetable.after(now)).min().map(Time)
}

/// Whether the miss is told instead of the one that is known. The nearer one is; of equally near ones that passed a filter the last, and of others
/// one for a while, so that a rule among many things that it does not want is not told of each.
fn replaces(miss: &NearMiss, known: &NearMiss) -> bool {
    if miss.generation != known.generation {
        return miss.generation > known.generation;
    }
    let age = miss.told.time.0.duration_since(known.told.time.0).as_secs();
    miss.nearness > known.nearness
        || age >= OLD_MISS
        || (miss.nearness == known.nearness
            && (miss.passed_filter() || miss.told.condition == known.told.condition || age >= SAME_SPACING))
}

/// Whether a near miss is no reason to write a status by itself.
fn is_little_news(before: &LastNearMiss, now: &LastNearMiss) -> bool {
    let age = now.time.0.duration_since(before.time.0).as_secs();
    let of_condition = |miss: &LastNearMiss| miss.condition.contains("when[");
    match (of_condition(before), of_condition(now)) {
        (true, true) if before.condition != now.condition => age < OTHER_SPACING,
        (true, true) | (false, false) => before.condition == now.condition && age < SAME_SPACING,
        _ => false,
    }
}

fn size(status: &EventRuleStatus) -> usize {
    serde_json::to_vec(status).map_or(0, |json| json.len())
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
        let message = "suspend is set: no event is evaluated, and what happens meanwhile is not caught up";
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

/// Nothing is lost, but somebody should know.
fn held_up(parts: &Parts) -> Option<Finding> {
    let slowed = parts.slowed.as_ref().map(runs_away);
    parts.backlog.map(backlog).or(slowed)
}

fn backlog(open: usize) -> Finding {
    let message = format!(
        "{open} firings of the rule wait or are under way, so many that no more events are taken for any rule until some have ended; none is lost. \
         Does what it acts upon answer? The limit is limits.openFirings of the chart"
    );
    (ConditionStatus::False, Reason::Backlog, message)
}

fn runs_away(slowed: &Slowed) -> Finding {
    let Slowed { group, limit, until } = slowed;
    let message = format!(
        "{} fires more than {limit} times a minute and is slowed down to that; its firings wait, the next begins at {}. Is the rule set off by what it \
         does itself? Narrow its sources or when, or set throttle.cooldown; the limit is limits.firingsPerMinute of the chart",
        cut(group, MAX_SHORT),
        seconds(*until)
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

fn short_error(error: LastError) -> LastError {
    LastError { time: Time(seconds(error.time.0)), message: cut(&error.message, MAX_MESSAGE), ..error }
}

/// Others send attributes of up to 4 KiB: a few such events would leave no room for anything else.
fn short_event(event: &EventRef) -> EventRef {
    let EventRef { id, type_, source, subject } = event;
    let [id, type_, source] = [id, type_, source].map(|text| cut(text, MAX_SHORT));
    EventRef { id, type_, source, subject: subject.as_ref().map(|text| cut(text, MAX_SHORT)) }
}

fn short_group(group: ActiveGroup) -> ActiveGroup {
    ActiveGroup { group: cut(&group.group, MAX_SHORT), since: Time(seconds(group.since.0)) }
}

fn short_firing(mut firing: FiringStatus) -> FiringStatus {
    firing.time = Time(seconds(firing.time.0));
    firing.group = cut(&firing.group, MAX_SHORT);
    firing.event = short_event(&firing.event);
    firing.message = cut(&firing.message, MAX_SHORT);
    for action in &mut firing.actions {
        action.message = cut(&action.message, MAX_SHORT);
    }
    firing
}
