//! What the operator needs for 10,000 Pods that one rule watches, beside what it needs for nothing.
//!
//! On a control plane of its own, in this order: an operator without rules; a rule, and with it the first list; an operator that starts on that
//! (the state is read, the list compared). Each is looked at once nothing changes any more. The last line is one JSON object.
//!
//! `cargo bench --features apiserver --bench memory [-- PODS]`, or `make bench-memory`.

use std::{fs, time::Duration};

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use support::{
    PATIENCE, eventually,
    operator::Operator,
    sink::Sink,
    site::{Shop, Site},
};

#[path = "../tests/support/mod.rs"]
mod support;

const PODS: usize = 10_000;
/// Requests under way while the Pods are created.
const PARALLEL: usize = 64;
/// Memory that has not changed for so long has settled.
const SETTLED: Duration = Duration::from_secs(5);

fn main() {
    let pods = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(PODS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench(pods));
}

async fn bench(pods: usize) {
    let site = Site::start().await;
    let shop = site.namespace("bench").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let idle = settled(&operator).await;

    eprintln!("{pods} Pods");
    stream::iter(0..pods).for_each_concurrent(PARALLEL, |number| pod(&shop, format!("web-{number}"))).await;
    let size = shop.api("v1", "Pod").get("web-0").await.expect("get a Pod");
    let size = serde_json::to_vec(&size).expect("a Pod as JSON").len();

    let sources =
        json!([{"name": "pods", "resource": {"apiVersion": "v1", "kind": "Pod", "operations": ["Create", "Delete"]}}]);
    let tell = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${object.metadata.name}"}});
    shop.rule("pods", json!({"sources": sources, "actions": [tell]})).await;
    let listed = settled(&operator).await;
    let peak = mib(&operator, "VmHWM:");
    assert!(sink.requests().is_empty(), "what existed is not new");
    pod(&shop, "new-1".to_owned()).await;
    sink.await_requests(1).await;

    assert!(operator.terminate().await.success(), "the operator stops cleanly");
    let operator = site.setup.start_ready().await;
    pod(&shop, "new-2".to_owned()).await;
    sink.await_requests(2).await;
    let restarted = settled(&operator).await;
    let restarted_peak = mib(&operator, "VmHWM:");
    assert_eq!(sink.requests().len(), 2, "nothing is told twice");

    let line = json!({
        "idle_rss_mib": idle, "pods": pods, "pod_bytes": size, "rss_mib": listed, "peak_rss_mib": peak,
        "restarted_rss_mib": restarted, "restarted_peak_rss_mib": restarted_peak,
        "per_pod_bytes": ((listed - idle) * 1024.0 * 1024.0 / pods as f64).round(),
    });
    println!("{line}");
}

/// A Pod as workloads have them, which nobody runs.
async fn pod(shop: &Shop, name: String) {
    let variable = |number| json!({"name": format!("SETTING_{number}"), "value": format!("value-{number}-of-{name}")});
    let env: Vec<Value> = (0..8).map(variable).collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10});
    let container = json!({"name": "app", "image": "registry.example.invalid/shop/web:1.2.3", "env": env, "livenessProbe": probe,
        "readinessProbe": probe, "ports": [{"containerPort": 8080, "name": "http"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}});
    let metadata = json!({"name": name, "labels": {"app": "web", "app.kubernetes.io/name": "web", "pod-template-hash": "5d4f8c7b9f"},
        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}});
    shop.create("v1", "Pod", &name, json!({"metadata": metadata, "spec": {"containers": [container]}})).await;
}

/// Resident memory once it does not change any more.
async fn settled(operator: &Operator) -> f64 {
    let mut last = (0.0, std::time::Instant::now());
    eventually("memory settles", PATIENCE * 4, async || {
        let now = mib(operator, "VmRSS:");
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        (last.1.elapsed() >= SETTLED).then_some(now)
    })
    .await
}

/// A line of the process's status, in MiB.
fn mib(operator: &Operator, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.pid())).expect("the operator runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("the line");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    (kib / 1024.0 * 10.0).round() / 10.0
}
