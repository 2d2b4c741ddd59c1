//! Tells at a start that events may have been lost while nobody listened.

use std::time::Duration;

use crate::{
    clock::Clock,
    shard::State,
    status::{ObjectRef, StatusQueue, Story},
};

/// How long an API server keeps Events unless its flag `--event-ttl` says otherwise.
const EVENT_TTL: Duration = Duration::from_hours(1);

/// Events that came and went while nobody listened cannot be found any more: whoever has rules on them is told.
/// `listened`: wall time, in microseconds since 1970, until which the operator is known to have listened.
pub(super) fn tell(status: &StatusQueue, state: &State, listened: Option<i64>) {
    let Some(away) = listened.map(since).filter(|away| *away > EVENT_TTL) else { return };
    let minutes = away.as_secs() / 60;
    tracing::warn!(minutes, "the operator was away for longer than the API server keeps Events");
    for (rule, _, spec) in state.engine.known() {
        if spec.sources.iter().any(|source| source.kubernetes_event.is_some()) {
            status.event(Story {
                object: ObjectRef::rule(rule),
                warning: true,
                reason: "MayHaveLostEvents".to_owned(),
                action: "Listen".to_owned(),
                note: format!(
                    "the operator was away for {minutes} minutes, and the API server keeps Events for an hour by default: \
                     those of the first part of that time may be lost; changes of resources are found by comparison"
                ),
                times: 1,
            });
        }
    }
}

/// Wall time since then; none when the clock was set back.
fn since(until: i64) -> Duration {
    Duration::from_micros(u64::try_from(Clock::real(0).now().wall.saturating_sub(until)).unwrap_or(0))
}
