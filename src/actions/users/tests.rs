//! Which workloads use something, with an API server that has some.

use std::sync::Arc;

use super::*;
use crate::{
    actions::testing::{common, context, event},
    event::Event,
    kubernetes::fake::{Fake, failure as status},
};

fn config_map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "settings"})
}

fn workload(name: &str, pod: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"template": {"spec": pod}}})
}

fn reads(name: &str) -> Value {
    json!({"containers": [{"envFrom": [{"configMapRef": {"name": name}}]}]})
}

/// An API server with these Deployments, two to a page, and one DaemonSet that reads `settings`.
fn serve(deployments: Vec<Value>) -> Fake {
    Fake::new(move |seen| {
        if let Some(answer) = common(seen) {
            return answer;
        }
        let list = |items: &[Value], token: &str| json!({"apiVersion": "apps/v1", "kind": "List", "metadata": {"continue": token}, "items": items});
        match seen.path.as_str() {
            "/apis/apps/v1/namespaces/shop/deployments" if seen.query.contains("continue=") => {
                (200, list(deployments.get(2..).unwrap_or_default(), ""))
            }
            "/apis/apps/v1/namespaces/shop/deployments" => {
                let first = &deployments[..deployments.len().min(2)];
                (200, list(first, if deployments.len() > 2 { "more" } else { "" }))
            }
            "/apis/apps/v1/namespaces/shop/statefulsets" => (200, list(&[], "")),
            "/apis/apps/v1/namespaces/shop/daemonsets" => (200, list(&[workload("agent", reads("settings"))], "")),
            _ => status(403, "Forbidden", "it may not be read"),
        }
    })
}

async fn find(fake: &Fake, regarding: Value, target: Value) -> Result<Vec<String>, String> {
    let mut cx = context(fake);
    cx.event = Arc::new(Event { data: json!({"regarding": regarding}), ..event() });
    let spec = json!({"name": "act", "rollout": {"target": target}});
    let spec: api::Action = serde_json::from_value(spec).expect("an action");
    let users = Users::of(&spec).expect("several");
    let request = users.render(&cx, &Value::Null).await.map_err(|failure| failure.message)?;
    let name = |one: &Value| format!("{}/{}", one["kind"], one["name"]).replace('"', "");
    Ok(Users::found(&request).iter().map(name).collect())
}

fn users() -> Value {
    json!({"from": "EventUsers"})
}

#[test]
fn a_pod_uses_what_it_mounts_or_reads_in_any_container() {
    let found = |kind: &str| Named {
        api_version: "v1".into(),
        kind: kind.into(),
        namespace: Some("shop".into()),
        name: "settings".into(),
    };
    let (map, secret) = (found("ConfigMap"), found("Secret"));
    let of = |map: &str, secret: &str, text: &str| {
        let pod = |part: &str| serde_json::from_str::<Value>(&text.replace("$", part)).expect("JSON");
        (pod(map), pod(secret))
    };
    for (uses_map, uses_secret) in [
        of(
            "configMap\": {\"name\"",
            "secret\": {\"secretName\"",
            r#"{"volumes": [{"name": "a", "emptyDir": {}}, {"$: "settings"}}]}"#,
        ),
        of("configMap", "secret", r#"{"volumes": [{"projected": {"sources": [{"$": {"name": "settings"}}]}}]}"#),
        of("configMapRef", "secretRef", r#"{"containers": [{}, {"envFrom": [{"$": {"name": "settings"}}]}]}"#),
        of(
            "configMapKeyRef",
            "secretKeyRef",
            r#"{"initContainers": [{"env": [{"name": "A", "value": "b"}, {"valueFrom": {"$": {"name": "settings", "key": "a"}}}]}]}"#,
        ),
    ] {
        assert!(uses(&uses_map, &map) && !uses(&uses_map, &secret), "{uses_map}");
        assert!(uses(&uses_secret, &secret) && !uses(&uses_secret, &map), "{uses_secret}");
        let other: Value = serde_json::from_str(&uses_map.to_string().replace("settings", "others")).expect("JSON");
        assert!(!uses(&other, &map), "{other}");
    }
    assert!(!uses(&Value::Null, &map));
    assert!(!uses(&json!({"imagePullSecrets": [{"name": "settings"}]}), &secret));
}

#[tokio::test]
async fn the_workloads_that_use_a_config_map_are_found_page_after_page() {
    let deployments = vec![
        workload("web", reads("settings")),
        workload("other", reads("others")),
        workload("api", reads("settings")),
    ];
    let found = find(&serve(deployments), config_map(), users()).await.expect("found");
    assert_eq!(found, ["Deployment/web", "Deployment/api", "DaemonSet/agent"]);
    let found = find(
        &serve(Vec::new()),
        json!({"apiVersion": "v1", "kind": "Secret", "namespace": "shop", "name": "settings"}),
        users(),
    )
    .await;
    assert_eq!(found.expect("nothing is no failure"), [] as [&str; 0]);
}

#[tokio::test]
async fn more_users_than_allowed_what_may_not_be_read_and_what_is_no_config_map_are_told() {
    let two = vec![workload("web", reads("settings")), workload("api", reads("settings"))];
    let said = find(&serve(two), config_map(), json!({"from": "EventUsers", "max": 2})).await.expect_err("3");
    assert_eq!(said, "3 workloads use ConfigMap shop/settings, and target.max allows 2: none was changed");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web"});
    let said = find(&serve(Vec::new()), pod, users()).await.expect_err("a Pod");
    assert_eq!(said, "no target: Pod shop/web is neither a ConfigMap nor a Secret");
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "orders", "name": "settings"});
    let said = find(&serve(Vec::new()), elsewhere.clone(), users()).await.expect_err("another namespace");
    assert!(said.contains("another namespace than the rule"), "{said}");
    let allowed = json!({"from": "EventUsers", "allowedNamespaces": ["orders"]});
    let said = find(&serve(Vec::new()), elsewhere, allowed).await.expect_err("no right there");
    assert!(said.starts_with("find what uses ConfigMap orders/settings: "), "{said}");
}
