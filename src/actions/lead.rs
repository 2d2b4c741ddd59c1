//! The object that an event leads to: `target.from`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize as _;
use serde_json::Value;

use super::{Context, Failure, target::short};
use crate::{
    api::{self, TargetFrom},
    event::{Event, Named, TYPE_KUBERNETES_EVENT, TYPE_POD_LOG, is_label, is_subdomain},
    kubernetes::OwnerError,
};

/// Characters of a uid, with its dashes.
const UID: usize = 36;

/// Puts the object that the event leads to into the action's target, if that is to be found by the event. Reads as the rule's account.
///
/// # Errors
/// Final when there is none, or when it is in a namespace that the target does not allow.
///
/// # Cancel safety
/// Nothing was changed.
pub async fn lead(cx: &Context, spec: &api::Action, filled: &mut Value) -> Result<(), Failure> {
    let Some((spec, from)) = spec.target().and_then(|target| Some((target, target.from?))) else { return Ok(()) };
    let About { named, uid, metadata } = about(&cx.event)?;
    // Of what is above it, or uses it, the event knows no uid.
    let uid = uid.filter(|_| from == TargetFrom::Event);
    let found = match from {
        TargetFrom::Event => named,
        TargetFrom::EventOwner => {
            let top = cx.services.cluster.top_controller(&cx.account, &named, metadata).await;
            top.map_err(|error| failure(cx, error))?
        }
        // They are found first, and each is filled in by itself.
        TargetFrom::EventUsers => return Ok(()),
    };
    check(cx, spec, &found)?;
    if let Some(target) = filled.get_mut("target").and_then(Value::as_object_mut) {
        target.remove("namespace");
        target.extend(uid.map(|uid| ("uid".to_owned(), uid.into())));
    }
    lead_to(&serde_json::to_value(&found).unwrap_or_default(), filled);
    Ok(())
}

/// Puts an object that was found for an action of several into its target.
pub fn lead_to(found: &Value, filled: &mut Value) {
    if let (Some(target), Some(found)) = (filled.get_mut("target").and_then(Value::as_object_mut), found.as_object()) {
        target.extend(found.clone());
    }
}

/// The object that an event is about.
pub(super) struct About {
    pub(super) named: Named,
    /// `metadata.uid`, if it is told.
    pub(super) uid: Option<String>,
    /// As far as they are known.
    pub(super) metadata: Option<ObjectMeta>,
}

/// The object that the event is about: the one that a Kubernetes Event or a line of a log regards, or the changed one.
///
/// # Errors
/// Final when it is about none.
pub(super) fn about(event: &Event) -> Result<About, Failure> {
    let found = if [TYPE_KUBERNETES_EVENT, TYPE_POD_LOG].contains(&event.type_.as_str()) {
        event.data.get("regarding").map(|regarding| (regarding, regarding))
    } else {
        // What others send may have any fields.
        let object = event.data.get("object").filter(|_| event.is_change());
        object.and_then(|object| Some((object, object.get("metadata")?)))
    };
    let found = found.and_then(|(kind, names)| Some((Named::read(kind, names)?, names)));
    let (named, names) = found.ok_or_else(|| Failure::last("no target: the event is about no object"))?;
    let uid = uid(&named, names);
    Ok(About { named, uid, metadata: event.data.pointer("/object/metadata").and_then(|all| owners(event, all)) })
}

/// Kubelets give a Node its name as uid, and a static Pod the hash of its file, which the Pod that the API server shows does not have.
fn uid(named: &Named, names: &Value) -> Option<String> {
    let uid = names.get("uid")?.as_str()?;
    (named.kind != "Node" && uid.len() == UID).then(|| uid.to_owned())
}

fn owners(event: &Event, metadata: &Value) -> Option<ObjectMeta> {
    // That of a Kubernetes Event is the Event's own.
    (event.type_ != TYPE_KUBERNETES_EVENT).then(|| ObjectMeta::deserialize(metadata).ok())?
}

/// Names come from events, and whoever can write an Event can claim anything in it.
pub(super) fn check(cx: &Context, spec: &api::Target, found: &Named) -> Result<(), Failure> {
    if !is_subdomain(&found.name) {
        return Err(Failure::last(format!("no target: {:?} is not the name of an object", short(&found.name))));
    }
    let Some(namespace) = &found.namespace else { return Ok(()) };
    if !is_label(namespace) {
        return Err(Failure::last(format!("no target: {:?} is not the name of a namespace", short(namespace))));
    }
    if *namespace != cx.rule.namespace && !spec.allowed_namespaces.contains(namespace) {
        let message = format!(
            "no target: {found} is in another namespace than the rule, which is not one of the target's allowedNamespaces"
        );
        return Err(Failure::last(message));
    }
    Ok(())
}

fn failure(cx: &Context, error: OwnerError) -> Failure {
    match error {
        OwnerError::Read { of, right, error } => {
            Failure::of_kube(&error, &format!("find who controls {of}"), &cx.account, right)
        }
        OwnerError::Kind(error) => error.into(),
        error @ (OwnerError::Gone(_) | OwnerError::NoName(_) | OwnerError::TooMany(_)) => {
            Failure::last(format!("no target: {error}"))
        }
    }
}

#[cfg(test)]
mod tests;
