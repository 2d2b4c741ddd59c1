//! What all Kubernetes objects have in common, read from raw JSON.

use serde_json::Value;

/// Why an object cannot become an event. It is counted and left out; it never stops a watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field that every stored object has is not there.
    #[error("read object: {0} is missing")]
    Missing(&'static str),
    /// `metadata.resourceVersion` is not a number, so that versions cannot be compared.
    #[error("read object: metadata.resourceVersion {0:?} is not a number")]
    Version(String),
}

/// Which object it is, and which version of it.
pub(super) struct Identity {
    pub(super) uid: String,
    pub(super) version: u64,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl Identity {
    /// `namespace/name`, or `name`.
    pub(super) fn qualified_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Reads the identity from an object's metadata.
pub(super) fn identify(raw: &Value) -> Result<Identity, Malformed> {
    let field = |name: &str| nonempty(raw.pointer("/metadata").and_then(|metadata| metadata.get(name)));
    let version = field("resourceVersion").ok_or(Malformed::Missing("metadata.resourceVersion"))?;
    Ok(Identity {
        uid: field("uid").ok_or(Malformed::Missing("metadata.uid"))?.to_owned(),
        version: version.parse().map_err(|_| Malformed::Version(version.to_owned()))?,
        namespace: field("namespace").map(str::to_owned),
        name: field("name").ok_or(Malformed::Missing("metadata.name"))?.to_owned(),
    })
}

/// A string that is there and says something: Kubernetes leaves out and empties fields alike.
pub(super) fn nonempty(value: Option<&Value>) -> Option<&str> {
    value?.as_str().filter(|text| !text.is_empty())
}

/// `shop/Pod/web-1`, `Node/n1`, or nothing when the thing has no name.
pub(super) fn subject(namespace: Option<&str>, kind: Option<&str>, name: Option<&str>) -> Option<String> {
    let (kind, name) = (kind?, name?);
    Some(match namespace {
        Some(namespace) => format!("{namespace}/{kind}/{name}"),
        None => format!("{kind}/{name}"),
    })
}
