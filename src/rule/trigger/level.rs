//! What triggers have in common whose firings have an end: when it began, whether the rule has fired for it, and what comes next.

use serde::{Deserialize, Serialize};

use super::{Fires, State, Verdict};
use crate::{
    api::{Duration, EventRuleSpec, FiringKind, OnGap, SourceKind},
    clock::Stamp,
    record::Firing,
    rule::{fault::Fault, groups::micros},
};

/// The shortest time from one firing to the next.
const LEAST_REPEAT: std::time::Duration = std::time::Duration::from_secs(1);

/// How a level goes on; all in microseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::rule) struct Course {
    /// From its beginning to the firing.
    pub(super) wait: i64,
    /// From its beginning to each step of an escalation.
    pub(super) steps: Vec<i64>,
    /// From one firing to the next.
    pub(super) repeat: Option<i64>,
}

/// Something that has begun and has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Level {
    /// When it began.
    since: i64,
    /// When the rule fired for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active: Option<Stamp>,
    /// When it fires next, if that is not told by when it fired last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
    /// When it fired last, steps aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<i64>,
    /// The next step.
    #[serde(default)]
    step: u32,
    /// Until when it is silenced: neither firing nor step is due before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hushed: Option<i64>,
}

impl State for Level {
    fn end(&self) -> i64 {
        i64::MAX
    }

    fn active(&self) -> Option<Stamp> {
        self.active
    }

    fn hushed(&self) -> Option<i64> {
        self.hushed
    }
}

impl Course {
    pub(super) fn begin(&self, at: i64) -> Level {
        Level { since: at, active: None, next: Some(at.saturating_add(self.wait)), last: None, step: 0, hushed: None }
    }

    /// When the next step is to be done: not before the firing, which may have been put off.
    fn step(&self, level: &Level) -> Option<i64> {
        let active = level.active?;
        let after = self.steps.get(level.step as usize)?;
        Some(level.since.saturating_add(*after).max(active.at).max(level.hushed.unwrap_or(i64::MIN)))
    }

    /// When it fires next, by what the rule says of repeats now: an edit of that alone keeps the level.
    fn next(&self, level: &Level) -> Option<i64> {
        let next = match level.active {
            None => level.next?,
            Some(active) => {
                let again = level.last.unwrap_or(active.at).saturating_add(self.repeat?);
                level.next.unwrap_or(again)
            }
        };
        Some(next.max(level.hushed.unwrap_or(i64::MIN)))
    }

    pub(super) fn deadline(&self, level: &Level) -> Option<i64> {
        self.next(level).into_iter().chain(self.step(level)).min()
    }

    pub(super) fn due(&self, level: &Level, now: i64) -> Verdict {
        let is_due = |at: &i64| *at <= now;
        let (step, next) = (self.step(level).filter(is_due), self.next(level).filter(is_due));
        let fires = match (step, next) {
            (Some(step), next) if next.is_none_or(|next| step <= next) => {
                Some(Fires { kind: FiringKind::Step, step: Some(level.step), ..Fires::default() })
            }
            (_, Some(_)) if level.active.is_some() => Some(Fires { kind: FiringKind::Repeated, ..Fires::default() }),
            (_, Some(_)) => Some(Fires::default()),
            _ => None,
        };
        Verdict { fires, ..Verdict::default() }
    }

    pub(super) fn fired(&self, level: Level, firing: &Firing) -> Level {
        let last = Some(firing.stamp.at);
        let level = Level { hushed: level.hushed.filter(|until| *until > firing.stamp.at), ..level };
        match firing.kind {
            FiringKind::Fired => Level { active: Some(firing.stamp), next: None, last, ..level },
            FiringKind::Repeated => Level { next: None, last, ..level },
            FiringKind::Step => Level { step: level.step.saturating_add(1), ..level },
            // It has ended; this one has begun since.
            FiringKind::Resolved | FiringKind::Restored => level,
        }
    }
}

impl Level {
    /// It may not fire now, but then.
    pub(super) fn postponed(self, until: i64) -> Self {
        Self { next: Some(until), ..self }
    }

    /// It is silenced until then.
    pub(super) fn silenced(self, until: i64) -> Self {
        Self { hushed: Some(until), ..self }
    }
}

/// What has to do with an end is refused of rules whose firings have none, and what would hide changes of those that follow objects.
pub(super) fn check(spec: &EventRuleSpec, faults: &mut Vec<Fault>) {
    let has_end = spec.trigger.as_ref().is_some_and(|trigger| trigger.has_end());
    let needs = "needs a trigger that has an end: held, absent, value or anomaly";
    if !has_end && spec.repeat.is_some() {
        faults.push(Fault::new("spec.repeat", needs));
    }
    if !has_end && !spec.resolve_actions.is_empty() {
        faults.push(Fault::new("spec.resolveActions", needs));
    }
    if spec.repeat.is_some_and(|repeat| repeat.get() < LEAST_REPEAT) {
        faults.push(Fault::new("spec.repeat", "must be at least 1s"));
    }
    if !spec.follows_objects() {
        return;
    }
    for (index, source) in spec.sources.iter().enumerate() {
        let Some(SourceKind::Resource(resource)) = source.kind() else { continue };
        let path = format!("spec.sources[{index}].resource");
        let why = "must not be set: the trigger of the rule looks at every change";
        if !resource.operations.is_empty() {
            faults.push(Fault::new(format!("{path}.operations"), why));
        }
        if !resource.changed_expressions.is_empty() {
            faults.push(Fault::new(format!("{path}.changedExpressions"), why));
        }
        if resource.on_gap == OnGap::Skip {
            faults.push(Fault::new(
                format!("{path}.onGap"),
                "must be NetChange: the trigger of the rule looks at every change",
            ));
        }
    }
}

/// The course of what is to last so long.
pub(super) fn course(wait: Duration, repeat: Option<Duration>) -> Course {
    Course { wait: micros(wait.get()), steps: Vec::new(), repeat: repeat.map(|repeat| micros(repeat.get())) }
}
