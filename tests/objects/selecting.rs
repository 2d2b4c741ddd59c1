//! Actions on all that a selector takes.

use kube::api::ListParams;
use serde_json::{Value, json};
use signalbox::api::FiringOutcome;

use super::{
    Stage,
    common::{api, observed, theirs},
};

const RULES: &str =
    r#"[{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "patch", "delete"]}]"#;

fn removal(more: Value) -> Value {
    let mut target = json!({"kind": "ConfigMap", "selector": {"matchLabels": {"app": "web"}},
        "filterExpression": "target.data.state == 'old' && event.id != '' && now >= timestamp('1970-01-01T00:00:00Z')"});
    target.as_object_mut().expect("a map").extend(more.as_object().cloned().expect("a map"));
    json!([{"name": "drop", "delete": {"target": target}}])
}

#[tokio::test]
async fn all_that_a_selector_takes_and_the_filter_keeps_is_deleted_once_and_nothing_else() {
    let mut stage = Stage::new("select", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    let put = async |name: &str, app: &str, state: &str| {
        let metadata = json!({"name": name, "labels": {"app": app}});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"state": state}});
        theirs(&maps, name, object).await;
    };
    for (name, app, state) in
        [("a", "web", "old"), ("b", "web", "new"), ("c", "web", "old"), ("d", "db", "old"), ("e", "web", "old")]
    {
        put(name, app, state).await;
    }
    let left = async || {
        let all = maps.list(&ListParams::default()).await.expect("list").items;
        let names = all.into_iter().filter_map(|one| one.metadata.name).filter(|name| name.len() == 1);
        names.collect::<Vec<_>>().join("")
    };
    let open = stage.firing("s0", removal(json!({"max": 2})));
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed, "{}", finished.message);
    let words = format!(
        "3 ConfigMaps of namespace {} are selected, and target.max allows 2: none was changed",
        stage.namespace
    );
    assert!(finished.message.contains(&words), "{}", finished.message);

    let open = stage.firing("s1", removal(json!({})));
    let seen = observed(&mut stage, &open).await;
    let title = |name: &str| format!("ConfigMap {}/{name}", stage.namespace);
    let each = |what: &str| ["a", "c", "e"].map(|name| format!("{what} {}", title(name))).join("; ");
    assert_eq!((seen.message, left().await), (each("would delete"), "abcde".to_owned()));
    let expected = each("deleted");
    let finished = stage.run(open.clone()).await;
    assert_eq!((finished.message, left().await), (expected, "bd".to_owned()));

    // What has come since is not of those that were found.
    put("a", "web", "old").await;
    let finished = stage.again(open, &["drop"]).await;
    assert_eq!(left().await, "abd", "{}", finished.message);
    let open = stage.firing("s2", removal(json!({"filterExpression": "target.data.state == 'gone'"})));
    let finished = stage.run(open).await;
    assert_eq!(finished.message, format!("no ConfigMap of namespace {} is selected", stage.namespace));
    let open = stage.firing("s3", removal(json!({"filterExpression": "target.spec.none"})));
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    assert!(finished.message.contains("target.filterExpression, of ConfigMap"), "{}", finished.message);
}
