//! Lines that real containers write, as real kubelets keep them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cluster::{PATIENCE, alerts, in_force, shop, within};
use crate::support::{eventually, site::condition};

/// Lines of one life of a container.
const LINES: usize = 10;

/// A Pod whose container writes as many orders that fail as ones that do not. With `fault` it ends by one the first time, and writes others when it has restarted.
fn talker(name: &str, fault: &str) -> Value {
    let script = format!(
        "life=0; [ ! -e /state/life ] || life=1; : > /state/life; i=0; while [ $i -lt {LINES} ]; do \
         echo \"order {name}-$life-$i failed\"; echo \"order {name}-$life-$i shipped\" >&2; i=$((i+1)); done; \
         if [ $life = 0 ]; then {fault}; fi; exec busybox sleep 3600"
    );
    json!({"metadata": {"name": name, "labels": {"app": "talker"}}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "state", "emptyDir": {}}],
        "containers": [{
            "name": "talker", "image": "signalbox-demo/tools:1", "command": ["busybox", "sh", "-c", script],
            "volumeMounts": [{"name": "state", "mountPath": "/state"}],
        }],
    }})
}

#[tokio::test]
async fn each_line_that_matches_is_told_once_over_a_restart_of_its_container_and_of_a_pod_that_comes_later() {
    let (shop, _release) = shop("e2e-logs").await;
    shop.sink("oncall", &format!("http://alerts.{}.svc:8080/cgi-bin/alert", shop.name)).await;
    let source = json!({"selector": {"matchLabels": {"app": "talker"}}, "pattern": "^order (?P<order>\\S+) failed$"});
    let spec = json!({"spec": {"podLogs": source}});
    shop.create("signalbox.dev/v1alpha1", "EventSource", "orders", spec).await;
    let rule = json!({
        "sources": [{"name": "failed", "ref": {"name": "orders"}}],
        "groupBy": [{"name": "order", "expression": "event.data.match.order"}],
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.match.order}"}}],
    });
    shop.create("signalbox.dev/v1alpha1", "EventRule", "orders", json!({"spec": rule})).await;
    in_force(&shop, "orders").await;
    let sources = shop.api("signalbox.dev/v1alpha1", "EventSource");
    eventually("the Pods are followed", PATIENCE, async || {
        let status = sources.get("orders").await.ok()?.data["status"].clone();
        (condition(&status, "Connected")["status"] == "True").then_some(())
    })
    .await;

    shop.create("v1", "Pod", "a", talker("a", "exit 1")).await;
    within(&shop, "orders", "both lives are told", |status| status["counts"]["succeeded"] == 2 * LINES).await;
    shop.create("v1", "Pod", "b", talker("b", ":")).await;
    let all = 3 * LINES;
    let status = within(&shop, "orders", "the new Pod is told", |status| status["counts"]["succeeded"] == all).await;
    assert_eq!(status["counts"]["fired"], all);

    let mut told = BTreeMap::<String, BTreeSet<String>>::new();
    for alert in alerts(&shop).await {
        let text = alert["text"].as_str().unwrap_or_default().to_owned();
        told.entry(text).or_default().insert(alert["firing"]["id"].to_string());
    }
    let lives = ["a-0", "a-1", "b-0"];
    let orders = lives.iter().flat_map(|life| (0..LINES).map(move |line| format!("{life}-{line}")));
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), orders.collect(), "each line was told");
    assert!(told.values().all(|firings| firings.len() == 1), "each by one firing: {told:?}");
}
