use std::{collections::HashMap, io::Write as _, net::SocketAddr, sync::atomic::Ordering};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    bus::{
        Bus as _,
        embedded::{
            Embedded, Settings,
            tests::{Faults, faulty},
        },
    },
    clock::Clock,
    event::Event,
    record::Record,
    sources::Accept,
};

mod load;

/// A server of the EventSource `shop/github`, on a log of its own.
struct Site {
    address: SocketAddr,
    bus: Arc<Embedded>,
    faults: Faults,
    hooks: Hooks,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn start(webhook: Value) -> Self {
        Self::within(LIMITS, webhook).await
    }

    async fn within(limits: Limits, webhook: Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let faults = Faults::default();
        let bus = faulty(&folder, &faults, Settings::default());
        let (metrics, clock) = (Arc::new(Metrics::default()), Clock::real(0));
        let wanted = Arc::new(|_: &_, event: &Event| event.type_ != UNWANTED);
        let accept = Accept::new(bus.clone(), &mut HashMap::new(), wanted, metrics.clone(), clock);
        let hooks = Hooks::new(accept);
        let spec = serde_json::from_value(json!({"webhook": webhook})).expect("a spec");
        hooks.set("shop", "github", "u-1", 1, &spec).expect("a source");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, known) = (CancellationToken::new(), hooks.clone());
        // Others are not known until there is one named `last`.
        let listed = Arc::new(move || known.get("shop", "last").is_some());
        let door = Door { hooks: hooks.clone(), listed, metrics: metrics.clone() };
        let served = tokio::spawn(serve_within(limits, listener, door, stop.clone()));
        Self { address, bus, faults, hooks, metrics, stop, served, _folder: folder }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Sends these bytes and gives what is answered until the connection ends.
    async fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // What is too large may be answered before it is read: then writing fails.
        let _ = stream.write_all(bytes).await;
        rest(&mut stream).await
    }

    async fn post(&self, headers: &str, body: &[u8]) -> String {
        self.ask(&[request(headers, body.len()).as_bytes(), body].concat()).await
    }

    /// The ids of the events in the log, once it has been closed.
    async fn stored(self) -> Vec<String> {
        self.bus.close().await.expect("close");
        let mut reader = self.bus.reader().expect("the first reader");
        let mut ids = Vec::new();
        while let Some(entries) = reader.next(1000).await {
            ids.extend(entries.iter().filter_map(|entry| match &*entry.record {
                Record::Event(input) => Some(input.event.id.clone()),
                _ => None,
            }));
        }
        ids
    }
}

/// What comes until the other side has ended or broken off.
async fn rest(stream: &mut TcpStream) -> String {
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut part).await {
        answer.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(headers: &str, length: usize) -> String {
    format!(
        "POST /hooks/shop/github HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    )
}

#[track_caller]
fn says(answer: &str, status: u16, part: &str) {
    let expected = format!("HTTP/1.1 {status} ");
    assert!(answer.starts_with(&expected) && answer.contains(part), "no {status} with {part:?}: {answer}");
}

fn nobody_asked() -> Value {
    json!({"auth": {"none": {}}})
}

fn cloud_events() -> Value {
    json!({"auth": {"none": {}}, "preset": "CloudEvents"})
}

/// What no rule asks for: it is not stored, so that no disk is waited for while the clock stands.
const UNWANTED: &str = "com.example.unwanted";

const JSON: &str = "content-type: application/json\r\n";
const EVENT: &str = "content-type: application/cloudevents+json\r\n";

fn event(id: &str) -> Vec<u8> {
    json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t"}).to_string().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn senders_of_cloud_events_may_ask_before_they_send_and_others_not() {
    let asks =
        |headers: &str| format!("OPTIONS /hooks/shop/github HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    let origin = "WebHook-Request-Origin: eventemitter.example.com\r\nWebHook-Request-Rate: 120\r\n";
    let site = Site::start(cloud_events()).await;
    let said = site.ask(asks(origin).as_bytes()).await;
    for part in ["allow: POST", "webhook-allowed-origin: *", "webhook-allowed-rate: *"] {
        says(&said, 200, part);
    }
    says(&site.ask(asks("").as_bytes()).await, 405, "allow: POST");
    let unknown = asks(origin).replace("github", "other");
    says(&site.ask(unknown.as_bytes()).await, 503, "retry-after: ");
    // To be allowed to send is not to be known.
    let bearer = json!({"bearer": {"secretRefs": [{"name": "s", "key": "k"}]}});
    let limit = json!({"events": 1, "per": "2s"});
    let site = Site::start(json!({"preset": "CloudEvents", "auth": bearer, "rateLimit": limit})).await;
    says(&site.ask(asks(origin).as_bytes()).await, 200, "webhook-allowed-rate: 30");
    says(&site.post(EVENT, &event("m-1")).await, 503, "were not read yet");
    let site = Site::start(nobody_asked()).await;
    says(&site.ask(asks(origin).as_bytes()).await, 405, "allow: POST");
}

#[tokio::test]
async fn each_request_has_its_answer() {
    let site = Site::start(cloud_events()).await;
    says(&site.post(EVENT, &event("m-1")).await, 202, "");
    says(&site.post(EVENT, &event("m-1")).await, 200, "");
    says(&site.post(&format!("{EVENT}content-encoding: gzip\r\n"), &gzip(&event("m-2"))).await, 202, "");
    says(&site.post(JSON, b"{}").await, 400, "specversion is missing");
    says(&site.post("content-type: application/cloudevents+avro\r\n", b"{}").await, 415, "");
    says(&site.post(&format!("{EVENT}content-encoding: br\r\n"), b"{}").await, 415, "send gzip");
    for odd in ["[".repeat(10_000), "{\"a\":1e999}".to_owned(), "{\"a\":1,\"a\":1}".to_owned()] {
        says(&site.post(EVENT, odd.as_bytes()).await, 400, "read JSON");
    }
    says(&site.post(EVENT, b"{\"a\":\"\xff\"}").await, 400, "no UTF-8");
    for method in ["GET", "PUT", "DELETE"] {
        let other = format!("{method} /hooks/shop/github HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        says(&site.ask(other.as_bytes()).await, 405, "allow: POST");
    }
    let unknown = "POST /hooks/shop/other HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    says(&site.ask(unknown.as_bytes()).await, 503, "retry-after: ");
    let spec = serde_json::from_value(json!({"webhook": nobody_asked()})).expect("a spec");
    site.hooks.set("shop", "last", "u-2", 1, &spec).expect("a source");
    says(&site.ask(unknown.as_bytes()).await, 404, "");
    says(&site.ask(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await, 404, "");
    site.hooks.hold("shop", "github", Some("its account may not be used".to_owned()));
    says(&site.post(EVENT, &event("m-3")).await, 503, "retry-after: ");
    assert_eq!(site.hooks.get("shop", "github").expect("it is there").figures().rejected.malformed, 10);
    assert!(site.metrics.encode().contains("webhook_rejected_total{reason=\"Malformed\"} 12"));
    assert_eq!(site.stored().await, ["m-1", "m-2"]);
}

#[tokio::test]
async fn what_is_too_large_is_not_read_to_its_end_whoever_sends_it() {
    let bearer = json!({"auth": {"bearer": {"secretRefs": [{"name": "hook", "key": "token"}]}}, "maxBodyBytes": 65536});
    let site = Site::start(bearer).await;
    // 2 GiB, of which nothing is sent.
    says(&site.ask(request(JSON, 2 << 30).as_bytes()).await, 413, "");
    let mut stream = site.connect().await;
    let head = "POST /hooks/shop/github HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("it is read");
    let (mut reads, mut writes) = stream.split();
    let endless = async {
        let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
        let mut sent = 0;
        while writes.write_all(chunk.as_bytes()).await.is_ok() {
            sent += chunk.len();
        }
        sent
    };
    let answer = async {
        let mut start = [0; 12];
        reads.read_exact(&mut start).await.map(|_| start)
    };
    tokio::select! {
        answer = answer => assert_eq!(&answer.expect("an answer"), b"HTTP/1.1 413"),
        // The system's buffers take some more; it does not go on for ever.
        sent = endless => assert!(sent < 32 << 20, "{sent}"),
    }
    assert_eq!(site.hooks.get("shop", "github").expect("it is there").figures().rejected.too_large, 2);
}

#[tokio::test]
async fn a_small_body_that_unfolds_to_a_large_one_is_too_large() {
    let site = Site::start(json!({"auth": {"none": {}}, "maxBodyBytes": 65536})).await;
    let bomb = gzip(&vec![b' '; 16 << 20]);
    assert!(bomb.len() < 65536);
    says(&site.post(&format!("{JSON}content-encoding: gzip\r\n"), &bomb).await, 413, "larger than 65536 bytes");
    says(&site.post(JSON, &vec![b' '; 65537]).await, 413, "");
    says(&site.post(JSON, format!("\"{}\"", "x".repeat(65534)).as_bytes()).await, 202, "");
}

#[tokio::test]
async fn on_a_full_disk_senders_are_asked_to_come_again_and_nothing_acknowledged_is_lost() {
    let site = Site::start(cloud_events()).await;
    says(&site.post(EVENT, &event("m-1")).await, 202, "");
    site.faults.full.store(true, Ordering::Relaxed);
    // The first finds out; it is given up before the disk has room, and is no second event when it comes again.
    let (mut first, head) = (site.connect().await, request(EVENT, event("m-2").len()));
    first.write_all(&[head.as_bytes(), &event("m-2")].concat()).await.expect("it is read");
    while !site.bus.stats().disk_full {
        tokio::task::yield_now().await;
    }
    drop(first);
    for id in ["m-2", "m-3"] {
        says(&site.post(EVENT, &event(id)).await, 503, "retry-after: ");
    }
    site.faults.full.store(false, Ordering::Relaxed);
    while site.bus.stats().disk_full {
        tokio::task::yield_now().await;
    }
    says(&site.post(EVENT, &event("m-2")).await, 200, "");
    says(&site.post(EVENT, &event("m-3")).await, 202, "");
    assert_eq!(site.stored().await, ["m-1", "m-2", "m-3"]);
}

#[tokio::test]
async fn what_was_begun_before_the_end_is_stored_and_nothing_after() {
    let site = Site::start(cloud_events()).await;
    let (mut stream, body) = (site.connect().await, event("m-1"));
    let head = request(EVENT, body.len()).replace("connection: close\r\n", "expect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).await.expect("it is read");
    // The server reads the body from here on.
    let mut goes_on = [0; 25];
    stream.read_exact(&mut goes_on).await.expect("an answer");
    assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    site.stop.cancel();
    stream.write_all(&body).await.expect("it is read");
    says(&rest(&mut stream).await, 202, "");
    let Site { served, bus, address, .. } = site;
    served.await.expect("no panic").expect("a clean end");
    assert!(TcpStream::connect(address).await.is_err());
    assert!(bus.stats().durable >= bus.stats().appended, "it is on the disk");
}
