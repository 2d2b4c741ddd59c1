//! What it costs that firings wait: one rule's target hangs while events for it keep coming, and another rule goes on beside it.
//!
//! Events come by webhook. First those of the rule `well` alone, then WAITING events of the rule `hangs`, whose sink does not answer, then those of `well`
//! again beside them. Then the operator is killed and started again, the sink answers, and everything is carried out. Times are from the
//! request of the sender to the arrival at the sink, at the same rate on the same machine, so their ratio tells. The last line is one JSON object; the
//! exit status tells whether nothing was lost or done twice.
//!
//! `make bench-backlog WAITING=60000`

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Request},
};
use futures::{StreamExt as _, stream};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, client::legacy::connect::HttpConnector, rt::TokioExecutor};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::Instant};

use support::{
    PATIENCE, eventually,
    operator::Operator,
    site::{Shop, Site},
};

#[path = "../tests/support/mod.rs"]
mod support;

/// Events of the rule that goes on, in each of the two measurements.
const WELL: u64 = 2_000;
/// A second.
const RATE: u64 = 200;
/// Requests under way while the events that will wait are sent.
const PARALLEL: usize = 64;

/// What a sink was told, by the event's number: when first, and with which keys.
#[derive(Default)]
struct Told {
    first: Mutex<BTreeMap<u64, Instant>>,
    keys: Mutex<BTreeMap<u64, BTreeSet<String>>>,
    /// While false, no request is answered.
    answers: watch::Sender<bool>,
}

async fn take(State(told): State<Arc<Told>>, headers: HeaderMap, body: Bytes) {
    let _ = told.answers.subscribe().wait_for(|answers| *answers).await;
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let number = body["text"].as_str().and_then(|text| text.parse().ok()).expect("a number");
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).expect("a key").to_owned();
    told.first.lock().entry(number).or_insert_with(Instant::now);
    told.keys.lock().entry(number).or_default().insert(key);
}

async fn sink(shop: &Shop, name: &str) -> Arc<Told> {
    let told = Arc::<Told>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    shop.sink(name, &format!("http://{}/", listener.local_addr().expect("an address"))).await;
    let app = Router::new().fallback(take).with_state(Arc::clone(&told));
    tokio::spawn(async move { axum::serve(listener, app).await });
    told
}

/// Sends events to the operator that runs.
#[derive(Clone)]
struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: String,
}

impl Sender {
    fn to(operator: &Operator, shop: &Shop) -> Self {
        let uri = format!("http://{}/hooks/{}/floor", operator.hooks(), shop.name);
        Self { client: Client::builder(TokioExecutor::new()).build_http(), uri }
    }

    /// Sends the event until it is taken; gives when it was sent first, and how often it was turned away.
    async fn send(&self, rule: &str, number: u64) -> (Instant, u64) {
        let began = Instant::now();
        let (id, type_) = (format!("{rule}-{number}"), format!("com.example.{rule}"));
        let event = json!({"specversion": "1.0", "id": id, "source": "/bench", "type": type_, "subject": number.to_string(),
            "datacontenttype": "application/json", "data": {"text": "x".repeat(512)}});
        for refused in 0.. {
            let request = Request::post(&self.uri)
                .header("content-type", "application/cloudevents+json")
                .body(Full::new(Bytes::from(event.to_string())))
                .expect("a request");
            let answer = tokio::time::timeout(Duration::from_secs(15), self.client.request(request)).await;
            if matches!(answer, Ok(Ok(answer)) if answer.status().is_success()) {
                return (began, refused);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        unreachable!("it is sent until it is taken")
    }

    /// Sends events of the rule `well` at their rate, and gives the 50th and the 99th percentile of the times until they are told, in milliseconds.
    async fn measure(&self, told: &Told, from: u64) -> (f64, f64) {
        let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE as f64));
        let mut sent = Vec::new();
        for number in from..from + WELL {
            pace.tick().await;
            let sender = self.clone();
            sent.push((number, tokio::spawn(async move { sender.send("well", number).await.0 })));
        }
        let mut times = Vec::new();
        for (number, began) in sent {
            let began = began.await.expect("a sender");
            let arrived = async || told.first.lock().get(&number).copied();
            times.push(
                eventually("it is told", PATIENCE * 10, arrived).await.duration_since(began).as_secs_f64() * 1000.0,
            );
        }
        times.sort_by(f64::total_cmp);
        let at = |share: f64| (times[(times.len() as f64 * share) as usize] * 100.0).round() / 100.0;
        (at(0.5), at(0.99))
    }
}

async fn rules(shop: &Shop) {
    let source = json!({"webhook": {"preset": "CloudEvents", "auth": {"none": {}}}});
    shop.create("signalbox.dev/v1alpha1", "EventSource", "floor", json!({"spec": source})).await;
    for rule in ["well", "hangs"] {
        let sources = json!([{"name": "floor", "ref": {"name": "floor", "types": [format!("com.example.{rule}")]}}]);
        let retry = json!({"limit": 20, "maxBackoff": "2s"});
        let tell =
            json!({"name": "tell", "retry": retry, "notify": {"sinkRef": {"name": rule}, "text": "${event.subject}"}});
        shop.rule(rule, json!({"sources": sources, "actions": [tell]})).await;
    }
}

#[tokio::main]
async fn main() {
    let waiting = std::env::var("WAITING").map_or(60_000, |text| text.parse::<u64>().expect("a number"));
    let site = Site::start().await;
    let shop = site.namespace("backlog").await;
    let (well, hangs) = (sink(&shop, "well").await, sink(&shop, "hangs").await);
    well.answers.send_replace(true);
    let setup = site.setup.args(&["--firings-per-minute=0"]);
    let operator = setup.start_ready().await;
    rules(&shop).await;
    let sender = Sender::to(&operator, &shop);
    let alone = sender.measure(&well, 0).await;
    let idle = mib(&operator, "VmRSS:");

    eprintln!("{waiting} events for a sink that does not answer");
    let (began, refused) = (Instant::now(), Mutex::new(0));
    let send = async |number| *refused.lock() += sender.send("hangs", number).await.1;
    stream::iter(0..waiting).for_each_concurrent(PARALLEL, send).await;
    let taken_per_s = (waiting as f64 / began.elapsed().as_secs_f64()).round();
    let open = async || (metric(&operator, "signalbox_open_firings").await >= waiting as f64 - 100.0).then_some(());
    eventually("all of them wait", PATIENCE * 10, open).await;
    let beside = sender.measure(&well, WELL).await;
    let oldest = metric(&operator, "signalbox_oldest_open_firing_timestamp_seconds").await;
    let (rss, peak) = (mib(&operator, "VmRSS:"), mib(&operator, "VmHWM:"));

    eprintln!("killed and started again");
    let status = format!("/proc/{}/status", operator.pid());
    operator.kill();
    eventually("it has ended", PATIENCE, async || (!fs::exists(&status).unwrap_or(true)).then_some(())).await;
    let began = Instant::now();
    let operator = setup.start_ready().await;
    let ready = began.elapsed().as_millis() as u64;
    let restarted = mib(&operator, "VmRSS:");
    let first = Sender::to(&operator, &shop).send("well", 2 * WELL).await;
    eventually("the other rule goes on", PATIENCE, async || well.first.lock().get(&(2 * WELL)).copied()).await;
    let first = first.0.elapsed().as_millis() as u64;

    hangs.answers.send_replace(true);
    let began = Instant::now();
    let all = async || (hangs.keys.lock().len() as u64 == waiting).then_some(());
    eventually("everything is told", PATIENCE * 20, all).await;
    let told_per_s = (waiting as f64 / began.elapsed().as_secs_f64()).round();
    let none = async || (metric(&operator, "signalbox_open_firings").await == 0.0).then_some(());
    eventually("nothing waits any more", PATIENCE * 10, none).await;
    let doubled: u64 = hangs.keys.lock().values().map(|keys| keys.len() as u64 - 1).sum();
    let lost = waiting - hangs.keys.lock().len() as u64;
    let ratio = (beside.1 / alone.1 * 100.0).round() / 100.0;
    println!(
        "{}",
        json!({"waiting": waiting, "lost": lost, "doubled": doubled, "turned_away": *refused.lock(), "taken_per_s": taken_per_s, "told_per_s": told_per_s,
            "well_alone_ms": {"p50": alone.0, "p99": alone.1}, "well_beside_ms": {"p50": beside.0, "p99": beside.1}, "p99_ratio": ratio,
            "rss_idle_mib": idle, "rss_waiting_mib": rss, "peak_mib": peak, "restart_ready_ms": ready, "restart_other_rule_ms": first,
            "rss_restarted_mib": restarted, "peak_drained_mib": mib(&operator, "VmHWM:"), "oldest_told": oldest > 0.0})
    );
    std::process::exit(i32::from(lost + doubled > 0));
}

async fn metric(operator: &Operator, name: &str) -> f64 {
    let text = operator.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).expect("the metric")
}

/// A line of the process's status, in MiB.
fn mib(operator: &Operator, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.pid())).expect("the operator runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("the line");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    (kib / 1024.0 * 10.0).round() / 10.0
}
