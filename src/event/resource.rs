//! Object changes as events.
//!
//! An object is carried without `managedFields`, with `labels` and `annotations` always there as maps. Of a Secret only its metadata, its
//! type and a hash of its content are carried. Pure: the time and the kind of change are passed in.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Event, FIELD_MANAGER, Origin, Seen, TYPE_RESOURCE_CREATED, TYPE_RESOURCE_DELETED, TYPE_RESOURCE_UPDATED, Values,
    WatchKey,
    object::{Malformed, identify, nonempty, subject},
};
use crate::api::Operation;

/// The annotation in which `kubectl apply` keeps a whole object, Secret contents included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Steps whose marks are taken off one object: more than an object has fields that rules write.
const MAX_MARKS: usize = 16;

/// A change of an object as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The watch that saw it.
    pub watch: &'a WatchKey,
    /// The event's `source`: the resource's path for the whole cluster, `/apis/apps/v1/deployments`.
    pub source: &'a str,
    /// What happened.
    pub operation: Operation,
    /// Whether it was found by comparing lists after an outage: what came between is not known.
    pub gap: bool,
    /// When it was seen; the event's time, except that of a creation, which the object tells itself.
    pub seen_at: Timestamp,
}

/// Makes the event of a changed object, and what is to be remembered of it.
///
/// The event's `data` is `{operation, gap, object}`; on Delete `object` is the last state. Of an object that nobody saw go see [`from_memory`].
///
/// # Errors
/// When the object has no usable uid, version or name.
pub fn from_object(raw: Value, change: Change<'_>) -> Result<(Event, Origin), Malformed> {
    let identity = identify(&raw)?;
    let seen = Seen::new(identity.version, 0, identity.qualified_name());
    let seen = (change.operation != Operation::Delete).then_some(seen);
    let origin = Origin { marks: marks(&raw), ..Origin::new(change.watch.clone(), identity.uid.clone(), seen) };
    let created = nonempty(raw.pointer("/metadata/creationTimestamp")).and_then(|time| time.parse().ok());
    let (type_, time) = match change.operation {
        Operation::Create => (TYPE_RESOURCE_CREATED, created.unwrap_or(change.seen_at)),
        Operation::Update => (TYPE_RESOURCE_UPDATED, change.seen_at),
        // deletionTimestamp is the end of the grace period, often in the future: it tells nothing about when the object went.
        Operation::Delete => (TYPE_RESOURCE_DELETED, change.seen_at),
    };
    let event = Event {
        subject: subject(identity.namespace.as_deref(), Some(&change.watch.kind), Some(&identity.name)),
        time: Some(time),
        ..Event::new(
            format!("{}/{}", identity.uid, identity.version),
            change.source,
            type_,
            json!({ "operation": change.operation, "gap": change.gap, "object": tidy(raw, change.watch) }),
        )
    };
    Ok((event, origin))
}

/// Makes the event of an object that is gone although nobody saw it go: a list does not have it any more. `change.operation` is Delete.
///
/// Its `object` has what is remembered only: `apiVersion`, `kind`, and of the metadata `name`, `namespace`, `uid` and the `resourceVersion` that
/// was seen last. No labels, and no map in their place: whoever asks for them is to be told that they are not known.
pub fn from_memory(uid: &str, seen: &Seen, last: Values, change: Change<'_>) -> (Event, Origin) {
    let (namespace, name) = match seen.name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, &*seen.name),
    };
    let mut metadata = json!({ "name": name, "uid": uid, "resourceVersion": seen.version.to_string() });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    let WatchKey { api_version, kind, .. } = change.watch;
    let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
    let data = json!({ "operation": change.operation, "gap": change.gap, "object": object });
    let event = Event {
        subject: subject(namespace, Some(kind), Some(name)),
        time: Some(change.seen_at),
        ..Event::new(format!("{uid}/deleted"), change.source, TYPE_RESOURCE_DELETED, data)
    };
    let origin = Origin::new(change.watch.clone(), uid.to_owned(), None);
    (event, Origin { before: Some(seen.version), last: Some(Box::new(last)), ..origin })
}

/// What is remembered of an object of any kind but Event.
///
/// # Errors
/// When the object has no usable uid, version or name.
pub fn origin(raw: &Value, watch: &WatchKey) -> Result<Origin, Malformed> {
    let identity = identify(raw)?;
    let seen = Seen::new(identity.version, 0, identity.qualified_name());
    Ok(Origin::new(watch.clone(), identity.uid, Some(seen)))
}

/// The steps of rules that own a field of the object.
fn marks(raw: &Value) -> Vec<String> {
    let entries = raw.pointer("/metadata/managedFields").and_then(Value::as_array);
    let managers = entries.into_iter().flatten().filter_map(|entry| entry.get("manager")?.as_str());
    managers.filter(|manager| manager.starts_with(FIELD_MANAGER)).take(MAX_MARKS).map(str::to_owned).collect()
}

fn tidy(raw: Value, watch: &WatchKey) -> Value {
    let Value::Object(mut object) = raw else { return raw };
    // Items of a list come without the two.
    object.entry("apiVersion").or_insert_with(|| watch.api_version.as_str().into());
    object.entry("kind").or_insert_with(|| watch.kind.as_str().into());
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
        for name in ["labels", "annotations"] {
            let map = metadata.entry(name).or_insert(Value::Null);
            if map.is_null() {
                *map = Value::Object(Map::new());
            }
        }
    }
    if watch.kind == "Secret" && watch.api_version == "v1" { hide(object) } else { Value::Object(object) }
}

/// A Secret without its content.
fn hide(mut secret: Map<String, Value>) -> Value {
    let hash = content_hash(&secret);
    // Named are the fields that stay, so that a field of a later version does not slip through.
    secret.retain(|field, _| matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "type" | "immutable"));
    if let Some(Value::Object(annotations)) =
        secret.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"))
    {
        annotations.remove(LAST_APPLIED);
    }
    secret.insert("contentHash".to_owned(), hash.into());
    Value::Object(secret)
}

/// A hash that changes with the content. The uid goes in, so that two Secrets with the same content cannot be told to be equal.
fn content_hash(secret: &Map<String, Value>) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(
        secret
            .get("metadata")
            .and_then(|metadata| metadata.get("uid"))
            .and_then(Value::as_str)
            .unwrap_or("")
            .as_bytes(),
    );
    for field in ["data", "stringData"] {
        let mut entries: Vec<(&String, &Value)> =
            secret.get(field).and_then(Value::as_object).into_iter().flatten().collect();
        entries.sort_by_key(|(key, _)| *key);
        part(field.as_bytes());
        for (key, value) in entries {
            part(key.as_bytes());
            part(value.as_str().unwrap_or("").as_bytes());
        }
    }
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
