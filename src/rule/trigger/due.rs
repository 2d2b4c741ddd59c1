//! `due`: a time that an object names itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use k8s_openapi::jiff::Timestamp;

use super::{Fires, Kind, Sighting, State, Verdict};
use crate::{
    record::{Firing, Mark},
    rule::{cel::Program, fault::EvalError},
};

/// `trigger.due`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct DueAt {
    pub(super) at: Program,
}

/// A time that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Planned {
    /// On the line of stamps.
    at: i64,
    /// In microseconds since 1970, as the object says it.
    wall: i64,
    /// It has fired for this time.
    #[serde(default)]
    done: bool,
    /// Until when it is silenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hushed: Option<i64>,
}

impl State for Planned {
    fn end(&self) -> i64 {
        i64::MAX
    }

    fn hushed(&self) -> Option<i64> {
        self.hushed
    }
}

impl DueAt {
    /// The time that the object names, in microseconds since 1970; nothing when it names none.
    fn named(&self, sighting: &Sighting<'_, '_>) -> Result<Option<i64>, EvalError> {
        let place = |error: EvalError| error.at("trigger.due.atExpression");
        match self.at.evaluate_optional(sighting.scope).map_err(place)? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) => Ok(Some(time.as_microsecond())),
                Err(_) => Err(place(EvalError::new("gives a text that is no time, such as 2026-11-02T07:16:20Z"))),
            },
            Some(_) => Err(place(EvalError::new("gives no time: write timestamp(…)"))),
        }
    }
}

impl Kind for DueAt {
    type State = Planned;

    fn judge(&self, kept: Option<&Planned>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let stamp = sighting.head.stamp;
        let named = if sighting.holds { self.named(sighting)? } else { None };
        let mark = match (named, kept) {
            // One that is past is due at once.
            (Some(wall), _) => {
                Some(Mark::Due { at: stamp.at.saturating_add(wall.saturating_sub(stamp.wall).max(0)), wall })
            }
            (None, Some(_)) => Some(Mark::Ended(stamp.at)),
            (None, None) => None,
        };
        Ok(Verdict { mark, ..Verdict::default() })
    }

    fn take(&self, kept: Option<Planned>, mark: Mark, _: i64) -> Option<Planned> {
        match mark {
            Mark::Due { at, wall } => match kept {
                Some(kept) if kept.wall == wall => Some(kept),
                _ => Some(Planned { at, wall, done: false, hushed: None }),
            },
            Mark::Postponed(at) => kept.map(|kept| Planned { at, ..kept }),
            Mark::Hushed(until) => kept.map(|kept| Planned { hushed: Some(until), ..kept }),
            Mark::Ended(_) => None,
            _ => kept,
        }
    }

    /// Kept, so that the same time does not fire again when something else of the object changes.
    fn fired(&self, kept: Option<Planned>, _: &Firing) -> Option<Planned> {
        kept.map(|kept| Planned { done: true, ..kept })
    }

    fn deadline(&self, kept: &Planned) -> Option<i64> {
        (!kept.done).then_some(kept.at.max(kept.hushed.unwrap_or(i64::MIN)))
    }

    fn due(&self, kept: &Planned, _: i64) -> Verdict {
        let fires = Fires { planned: Some(kept.wall), ..Fires::default() };
        Verdict { fires: (!kept.done).then_some(fires), ..Verdict::default() }
    }

    fn postponed(&self, until: i64) -> Option<Mark> {
        Some(Mark::Postponed(until))
    }
}
