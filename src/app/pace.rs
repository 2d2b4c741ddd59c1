//! Tells on a rule that it runs away, and that it has recovered.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::{
    config::Settings,
    record::RuleRef,
    runner::{Limit, PerHour, Slow},
    status::{ObjectRef, Part, Slowed, StatusQueue, Story, Whose},
    telemetry::Metrics,
};

/// The queue, once there is one: the runner is made before it and starts nothing before.
pub(super) type LateStatus = Arc<OnceLock<StatusQueue>>;

/// The limits of firings, which tell the status and the metrics.
pub(super) fn limit(settings: &Settings, status: &LateStatus, metrics: &Arc<Metrics>) -> Limit {
    let (status, metrics) = (Arc::clone(status), Arc::clone(metrics));
    let slow_ones = Mutex::new(BTreeSet::new());
    let slowed = Box::new(move |rule: &RuleRef, slow: Option<Slow>| {
        let mut slow_ones = slow_ones.lock();
        match slow {
            Some(_) => slow_ones.insert(rule.uid.clone()),
            None => slow_ones.remove(&rule.uid),
        };
        metrics.slowed_rules(slow_ones.len());
        drop(slow_ones);
        if let Some(status) = status.get() {
            tell(status, rule, slow);
        }
    });
    let namespace = settings.namespace_firings_per_hour;
    let per_hour = PerHour { namespace, everybody: settings.firings_per_hour };
    Limit { firings_per_minute: settings.firings_per_minute, per_hour, slowed }
}

fn tell(status: &StatusQueue, rule: &RuleRef, slow: Option<Slow>) {
    let Some(Slow { whose, group, limit, wait }) = slow else {
        tracing::info!(%rule, "a rule fires at its pace again");
        status.publish(rule, Part::Slowed(None));
        return;
    };
    tracing::warn!(%rule, group, limit, ?wait, "a rule fires too fast and is slowed down");
    let (reason, note) = match whose {
        Whose::Group => {
            ("RunawayRule", format!("{group} fires more than {limit} times a minute and is slowed down to that"))
        }
        Whose::Namespace => {
            ("LimitReached", format!("the rules of the namespace have begun {limit} firings in an hour: {group} waits"))
        }
        Whose::Everybody => ("LimitReached", format!("all rules have begun {limit} firings in an hour: {group} waits")),
    };
    status.event(Story {
        object: ObjectRef::rule(rule),
        warning: true,
        reason: reason.to_owned(),
        action: "Fire".to_owned(),
        note: format!("{note}; none is dropped"),
        times: 1,
    });
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    let until = Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
    status.publish(rule, Part::Slowed(Some(Slowed { whose, group, limit, until })));
}
