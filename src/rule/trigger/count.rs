//! `count`: so many occurrences within a time.

use serde::{Deserialize, Serialize};

use super::{Fires, Kind, Sighting, State, Verdict};
use crate::{
    api::{CountTrigger, GroupLimits},
    event::{Event, TYPE_KUBERNETES_EVENT},
    record::{Firing, Head, Mark, Occurrence},
    rule::{
        fault::{EvalError, Fault},
        groups::{MAX_TIMES, micros},
    },
};

/// An event that was accepted so much later than it happened, in microseconds, is counted at its own time. Clocks of nodes differ by less, and a
/// watch that works delivers within a second.
const LATE: i64 = 10_000_000;

/// `trigger.count`, compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::rule) struct Count {
    at_least: u64,
    /// How far back is counted, in microseconds.
    within: i64,
    /// How long what was counted is kept without news, in microseconds.
    keep: i64,
}

/// What has happened, as far as it can still count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Counted {
    /// Oldest first; at most `atLeast` entries.
    pub(in crate::rule) times: Vec<Occurrence>,
    /// When it is forgotten.
    pub(in crate::rule) until: i64,
}

impl State for Counted {
    fn end(&self) -> i64 {
        self.until
    }

    fn bytes(&self) -> u64 {
        16 * self.times.len() as u64
    }
}

impl Counted {
    /// What still counts at `now`.
    fn counts(&self, now: i64) -> &[Occurrence] {
        if self.until > now { &self.times } else { &[] }
    }
}

impl Count {
    pub(super) fn compile(count: &CountTrigger, limits: &GroupLimits, faults: &mut Vec<Fault>) -> Option<Self> {
        let before = faults.len();
        if count.at_least == 0 {
            faults.push(Fault::new("spec.trigger.count.atLeast", "must be at least 1"));
        }
        if count.within.get().is_zero() {
            faults.push(Fault::new("spec.trigger.count.within", "must be longer than 0s"));
        }
        let times = u64::from(limits.max()) * u64::from(count.at_least);
        if times > MAX_TIMES {
            let max = MAX_TIMES / u64::from(count.at_least);
            let message = format!(
                "times groups.max, which is {}, makes {times} times to keep; {MAX_TIMES} are allowed: set groups.max to {max} or less",
                limits.max()
            );
            faults.push(Fault::new("spec.trigger.count.atLeast", message));
        }
        let within = micros(count.within.get());
        let keep = within.min(micros(limits.forget_after(count.within).get()));
        (faults.len() == before).then_some(Self { at_least: count.at_least.into(), within, keep })
    }
}

impl Kind for Count {
    type State = Counted;

    /// The occurrence, no earlier than the one before it in its group, and how many there are with it if that is enough.
    fn judge(&self, kept: Option<&Counted>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let occurrence = occurrence(sighting.head, sighting.event);
        let before = kept.map_or(&[][..], |kept| kept.counts(sighting.head.stamp.at));
        let at = before.last().map_or(occurrence.at, |last| last.at.max(occurrence.at));
        let since = at.saturating_sub(self.within);
        let within = before.iter().filter(|one| one.at >= since).map(|one| u64::from(one.times)).sum::<u64>();
        let so_far = within + u64::from(occurrence.times);
        let fires = (so_far >= self.at_least).then(|| Fires { count: Some(so_far), ..Fires::default() });
        Ok(Verdict { mark: Some(Mark::Occurred(Occurrence { at, ..occurrence })), fires, ..Verdict::default() })
    }

    fn take(&self, kept: Option<Counted>, mark: Mark, now: i64) -> Option<Counted> {
        let Mark::Occurred(occurrence) = mark else { return kept };
        let mut kept = kept.unwrap_or_default();
        if kept.until <= now {
            kept.times.clear();
        }
        let since = occurrence.at.saturating_sub(self.within);
        kept.times.retain(|one| one.at >= since);
        match kept.times.last_mut() {
            Some(last) if last.at == occurrence.at => last.times = last.times.saturating_add(occurrence.times),
            _ => kept.times.push(occurrence),
        }
        if kept.times.len() as u64 > self.at_least {
            // The newest decide; older ones are only told. Dated back to the oldest, they never count for too long.
            let oldest = kept.times.remove(0);
            let next = &mut kept.times[0];
            *next = Occurrence { at: oldest.at, times: oldest.times.saturating_add(next.times) };
        }
        // Forgotten a microsecond after the end of the window, which belongs to it.
        kept.until = now.saturating_add(self.keep).saturating_add(1);
        Some(kept)
    }

    /// What was counted is used up.
    fn fired(&self, _: Option<Counted>, _: &Firing) -> Option<Counted> {
        None
    }
}

/// What the event adds to the count of its group.
pub(super) fn occurrence(head: &Head, event: &Event) -> Occurrence {
    let delta = match event.type_.as_str() {
        TYPE_KUBERNETES_EVENT => event.data.get("delta").and_then(serde_json::Value::as_u64).unwrap_or(1),
        _ => 1,
    };
    Occurrence { at: happened(head, event), times: u32::try_from(delta).unwrap_or(u32::MAX).max(1) }
}

/// When the event happened: at its acceptance, or at its own time when it was accepted clearly later.
pub(super) fn happened(head: &Head, event: &Event) -> i64 {
    let late = event.time.map_or(0, |time| head.stamp.wall.saturating_sub(time.as_microsecond()));
    if late > LATE { head.stamp.at.saturating_sub(late) } else { head.stamp.at }
}
