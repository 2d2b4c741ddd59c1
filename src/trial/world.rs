//! The world of a trial: the objects there are, and what the watches of the rule make of changes to them.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Map, Value, json};

use super::given::InputError;
use crate::{
    api::Operation,
    event::{
        Event, Labels, Named, Origin, TYPE_KUBERNETES_EVENT, WatchKey,
        kubernetes_event::is_of_events,
        resource::{Change, from_object},
    },
    kubernetes::top_controller_among,
    record::Lookups,
    rule::{Concern, Interest},
    sources::{Memory, Plan, Sight, WatchPlan},
};

/// Kinds of Kubernetes without namespaces; others that name none are of the rule's.
const CLUSTER_SCOPED: [&str; 22] = [
    "APIService",
    "CSIDriver",
    "CSINode",
    "CertificateSigningRequest",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "FlowSchema",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeAttachment",
    "VolumeAttributesClass",
];

/// What a watch made of a change.
pub(super) struct Seen {
    pub(super) origin: Origin,
    pub(super) events: Vec<Event>,
}

/// The objects there are, and the watches of the rule's sources.
pub(super) struct World {
    /// The rule's namespace, of objects that name none.
    namespace: String,
    objects: BTreeMap<(String, String, String), Value>,
    watches: BTreeMap<WatchKey, Memory>,
    /// The version that the last change made.
    version: u64,
}

impl World {
    pub(super) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), objects: BTreeMap::new(), watches: BTreeMap::new(), version: 1_000 }
    }

    /// The watches that these plans need begin, when these objects exist.
    pub(super) fn begin(
        &mut self,
        plans: &[Plan],
        existing: Vec<Value>,
        now: Timestamp,
        interest: &Interest,
    ) -> Result<(), InputError> {
        for object in existing {
            let object = self.prepared(object, now)?;
            self.objects.insert(key(&object), object);
        }
        for plan in plans.iter().filter_map(|plan| if let Plan::Watch(plan) = plan { Some(plan) } else { None }) {
            for watch in watches(plan) {
                let mut memory = Memory::new(watch.clone(), HashMap::new());
                let followed = interest.followed(&watch);
                for object in self.objects.values().filter(|object| sees(&watch, object)) {
                    let listed = memory.observe(object.clone(), Sight::Listed, &path(&watch), now, &followed);
                    listed.map_err(|error| InputError::new(error.to_string()))?;
                }
                memory.finish_list(self.version, &followed);
                self.watches.insert(watch, memory);
            }
        }
        Ok(())
    }

    /// What exists, as created, for a source that wants it so.
    pub(super) fn existing(&self, plan: &WatchPlan, now: Timestamp) -> Result<Vec<(Event, Origin)>, InputError> {
        let mut events = Vec::new();
        for watch in watches(plan) {
            for object in self.objects.values().filter(|object| sees(&watch, object)) {
                let source = path(&watch);
                let (operation, gap) = (Operation::Create, false);
                let change = Change { watch: &watch, source: &source, operation, gap, seen_at: now };
                events.push(from_object(object.clone(), change).map_err(|error| InputError::new(error.to_string()))?);
            }
        }
        Ok(events)
    }

    /// An object comes into being, or changes.
    pub(super) fn change(
        &mut self,
        object: Value,
        now: Timestamp,
        interest: &Interest,
    ) -> Result<Vec<Seen>, InputError> {
        let object = self.prepared(object, now)?;
        self.objects.insert(key(&object), object.clone());
        self.observe(&object, Sight::Changed, now, interest)
    }

    /// An object goes, as it was last.
    pub(super) fn delete(
        &mut self,
        object: &Value,
        now: Timestamp,
        interest: &Interest,
    ) -> Result<Vec<Seen>, InputError> {
        let named = self.prepared(object.clone(), now)?;
        let Some(mut gone) = self.objects.remove(&key(&named)) else {
            let message =
                "there is no such object: give it under `existing` of the case, or let it come into being before";
            return Err(InputError::new(message));
        };
        gone["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.observe(&gone, Sight::Deleted, now, interest)
    }

    fn observe(
        &mut self,
        object: &Value,
        sight: Sight,
        now: Timestamp,
        interest: &Interest,
    ) -> Result<Vec<Seen>, InputError> {
        let mut seen = Vec::new();
        for (watch, memory) in self.watches.iter_mut().filter(|(watch, _)| sees(watch, object)) {
            let observed = memory.observe(object.clone(), sight, &path(watch), now, &interest.followed(watch));
            let observed = observed.map_err(|error| InputError::new(error.to_string()))?;
            seen.extend(observed.map(|observed| Seen { origin: observed.origin, events: observed.events }));
        }
        Ok(seen)
    }

    /// The object with what the API server would have added.
    fn prepared(&mut self, object: Value, now: Timestamp) -> Result<Value, InputError> {
        let Value::Object(mut object) = object else { return Err(InputError::new("an object is a map")) };
        let text =
            |object: &Map<String, Value>, field: &str| object.get(field).and_then(Value::as_str).map(str::to_owned);
        let (Some(version), Some(kind)) = (text(&object, "apiVersion"), text(&object, "kind")) else {
            return Err(InputError::new("an object has apiVersion and kind"));
        };
        self.version += 1;
        let is_event = is_of_events(&WatchKey { api_version: version.clone(), kind: kind.clone(), namespace: None });
        let regarding = if is_event { self.regarding(&mut object) } else { None };
        let mut metadata = object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        match text(&metadata, "namespace").as_deref() {
            // Said to have none.
            Some("") => drop(metadata.remove("namespace")),
            Some(_) => {}
            None if !is_event && CLUSTER_SCOPED.contains(&kind.as_str()) => {}
            None => {
                let namespace = regarding.unwrap_or_else(|| self.namespace.clone());
                metadata.insert("namespace".to_owned(), namespace.into());
            }
        }
        if !metadata.get("name").is_some_and(Value::is_string) {
            if !is_event {
                return Err(InputError::new("metadata.name is missing"));
            }
            metadata.insert("name".to_owned(), format!("event-{}", self.version).into());
        }
        let place = |metadata: &Map<String, Value>| text(metadata, "namespace").unwrap_or_default();
        let known = self.objects.get(&(kind.clone(), place(&metadata), text(&metadata, "name").unwrap_or_default()));
        let created = known.and_then(|known| known.pointer("/metadata/creationTimestamp")).cloned();
        let uid = format!("{kind}/{}/{}", place(&metadata), text(&metadata, "name").unwrap_or_default());
        metadata.entry("uid").or_insert_with(|| uid.into());
        metadata.entry("creationTimestamp").or_insert_with(|| created.unwrap_or_else(|| now.to_string().into()));
        metadata.insert("resourceVersion".to_owned(), self.version.to_string().into());
        if is_event {
            happened_at(&mut object, known, now);
        }
        object.insert("metadata".to_owned(), metadata.into());
        Ok(object.into())
    }

    /// The namespace of what an Event is about: that of the Event or of the rule where it is left out of a kind that has one.
    fn regarding(&self, event: &mut Map<String, Value>) -> Option<String> {
        let of_event = event.get("metadata").and_then(|metadata| metadata.get("namespace")?.as_str());
        let own = of_event.unwrap_or(&self.namespace).to_owned();
        let field = ["involvedObject", "regarding"].into_iter().find(|field| event.contains_key(*field))?;
        let about = event.get_mut(field)?.as_object_mut()?;
        let kind = about.get("kind").and_then(Value::as_str).unwrap_or_default();
        if !about.contains_key("namespace") && !CLUSTER_SCOPED.contains(&kind) {
            about.insert("namespace".to_owned(), own.into());
        }
        about.get("namespace").and_then(Value::as_str).map(str::to_owned)
    }

    /// What the operator would look up for the event.
    pub(super) fn look_up(&self, event: &Event, concern: &Concern) -> Lookups {
        let of_event = event.type_ == TYPE_KUBERNETES_EVENT;
        let place = if of_event { "/regarding/namespace" } else { "/object/metadata/namespace" };
        let namespace = event.data.pointer(place).and_then(Value::as_str).filter(|_| concern.namespace_labels);
        let regarding = event.data.get("regarding").and_then(|regarding| Named::read(regarding, regarding));
        let labels = regarding
            .as_ref()
            .and_then(|regarding| self.labels(&regarding.kind, regarding.namespace.as_deref(), &regarding.name));
        let owner = regarding.and_then(|regarding| {
            self.metadata(&regarding)?;
            top_controller_among(&regarding, |named| self.metadata(named))
        });
        let for_each = |accounts: &[crate::record::Account]| accounts.to_vec();
        Lookups {
            // Every namespace has this label.
            namespace_labels: namespace.map(|name| {
                let own = ("kubernetes.io/metadata.name".to_owned(), name.to_owned());
                self.labels("Namespace", None, name).unwrap_or_default().into_iter().chain([own]).collect()
            }),
            regarding_labels: labels.map_or_else(Vec::new, |labels| {
                for_each(&concern.regarding_labels_for).into_iter().map(|account| (account, labels.clone())).collect()
            }),
            regarding_owner: owner.map_or_else(Vec::new, |owner| {
                for_each(&concern.regarding_owner_for).into_iter().map(|account| (account, owner.clone())).collect()
            }),
        }
    }

    fn labels(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<Labels> {
        let object = self.objects.get(&(kind.to_owned(), namespace.unwrap_or_default().to_owned(), name.to_owned()))?;
        let labels = object.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
        serde_json::from_value(labels).ok()
    }

    fn metadata(&self, named: &Named) -> Option<ObjectMeta> {
        let namespace = named.namespace.clone().unwrap_or_default();
        let object = self.objects.get(&(named.kind.clone(), namespace, named.name.clone()))?;
        serde_json::from_value(object["metadata"].clone()).ok()
    }
}

/// Kind, namespace and name.
fn key(object: &Value) -> (String, String, String) {
    let text = |place: &str| object.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}

fn watches(plan: &WatchPlan) -> impl Iterator<Item = WatchKey> {
    let key = |namespace: &Option<String>| WatchKey {
        api_version: plan.api_version.clone(),
        kind: plan.kind.clone(),
        namespace: namespace.clone(),
    };
    plan.scopes.iter().map(key)
}

fn sees(watch: &WatchKey, object: &Value) -> bool {
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let events = is_of_events(watch) && object["kind"] == "Event";
    (events || (object["apiVersion"] == *watch.api_version && object["kind"] == *watch.kind))
        && watch.namespace.as_deref().is_none_or(|of_watch| namespace == Some(of_watch))
}

/// The path that a watch of the whole cluster has: the `source` of its events.
fn path(watch: &WatchKey) -> String {
    let (group, version) = watch.api_version.split_once('/').unwrap_or(("", &watch.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &watch.kind));
    let root = if group.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{}/{}", watch.api_version, resource.plural)
}

/// An Event object happens when it comes, whatever times it brings along; one that came before has happened once more, unless it says how often.
fn happened_at(event: &mut Map<String, Value>, known: Option<&Value>, now: Timestamp) {
    for field in ["eventTime", "firstTimestamp", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        event.remove(field);
    }
    event.insert("lastTimestamp".to_owned(), now.to_string().into());
    if let Some(series) = event.get_mut("series").and_then(Value::as_object_mut) {
        series.insert("lastObservedTime".to_owned(), now.to_string().into());
    } else if !event.contains_key("count") {
        let before = known.and_then(|known| known.get("count")).and_then(Value::as_u64).unwrap_or(0);
        event.insert("count".to_owned(), (before + 1).into());
    }
}
