//! The kinds: one arm each.

use serde_json::Value;

use super::{feed::Feed, link::Down};
use crate::{
    api::{EventSourceKind, EventSourceSpec, one_kind_of},
    event::{OWN_TYPES, message::extension_named},
};

/// All faults of a spec, also those that the schema should have told.
pub(super) fn faults(spec: &EventSourceSpec) -> Vec<String> {
    match spec.kind() {
        #[cfg(feature = "nats")]
        Some(EventSourceKind::Nats(nats)) => super::nats::faults(nats),
        #[cfg(feature = "redis")]
        Some(EventSourceKind::Redis(redis)) => super::redis::faults(redis),
        #[cfg(feature = "mqtt")]
        Some(EventSourceKind::Mqtt(mqtt)) => super::mqtt::faults(mqtt),
        #[cfg(feature = "amqp")]
        Some(EventSourceKind::Amqp(amqp)) => super::amqp::faults(amqp),
        Some(EventSourceKind::Prometheus(prometheus)) => super::prometheus::faults(prometheus),
        #[cfg(feature = "kafka")]
        Some(EventSourceKind::Kafka(kafka)) => super::kafka::faults(kafka),
        Some(EventSourceKind::QueueLag(queue)) => super::queue_lag::faults(queue),
        Some(EventSourceKind::PodLogs(logs)) => super::pod_logs::faults(logs),
        #[allow(unreachable_patterns, reason = "each kind can be left out of a build")]
        Some(kind) if kind.connects() => vec![left_out(kind)],
        Some(_) | None => vec![one_kind_of()],
    }
}

/// Connects, and takes what comes until the connection breaks: why.
pub(super) async fn run(spec: &EventSourceSpec, feed: &Feed) -> Down {
    let ended = match spec.kind() {
        #[cfg(feature = "nats")]
        Some(EventSourceKind::Nats(nats)) => super::nats::run(nats, feed).await,
        #[cfg(feature = "redis")]
        Some(EventSourceKind::Redis(redis)) => super::redis::run(redis, feed).await,
        #[cfg(feature = "mqtt")]
        Some(EventSourceKind::Mqtt(mqtt)) => super::mqtt::run(mqtt, feed).await,
        #[cfg(feature = "amqp")]
        Some(EventSourceKind::Amqp(amqp)) => super::amqp::run(amqp, feed).await,
        Some(EventSourceKind::Prometheus(prometheus)) => super::prometheus::run(prometheus, feed).await,
        #[cfg(feature = "kafka")]
        Some(EventSourceKind::Kafka(kafka)) => super::kafka::run(kafka, feed).await,
        Some(EventSourceKind::QueueLag(queue)) => super::queue_lag::run(queue, feed).await,
        Some(EventSourceKind::PodLogs(logs)) => super::pod_logs::run(logs, feed).await,
        #[allow(unreachable_patterns, reason = "each kind can be left out of a build")]
        Some(kind) if kind.connects() => Err(Down::refused(left_out(kind))),
        Some(_) | None => Err(Down::refused(one_kind_of())),
    };
    match ended {
        Err(down) => down,
        Ok(never) => match never {},
    }
}

fn left_out(kind: EventSourceKind<'_>) -> String {
    let name = kind.name();
    format!("{name}: this operator was built without it: use one built with the feature {name}")
}

// === What several kinds check ===

/// Whether users may give this `type` to their events; nothing is wrong with none.
pub(super) fn type_fault(path: &str, type_: Option<&str>, default: &str) -> Option<String> {
    let type_ = type_?;
    let own = type_.is_empty() || (type_.starts_with(OWN_TYPES) && type_ != default);
    own.then(|| format!("{path}: must not be empty and not begin with {OWN_TYPES}, except the default {default}"))
}

/// Notes which headers cannot be kept as extensions.
pub(super) fn kept_faults(path: &str, names: &[String], faults: &mut Vec<String>) {
    let mut extensions: Vec<String> = Vec::new();
    for name in names {
        match extension_named(name) {
            Some(extension) if extensions.contains(&extension) => {
                faults.push(format!("{path}: two would be event.{extension}"));
            }
            Some(extension) => extensions.push(extension),
            None => faults.push(format!("{path}: {name} cannot be the name of an extension")),
        }
    }
}

/// The headers that are kept, as extensions; of two of one name the first.
pub(super) fn kept(names: &[String], headers: &[(String, String)]) -> Vec<(String, Value)> {
    let kept = names.iter().filter_map(|name| {
        let (_, value) = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some((extension_named(name)?, value.as_str().into())).filter(|_| !value.is_empty())
    });
    kept.collect()
}
