//! Names of objects.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An object by its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// `v1` or `apps/v1`.
    pub api_version: String,
    /// `Pod`
    pub kind: String,
    /// Nothing for kinds that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `metadata.name`
    pub name: String,
}

impl Named {
    /// The object whose kind the one map tells and whose names the other, which may be the same. Empty texts are absent.
    pub fn read(kind: &Value, names: &Value) -> Option<Self> {
        let text =
            |value: &Value, field: &str| value.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Self {
            api_version: text(kind, "apiVersion")?,
            kind: text(kind, "kind")?,
            namespace: text(names, "namespace"),
            name: text(names, "name")?,
        })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&title(&self.kind, self.namespace.as_deref(), &self.name))
    }
}

/// `Deployment shop/web`
pub fn title(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// RFC 1123 label: what names of namespaces are.
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|&b| inner(b))
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// RFC 1123 subdomain: what names of objects are.
pub fn is_subdomain(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-');
    text.len() <= 253 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_of_no_namespace_is_read_however_that_is_written() {
        for node in [json!({"namespace": ""}), json!({"namespace": null}), json!({})] {
            let mut node = node;
            node["apiVersion"] = "v1".into();
            node["kind"] = "Node".into();
            node["name"] = "n1".into();
            let read = Named::read(&node, &node).expect("an object");
            assert_eq!((read.namespace.as_deref(), read.to_string().as_str()), (None, "Node n1"));
        }
        assert_eq!(Named::read(&json!({"apiVersion": "v1", "kind": "", "name": "n1"}), &json!({"name": "n1"})), None);
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        for name in ["../../secrets", "a/b", "a%2fb", "a?b", ".", "..", "a..b", "-a", "A", "a b", "ü", &"a".repeat(254)]
        {
            assert!(!is_subdomain(name), "{name}");
        }
        for name in ["web", "web-1.example", "1234567890", &"a".repeat(253)] {
            assert!(is_subdomain(name), "{name}");
        }
        assert!(!is_label("a.b") && !is_label(&"a".repeat(64)) && is_label("shop"));
    }

    proptest! {
        #[test]
        fn a_name_never_holds_what_ends_a_path_segment(name in ".{0,20}") {
            if is_subdomain(&name) {
                prop_assert!(!name.contains(['/', '?', '#', '%', '\\', ' ']) && name != "." && name != "..");
            }
        }
    }
}
