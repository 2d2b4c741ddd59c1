//! `actions[].patch` of an EventRule: a change of any object, in one of the four ways that the API server knows.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Restore, Target};
use crate::api::schema;

/// Changes an object of any kind by a patch, once: a repetition writes nothing that was written or that somebody else has changed since. The rule's
/// account needs `get` and `patch` on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!self.force || self.type == 'Apply'").message("force is for type Apply"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.subresource) || self.subresource != 'scale'")
    .message("to change a scale, use the action scale"))]
pub struct Patch {
    /// The object; it must exist.
    pub target: Target,
    /// How the patch is meant.
    #[serde(rename = "type", default)]
    pub type_: PatchType,
    /// The patch: the fields to change, or for type `JSON` a list of operations. Its texts may hold `${ }`; a text that is exactly one `${ }` keeps the
    /// type of its value. The fields that name the object (`apiVersion`, `kind`, `metadata.name` and the like) are those of the target.
    #[schemars(schema_with = "schema::anything")]
    pub patch: Value,
    /// The subresource that is patched, such as `status`; default: the object itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z][a-z0-9-]*$"))]
    pub subresource: Option<String>,
    /// With type `Apply`, takes over fields that another field manager holds. By default that ends the action with an error that names the manager.
    #[serde(default)]
    pub force: bool,
    /// When the former values of what it changes are given back; default: never. Not for a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// What a [`Patch::patch`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PatchType {
    /// The fields that it names are set, null takes a field away, lists are replaced as a whole (JSON merge patch, RFC 7386).
    #[default]
    Merge,
    /// As `Merge`, but lists of built-in kinds are merged by their key, such as the name of a container. Custom resources do not take it.
    Strategic,
    /// Operations on paths: add, remove, replace, move, copy, test (JSON patch, RFC 6902).
    JSON,
    /// Server-side apply: the rule's action owns the fields that it names; fields that it named before and names no more are taken away.
    Apply,
}

/// What is wrong with a patch or a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchFault {
    /// The place in it: `.metadata.name`, `[1].path`, or empty.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What names an object, or is kept by the API server.
pub(super) const FIXED_METADATA: [&str; 10] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "selfLink",
];

impl Patch {
    /// All that is plainly wrong with `patch`: [`Patch::patch`], or what it was filled in to.
    pub fn faults(&self, patch: &Value) -> Vec<PatchFault> {
        let mut faults = Faults { status: self.subresource.as_deref() == Some("status"), found: Vec::new() };
        match (self.type_, patch) {
            (PatchType::JSON, Value::Array(operations)) if !operations.is_empty() => {
                operations.iter().enumerate().for_each(|(index, one)| faults.operation(index, one));
            }
            (PatchType::JSON, _) => faults.add("", "must be a list of operations for type JSON"),
            (_, Value::Object(fields)) if !fields.is_empty() => faults.fields(fields),
            (other, _) => faults.add("", format!("must be a map of the fields to change for type {other:?}")),
        }
        faults.found
    }
}

struct Faults {
    /// Whether the status is what is patched.
    status: bool,
    found: Vec<PatchFault>,
}

impl Faults {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(PatchFault { path: path.into(), message: message.into() });
    }

    fn fields(&mut self, fields: &Map<String, Value>) {
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("metadata", Value::Object(metadata)) => {
                    for name in metadata.keys() {
                        self.place(format!(".metadata.{name}"), &["metadata", name]);
                    }
                }
                ("metadata", Value::String(text)) if text.contains("${") => {}
                ("metadata", _) => self.add(".metadata", "must be a map"),
                _ => self.place(format!(".{key}"), &[key]),
            }
        }
    }

    /// A place that would be written.
    fn place(&mut self, path: String, segments: &[&str]) {
        match segments {
            ["apiVersion" | "kind", ..] => self.add(path, "is the target's: leave it out"),
            ["metadata"] => self.add(path, "cannot be patched as a whole"),
            ["metadata", name, ..] if FIXED_METADATA.contains(name) => self.add(path, "cannot be patched"),
            ["status", ..] if !self.status => {
                self.add(path, "is not written with the object itself: set subresource: status");
            }
            [other, ..] if *other != "status" && self.status => {
                self.add(path, "is not written with subresource: status, only the status is");
            }
            _ => {}
        }
    }

    fn operation(&mut self, index: usize, operation: &Value) {
        let Some(fields) = operation.as_object() else {
            return self.add(format!("[{index}]"), "must be a map with op and path");
        };
        let op = match fields.get("op").and_then(Value::as_str) {
            Some(op @ ("add" | "remove" | "replace" | "move" | "copy" | "test")) => op,
            _ => return self.add(format!("[{index}].op"), "must be add, remove, replace, move, copy or test"),
        };
        if let Some(other) = fields.keys().find(|key| !["op", "path", "from", "value"].contains(&key.as_str())) {
            self.add(format!("[{index}].{other}"), "is no field of an operation: op, path, from, value");
        }
        if matches!(op, "add" | "replace" | "test") && !fields.contains_key("value") {
            self.add(format!("[{index}].value"), format!("must be set for {op}"));
        }
        self.pointer(index, "path", fields, op != "test");
        if matches!(op, "move" | "copy") {
            self.pointer(index, "from", fields, op == "move");
        }
    }

    /// A pointer is structure: a value of an event that was filled in could lead anywhere.
    fn pointer(&mut self, index: usize, field: &str, operation: &Map<String, Value>, writes: bool) {
        let path = format!("[{index}].{field}");
        match operation.get(field).and_then(Value::as_str) {
            Some(pointer) if pointer.contains("${") => self.add(path, "takes no `${ }`"),
            Some(pointer) if pointer.starts_with('/') => {
                let segments: Vec<&str> = pointer.split('/').skip(1).collect();
                if writes {
                    self.place(path, &segments);
                }
            }
            _ => self.add(path, "must be a JSON pointer such as /metadata/labels/tier"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(type_: &str, subresource: Option<&str>, patch: Value) -> Vec<String> {
        let mut spec = json!({"target": {"kind": "Pod", "name": "p"}, "type": type_, "patch": patch});
        if let Some(subresource) = subresource {
            spec["subresource"] = subresource.into();
        }
        let spec: Patch = serde_json::from_value(spec).expect("a patch");
        spec.faults(&spec.patch).into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    #[test]
    fn a_patch_has_the_shape_of_its_type() {
        for (type_, patch, fault) in [
            ("Merge", json!([]), ": must be a map of the fields to change for type Merge"),
            ("Apply", json!("${event.data}"), ": must be a map of the fields to change for type Apply"),
            ("JSON", json!({"spec": {}}), ": must be a list of operations for type JSON"),
            ("JSON", json!([1]), "[0]: must be a map with op and path"),
            ("JSON", json!([{"op": "set", "path": "/a"}]), "[0].op: must be add, remove, replace, move, copy or test"),
            ("JSON", json!([{"op": "add", "path": "/a"}]), "[0].value: must be set for add"),
            (
                "JSON",
                json!([{"op": "remove", "path": "a"}]),
                "[0].path: must be a JSON pointer such as /metadata/labels/tier",
            ),
            ("JSON", json!([{"op": "remove", "path": "/a/${event.id}"}]), "[0].path: takes no `${ }`"),
            (
                "JSON",
                json!([{"op": "copy", "path": "/a"}]),
                "[0].from: must be a JSON pointer such as /metadata/labels/tier",
            ),
            (
                "JSON",
                json!([{"op": "remove", "path": "/a", "x": 1}]),
                "[0].x: is no field of an operation: op, path, from, value",
            ),
        ] {
            assert_eq!(faults(type_, None, patch), [fault]);
        }
    }

    #[test]
    fn what_names_the_object_is_not_patched_and_the_status_only_as_a_subresource() {
        let metadata = json!({"kind": "Pod", "metadata": {"name": "q", "labels": {}, "uid": "u"}, "status": {}});
        assert_eq!(
            faults("Merge", None, metadata),
            [
                ".kind: is the target's: leave it out",
                ".metadata.name: cannot be patched",
                ".metadata.uid: cannot be patched",
                ".status: is not written with the object itself: set subresource: status",
            ]
        );
        let both = json!({"spec": {}, "status": {}});
        assert_eq!(
            faults("Apply", Some("status"), both),
            [".spec: is not written with subresource: status, only the status is"]
        );
        let operations = json!([{"op": "test", "path": "/metadata/name", "value": "p"}, {"op": "copy", "from": "/metadata/name", "path": "/spec/x"},
            {"op": "move", "from": "/metadata/uid", "path": "/status/x"}, {"op": "remove", "path": "/metadata"}]);
        assert_eq!(
            faults("JSON", None, operations),
            [
                "[2].path: is not written with the object itself: set subresource: status",
                "[2].from: cannot be patched",
                "[3].path: cannot be patched as a whole",
            ]
        );
    }

    #[test]
    fn a_usual_patch_has_no_fault() {
        let merge = json!({"metadata": {"labels": {"tier": "${event.id}"}}, "spec": {"x": null}});
        assert!(faults("Merge", None, merge).is_empty());
        assert!(faults("Merge", Some("status"), json!({"status": {"phase": "Done"}})).is_empty());
        assert!(faults("JSON", None, json!([{"op": "add", "path": "/spec/x/-", "value": null}])).is_empty());
    }
}
