//! Which objects a selector takes, with an API server that has some.

use super::*;
use crate::{
    actions::testing::{common, context},
    kubernetes::fake::{Fake, failure as status},
};

/// An API server with these Pods in namespace `shop`, two to a page.
fn serve(pods: Vec<Value>) -> Fake {
    Fake::new(move |seen| {
        if let Some(answer) = common(seen) {
            return answer;
        }
        let list = |items: &[Value], token: &str| json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"continue": token}, "items": items});
        match seen.path.as_str() {
            "/api/v1/namespaces/shop/pods" if seen.query.contains("continue=") => {
                (200, list(pods.get(2..).unwrap_or_default(), ""))
            }
            "/api/v1/namespaces/shop/pods" => {
                let first = &pods[..pods.len().min(2)];
                (200, list(first, if pods.len() > 2 { "more" } else { "" }))
            }
            _ => status(403, "Forbidden", "pods is forbidden: User \"x\" cannot list resource"),
        }
    })
}

fn pod(name: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")}, "status": {"phase": phase}})
}

fn target(more: &Value) -> Value {
    let mut target = json!({"kind": "Pod", "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "old", "operator": "Exists"}]}});
    target.as_object_mut().expect("a map").extend(more.as_object().cloned().expect("a map"));
    target
}

/// The names of those that are found; `Failed` ones are kept, and of one without a phase it cannot be told.
async fn find(fake: &Fake, target: Value) -> Result<Vec<String>, Failure> {
    let spec: api::Action =
        serde_json::from_value(json!({"name": "act", "delete": {"target": target}})).expect("an action");
    let keep = |seen: &Value| match (&seen["apiVersion"], &seen["kind"], seen["status"]["phase"].as_str()) {
        (version, kind, Some(phase)) if version == "v1" && kind == "Pod" => Ok(phase == "Failed"),
        _ => Err("no such key: phase".to_owned()),
    };
    let selected = Selected::of(&spec, Box::new(keep)).expect("several");
    let request = selected.render(&context(fake), &json!({ "target": target })).await?;
    let done = selected.execute(&context(fake), &request, Attempt::First, Permit::for_test()).await.expect("found");
    if Users::found(&request).is_empty() {
        return Ok(vec![done.message]);
    }
    let told = |one: &Value| format!("{} {}", one["name"], one["uid"]).replace('"', "");
    Ok(Users::found(&request).iter().map(told).collect())
}

#[tokio::test]
async fn those_with_the_labels_that_the_filter_keeps_are_found_page_after_page() {
    let mut leaving = pod("d", "Failed");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-30T08:00:00Z");
    let fake = serve(vec![pod("a", "Failed"), pod("b", "Running"), pod("c", "Failed"), leaving]);
    let found = find(&fake, target(&json!({}))).await.expect("some");
    assert_eq!(found, ["a uid-a", "c uid-c"], "what is being deleted is none of them");
    let seen = fake.requests();
    let lists: Vec<_> = seen.iter().filter(|seen| seen.path.ends_with("/namespaces/shop/pods")).collect();
    assert_eq!(lists.len(), 2);
    assert!(lists.iter().all(|seen| seen.query.contains("labelSelector=")), "{:?}", lists[0].query);
    assert!(lists[0].query.contains("app%3Dweb") && lists[0].query.contains("old"), "{:?}", lists[0].query);
    assert_eq!(lists[0].user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
    let none = find(&serve(vec![pod("b", "Running")]), target(&json!({}))).await.expect("none");
    assert_eq!(none, ["no Pod of namespace shop is selected"]);
}

#[tokio::test]
async fn more_than_allowed_one_that_cannot_be_judged_and_what_may_not_be_listed_change_none() {
    let three = || serve(vec![pod("a", "Failed"), pod("b", "Failed"), pod("c", "Failed")]);
    let failure = find(&three(), target(&json!({"max": 2}))).await.expect_err("too many");
    assert_eq!(failure.message, "3 Pods of namespace shop are selected, and target.max allows 2: none was changed");
    assert_eq!(find(&three(), target(&json!({"max": 3}))).await.map(|all| all.len()).ok(), Some(3));

    let odd = json!({"metadata": {"name": "odd", "namespace": "shop", "uid": "u"}});
    let failure = find(&serve(vec![pod("a", "Failed"), odd]), target(&json!({}))).await.expect_err("no phase");
    assert_eq!(failure.kind, FailureKind::Invalid);
    let words = "target.filterExpression, of Pod shop/odd: no such key: phase: none was changed";
    assert_eq!(failure.message, words);

    let failure = find(&three(), target(&json!({"namespace": "other"}))).await.expect_err("not there");
    assert_eq!(failure.kind, FailureKind::Final);
    assert!(failure.message.contains("may not list pods in namespace other"), "{failure}");
    let spec = json!({"name": "act", "delete": {"target": target(&json!({}))}});
    let spec: api::Action = serde_json::from_value(spec).expect("an action");
    let cx = context(&three());
    let rights = crate::actions::rights(&spec, &cx.services.cluster, "shop").await;
    let verbs: Vec<_> = rights.iter().map(|right| (right.verb.to_string(), right.name.clone())).collect();
    for verb in ["get", "delete", "list"] {
        assert!(verbs.contains(&(verb.to_owned(), None)), "{verb}: {verbs:?}");
    }
}
