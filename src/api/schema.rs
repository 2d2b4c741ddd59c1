//! Pieces of schema that the derive cannot make: bounds on strings and lists, free-form JSON.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use schemars::{Schema, SchemaGenerator, json_schema};

/// JSON of any shape; the API server keeps unknown fields.
pub(super) fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// JSON of any type and shape: an object, a list, a text, a number.
pub(super) fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// A CEL expression. 4 KiB is the limit that [`crate::rule::cel`] also holds before parsing.
pub(super) fn expression(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 4096})
}

/// A CEL expression that may be left out.
pub(super) fn optional_expression(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 4096, "nullable": true})
}

/// A number, as text that may be left out: objects of Kubernetes hold no floating point numbers.
pub(super) fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 32, "pattern": "^[-+]?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?$", "nullable": true})
}

/// A name that CEL can select: `actions.grow`, `variables.svc`.
pub(super) fn identifier(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})
}

/// What [`crate::api::address`] reads: a host, and perhaps a port.
pub(super) const ADDRESS: &str = r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$";

/// The name of a Kubernetes object of this namespace (RFC 1123 subdomain).
pub(super) fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"})
}

/// Takes out the formats of unsigned integers, which Kubernetes does not know: it warns of each at every apply.
pub(super) fn without_foreign_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    inner(schema, &mut without_foreign_formats);
}

/// Leaves the fields of actions explained in `spec.actions` alone: lists of actions stand at several places, and a definition has to stay small enough
/// for a client-side apply. What each action is for is said everywhere.
pub(super) fn with_actions_explained_once(schema: &mut JSONSchemaProps) {
    let Some(spec) = schema.properties.as_mut().and_then(|properties| properties.get_mut("spec")) else { return };
    let Some(action) = property(spec, "actions").and_then(items).cloned() else { return };
    let others = spec.properties.iter_mut().flatten().filter(|(name, _)| *name != "actions");
    others.for_each(|(_, other)| explain_shortly(other, &action));
}

fn property<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    schema.properties.as_ref()?.get(name)
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

fn explain_shortly(schema: &mut JSONSchemaProps, action: &JSONSchemaProps) {
    if schema == action {
        schema.properties.iter_mut().flatten().for_each(|(_, field)| inner(field, &mut unexplained));
    } else {
        inner(schema, &mut |field| explain_shortly(field, action));
    }
}

fn unexplained(schema: &mut JSONSchemaProps) {
    schema.description = None;
    inner(schema, &mut unexplained);
}

/// Does this with each schema right below this one.
fn inner(schema: &mut JSONSchemaProps, with: &mut dyn FnMut(&mut JSONSchemaProps)) {
    schema.properties.iter_mut().flatten().for_each(|(_, property)| with(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        with(items);
    }
}
