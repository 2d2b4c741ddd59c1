//! Tells at a start that events may have been lost while nobody listened.

use std::time::Duration;

use crate::{
    clock::Clock,
    shard::State,
    sources::EVENT_TTL,
    status::{ObjectRef, StatusQueue, Story},
};

/// Events that came and went while nobody listened cannot be found any more: whoever has rules on them is told.
pub(super) fn tell(status: &StatusQueue, state: &State, away: Duration) {
    if away <= EVENT_TTL {
        return;
    }
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

/// For how long nobody listened: wall time since `listened`, in microseconds since 1970; none when nobody ever did, or the clock was set back.
pub(super) fn away(listened: Option<i64>) -> Duration {
    let micros = listened.map_or(0, |until| Clock::real(0).now().wall.saturating_sub(until));
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
