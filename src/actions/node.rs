//! The Node that an action is about: by its name, or the one that the event leads to.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;

use super::{
    Context, Failure,
    lead::about,
    target::{Aim, short, text},
    write::Step,
};
use crate::{event::is_subdomain, kubernetes::Right};

/// What the account needs to do this with the Node, if its name stands in the rule as it is, else with any.
pub(super) fn rights(name: Option<&str>, verbs: &[&str]) -> Vec<Right> {
    let right = |verb: &&str| {
        let right = Right::new(verb, "", "nodes");
        match name.filter(|name| !name.contains("${")) {
            Some(name) => right.named(name),
            None => right,
        }
    };
    verbs.iter().map(right).collect()
}

/// A step that is about the Node of `filled`, an action's JSON with its texts filled in.
///
/// # Errors
/// Final when it is named by no name, or when the event leads to none.
pub(super) async fn step<'a>(cx: &'a Context, filled: &Value) -> Result<Step<'a>, Failure> {
    let name = match filled.get("node").filter(|node| !node.is_null()) {
        Some(named) => text(Some(named), "node")?,
        None => of_event(cx).await?,
    };
    if !is_subdomain(&name) {
        return Err(Failure::last(format!("no target: {:?} is not the name of a Node", short(&name))));
    }
    let resource = cx.services.cluster.resolve(Some("v1"), "Node").await?;
    Ok(Step::new(cx, Aim { resource, name, namespace: None }))
}

async fn of_event(cx: &Context) -> Result<String, Failure> {
    let about = about(&cx.event)?.named;
    match (&*about.api_version, &*about.kind, about.namespace) {
        ("v1", "Node", None) => Ok(about.name),
        ("v1", "Pod", Some(namespace)) => of_pod(cx, &namespace, &about.name).await,
        _ => Err(Failure::last("no target: the event is about no Node and no Pod: set node")),
    }
}

/// The Node that the Pod is on: of a changed Pod as it was then, else as it is now. Whoever can write an Event can claim anything in it, so only Pods of the
/// rule's namespace lead to a Node.
async fn of_pod(cx: &Context, namespace: &str, name: &str) -> Result<String, Failure> {
    if namespace != cx.rule.namespace {
        let message =
            format!("no target: Pod {namespace}/{} is in another namespace than the rule: set node", short(name));
        return Err(Failure::last(message));
    }
    if !is_subdomain(name) {
        return Err(Failure::last(format!("no target: {:?} is not the name of an object", short(name))));
    }
    let seen = cx.event.data.pointer("/object/spec/nodeName").and_then(Value::as_str).filter(|_| cx.event.is_change());
    if let Some(node) = seen {
        return Ok(node.to_owned());
    }
    let pods: Api<Pod> = Api::namespaced(cx.services.cluster.as_account(&cx.account), namespace);
    let pod = pods.get(name).await.map_err(|error| {
        let right = Right::new("get", "", "pods").within(Some(namespace));
        Failure::of_kube(&error, &format!("find the Node of Pod {namespace}/{name}"), &cx.account, right)
    })?;
    let node = pod.spec.and_then(|spec| spec.node_name);
    node.ok_or_else(|| Failure::last(format!("no target: Pod {namespace}/{name} is on no Node yet")))
}
