//! An object of ours as the API server sends it: read is what names it, and everything else stays as it came. A spec that cannot be read, such as one
//! that is nested thousands of levels deep, is then a fault of its object; a watch that reads objects whole would come to none of the others.

use std::{borrow::Cow, collections::BTreeMap};

use kube::{Resource, api::ObjectMeta, core::ApiResource};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use crate::{
    api::{SILENCE, Silence},
    kubernetes::APPROVAL,
};

/// The object.
#[derive(Clone, Debug, Deserialize)]
pub struct Object {
    #[serde(deserialize_with = "names")]
    pub(super) metadata: ObjectMeta,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

/// What is read of the metadata; `managedFields` are nested as deep as the spec is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Names {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    resource_version: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

fn names<'de, D: Deserializer<'de>>(metadata: D) -> Result<ObjectMeta, D::Error> {
    let Names { name, namespace, uid, generation, resource_version, annotations } = Names::deserialize(metadata)?;
    // Those of others may be large, and nobody reads them.
    let is_ours = |key: &String| key == APPROVAL || key.starts_with(SILENCE);
    let annotations = annotations.map(|all| all.into_iter().filter(|(key, _)| is_ours(key)).collect());
    Ok(ObjectMeta { name, namespace, uid, generation, resource_version, annotations, ..ObjectMeta::default() })
}

impl Object {
    /// The spec; null when there is none.
    ///
    /// # Errors
    /// When it is no JSON that can be read.
    pub(super) fn spec(&self) -> serde_json::Result<Value> {
        read(self.spec.as_deref())
    }

    /// The annotation by which a step is approved.
    pub(super) fn approval(&self) -> Option<&str> {
        Some(self.metadata.annotations.as_ref()?.get(APPROVAL)?)
    }

    /// The silences that its annotations tell of, in the order of their names.
    pub(super) fn silences(&self) -> Vec<Silence> {
        let annotations = self.metadata.annotations.iter().flatten();
        annotations.filter_map(|(key, text)| Some(Silence::read(key.strip_prefix(SILENCE)?, text))).collect()
    }

    /// The status; null when there is none.
    ///
    /// # Errors
    /// When it is no JSON that can be read.
    pub(super) fn status(&self) -> serde_json::Result<Value> {
        read(self.status.as_deref())
    }
}

fn read(part: Option<&RawValue>) -> serde_json::Result<Value> {
    part.map_or(Ok(Value::Null), |part| serde_json::from_str(part.get()))
}

impl Resource for Object {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
