//! Whether the operator lives within a limit of memory: the kernel ends it otherwise.
//!
//! The operator is put into a memory cgroup of LIMIT_MIB. A rule watches 10,000 Pods, another one takes a burst of 20,000 events by webhook, each of
//! which is told to a sink. That takes root, and a kernel with memory cgroups of version 1 or 2 at their usual place. The last line is one JSON
//! object; the exit status tells whether everything was told and nobody was killed.
//!
//! `make bench-limit LIMIT_MIB=128`

use std::{collections::BTreeSet, fs, io, path::PathBuf, time::Duration};

use axum::body::Bytes;
use futures::{StreamExt as _, stream};
use http::Request;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

use support::{
    PATIENCE, eventually,
    sink::Sink,
    site::{Shop, Site},
};

#[path = "../tests/support/mod.rs"]
mod support;

const PODS: usize = 10_000;
const EVENTS: usize = 20_000;
/// Requests under way at once.
const PARALLEL: usize = 64;

/// A memory cgroup, removed when it is dropped.
struct Group {
    folder: PathBuf,
    /// Of version 1, whose files have other names.
    first: bool,
}

impl Group {
    fn new(mib: u64) -> io::Result<Self> {
        let name = format!("signalbox-bench-{}", std::process::id());
        let first = fs::exists("/sys/fs/cgroup/memory")?;
        let folder = PathBuf::from(if first { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" }).join(name);
        fs::create_dir(&folder)?;
        let group = Self { folder, first };
        group.write(if first { "memory.limit_in_bytes" } else { "memory.max" }, mib << 20)?;
        Ok(group)
    }

    fn take(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", pid.into())
    }

    fn write(&self, file: &str, number: u64) -> io::Result<()> {
        fs::write(self.folder.join(file), number.to_string())
    }

    /// How many processes the kernel has killed.
    fn kills(&self) -> u64 {
        let file = if self.first { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(self.folder.join(file)).expect("the group's events");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|number| number.trim().parse().ok()).expect("the kernel counts kills")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("{} stays: {error}", self.folder.display());
        }
    }
}

#[tokio::main]
async fn main() {
    let mib = std::env::var("LIMIT_MIB").map_or(128, |text| text.parse().expect("LIMIT_MIB is a number"));
    let group = Group::new(mib).expect("a memory cgroup: run it as root, where /sys/fs/cgroup may be written");
    let site = Site::start().await;
    let shop = site.namespace("limit").await;
    let (pods, burst) = (Sink::start().await, Sink::start().await);
    shop.sink("pods", &pods.url("/")).await;
    shop.sink("burst", &burst.url("/")).await;
    let operator = site.setup.start_ready().await;
    group.take(operator.pid()).expect("the operator goes into the group");

    eprintln!("{PODS} Pods");
    stream::iter(0..PODS).for_each_concurrent(PARALLEL, |number| pod(&shop, format!("web-{number}"))).await;
    rules(&shop).await;
    pod(&shop, "new-1".to_owned()).await;
    pods.await_requests(1).await;

    eprintln!("{EVENTS} events");
    let uri = format!("http://{}/hooks/{}/floor", operator.hooks(), shop.name);
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    stream::iter(0..EVENTS).for_each_concurrent(PARALLEL, |number| send(&client, &uri, number)).await;
    let told = || {
        let requests = burst.requests();
        requests.iter().map(|request| request.json()["text"].to_string()).collect::<BTreeSet<_>>().len()
    };
    let all = async || (burst.requests().len() >= EVENTS && told() == EVENTS).then_some(());
    eventually("everything is told", PATIENCE * 20, all).await;
    let (kills, told) = (group.kills(), told());
    let status = fs::read_to_string(format!("/proc/{}/status", operator.pid())).expect("the operator runs");
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("the line");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") / 1024
    };
    println!(
        "{}",
        json!({"limit_mib": mib, "pods": PODS, "events": EVENTS, "told": told, "oom_kills": kills, "rss_mib": of("VmRSS:"),
            "peak_mib": of("VmHWM:")})
    );
    operator.kill();
    let gone = async || fs::read_to_string(group.folder.join("cgroup.procs")).ok().filter(String::is_empty);
    eventually("the group is empty", PATIENCE, gone).await;
    drop(group);
    std::process::exit(i32::from(kills > 0 || told != EVENTS));
}

async fn rules(shop: &Shop) {
    let source = json!({"webhook": {"preset": "CloudEvents", "auth": {"none": {}}}});
    shop.create("signalbox.dev/v1alpha1", "EventSource", "floor", json!({"spec": source})).await;
    let tell = |sink: &str, text: &str| json!({"name": "tell", "notify": {"sinkRef": {"name": sink}, "text": text}});
    let pods =
        json!([{"name": "pods", "resource": {"apiVersion": "v1", "kind": "Pod", "operations": ["Create", "Delete"]}}]);
    shop.rule("pods", json!({"sources": pods, "actions": [tell("pods", "${object.metadata.name}")]})).await;
    let burst = json!([{"name": "floor", "ref": {"name": "floor"}}]);
    shop.rule("burst", json!({"sources": burst, "actions": [tell("burst", "${event.subject}")]})).await;
}

/// Sends an event until it is taken.
async fn send(client: &Client<HttpConnector, Full<Bytes>>, uri: &str, number: usize) {
    let event = json!({"specversion": "1.0", "id": number.to_string(), "source": "/bench", "type": "com.example.burst",
        "subject": number.to_string(), "datacontenttype": "application/json", "data": {"text": "x".repeat(1024)}});
    let body = Bytes::from(event.to_string());
    loop {
        let request = Request::post(uri).header("content-type", "application/cloudevents+json");
        let answer = client.request(request.body(Full::new(body.clone())).expect("a request")).await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A Pod that nobody runs.
async fn pod(shop: &Shop, name: String) {
    let env: Vec<Value> = (0..8).map(|number| json!({"name": format!("SETTING_{number}"), "value": name})).collect();
    let container = json!({"name": "app", "image": "registry.example.invalid/shop/web:1.2.3", "env": env});
    let metadata = json!({"labels": {"app": "web", "pod-template-hash": "5d4f8c7b9f"}});
    shop.create("v1", "Pod", &name, json!({"metadata": metadata, "spec": {"containers": [container]}})).await;
}
