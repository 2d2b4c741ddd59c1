//! What `event.data` holds of the events that Signalbox makes itself, so that misspelt fields of it are found. What others send may hold anything.

use super::kinds::Shape;

/// Which events these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Told {
    /// Kubernetes Events.
    KubernetesEvent,
    /// Creations, changes and deletions of objects.
    Change,
    /// Instants of timetables.
    Instant,
}

/// A field of which no more is known.
const fn any(name: &'static str) -> (&'static str, Shape) {
    (name, Shape::Any)
}

const KUBERNETES_EVENT: &[(&str, Shape)] = &[
    any("type"),
    any("reason"),
    any("message"),
    any("action"),
    any("count"),
    any("delta"),
    any("firstTime"),
    any("time"),
    any("reporter"),
    ("regarding", Shape::Own(REFERENCE)),
    ("related", Shape::Own(REFERENCE)),
    any("object"),
];
const REFERENCE: &[(&str, Shape)] = &[
    any("apiVersion"),
    any("kind"),
    any("namespace"),
    any("name"),
    any("uid"),
    any("fieldPath"),
    any("labels"),
    any("owner"),
];
const CHANGE: &[(&str, Shape)] = &[any("operation"), any("gap"), any("selector"), any("object"), any("oldObject")];
const INSTANT: &[(&str, Shape)] =
    &[any("scheduledTime"), any("missed"), any("cron"), any("timeZone"), any("source"), ("rule", Shape::Own(RULE))];
const RULE: &[(&str, Shape)] = &[any("namespace"), any("name")];

impl Told {
    /// The shape of `event.data`.
    pub(super) fn data(self) -> Shape {
        Shape::Own(match self {
            Told::KubernetesEvent => KUBERNETES_EVENT,
            Told::Change => CHANGE,
            Told::Instant => INSTANT,
        })
    }

    /// As a fault names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Told::KubernetesEvent => "a Kubernetes Event",
            Told::Change => "a change of an object",
            Told::Instant => "an instant of a timetable",
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::Operation,
        event::{
            WatchKey,
            kubernetes_event::from_kubernetes_event,
            resource::{Change, from_object},
            schedule::Schedule,
        },
    };

    /// Every field of the value is one that is known, and so on below.
    fn knows(shape: Shape, value: &Value) {
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Shape::Own(fields) = shape {
                assert!(fields.iter().any(|(known, _)| known == name), "{name} is in no table");
                knows(shape.field(name), value);
            }
        }
    }

    #[test]
    fn all_that_events_hold_is_known() {
        let watch = |kind: &str| WatchKey { api_version: "v1".into(), kind: kind.into(), namespace: None };
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "u", "fieldPath": "spec"});
        let raw = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "e", "namespace": "shop", "uid": "e", "resourceVersion": "7"}, "type": "Warning", "reason": "BackOff",
            "message": "m", "action": "Restart", "count": 2, "firstTimestamp": "2026-11-02T07:00:00Z",
            "lastTimestamp": "2026-11-02T07:01:00Z", "involvedObject": reference, "related": reference});
        let told =
            from_kubernetes_event(raw.clone(), &watch("Event"), None).expect("it is read").event.expect("it is new");
        assert_eq!(told.data.as_object().map(serde_json::Map::len), Some(KUBERNETES_EVENT.len()), "{}", told.data);
        knows(Told::KubernetesEvent.data(), &told.data);

        let watch = watch("Pod");
        let change = Change {
            watch: &watch,
            source: "s",
            operation: Operation::Update,
            gap: true,
            seen_at: Timestamp::UNIX_EPOCH,
        };
        let (told, _) = from_object(raw, change).expect("it is read");
        knows(Told::Change.data(), &told.data);

        let schedule = Schedule {
            rule_uid: "u".into(),
            namespace: "shop".into(),
            rule: "nightly".into(),
            source: "night".into(),
            cron: "0 2 * * *".into(),
            time_zone: "UTC".into(),
        };
        knows(Told::Instant.data(), &schedule.event(Timestamp::UNIX_EPOCH, false).data);
    }
}
