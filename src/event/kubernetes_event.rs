//! Kubernetes Event objects as events.
//!
//! The same stored object is served by core/v1 and events.k8s.io/v1 under different field names, and senders fill it in many ways; this
//! makes one shape of it. Occurrences are the increase of the normalised count over what was remembered of the object's uid. Pure: what is
//! remembered is passed in and handed back.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Event, Origin, Seen, TYPE_KUBERNETES_EVENT, WatchKey,
    object::{Malformed, identify, nonempty, subject},
};

/// The `source` of all of these events, whichever API group or namespace they were read from.
pub const SOURCE: &str = "/api/v1/events";
/// The reporter of the Events that Signalbox writes itself; they never become events.
pub const OWN_REPORTER: &str = "signalbox.dev/operator";

/// Whether the watch is one of Event objects, of either API group.
pub fn is_of_events(watch: &WatchKey) -> bool {
    watch.kind == "Event" && (watch.api_version == "v1" || watch.api_version.starts_with("events.k8s.io/"))
}

/// What an Event object says.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalised {
    /// The event, if the object tells of an occurrence that is not remembered yet and Signalbox did not write it itself.
    pub event: Option<Event>,
    /// What is to be remembered of the object, event or not.
    pub origin: Origin,
    /// Whether Signalbox wrote it.
    pub own: bool,
}

/// Reads an Event object of core/v1 or events.k8s.io/v1.
///
/// `previous` is what is remembered of the object's uid. The event's `data` is
/// `{type, reason, message, action?, count, delta, firstTime?, time, reporter, regarding, related?, object}`: `count` is the normalised count,
/// `delta` its increase (all of it for a new object), `object` the object as it came, without `managedFields`.
///
/// # Errors
/// When the object has no usable uid, version, name or time.
pub fn from_kubernetes_event(
    mut raw: Value,
    watch: &WatchKey,
    previous: Option<&Seen>,
) -> Result<Normalised, Malformed> {
    let identity = identify(&raw)?;
    let count = count(&raw);
    let known = previous.map_or(0, |seen| seen.count);
    let reporter = reporter(&raw);
    let own = reporter == OWN_REPORTER;
    let seen = Seen::new(identity.version, if own { 0 } else { count }, identity.qualified_name());
    let origin = Origin::new(watch.clone(), identity.uid.clone(), Some(seen));
    if count <= known || own {
        return Ok(Normalised { event: None, origin, own });
    }

    let time = time(&raw).ok_or(Malformed::Missing("metadata.creationTimestamp"))?;
    let regarding = reference(first(&raw, &["/involvedObject", "/regarding"]));
    let event = Event {
        subject: subject(text(&regarding, "namespace"), text(&regarding, "kind"), text(&regarding, "name")),
        time: Some(time),
        ..Event::new(format!("{}/{count}", identity.uid), SOURCE, TYPE_KUBERNETES_EVENT, Value::Null)
    };
    let mut data = json!({
        "type": text(&raw, "type").unwrap_or_default(),
        "reason": text(&raw, "reason").unwrap_or_default(),
        "message": text(&raw, "message").or_else(|| text(&raw, "note")).unwrap_or_default(),
        "count": count,
        "delta": count - known,
        "time": time.to_string(),
        "reporter": reporter,
        "regarding": regarding,
    });
    if let Some(action) = text(&raw, "action") {
        data["action"] = action.into();
    }
    if let Some(first) = instant(&raw, &["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]) {
        data["firstTime"] = first.to_string().into();
    }
    if raw.pointer("/related").is_some_and(Value::is_object) {
        data["related"] = reference(raw.pointer("/related"));
    }
    if let Some(metadata) = raw.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    data["object"] = raw;
    Ok(Normalised { event: Some(Event { data, ..event }), origin, own })
}

/// The one time of the many that may be set.
pub fn time(raw: &Value) -> Option<Timestamp> {
    instant(
        raw,
        &[
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            "/eventTime",
            "/firstTimestamp",
            "/deprecatedFirstTimestamp",
            "/metadata/creationTimestamp",
        ],
    )
}

/// The first of the places that holds a time. Senders write zero times as null, some as year 1 or 1970: none of these is a time.
fn instant(raw: &Value, places: &[&str]) -> Option<Timestamp> {
    /// 1971-01-01: a year of 365 days after the zero of Unix time, so that no zone's idea of that zero passes.
    const FIRST_CREDIBLE: i64 = 365 * 24 * 60 * 60;
    places
        .iter()
        .filter_map(|place| raw.pointer(place)?.as_str()?.parse::<Timestamp>().ok())
        .find(|time| time.as_second() >= FIRST_CREDIBLE)
}

/// How often it happened: a count of zero and no count at all are one occurrence.
fn count(raw: &Value) -> u32 {
    ["/series/count", "/count", "/deprecatedCount"]
        .iter()
        .filter_map(|place| raw.pointer(place)?.as_i64())
        .find(|count| *count > 0)
        .map_or(1, |count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn reporter(raw: &Value) -> String {
    ["/reportingComponent", "/reportingController", "/source/component", "/deprecatedSource/component"]
        .iter()
        .find_map(|place| nonempty(raw.pointer(place)))
        .unwrap_or_default()
        .to_owned()
}

/// An object reference with the fields that say something; `apiVersion`, `kind` and `name` are always there.
fn reference(raw: Option<&Value>) -> Value {
    let mut out = Map::new();
    let field = |name: &str| raw.and_then(|raw| nonempty(raw.get(name)));
    let kind = field("kind").unwrap_or_default();
    let api_version = field("apiVersion").unwrap_or(if is_core(kind) { "v1" } else { "" });
    out.insert("apiVersion".to_owned(), api_version.into());
    out.insert("kind".to_owned(), kind.into());
    out.insert("name".to_owned(), field("name").unwrap_or_default().into());
    for name in ["namespace", "uid", "fieldPath"] {
        if let Some(value) = field(name) {
            out.insert(name.to_owned(), value.into());
        }
    }
    Value::Object(out)
}

/// Whether a reference without an API version means this kind of core/v1: the kubelet and hand-written clients leave it out.
fn is_core(kind: &str) -> bool {
    matches!(
        kind,
        "ConfigMap"
            | "Endpoints"
            | "LimitRange"
            | "Namespace"
            | "Node"
            | "PersistentVolume"
            | "PersistentVolumeClaim"
            | "Pod"
            | "ReplicationController"
            | "ResourceQuota"
            | "Secret"
            | "Service"
            | "ServiceAccount"
    )
}

fn first<'a>(raw: &'a Value, places: &[&str]) -> Option<&'a Value> {
    places.iter().find_map(|place| raw.pointer(place).filter(|value| value.is_object()))
}

fn text<'a>(raw: &'a Value, field: &str) -> Option<&'a str> {
    nonempty(raw.get(field))
}

#[cfg(test)]
mod tests;
