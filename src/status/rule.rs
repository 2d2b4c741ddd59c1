//! A rule's status out of its parts.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{
    Finding, Foreseen, Part, Slowed, Usability,
    board::{MAX_MESSAGE, Subject},
    conditions::conditions,
    seconds,
};
use crate::{
    api::{
        ActiveGroup, EventRef, EventRule, EventRuleStatus, FiringStatus, LastError, LastNearMiss, LastSuppressed,
        Silence,
    },
    record::RuleRef,
    rule::{NearMiss, Progress, Timetable},
    text::cut,
};

/// A status is at most so large, in bytes of JSON; recent firings are left out until it is.
const MAX_STATUS: usize = 16 << 10;
/// The longest message of a firing or an action, in characters.
pub(super) const MAX_SHORT: usize = 256;

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
    /// The generation, and what of its actions the API server would refuse.
    pub rehearsed: Option<(i64, Option<Foreseen>)>,
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
    /// What silences it, or should.
    pub silences: Option<Vec<Silence>>,
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
        let (rehearsed, slowed, backlog, near, silences) = (None, None, None, None, None);
        Self { rule, spec, account, rights, rehearsed, sources, progress, slowed, backlog, near, silences }
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
            Part::Rehearsed { generation, fails } => {
                if self.rehearsed.as_ref().is_none_or(|known| known.0 <= generation) {
                    self.rehearsed = Some((generation, fails));
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
            Part::Silences(silences) => self.silences = Some(silences),
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
        status.last_suppressed = progress.last_suppressed.clone().map(short_suppressed);
        status.active = progress.active.iter().take(10).cloned().map(short_group).collect();
        status.active_total = (progress.active_total > 0).then_some(progress.active_total);
        let recent = progress.recent.iter().take(10);
        status.recent = recent.map(|firing| short_firing(FiringStatus::clone(firing))).collect();
    }
    if status.observed_generation != Some(spec.generation) {
        status.last_near_miss = None;
    }
    if let Some(near) = parts.near.as_ref().filter(|near| near.generation == spec.generation) {
        let (time, event) = (Time(seconds(near.told.time.0)), short_event(&near.told.event));
        status.last_near_miss = Some(LastNearMiss { time, event, ..near.told.clone() });
    }
    if let Some(silences) = &parts.silences {
        status.silences = silences.iter().take(10).cloned().map(short_silence).collect();
    }
    status.next_schedule_time = next_instant(spec, now);
    status.conditions = conditions(previous, spec, parts, &status, now);
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

fn short_error(error: LastError) -> LastError {
    LastError { time: Time(seconds(error.time.0)), message: cut(&error.message, MAX_MESSAGE), ..error }
}

/// Others send attributes of up to 4 KiB: a few such events would leave no room for anything else.
fn short_event(event: &EventRef) -> EventRef {
    let EventRef { id, type_, source, subject } = event;
    let [id, type_, source] = [id, type_, source].map(|text| cut(text, MAX_SHORT));
    EventRef { id, type_, source, subject: subject.as_ref().map(|text| cut(text, MAX_SHORT)) }
}

fn short_suppressed(last: LastSuppressed) -> LastSuppressed {
    let until = last.until.map(|until| Time(seconds(until.0)));
    LastSuppressed { time: Time(seconds(last.time.0)), group: cut(&last.group, MAX_SHORT), until, ..last }
}

fn short_silence(silence: Silence) -> Silence {
    let short = |text: String| cut(&text, MAX_SHORT);
    Silence {
        author: short(silence.author),
        until: silence.until.map(|until| Time(seconds(until.0))),
        comment: short(silence.comment),
        expression: silence.expression.map(short),
        message: silence.message.map(short),
        ..silence
    }
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
