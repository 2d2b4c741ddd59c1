//! Webhooks: how long one sender waits for an answer, and how many requests 64 senders get answered in a second.
//!
//! On a control plane of its own: each request is signed as GitHub signs, has an id of its own and is answered when it is on disk; a rule with a condition
//! tells an HTTP sink of each that meets it, one in ten. `lost` are those that were answered with 2xx, met the condition and did not reach the sink. The last
//! line is one JSON object.
//!
//! `cargo bench --features apiserver --bench webhook [-- COUNT]`, or `make bench-webhook`.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use support::{
    eventually,
    sink::Sink,
    site::{Shop, Site},
};

#[path = "../tests/support/mod.rs"]
mod support;

/// Requests of the one sender; the 64 together send ten times as many.
const COUNT: usize = 2_000;
const SENDERS: usize = 64;
const KEY: &str = "s3cret";
/// One request in so many meets the condition.
const SHARE: usize = 10;
/// Until the sink was told everything.
const DRAIN: Duration = Duration::from_secs(300);

fn main() {
    let count = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(COUNT);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench(count));
}

async fn bench(count: usize) {
    let mut site = Site::start().await;
    site.setup = site.another().args(&["--firings-per-minute=0", "--log=warn"]);
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("bench").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    listen(&site, &shop).await;
    let path = format!("/hooks/{}/github", shop.name);
    let ready = async || Sender::connect(operator.hooks(), &path).await.send("warm", 1).await.is_ok().then_some(());
    eventually("the source takes requests", DRAIN, ready).await;

    eprintln!("one sender: {count} requests");
    let mut sender = Sender::connect(operator.hooks(), &path).await;
    let (mut times, mut wanted, began) = (Vec::with_capacity(count), BTreeSet::new(), Instant::now());
    for number in 0..count {
        let begun = Instant::now();
        sender.send("one", number).await.expect("2xx");
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        if number % SHARE == 0 {
            wanted.insert(format!("one-{number}"));
        }
    }
    let one = rate(count, began);

    let each = (count * 10).div_ceil(SENDERS);
    eprintln!("{SENDERS} senders: {each} requests each");
    let began = Instant::now();
    let senders = (0..SENDERS).map(|sender| {
        let (hooks, path) = (operator.hooks().to_owned(), path.clone());
        tokio::spawn(async move {
            let (mut of, name) = (Sender::connect(&hooks, &path).await, format!("many{sender}"));
            for number in 0..each {
                of.send(&name, number).await.expect("2xx");
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("no sender panics");
    }
    let many = rate(each * SENDERS, began);
    let numbers = (0..each).step_by(SHARE);
    wanted.extend(numbers.flat_map(|number| (0..SENDERS).map(move |sender| format!("many{sender}-{number}"))));

    eprintln!("waiting for {} notifications", wanted.len());
    let mut missing = wanted.len();
    let end = Instant::now() + DRAIN;
    while missing > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let told: BTreeSet<String> =
            sink.requests().iter().filter_map(|request| Some(request.json()["text"].as_str()?.to_owned())).collect();
        missing = wanted.difference(&told).count();
    }
    assert!(operator.terminate().await.success(), "the operator stops cleanly");
    let line = json!({
        "one": {"p50_ms": at(&times, 0.5), "p99_ms": at(&times, 0.99), "rps": one},
        "many": {"rps": many}, "lost": missing, "count": count,
    });
    println!("{line}");
}

/// The source, its Secret, and the rule.
async fn listen(site: &Site, shop: &Shop) {
    shop.create("v1", "Secret", "github", json!({"stringData": {"key": KEY}})).await;
    let role =
        ["create", "role", "github", "-n", &shop.name, "--verb=get", "--resource=secrets", "--resource-name=github"];
    assert!(site.plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let binding = ["create", "rolebinding", "github", "-n", &shop.name, "--role=github", &account];
    assert!(site.plane.kubectl(&binding).await.status.success());
    let auth = json!({"hmac": {"secretRefs": [{"name": "github", "key": "key"}]}});
    shop.source("github", json!({"webhook": {"preset": "GitHub", "auth": auth}})).await;
    let rule = json!({
        "sources": [{"name": "push", "ref": {"name": "github", "types": ["com.github.push"]}}],
        "when": [{"name": "tenth", "expression": format!("event.data.number % {SHARE} == 0 && event.data.ref == 'refs/heads/main'")}],
        "groupBy": [{"name": "push", "expression": "event.id"}],
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.id}"}}],
    });
    shop.rule("tell", rule).await;
}

/// A sender that keeps its connection.
struct Sender {
    stream: TcpStream,
    path: String,
}

impl Sender {
    async fn connect(hooks: &str, path: &str) -> Self {
        let stream = TcpStream::connect(hooks).await.expect("the operator listens");
        stream.set_nodelay(true).expect("set an option");
        Self { stream, path: path.to_owned() }
    }

    /// Sends one push and waits for 2xx.
    async fn send(&mut self, name: &str, number: usize) -> Result<(), String> {
        let body = json!({"ref": "refs/heads/main", "number": number, "repository": {"full_name": "acme/shop"}, "pad": "x".repeat(400)});
        let body = body.to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("any key will do");
        mac.update(body.as_bytes());
        let signature = HEXLOWER.encode(&mac.finalize().into_bytes());
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nx-github-event: push\r\nx-github-delivery: {name}-{number}\r\n\
             x-hub-signature-256: sha256={signature}\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let (mut answer, mut part) = (Vec::new(), [0; 1024]);
        // Answers with 2xx have no body.
        while !answer.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut part).await {
                Ok(count @ 1..) => answer.extend_from_slice(&part[..count]),
                _ => return Err(String::from_utf8_lossy(&answer).into_owned()),
            }
        }
        if answer.starts_with(b"HTTP/1.1 20") { Ok(()) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
    }
}

fn rate(count: usize, began: Instant) -> Value {
    json!((count as f64 / began.elapsed().as_secs_f64()).round())
}

fn at(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
    (sorted[index] * 1000.0).round() / 1000.0
}
