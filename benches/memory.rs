//! What the operator needs: for nothing, for 10,000 Pods that one rule watches, and for 1,000 rules.
//!
//! On a control plane of its own, in this order: an operator without rules; a rule, and with it the first list; an operator that starts on that
//! (the state is read, the list compared). On another one: 1,000 rules, then 10,000 Events, of which every second passes a rule's filter and none its
//! condition. Memory is looked at once nothing changes any more. An API server on a small machine does not take 1,000 Events a second beside
//! everything else, so the processor's time is measured at the rate that it takes, and told for 1,000. The last line is one JSON object.
//! `…_anon_mib` is what of it the process has made itself: heap, stacks, and constants with addresses in them. The rest are pages of the program, of
//! which a build without link-time optimisation touches more.
//!
//! `cargo bench --features apiserver --bench memory [-- PODS]`, or `make bench-memory`.

use std::{fs, time::Duration};

use futures::{StreamExt as _, stream};
use kube::api::ListParams;
use serde_json::{Value, json};

use support::{
    PATIENCE, eventually,
    operator::Operator,
    sink::Sink,
    site::{Shop, Site, condition},
};

#[path = "../tests/support/mod.rs"]
mod support;

const PODS: usize = 10_000;
const RULES: usize = 1_000;
const EVENTS: usize = 10_000;
/// Requests under way while the Pods are created.
const PARALLEL: usize = 64;
/// Memory that has not changed for so long has settled.
const SETTLED: Duration = Duration::from_secs(5);

fn main() {
    let pods = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(PODS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (mut line, rules) = runtime.block_on(async { (watched(pods).await, rules().await) });
    line.as_object_mut().expect("an object").extend(rules.as_object().cloned().unwrap_or_default());
    println!("{line}");
}

async fn watched(pods: usize) -> Value {
    let site = Site::start().await;
    let shop = site.namespace("bench").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let idle = settled(&operator).await;
    let idle_anon = mib(&operator, "RssAnon:");

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

    json!({
        "idle_mib": idle, "idle_anon_mib": idle_anon, "pods": pods, "pod_bytes": size, "pods_10000_mib": listed, "pods_10000_peak_mib": peak,
        "restarted_mib": restarted, "restarted_peak_mib": restarted_peak,
        "per_pod_bytes": ((listed - idle) * 1024.0 * 1024.0 / pods as f64).round(),
    })
}

/// 1,000 rules, and Events for half of them.
async fn rules() -> Value {
    let site = Site::start().await;
    let shop = site.namespace("bench").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    eprintln!("{RULES} rules");
    stream::iter(0..RULES).for_each_concurrent(PARALLEL, |number| rule(&shop, number)).await;
    let ready = async || {
        let rules = shop.api("signalbox.dev/v1alpha1", "EventRule").list(&ListParams::default()).await.ok()?;
        let ready = rules.items.iter().filter(|rule| condition(&rule.data["status"], "Ready")["status"] == "True");
        (ready.count() == RULES).then_some(())
    };
    eventually("all rules are ready", PATIENCE * 10, ready).await;
    let quiet = settled(&operator).await;
    let quiet_anon = mib(&operator, "RssAnon:");

    eprintln!("{EVENTS} Events");
    let (before, began) = (cpu_seconds(&operator), std::time::Instant::now());
    let post = |number: usize| {
        let shop = &shop;
        async move {
            let reason = format!("Reason{}", number % (2 * RULES));
            shop.event(&format!("e{number}.1"), &format!("p{number}"), &reason).await;
        }
    };
    stream::iter(0..EVENTS).for_each_concurrent(PARALLEL, post).await;
    let last = json!([{"name": "e", "kubernetesEvent": {"reasons": ["Again"]}}]);
    shop.rule("last", json!({"sources": last, "actions": [tell()]})).await;
    shop.event("again.1", "again", "Again").await;
    sink.await_requests(1).await;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(&operator) - before);
    let rate = EVENTS as f64 / seconds;
    json!({
        "rules": RULES, "rules_1000_quiet_mib": quiet, "rules_1000_quiet_anon_mib": quiet_anon, "rules_1000_mib": mib(&operator, "VmHWM:"), "events": EVENTS,
        "events_per_second": rate.round(), "cpu_percent": (1000.0 * cpu / seconds).round() / 10.0,
        "cpu_percent_at_1000_eps": (1_000_000.0 * cpu / EVENTS as f64).round() / 10.0,
    })
}

fn tell() -> Value {
    json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.subject}"}})
}

/// A rule whose filter takes one reason, and whose condition says no.
async fn rule(shop: &Shop, number: usize) {
    let spec = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"types": ["Warning"], "reasons": [format!("Reason{number}")], "regarding": {"kind": "Pod"}}}],
        "when": [{"name": "often", "expression": "event.data.count >= 3 && event.data.regarding.name.startsWith('p')"}],
        "throttle": {"cooldown": "15m"},
        "actions": [tell()],
    });
    shop.create("signalbox.dev/v1alpha1", "EventRule", &format!("rule-{number}"), json!({"spec": spec})).await;
}

/// Processor time that the process has used.
fn cpu_seconds(operator: &Operator) -> f64 {
    /// Clock ticks a second, as Linux tells processes on every machine.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{}/stat", operator.pid())).expect("the operator runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    // utime and stime are the 14th and the 15th field, and the name in parentheses is the second.
    (ticks(11) + ticks(12)) / TICKS
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
