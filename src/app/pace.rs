//! Tells on a rule that it runs away, and that it has recovered.

use std::sync::{Arc, OnceLock};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::{
    record::RuleRef,
    runner::{Limit, Slow},
    status::{ObjectRef, Part, Slowed, StatusQueue, Story},
};

/// The queue, once there is one: the runner is made before it and starts nothing before.
pub(super) type LateStatus = Arc<OnceLock<StatusQueue>>;

/// The limit of firings, which tells the status.
pub(super) fn limit(firings_per_minute: u32, status: &LateStatus) -> Limit {
    let status = Arc::clone(status);
    let slowed = Box::new(move |rule: &RuleRef, slow: Option<Slow>| {
        if let Some(status) = status.get() {
            tell(status, rule, slow);
        }
    });
    Limit { firings_per_minute, slowed }
}

fn tell(status: &StatusQueue, rule: &RuleRef, slow: Option<Slow>) {
    let Some(Slow { group, limit, wait }) = slow else {
        tracing::info!(%rule, "a rule fires at its pace again");
        status.publish(rule, Part::Slowed(None));
        return;
    };
    tracing::warn!(%rule, group, limit, ?wait, "a rule fires too fast and is slowed down");
    status.event(Story {
        object: ObjectRef::rule(rule),
        warning: true,
        reason: "RunawayRule".to_owned(),
        action: "Fire".to_owned(),
        note: format!("{group} fires more than {limit} times a minute and is slowed down to that; none is dropped"),
        times: 1,
    });
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    let until = Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
    status.publish(rule, Part::Slowed(Some(Slowed { group, limit, until })));
}
