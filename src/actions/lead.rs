//! The object that an event leads to: `target.from`.

use kube::Api;
use serde_json::{Map, Value};

use super::{
    Context, Failure,
    target::{is_label, is_subdomain, short, title},
};
use crate::{
    api::{self, TargetFrom},
    event::{Event, TYPE_KUBERNETES_EVENT},
    kubernetes::Right,
};

/// How many controllers may stand above an object: a Pod of a CronJob has two, and custom resources add a few.
const LEVELS: usize = 8;
/// The label by which a ReplicaSet's Pods bear the end of its name.
const HASH: &str = "pod-template-hash";

/// Puts the object that the event leads to into the action's target, if that is to be found by the event. Reads as the rule's account.
///
/// # Errors
/// Final when there is none, or when it is in a namespace that the target does not allow.
///
/// # Cancel safety
/// Nothing was changed.
pub async fn lead(cx: &Context, spec: &api::Action, filled: &mut Value) -> Result<(), Failure> {
    let Some((spec, from)) = spec.target().and_then(|target| Some((target, target.from?))) else { return Ok(()) };
    let about = Found::about(&cx.event).ok_or_else(|| Failure::last("no target: the event is about no object"))?;
    let found = match from {
        TargetFrom::Event => about,
        TargetFrom::EventOwner => top(cx, about).await?,
        // They are found first, and each is filled in by itself.
        TargetFrom::EventUsers => return Ok(()),
    };
    found.check(cx, spec)?;
    if let Some(target) = filled.get_mut("target").and_then(Value::as_object_mut) {
        found.fill(target);
    }
    Ok(())
}

/// Puts an object that was found for an action of several into its target.
pub fn lead_to(found: &Value, filled: &mut Value) {
    if let (Some(target), Some(found)) = (filled.get_mut("target").and_then(Value::as_object_mut), found.as_object()) {
        target.extend(found.clone());
    }
}

/// An object by its names.
pub(super) struct Found {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// Its metadata, as far as they are known.
    metadata: Option<Value>,
}

impl Found {
    /// The object that the event is about.
    pub(super) fn about(event: &Event) -> Option<Self> {
        let text =
            |value: &Value, field: &str| value.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if event.type_ == TYPE_KUBERNETES_EVENT {
            let regarding = event.data.get("regarding")?;
            return Some(Self {
                api_version: text(regarding, "apiVersion")?,
                kind: text(regarding, "kind")?,
                namespace: text(regarding, "namespace"),
                name: text(regarding, "name")?,
                metadata: None,
            });
        }
        let object = event.data.get("object")?;
        let metadata = object.get("metadata")?;
        Some(Self {
            api_version: text(object, "apiVersion")?,
            kind: text(object, "kind")?,
            namespace: text(metadata, "namespace"),
            name: text(metadata, "name")?,
            metadata: Some(metadata.clone()),
        })
    }

    /// What the metadata name as its controller.
    fn owner(&self, metadata: &Value) -> Option<Self> {
        let owners = metadata.get("ownerReferences")?.as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == true)?;
        let text = |field: &str| owner.get(field)?.as_str().map(str::to_owned);
        Some(Self {
            api_version: text("apiVersion")?,
            kind: text("kind")?,
            namespace: self.namespace.clone(),
            name: text("name")?,
            metadata: None,
        })
    }

    /// The Deployment of a ReplicaSet that is gone: it has named it by its own name and the hash that its Pods still bear.
    fn deployment(&self, hash: Option<&str>) -> Option<Self> {
        let name = self.name.strip_suffix(hash?)?.strip_suffix('-')?;
        (self.kind == "ReplicaSet" && self.api_version == "apps/v1").then(|| Self {
            api_version: self.api_version.clone(),
            kind: "Deployment".to_owned(),
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            metadata: None,
        })
    }

    pub(super) fn title(&self) -> String {
        title(&self.kind, self.namespace.as_deref(), &self.name)
    }

    /// Names come from events, and whoever can write an Event can claim anything in it.
    pub(super) fn check(&self, cx: &Context, spec: &api::Target) -> Result<(), Failure> {
        if !is_subdomain(&self.name) {
            return Err(Failure::last(format!("no target: {:?} is not the name of an object", short(&self.name))));
        }
        let Some(namespace) = &self.namespace else { return Ok(()) };
        if !is_label(namespace) {
            return Err(Failure::last(format!("no target: {:?} is not the name of a namespace", short(namespace))));
        }
        if *namespace != cx.rule.namespace && !spec.allowed_namespaces.contains(namespace) {
            let message = format!(
                "no target: {} is in another namespace than the rule, which is not one of the target's allowedNamespaces",
                self.title()
            );
            return Err(Failure::last(message));
        }
        Ok(())
    }

    fn fill(self, target: &mut Map<String, Value>) {
        target.insert("apiVersion".to_owned(), self.api_version.into());
        target.insert("kind".to_owned(), self.kind.into());
        target.insert("name".to_owned(), self.name.into());
        match self.namespace {
            Some(namespace) => drop(target.insert("namespace".to_owned(), namespace.into())),
            None => drop(target.remove("namespace")),
        }
    }
}

/// The controller at the top.
async fn top(cx: &Context, about: Found) -> Result<Found, Failure> {
    let (begin, mut here, mut hash) = (about.title(), about, None::<String>);
    for _ in 0..=LEVELS {
        let metadata = match here.metadata.take() {
            Some(metadata) => metadata,
            None => match look(cx, &here).await? {
                Some(metadata) => metadata,
                None => {
                    here = here.deployment(hash.take().as_deref()).ok_or_else(|| {
                        Failure::last(format!("no target: {} is gone, and with it who controls it", here.title()))
                    })?;
                    continue;
                }
            },
        };
        let label = metadata.get("labels").and_then(|labels| labels.get(HASH)).and_then(Value::as_str);
        hash = label.map(str::to_owned);
        match here.owner(&metadata) {
            Some(owner) => here = owner,
            None => return Ok(here),
        }
    }
    Err(Failure::last(format!("no target: more than {LEVELS} controllers stand above {begin}")))
}

/// The object's metadata; nothing when it is gone.
async fn look(cx: &Context, found: &Found) -> Result<Option<Value>, Failure> {
    if !is_subdomain(&found.name) || !found.namespace.as_deref().is_none_or(is_label) {
        return Err(Failure::last(format!("no target: {:?} is not the name of an object", short(&found.name))));
    }
    let cluster = &cx.services.cluster;
    let resource = cluster.resolve(Some(&found.api_version), &found.kind).await?;
    let namespace = found.namespace.as_deref().filter(|_| resource.namespaced);
    let client = cluster.as_account(&cx.account);
    let api: Api<kube::core::DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource.api),
        None => Api::all_with(client, &resource.api),
    };
    match api.get_metadata(&found.name).await {
        Ok(object) => Ok(serde_json::to_value(object.metadata).ok()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => {
            let right = Right::new("get", &resource.api.group, &resource.api.plural).within(namespace);
            Err(Failure::of_kube(&error, &format!("find who controls {}", found.title()), &cx.account, right))
        }
    }
}

#[cfg(test)]
mod tests;
