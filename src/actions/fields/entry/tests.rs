//! Retries of what is about one entry of a list, while others change the list.

use super::*;
use crate::{
    actions::{
        Action, Attempt, Done,
        testing::{action, common, context},
    },
    api::ActionOutcome,
    bus::Permit,
    kubernetes::fake::{Fake, failure as status},
};

const NODE: &str = "/api/v1/nodes/n1";
const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

/// An API server that holds this object.
fn serve(path: &'static str, object: Value) -> Fake {
    Fake::new(move |seen| match (seen.method.as_str(), seen.path == path) {
        ("GET", true) => (200, object.clone()),
        ("PATCH", true) => {
            let mut written = object.clone();
            written["metadata"]["resourceVersion"] = json!("9");
            (200, written)
        }
        _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not there")),
    })
}

fn node(taints: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u1", "resourceVersion": "8"},
        "spec": {"taints": taints}})
}

fn web(containers: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": containers}}},
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "8"}})
}

/// What a retry does that finds the object as `now`, and what it sends.
async fn retried(
    action: &dyn Action,
    filled: Value,
    path: &'static str,
    then: Value,
    now: Value,
) -> (Done, Option<Value>) {
    let request = action.render(&context(&serve(path, then)), &filled).await.expect("a request");
    let fake = serve(path, now);
    let done = action.execute(&context(&fake), &request, Attempt::Again, Permit::for_test()).await.expect("an end");
    let sent = fake.requests().into_iter().find(|seen| seen.method == "PATCH").map(|seen| seen.body);
    (done, sent)
}

async fn tainted(remove: bool, then: Value, now: Value) -> (ActionOutcome, Option<Value>) {
    let taint = action(json!({"name": "act", "taint": {"node": "n1", "key": "e.com/full", "remove": remove}}));
    let (done, sent) = retried(&*taint, json!({"node": "n1"}), NODE, node(then), node(now)).await;
    (done.outcome, sent.map(|body| body["spec"]["taints"].clone()))
}

#[tokio::test]
async fn a_taint_is_set_and_removed_whatever_others_do_with_other_taints_meanwhile() {
    let full = json!({"key": "e.com/full", "effect": "NoSchedule"});
    let theirs =
        json!({"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule", "timeAdded": "2026-11-25T10:00:00Z"});
    let other = json!({"key": "e.com/full", "effect": "NoSchedule", "value": "9"});
    let (done, left) = (ActionOutcome::Succeeded, ActionOutcome::Superseded);
    for (remove, then, now, outcome, sent) in [
        (false, json!([]), json!([theirs]), done, Some(json!([theirs, full]))),
        (false, json!([theirs]), json!([]), done, Some(json!([full]))),
        (false, json!([]), json!([full, theirs]), done, None),
        (false, json!([]), json!([other, theirs]), left, None),
        (true, json!([full]), json!([theirs, full]), done, Some(json!([theirs]))),
        (true, json!([full, theirs]), json!([full]), done, Some(Value::Null)),
        (true, json!([full]), json!([theirs]), done, None),
        (true, json!([full]), json!([other]), left, None),
    ] {
        let case = format!("{remove} {then} {now}");
        assert_eq!(tainted(remove, then, now).await, (outcome, sent), "{case}");
    }
}

#[tokio::test]
async fn an_image_is_set_whatever_others_do_with_other_containers_meanwhile() {
    let spec = json!({"target": {"kind": "Deployment", "name": "web"}, "container": "web", "image": "e.com/web:2"});
    let set = action(json!({"name": "act", "setImage": spec}));
    let one = |tag: &str| json!({"name": "web", "image": format!("e.com/web:{tag}")});
    let side = |tag: &str| json!({"name": "side", "image": format!("e.com/side:{tag}")});
    let patch = json!([{"name": "web", "image": "e.com/web:2"}]);
    for (now, outcome, sent) in [
        (json!([side("9"), one("1")]), ActionOutcome::Succeeded, Some(&patch)),
        (json!([one("2"), side("9")]), ActionOutcome::Unchanged, None),
        (json!([one("9"), side("1")]), ActionOutcome::Superseded, None),
        (json!([side("1")]), ActionOutcome::Superseded, None),
    ] {
        let then = web(json!([one("1"), side("1")]));
        let (done, body) = retried(&*set, spec.clone(), WEB, then, web(now.clone())).await;
        let body = body.map(|body| body["spec"]["template"]["spec"]["containers"].clone());
        assert_eq!((done.outcome, body.as_ref()), (outcome, sent), "{now}: {}", done.message);
    }
}
