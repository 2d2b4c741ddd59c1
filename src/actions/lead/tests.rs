//! From events to objects, with an API server that has some of them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    actions::testing::{common, context, event},
    kubernetes::fake::{Fake, failure as status},
};

/// An API server with these objects, by path, and what it says of their metadata.
fn serve(objects: &[(&str, Value)]) -> Fake {
    let objects: BTreeMap<String, Value> =
        objects.iter().map(|(path, metadata)| ((*path).to_owned(), metadata.clone())).collect();
    Fake::new(move |seen| {
        if let Some(answer) = common(seen) {
            return answer;
        }
        match objects.get(&seen.path) {
            Some(metadata) if *metadata == json!("forbidden") => status(
                403,
                "Forbidden",
                "replicasets.apps \"web-6d4c\" is forbidden: User \"system:serviceaccount:shop:shop-ops\" cannot get resource \"replicasets\" in API group \"apps\" in the namespace \"shop\"",
            ),
            Some(metadata) => {
                (200, json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}))
            }
            None => status(404, "NotFound", "it is not there"),
        }
    })
}

fn owned(name: &str, owner: Option<(&str, &str, &str)>, labels: Value) -> Value {
    let mut metadata = json!({"name": name, "namespace": "shop", "labels": labels});
    if let Some((api_version, kind, name)) = owner {
        let other = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n"});
        let controller = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": "o", "controller": true});
        metadata["ownerReferences"] = json!([other, controller]);
    }
    metadata
}

const POD: &str = "/api/v1/namespaces/shop/pods/web-6d4c-x";
const SET: &str = "/apis/apps/v1/namespaces/shop/replicasets/web-6d4c";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

fn pod() -> Value {
    owned("web-6d4c-x", Some(("apps/v1", "ReplicaSet", "web-6d4c")), json!({"pod-template-hash": "6d4c"}))
}

fn set() -> Value {
    owned("web-6d4c", Some(("apps/v1", "Deployment", "web")), json!({"pod-template-hash": "6d4c"}))
}

/// Where a Kubernetes Event about `regarding` leads to, in one line.
async fn led(fake: &Fake, from: &str, regarding: Value, allowed: &[&str]) -> String {
    let mut cx = context(fake);
    let data = json!({"regarding": regarding});
    cx.event = Arc::new(Event { data, ..event() });
    lead_to(&cx, from, allowed).await
}

async fn lead_to(cx: &Context, from: &str, allowed: &[&str]) -> String {
    let target = json!({"from": from, "allowedNamespaces": allowed});
    let spec = json!({"name": "act", "scale": {"target": target, "to": 1}});
    let spec: api::Action = serde_json::from_value(spec).expect("an action");
    let mut filled = json!({"target": target, "to": 1});
    match lead(cx, &spec, &mut filled).await {
        Ok(()) => {
            let field = |field: &str| filled["target"][field].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}/{}", field("apiVersion"), field("kind"), field("namespace"), field("name"))
        }
        Err(failure) => failure.message,
    }
}

fn regarding(kind: &str, name: &str) -> Value {
    let api_version = if kind == "Pod" { "v1" } else { "apps/v1" };
    json!({"apiVersion": api_version, "kind": kind, "namespace": "shop", "name": name})
}

#[tokio::test]
async fn a_pods_top_controller_is_its_deployment_also_when_the_replica_set_is_gone() {
    let whole = [(POD, pod()), (SET, set()), (DEPLOYMENT, owned("web", None, json!({})))];
    let deployment = "apps/v1 Deployment shop/web";
    assert_eq!(led(&serve(&whole), "EventOwner", regarding("Pod", "web-6d4c-x"), &[]).await, deployment);
    let without_set = [whole[0].clone(), whole[2].clone()];
    assert_eq!(led(&serve(&without_set), "EventOwner", regarding("Pod", "web-6d4c-x"), &[]).await, deployment);
    let alone = [(POD, owned("web-6d4c-x", None, json!({})))];
    let itself = "v1 Pod shop/web-6d4c-x";
    assert_eq!(led(&serve(&alone), "EventOwner", regarding("Pod", "web-6d4c-x"), &[]).await, itself);
    assert_eq!(led(&serve(&whole), "Event", regarding("Pod", "web-6d4c-x"), &[]).await, itself, "no one is asked");
}

#[tokio::test]
async fn what_is_gone_or_may_not_be_read_is_told() {
    let pod_of = regarding("Pod", "web-6d4c-x");
    let said = led(&serve(&[]), "EventOwner", pod_of.clone(), &[]).await;
    assert_eq!(said, "no target: Pod shop/web-6d4c-x is gone, and with it who controls it");
    let said = led(&serve(&[(POD, pod())]), "EventOwner", pod_of.clone(), &[]).await;
    assert_eq!(said, "no target: Deployment shop/web is gone, and with it who controls it");
    let said = led(&serve(&[(POD, pod()), (SET, json!("forbidden"))]), "EventOwner", pod_of, &[]).await;
    assert!(said.contains("find who controls ReplicaSet shop/web-6d4c") && said.contains("replicasets"), "{said}");
    let circle = owned("web", Some(("apps/v1", "Deployment", "web")), json!({}));
    let said = led(&serve(&[(DEPLOYMENT, circle)]), "EventOwner", regarding("Deployment", "web"), &[]).await;
    assert_eq!(said, "no target: more than 8 controllers stand above Deployment shop/web");
}

#[tokio::test]
async fn an_event_leads_to_no_other_namespace_than_is_allowed_and_to_nothing_that_is_no_name() {
    let fake = serve(&[]);
    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "orders", "name": "web"});
    let said = led(&fake, "Event", other.clone(), &[]).await;
    assert!(
        said.contains("Deployment orders/web is in another namespace") && said.contains("allowedNamespaces"),
        "{said}"
    );
    assert_eq!(led(&fake, "Event", other, &["orders"]).await, "apps/v1 Deployment orders/web");
    for from in ["Event", "EventOwner"] {
        let said = led(&fake, from, regarding("Deployment", "../../secrets"), &[]).await;
        assert_eq!(said, "no target: \"../../secrets\" is not the name of an object");
    }
    assert_eq!(led(&fake, "Event", json!({"kind": "Pod"}), &[]).await, "no target: the event is about no object");
}

#[tokio::test]
async fn a_changed_object_tells_its_controller_itself() {
    let fake = serve(&[(SET, set()), (DEPLOYMENT, owned("web", None, json!({})))]);
    let mut cx = context(&fake);
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": pod()});
    let type_ = crate::event::TYPE_RESOURCE_DELETED.to_owned();
    let data = json!({"object": object});
    cx.event = Arc::new(Event { type_: "dev.signalbox.webhook".to_owned(), data: data.clone(), ..event() });
    assert_eq!(lead_to(&cx, "Event", &[]).await, "no target: the event is about no object", "whatever was sent");
    cx.event = Arc::new(Event { type_, data, ..event() });
    assert_eq!(lead_to(&cx, "EventOwner", &[]).await, "apps/v1 Deployment shop/web", "also when it is deleted");
    assert_eq!(lead_to(&cx, "Event", &[]).await, "v1 Pod shop/web-6d4c-x");
}
