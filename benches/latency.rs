//! From an event to its effect, beside the floor that the API server itself sets.
//!
//! On a control plane of its own, one after another, 1,000 times each: POST of an Event until a bare loop's PATCH of `/scale` is answered (the floor,
//! with impersonation and without), until the operator's PATCH is answered, and until an alert arrives: a bare loop's and the operator's. When the operator's PATCH was
//! answered is read from its log afterwards: the outcome is stamped as soon as the answer is there. The last line is one JSON object.
//!
//! `cargo bench --features apiserver --bench latency [-- COUNT]`, or `make bench-latency`.

use std::{collections::HashMap, fs, path::Path};

use axum::http::{HeaderMap, Method};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{
    Client, Config,
    api::{Api, DynamicObject, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use signalbox::{
    bus::{Bus as _, embedded},
    net::{Call, Guard, Http},
    record::{Decision, Record},
};

use support::{
    PATIENCE,
    sink::Sink,
    site::{Shop, Site},
};

#[path = "../tests/support/mod.rs"]
mod support;

const COUNT: usize = 1000;
/// What is scaled: a custom resource, so that no controller competes for the two cores by making a thousand pods.
const KIND: (&str, &str) = ("bench.example.com/v1", "Dial");

fn main() {
    let count = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(COUNT);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench(count));
}

async fn bench(count: usize) {
    let site = Site::start().await;
    install_dials(&site).await;
    let shop = site.namespace("bench").await;
    allow_dials(&site, &shop).await;

    eprintln!("floor: watch, then PATCH, {count} times with impersonation and {count} without");
    let user = format!("system:serviceaccount:{}:signalbox-rules", shop.name);
    let mut config: Config = site.plane.config().await;
    let plain = floor(&shop, Client::try_from(config.clone()).expect("a client"), "floor-plain", count).await;
    config.auth_info.impersonate = Some(user);
    let floor = floor(&shop, Client::try_from(config).expect("a client"), "floor", count).await;

    eprintln!("floor: watch, then POST, {count} times");
    let sink = Sink::start().await;
    let http_floor = http_floor(&shop, &sink, count).await;

    eprintln!("signalbox: {count} alerts, {count} scalings");
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let (http, missing_alerts, doubled_alerts) = alerts(&shop, &sink, count).await;
    dial(&shop, "measured").await;
    let posted = scalings(&shop, count).await;
    let rss = rss_mib(operator.pid());
    assert!(operator.terminate().await.success(), "the operator stops cleanly");
    let scale = told(&site.setup.data_dir(), &posted).await;
    eprintln!(
        "of the scalings: event seen {}, request rendered {}, durable and written {}",
        percentiles(&scale.seen),
        percentiles(&scale.rendered),
        percentiles(&scale.written)
    );
    let replicas = dial_replicas(&shop, "measured").await;
    assert_eq!(replicas, count - scale.lost + scale.doubled, "the object tells what the log tells");

    let line = json!({
        "floor_scale_ms": percentiles(&floor), "floor_scale_without_impersonation_ms": percentiles(&plain),
        "scale_ms": percentiles(&scale.all),
        "floor_http_ms": percentiles(&http_floor), "http_ms": percentiles(&http), "http_over_floor_p50": ratio(&http, &http_floor),
        "scale_over_floor_p50": ratio(&scale.all, &floor), "lost": missing_alerts + scale.lost, "doubled": doubled_alerts + scale.doubled,
        "rss_mib": rss, "count": count,
    });
    println!("{line}");
}

/// A kind that has a scale subresource and no controller.
async fn install_dials(site: &Site) {
    site.plane
        .apply(
            "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: dials.bench.example.com}, \
             spec: {group: bench.example.com, scope: Namespaced, names: {plural: dials, singular: dial, kind: Dial}, versions: [{name: v1, served: true, storage: true, \
             subresources: {scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}, status: {}}, \
             schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {replicas: {type: integer}}}, status: {type: object, properties: {replicas: {type: integer}}}}}}}]}}",
        )
        .await;
    let wait = ["wait", "--for=condition=Established", "crd/dials.bench.example.com"];
    assert!(site.plane.kubectl(&wait).await.status.success());
}

async fn allow_dials(site: &Site, shop: &Shop) {
    let namespace = &shop.name;
    site.plane
        .apply(&format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: dials, namespace: {namespace}}}, \
             rules: [{{apiGroups: [bench.example.com], resources: [dials, dials/scale], verbs: [get, patch]}}]}}\n---\n\
             {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: dials, namespace: {namespace}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: dials}}, \
             subjects: [{{kind: ServiceAccount, name: signalbox-rules, namespace: {namespace}}}]}}"
        ))
        .await;
}

async fn dial(shop: &Shop, name: &str) {
    shop.create(KIND.0, KIND.1, name, json!({"spec": {"replicas": 0}})).await;
}

async fn dial_replicas(shop: &Shop, name: &str) -> usize {
    let dial = shop.api(KIND.0, KIND.1).get(name).await.expect("get the dial");
    usize::try_from(dial.data["spec"]["replicas"].as_u64().unwrap_or(0)).expect("small")
}

/// What nothing can be faster than: a loop that sees the Event and scales, keeping nothing.
async fn floor(shop: &Shop, actor: Client, name: &str, count: usize) -> Vec<f64> {
    dial(shop, name).await;
    let mut seen = Watched::open(shop).await;
    let resource =
        kube::api::ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk("bench.example.com", "v1", "Dial"));
    let dials: Api<DynamicObject> = Api::namespaced_with(actor, &shop.name, &resource);
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let wanted = format!("{name}-{number}.1");
        let began = std::time::Instant::now();
        let pod = format!("p{number}");
        let post = shop.event(&wanted, &pod, "Floor");
        let act = async {
            seen.until(&wanted).await;
            let body = json!({"spec": {"replicas": number + 1}});
            dials.patch_scale(name, &PatchParams::default(), &Patch::Merge(&body)).await.expect("scale");
            began.elapsed()
        };
        let (_, elapsed) = tokio::join!(post, act);
        times.push(elapsed.as_secs_f64() * 1e3);
    }
    times
}

/// The same for an alert: a loop that sees the Event and posts it.
async fn http_floor(shop: &Shop, sink: &Sink, count: usize) -> Vec<f64> {
    let mut seen = Watched::open(shop).await;
    let http = Http::new(Guard::new(vec!["127.0.0.0/8".parse().expect("a range")], vec![]));
    let url = sink.url("/");
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let wanted = format!("floor-http-{number}.1");
        let began = std::time::Instant::now();
        let pod = format!("p{number}");
        let post = shop.event(&wanted, &pod, "Floor");
        let act = async {
            let event = serde_json::to_vec(&seen.until(&wanted).await).expect("an event");
            let (method, headers) = (Method::POST, HeaderMap::new());
            let call = Call { method, url: &url, name: "floor", headers, body: event, timeout: PATIENCE };
            http.call(call).await.expect("an answer")
        };
        let (_, _, requests) = tokio::join!(post, act, sink.await_requests(number + 1));
        times.push(requests[number].at.into_std().saturating_duration_since(began).as_secs_f64() * 1e3);
    }
    times
}

/// A bare watch of Events.
struct Watched(BoxStream<'static, kube::Result<WatchEvent<Event>>>);

impl Watched {
    async fn open(shop: &Shop) -> Self {
        let events: Api<Event> = Api::namespaced(shop.client.clone(), &shop.name);
        let list = events.list(&kube::api::ListParams::default().limit(1)).await.expect("list");
        let params = WatchParams::default().timeout(290);
        let version = list.metadata.resource_version.unwrap_or_default();
        Self(events.watch(&params, &version).await.expect("watch").boxed())
    }

    async fn until(&mut self, wanted: &str) -> Event {
        loop {
            match self.0.try_next().await.expect("the watch goes on").expect("the watch goes on") {
                WatchEvent::Added(event) if event.metadata.name.as_deref() == Some(wanted) => return event,
                _ => {}
            }
        }
    }
}

fn rule(reason: &str, action: &Value) -> Value {
    json!({"sources": [{"name": "e", "kubernetesEvent": {"types": ["Warning"], "reasons": [reason]}}], "actions": [action]})
}

/// Times from POST to the alert's arrival, and how many alerts were lost and doubled.
async fn alerts(shop: &Shop, sink: &Sink, count: usize) -> (Vec<f64>, usize, usize) {
    let action =
        json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.regarding.name}"}});
    shop.rule("alerts", rule("Alert", &action)).await;
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let began = std::time::Instant::now();
        let (name, pod) = (format!("alert-{number}.1"), format!("p{number}"));
        let post = shop.event(&name, &pod, "Alert");
        let (_, requests) = tokio::join!(post, sink.await_requests(number + 1));
        let arrived = requests[number].at.into_std();
        times.push(arrived.saturating_duration_since(began).as_secs_f64() * 1e3);
    }
    let mut told = HashMap::<String, usize>::new();
    for request in sink.requests() {
        *told.entry(request.json()["text"].to_string()).or_default() += 1;
    }
    (times, count - told.len(), told.values().map(|times| times - 1).sum())
}

/// Posts the Events that scale, each after the one before has been acted upon; gives when each was posted, in microseconds since 1970.
async fn scalings(shop: &Shop, count: usize) -> HashMap<String, i64> {
    let action = json!({"name": "grow", "scale": {"target": {"apiVersion": KIND.0, "kind": KIND.1, "name": "measured"}, "by": "1"}});
    shop.rule("scalings", rule("Scale", &action)).await;
    let dials = shop.api(KIND.0, KIND.1);
    let version = dials.get("measured").await.expect("get").metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().fields("metadata.name=measured").timeout(290);
    let mut changes = dials.watch(&params, &version).await.expect("watch").boxed();
    let mut posted = HashMap::with_capacity(count);
    for number in 0..count {
        posted.insert(format!("{}/Pod/p{number}", shop.name), Timestamp::now().as_microsecond());
        shop.event(&format!("scale-{number}.1"), &format!("p{number}"), "Scale").await;
        let change = tokio::time::timeout(PATIENCE, changes.try_next()).await.expect("the dial moves in time");
        change.expect("the watch goes on").expect("the watch goes on");
    }
    // The last outcome is appended after its change is seen: wait until status counts it.
    let all = |status: &Value| status["counts"]["succeeded"] == count;
    shop.rule_status("scalings", "all outcomes", all).await;
    posted
}

/// What the operator's log tells of the scalings, in milliseconds.
#[derive(Default)]
struct Told {
    /// From POST to the event in the log, from there to the rendered request, from there to the answer of PATCH.
    seen: Vec<f64>,
    rendered: Vec<f64>,
    written: Vec<f64>,
    /// From POST to the answer of PATCH.
    all: Vec<f64>,
    lost: usize,
    doubled: usize,
}

async fn told(data: &Path, posted: &HashMap<String, i64>) -> Told {
    // Without its view the log is read from its beginning.
    fs::remove_file(data.join("view.redb")).expect("remove the view");
    let bus = embedded::Embedded::open(data, embedded::Settings::default()).expect("open the log");
    let mut groups = HashMap::new();
    let (mut events, mut intents) = (HashMap::new(), HashMap::new());
    let mut answered = HashMap::<String, Vec<i64>>::new();
    for entry in bus.recover().expect("read the log").tail {
        let at = entry.head.stamp.wall;
        match &*entry.record {
            Record::Event(input) if input.event.data["reason"] == "Scale" => {
                events.insert(input.event.subject.clone().unwrap_or_default(), at);
            }
            Record::Judgement(judgement) => {
                for decision in &judgement.decisions {
                    if let Decision::Fired(firing) = decision {
                        groups.insert(firing.id.clone(), firing.group.clone());
                    }
                }
            }
            Record::Intent(intent) if intent.action == "grow" => {
                intents.insert(groups[&intent.firing].clone(), at);
            }
            Record::Outcome(outcome) if outcome.action == "grow" => {
                answered.entry(groups[&outcome.firing].clone()).or_default().push(at);
            }
            _ => {}
        }
    }
    let mut told = Told { lost: posted.len() - answered.len(), ..Told::default() };
    for (group, times) in &answered {
        let (from, event, intent, to) = (posted[group], events[group], intents[group], times[0]);
        told.seen.push((event - from) as f64 / 1e3);
        told.rendered.push((intent - event) as f64 / 1e3);
        told.written.push((to - intent) as f64 / 1e3);
        told.all.push((to - from) as f64 / 1e3);
        told.doubled += times.len() - 1;
    }
    told
}

fn percentiles(times: &[f64]) -> Value {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
        (sorted[index] * 1000.0).round() / 1000.0
    };
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)})
}

fn ratio(ours: &[f64], floor: &[f64]) -> f64 {
    let p50 = |times: &[f64]| percentiles(times)["p50"].as_f64().unwrap_or(f64::NAN);
    (p50(ours) / p50(floor) * 100.0).round() / 100.0
}

/// Resident memory of a process.
fn rss_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the operator runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    (kib / 1024.0 * 10.0).round() / 10.0
}
