//! `actions[].apply`, `create`, `delete`, `setImage` and `evict` of an EventRule: what is done with whole objects of any kind, with images and with Pods.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{PatchFault, Target, patch::FIXED_METADATA};
use crate::api::schema;

/// Creates an object of any kind: a Workflow, a PipelineRun, a NetworkPolicy. The rule's account needs `create` and `get` on it. A repetition finds what
/// was created, by its annotation `signalbox.dev/caused-by`; an object of this name that somebody else has created is left alone and fails the action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    /// The object, with `apiVersion`, `kind` and `metadata.name` or `metadata.generateName` (then the end of the name is made of the firing, so that it is
    /// the same for every repetition). Its texts may hold `${ }`, but for `apiVersion` and `kind`; a text that is exactly one `${ }` keeps the type of its
    /// value. Without `metadata.namespace` it is in the rule's own.
    #[schemars(schema_with = "schema::free_form")]
    pub manifest: Value,
    /// The namespaces that a filled-in `metadata.namespace` may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub allowed_namespaces: Vec<String>,
}

/// Makes an object of any kind what the manifest says, by server-side apply: it is created when it is not there. All `apply` actions of a rule have the
/// field manager `signalbox/<uid of the rule>`: fields that the rule applied before and applies no more are taken away. The rule's account needs `get`,
/// `create` and `patch` on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Apply {
    /// The object, or those of its fields that the rule is to own, with `apiVersion`, `kind` and `metadata.name`. Its texts may hold `${ }`, as those of
    /// `create`.
    #[schemars(schema_with = "schema::free_form")]
    pub manifest: Value,
    /// Takes over fields that another field manager holds. By default that ends the action with an error that names the manager.
    #[serde(default)]
    pub force: bool,
    /// The namespaces that a filled-in `metadata.namespace` may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub allowed_namespaces: Vec<String>,
}

/// Deletes an object of any kind, the one that is there when the action begins: another one of its name is left alone. One that is not there is no
/// failure. It cannot be undone. The rule's account needs `get` and `delete` on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    /// The object.
    pub target: Target,
    /// What becomes of the objects that it owns.
    #[serde(default)]
    pub propagation: Propagation,
}

/// What becomes of the objects that a deleted object owns, as with `kubectl delete --cascade`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Propagation {
    /// They are deleted after it.
    #[default]
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// Sets the image of one container, as `kubectl set image`; nothing else of the object is written. The rule's account needs `get` and `patch` on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.target.kind) || self.target.kind in ['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'CronJob', 'Pod']")
    .message("setImage is for a Deployment, a StatefulSet, a DaemonSet, a ReplicaSet, a CronJob or a Pod"))]
pub struct SetImage {
    /// The Deployment, StatefulSet, DaemonSet, ReplicaSet, CronJob or Pod.
    pub target: Target,
    /// Name of the container or init container; may hold `${ }`.
    #[schemars(length(min = 1, max = 1024))]
    pub container: String,
    /// The image: `registry:port/path:tag`, `path@sha256:…`, or both; may hold `${ }`. A digest in the place of the tag (`path:sha256:…`), as some registries
    /// send it, is taken for the digest that it is.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
}

/// Kinds that [`SetImage`] is for.
const WITH_IMAGES: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "CronJob", "Pod"];

impl SetImage {
    /// Why its target has no image, if it has none.
    pub fn fault(&self) -> Option<&'static str> {
        let known = self.target.from.is_some() || WITH_IMAGES.contains(&self.target.kind.as_str());
        (!known).then_some("setImage is for a Deployment, a StatefulSet, a DaemonSet, a ReplicaSet, a CronJob or a Pod")
    }
}

/// Evicts a Pod, by its uid: PodDisruptionBudgets are honoured, and while one forbids it the attempt is repeated as `retry` and `timeout` allow. A Pod
/// that is gone is no failure. It cannot be undone: what owns the Pod makes another one. The rule's account needs `get` on pods and `create` on
/// `pods/eviction`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.target.kind) || self.target.kind == 'Pod'").message("evict is for a Pod"))]
pub struct Evict {
    /// The Pod.
    pub target: Target,
}

impl Evict {
    /// Why its target cannot be evicted, if it cannot.
    pub fn fault(&self) -> Option<&'static str> {
        (self.target.from.is_none() && self.target.kind != "Pod").then_some("evict is for a Pod")
    }
}

impl Create {
    /// All that is plainly wrong with `manifest`: [`Create::manifest`], or what it was filled in to.
    pub fn faults(&self, manifest: &Value) -> Vec<PatchFault> {
        let mut faults = faults(manifest, &self.allowed_namespaces);
        let (named, generated) = (is_set(manifest, "name"), is_set(manifest, "generateName"));
        if named == generated {
            let message = "exactly one of name and generateName must be set";
            faults.push(PatchFault { path: ".metadata".to_owned(), message: message.to_owned() });
        }
        faults
    }
}

impl Apply {
    /// All that is plainly wrong with `manifest`: [`Apply::manifest`], or what it was filled in to.
    pub fn faults(&self, manifest: &Value) -> Vec<PatchFault> {
        let mut faults = faults(manifest, &self.allowed_namespaces);
        let mut add =
            |path: &str, message: &str| faults.push(PatchFault { path: path.to_owned(), message: message.to_owned() });
        if !is_set(manifest, "name") {
            add(".metadata.name", "must be set");
        }
        if is_set(manifest, "generateName") {
            add(".metadata.generateName", "is for create: what is applied has a name");
        }
        faults
    }
}

fn is_set(manifest: &Value, field: &str) -> bool {
    manifest.get("metadata").and_then(|metadata| metadata.get(field)).is_some_and(|value| !value.is_null())
}

/// What no manifest may have.
fn faults(manifest: &Value, allowed_namespaces: &[String]) -> Vec<PatchFault> {
    let mut found = Vec::new();
    let mut add = |path: String, message: &str| found.push(PatchFault { path, message: message.to_owned() });
    let empty = Map::new();
    let fields = manifest.as_object().unwrap_or(&empty);
    for field in ["apiVersion", "kind"] {
        match fields.get(field).and_then(Value::as_str) {
            Some(text) if text.contains("${") => {
                add(format!(".{field}"), "takes no `${ }`: the rights that it needs are known before")
            }
            Some(text) if !text.is_empty() => {}
            _ => add(format!(".{field}"), "must be set"),
        }
    }
    if fields.contains_key("items") {
        add(".items".to_owned(), "a list is no object: an action makes one, several take several actions");
    }
    if fields.contains_key("status") {
        add(
            ".status".to_owned(),
            "is not written with the object itself: leave it out, or use patch with subresource: status",
        );
    }
    match fields.get("metadata") {
        Some(Value::Object(metadata)) => {
            let own = |field: &str| matches!(field, "name" | "generateName" | "namespace");
            for field in metadata.keys().filter(|field| FIXED_METADATA.contains(&field.as_str()) && !own(field)) {
                add(format!(".metadata.{field}"), "is kept by the API server: leave it out");
            }
            // A text that is filled in may become a map.
            let fits =
                |all: &Value| all.is_null() || all.is_object() || all.as_str().is_some_and(|text| text.contains("${"));
            if metadata.get("annotations").is_some_and(|all| !fits(all)) {
                add(".metadata.annotations".to_owned(), "must be a map");
            }
            let namespace = metadata.get("namespace").and_then(Value::as_str);
            if allowed_namespaces.is_empty() && namespace.is_some_and(|text| text.contains("${")) {
                let message = "a namespace that is filled in from the event needs allowedNamespaces";
                add(".metadata.namespace".to_owned(), message);
            }
        }
        _ => add(".metadata".to_owned(), "must be a map with the object's name"),
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(faults: Vec<PatchFault>) -> Vec<String> {
        faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    fn create(manifest: Value) -> Vec<String> {
        let spec = Create { manifest, allowed_namespaces: Vec::new() };
        told(spec.faults(&spec.manifest))
    }

    #[test]
    fn a_manifest_names_one_object_and_leaves_out_what_the_api_server_keeps() {
        assert!(
            create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "${event.id}"}})).is_empty()
        );
        assert!(
            create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "c-"}})).is_empty()
        );
        assert_eq!(
            create(json!({"kind": "${event.data.kind}", "metadata": {"name": "a", "generateName": "a-", "uid": "u",
                "namespace": "${event.data.namespace}"}, "status": {}})),
            [
                ".apiVersion: must be set",
                ".kind: takes no `${ }`: the rights that it needs are known before",
                ".status: is not written with the object itself: leave it out, or use patch with subresource: status",
                ".metadata.uid: is kept by the API server: leave it out",
                ".metadata.namespace: a namespace that is filled in from the event needs allowedNamespaces",
                ".metadata: exactly one of name and generateName must be set",
            ]
        );
        let annotated = |annotations: Value| {
            create(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": annotations}}),
            )
        };
        assert_eq!(annotated(json!("x")), [".metadata.annotations: must be a map"]);
        for fits in [json!(null), json!({}), json!("${event.data.annotations}")] {
            assert!(annotated(fits.clone()).is_empty(), "{fits}");
        }
        let list = create(json!({"apiVersion": "v1", "kind": "List", "items": [], "metadata": {"name": "l"}}));
        assert_eq!(list, [".items: a list is no object: an action makes one, several take several actions"]);
    }

    #[test]
    fn what_is_applied_has_a_name() {
        let spec = Apply { manifest: Value::Null, force: false, allowed_namespaces: Vec::new() };
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}});
        assert_eq!(
            told(spec.faults(&manifest)),
            [".metadata.name: must be set", ".metadata.generateName: is for create: what is applied has a name"]
        );
        assert_eq!(
            told(spec.faults(&json!("${event.data}"))).first().map(String::as_str),
            Some(".apiVersion: must be set")
        );
    }
}
