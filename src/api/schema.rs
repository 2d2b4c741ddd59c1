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
    schema.properties.iter_mut().flatten().for_each(|(_, property)| without_foreign_formats(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        without_foreign_formats(items);
    }
}
