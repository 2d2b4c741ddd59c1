//! `batch`: many events, one firing.

use serde::{Deserialize, Serialize};

use super::{Fires, Kind, Sighting, State, Verdict};
use crate::{
    api::BatchTrigger,
    record::{Firing, Mark},
    rule::{
        fault::{EvalError, Fault},
        groups::micros,
    },
};

/// Bytes of JSON that the events of one batch may have together: with the event that makes it more, the batch is full.
const MAX_BYTES: u64 = 256 << 10;

/// `trigger.batch`, compiled; times in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rule) struct Batch {
    wait: i64,
    max_wait: i64,
    max_events: u64,
}

/// A batch that is being gathered. The events are kept with the group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::rule) struct Gathered {
    first: i64,
    last: i64,
    events: u64,
    bytes: u64,
}

impl State for Gathered {
    fn end(&self) -> i64 {
        i64::MAX
    }

    /// Values in memory take more than their text.
    fn bytes(&self) -> u64 {
        2 * self.bytes + 256 * self.events
    }
}

impl Batch {
    pub(super) fn compile(batch: &BatchTrigger, faults: &mut Vec<Fault>) -> Option<Self> {
        let before = faults.len();
        let max_wait = batch.max_wait();
        if batch.wait.get().is_zero() {
            faults.push(Fault::new("spec.trigger.batch.wait", "must be longer than 0s"));
        }
        if max_wait < batch.wait {
            faults.push(Fault::new("spec.trigger.batch.maxWait", "must not be shorter than wait"));
        }
        if !(1..=500).contains(&batch.max_events) {
            faults.push(Fault::new("spec.trigger.batch.maxEvents", "must be 1 to 500"));
        }
        (faults.len() == before).then(|| Self {
            wait: micros(batch.wait.get()),
            max_wait: micros(max_wait.get()),
            max_events: batch.max_events.into(),
        })
    }
}

impl Kind for Batch {
    type State = Gathered;

    fn judge(&self, kept: Option<&Gathered>, sighting: &Sighting<'_, '_>) -> Result<Verdict, EvalError> {
        let bytes = serde_json::to_vec(sighting.event).map_or(0, |json| json.len() as u64);
        let (events, before) = kept.map_or((0, 0), |kept| (kept.events, kept.bytes));
        let is_large = before.saturating_add(bytes) > MAX_BYTES;
        let full = events + 1 >= self.max_events || is_large || sighting.crowded;
        Ok(if full {
            Verdict { fires: Some(Fires { count: Some(events + 1), ..Fires::default() }), ..Verdict::default() }
        } else {
            Verdict { mark: Some(Mark::Added { at: sighting.head.stamp.at, bytes }), ..Verdict::default() }
        })
    }

    fn take(&self, kept: Option<Gathered>, mark: Mark, _: i64) -> Option<Gathered> {
        match (mark, kept) {
            (Mark::Added { at, bytes }, None) => Some(Gathered { first: at, last: at, events: 1, bytes }),
            (Mark::Added { at, bytes }, Some(kept)) => {
                Some(Gathered { last: at, events: kept.events + 1, bytes: kept.bytes.saturating_add(bytes), ..kept })
            }
            (Mark::Ended(_), _) => None,
            (_, kept) => kept,
        }
    }

    fn fired(&self, _: Option<Gathered>, _: &Firing) -> Option<Gathered> {
        None
    }

    fn deadline(&self, kept: &Gathered) -> Option<i64> {
        Some(kept.last.saturating_add(self.wait).min(kept.first.saturating_add(self.max_wait)))
    }

    fn due(&self, kept: &Gathered, _: i64) -> Verdict {
        Verdict { fires: Some(Fires { count: Some(kept.events), ..Fires::default() }), ..Verdict::default() }
    }

    /// What is held back is not gathered for ever.
    fn postponed(&self, until: i64) -> Option<Mark> {
        Some(Mark::Ended(until))
    }
}
