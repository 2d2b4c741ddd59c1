//! `kill -9` at random moments under load: nothing that was acknowledged is lost, and nothing is done twice.
//!
//! Senders deliver numbered CloudEvents at RATE a second by webhook, each until it is taken, as senders do; meanwhile the operator is killed KILLS
//! times and started again on its log. Two rules act on them: one notifies an HTTP sink of every event, one launches a Job for every hundredth. The
//! sink and the API server are the record of what was done. `doubled` counts effects of one event that have different keys, or a second Job; an attempt
//! repeated with the same key is not one. The last line is one JSON object; the exit status tells whether it is as promised.
//!
//! `make chaos KILLS=500 RATE=500`

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Request},
};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, client::legacy::connect::HttpConnector, rt::TokioExecutor};
use kube::api::ListParams;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use support::{
    PATIENCE, eventually,
    site::{Shop, Site},
};

#[path = "../tests/support/mod.rs"]
mod support;

const SENDERS: u64 = 32;
/// Every so manieth event launches a Job.
const JOB: u64 = 100;
/// A life lasts so long at least, and at most, after it is ready.
const LIFE: std::ops::Range<u64> = 200..1500;

/// What the sink was told.
#[derive(Default)]
struct Told {
    /// The keys, by the event's number.
    keys: Mutex<BTreeMap<u64, BTreeSet<String>>>,
    /// The first since the operator was started last.
    first: Mutex<Option<Instant>>,
}

async fn take(State(told): State<Arc<Told>>, headers: HeaderMap, body: Bytes) {
    told.first.lock().get_or_insert_with(Instant::now);
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let number = body["text"].as_str().and_then(|text| text.parse().ok()).expect("a number");
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).expect("a key").to_owned();
    told.keys.lock().entry(number).or_default().insert(key);
}

/// What the senders share.
struct Traffic {
    client: Client<HttpConnector, Full<Bytes>>,
    path: String,
    operator: RwLock<String>,
    next: AtomicU64,
    acked: AtomicU64,
    stop: AtomicBool,
}

impl Traffic {
    /// Delivers one event after the other, each until it is taken.
    async fn send(self: Arc<Self>, rate: u64) {
        let mut pace = tokio::time::interval(Duration::from_secs_f64(SENDERS as f64 / rate as f64));
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let type_ = if number.is_multiple_of(JOB) { "com.example.job" } else { "com.example.plain" };
            let event = json!({"specversion": "1.0", "id": number.to_string(), "source": "/chaos", "type": type_, "subject": number.to_string()});
            while !self.is_taken(&event).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.acked.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn is_taken(&self, event: &Value) -> bool {
        let uri = format!("http://{}{}", self.operator.read(), self.path);
        let request = Request::post(uri)
            .header("content-type", "application/cloudevents+json")
            .body(Full::new(Bytes::from(event.to_string())))
            .expect("a request");
        let answer = tokio::time::timeout(Duration::from_secs(15), self.client.request(request)).await;
        matches!(answer, Ok(Ok(answer)) if answer.status().is_success())
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::main]
async fn main() {
    let (kills, rate) = (setting("KILLS", 20), setting("RATE", 500));
    let site = Site::start().await;
    let shop = site.namespace("chaos").await;
    let told = Arc::<Told>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    shop.sink("oncall", &format!("http://{}/", listener.local_addr().expect("an address"))).await;
    let sink = Router::new().fallback(take).with_state(told.clone());
    let sink = tokio::spawn(async move { axum::serve(listener, sink).await });
    let setup = site.setup.args(&["--firings-per-minute=0"]);
    let mut operator = setup.start_ready().await;
    rules(&shop).await;

    let traffic = Arc::new(Traffic {
        client: Client::builder(TokioExecutor::new()).build_http(),
        path: format!("/hooks/{}/floor", shop.name),
        operator: RwLock::new(operator.hooks().to_owned()),
        next: AtomicU64::new(0),
        acked: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let senders: Vec<_> = (0..SENDERS).map(|_| tokio::spawn(Arc::clone(&traffic).send(rate))).collect();
    let mut random = fastrand::Rng::with_seed(setting("SEED", 1));
    let mut waits = Vec::new();
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.u64(LIFE))).await;
        operator.kill();
        *told.first.lock() = None;
        let began = Instant::now();
        operator = setup.start();
        *traffic.operator.write() = operator.hooks().to_owned();
        operator.ready().await;
        let first = eventually("something is done", PATIENCE, async || *told.first.lock()).await;
        waits.push(first.duration_since(began).as_millis());
        if (kill + 1).is_multiple_of(10) {
            eprintln!("{} kills, {} events", kill + 1, traffic.acked.load(Ordering::Relaxed));
        }
    }
    traffic.stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.expect("a sender");
    }
    let ok = tell(&shop, &told, traffic.acked.load(Ordering::Relaxed), (kills, waits)).await;
    drop(operator);
    sink.abort();
    std::process::exit(i32::from(!ok));
}

async fn rules(shop: &Shop) {
    let source = json!({"webhook": {"preset": "CloudEvents", "auth": {"none": {}}}});
    shop.create("signalbox.dev/v1alpha1", "EventSource", "floor", json!({"spec": source})).await;
    let of = |types: &str| json!([{"name": "floor", "ref": {"name": "floor", "types": [types]}}]);
    let notify = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.id}"}});
    shop.rule("tell", json!({"sources": of("com.example.*"), "actions": [notify]})).await;
    let job = json!({"name": "run", "job": {"script": {"image": "example.invalid/tools:1", "run": "true"}}});
    shop.rule("run", json!({"sources": of("com.example.job"), "actions": [job]})).await;
}

/// Waits until nothing is under way, and prints the line; whether all is as promised.
async fn tell(shop: &Shop, told: &Told, acked: u64, (kills, mut waits): (u64, Vec<u128>)) -> bool {
    let done = |status: &Value, wanted: u64| {
        let counts = &status["counts"];
        let ended = counts["succeeded"].as_u64().unwrap_or(0) + counts["failed"].as_u64().unwrap_or(0);
        ended >= wanted
    };
    let wanted = acked.div_ceil(JOB);
    shop.rule_status("tell", "every event was told", |status| done(status, acked)).await;
    shop.rule_status("run", "every Job was launched", |status| done(status, wanted)).await;
    let keys = told.keys.lock().clone();
    let jobs = shop.api("batch/v1", "Job").list(&ListParams::default()).await.expect("list Jobs").items.len() as u64;
    let lost = (0..acked).filter(|number| !keys.contains_key(number)).count() as u64 + wanted.saturating_sub(jobs);
    let doubled = keys.values().map(|keys| keys.len() as u64 - 1).sum::<u64>() + jobs.saturating_sub(wanted);
    waits.sort_unstable();
    let (p50, max) = (waits.get(waits.len() / 2), waits.last());
    let restart = json!({"p50": p50.map(|ms| *ms as u64), "max": max.map(|ms| *ms as u64)});
    eprintln!("{jobs} Jobs");
    println!(
        r#"{{"acked":{acked},"lost":{lost},"doubled":{doubled},"kills":{kills},"restart_to_first_action_ms":{restart}}}"#
    );
    lost == 0 && doubled == 0
}
