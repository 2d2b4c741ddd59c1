//! An API server played by a function, and a log that only collects: for the tests of sources.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::{Body as Answered, Bytes};
use futures::{StreamExt as _, channel::mpsc::UnboundedReceiver, future::BoxFuture, stream};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{
    bus::{Bus, BusError, Permit, Reader, Recovery, Stats},
    clock::Stamp,
    event::{Origin, WatchKey},
    record::{Delta, EventInput, Head, LogId, Position, Record, RulePut, RuleRef, RuleUid, Table},
    rule::{Engine, Interest},
};

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) at: Instant,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) user: Option<String>,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn is_watch(&self) -> bool {
        self.query.starts_with("watch=")
    }
}

/// An answer.
pub(super) enum Answer {
    Json(u16, Value),
    /// Lines, then the end.
    Lines(Vec<Value>),
    /// Lines, then the connection breaks, after so long.
    Broken(Vec<Value>, Duration),
    /// Lines, and then nothing more.
    Open(Vec<Value>),
    /// Nothing, and the end after so long.
    Quiet(Duration),
    /// Lines as the test sends them.
    Fed(UnboundedReceiver<Value>),
    /// Bytes as they are, then nothing more.
    Raw(String),
    /// Bytes as they are, then the end.
    Text(String),
    /// None at all.
    Silent,
}

/// The API server.
#[derive(Clone)]
pub(super) struct Server {
    answer: Arc<dyn Fn(&Asked) -> Answer + Send + Sync>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(super) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), asked: Arc::default() }
    }

    /// Gives the answers in this order, and then none any more.
    pub(super) fn script(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Mutex::new(answers.into_iter().collect::<std::collections::VecDeque<_>>());
        Self::new(move |_| answers.lock().pop_front().unwrap_or(Answer::Silent))
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let asked = Asked {
                    at: Instant::now(),
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    user: parts.headers.get("impersonate-user").and_then(|user| user.to_str().ok()).map(str::to_owned),
                    body: serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default(),
                };
                server.asked.lock().push(asked.clone());
                let (status, body) = answered((server.answer)(&asked)).await;
                let response = Response::builder().status(status).body(body);
                Ok::<_, kube::Error>(response.expect("a valid response"))
            }
        });
        Client::new(service, "default")
    }
}

async fn answered(answer: Answer) -> (u16, Answered) {
    let line = |line: Value| Ok::<_, Infallible>(Bytes::from(format!("{line}\n")));
    let body = match answer {
        Answer::Json(status, value) => return (status, Answered::from(value.to_string())),
        Answer::Lines(lines) => Answered::from_stream(stream::iter(lines).map(line)),
        Answer::Broken(lines, after) => {
            let lines = stream::iter(lines).map(move |one| line(one).map_err(std::io::Error::other));
            let end = stream::once(async move {
                tokio::time::sleep(after).await;
                Err(std::io::Error::other("broken"))
            });
            Answered::from_stream(lines.chain(end))
        }
        Answer::Quiet(after) => {
            let end = stream::once(tokio::time::sleep(after)).filter_map(|()| std::future::ready(None::<Value>));
            Answered::from_stream(end.map(line))
        }
        Answer::Open(lines) => Answered::from_stream(stream::iter(lines).chain(stream::pending()).map(line)),
        Answer::Fed(lines) => Answered::from_stream(lines.map(line)),
        Answer::Raw(text) => {
            let text = stream::iter([Ok::<_, Infallible>(Bytes::from(text))]);
            Answered::from_stream(text.chain(stream::pending()))
        }
        Answer::Text(text) => Answered::from(text),
        Answer::Silent => std::future::pending().await,
    };
    (200, body)
}

/// A list.
pub(super) fn list(version: u64, items: &[Value]) -> Answer {
    Answer::Json(200, json!({"metadata": {"resourceVersion": version.to_string()}, "items": items}))
}

/// A line of a watch.
pub(super) fn line(type_: &str, object: Value) -> Value {
    json!({"type": type_, "object": object})
}

/// The body of an error.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message})
}

/// A ConfigMap whose uid is its name.
pub(super) fn object(name: &str, version: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": version.to_string(),
        "creationTimestamp": "2026-11-05T10:00:00Z"}})
}

/// A watch of ConfigMaps, or what else, in the namespace `shop`.
pub(super) fn key(kind: &str) -> WatchKey {
    WatchKey { api_version: "v1".to_owned(), kind: kind.to_owned(), namespace: Some("shop".to_owned()) }
}

/// A rule `shop/NAME` with these sources.
pub(super) fn rule(name: &str, generation: i64, sources: Value) -> RulePut {
    let spec = json!({"serviceAccountName": "shop-ops", "sources": sources, "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "team"}, "text": "x"}}]});
    RulePut {
        rule: RuleRef { uid: RuleUid(name.into()), namespace: "shop".to_owned(), name: name.to_owned() },
        generation,
        spec: Arc::new(serde_json::from_value(spec).expect("a spec")),
    }
}

/// What the rules are interested in.
pub(super) fn interest(rules: &[RulePut]) -> Arc<Interest> {
    let mut engine = Engine::new(LogId("log".to_owned()));
    for (index, put) in rules.iter().enumerate() {
        let head = Head { position: Position(index as u64 + 1), stamp: Stamp::default() };
        engine.fold(&head, &Record::RulePut(put.clone()));
    }
    for put in rules {
        assert!(engine.interest().knows(&put.rule.uid, put.generation), "the rule is taken");
    }
    engine.interest()
}

/// A log that collects what is appended.
pub(super) struct Collected {
    id: LogId,
    records: watch::Sender<Vec<Record>>,
    synced: Mutex<Position>,
}

/// Type of events that this log has no room for.
pub(super) const TOO_LARGE: &str = "com.example.too.large";

impl Collected {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { id: LogId("log".to_owned()), records: watch::Sender::default(), synced: Mutex::default() })
    }

    /// Waits (in paused time) until so many records are there, and gives all in short.
    pub(super) async fn wait(&self, count: usize) -> Vec<String> {
        let mut records = self.records.subscribe();
        let enough = records.wait_for(|records| records.len() >= count);
        let came = tokio::time::timeout(Duration::from_secs(900), enough).await.is_ok();
        assert!(came, "{count} records do not come, only {:#?}", self.short());
        self.short()
    }

    /// Up to where somebody has waited for it to be on stable storage.
    pub(super) fn synced(&self) -> Position {
        *self.synced.lock()
    }

    pub(super) fn short(&self) -> Vec<String> {
        self.records.borrow().iter().map(short).collect()
    }

    /// What is to be remembered, in order.
    pub(super) fn origins(&self) -> Vec<Origin> {
        let origins = |record: &Record| match record {
            Record::Event(input) => vec![input.origin.clone()],
            Record::Seen(origins) => origins.clone(),
            _ => Vec::new(),
        };
        self.records.borrow().iter().flat_map(origins).collect()
    }

    /// The events among them.
    pub(super) fn events(&self) -> Vec<EventInput> {
        let event = |record: &Record| if let Record::Event(input) = record { Some((**input).clone()) } else { None };
        self.records.borrow().iter().filter_map(event).collect()
    }
}

fn short(record: &Record) -> String {
    let origin = |origin: &Origin| match &origin.seen {
        Some(seen) if origin.uid.is_empty() => format!("list@{}", seen.version),
        Some(seen) => format!("{}@{}", origin.uid, seen.version),
        None => format!("-{}", origin.uid),
    };
    match record {
        Record::Seen(origins) => format!("seen {}", origins.iter().map(origin).collect::<Vec<_>>().join(" ")),
        Record::Event(input) => {
            let gap = if input.event.data["gap"] == true { " gap" } else { "" };
            let only =
                input.only.as_ref().map(|only| format!(" only {}/{}", only.rule, only.source)).unwrap_or_default();
            format!("{} {}{gap}{only}", input.event.type_.trim_start_matches("dev.signalbox."), input.event.id)
        }
        Record::Forget(watch) => format!("forget {watch}"),
        Record::Baseline(source) => format!("baseline {}/{} {}", source.rule, source.source, source.generation),
        Record::Deaf(source) => format!("deaf {}/{} {}", source.rule, source.source, source.generation),
        other => format!("{other:?}"),
    }
}

impl Bus for Collected {
    fn id(&self) -> &LogId {
        &self.id
    }

    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>> {
        Box::pin(async { self.record(record) })
    }

    fn record(&self, record: Record) -> Result<Head, BusError> {
        if matches!(&record, Record::Event(input) if input.event.type_ == TOO_LARGE) {
            return Err(BusError::TooLarge(1));
        }
        // As a log that is kept.
        crate::record::encode(&record, &mut Vec::new()).map_err(|_| BusError::TooDeep)?;
        self.records.send_modify(|records| records.push(record));
        Ok(Head { position: Position(self.records.borrow().len() as u64), stamp: Stamp::default() })
    }

    fn durable(&self, position: Position) -> BoxFuture<'_, Result<Permit, BusError>> {
        Box::pin(async move {
            let mut synced = self.synced.lock();
            *synced = synced.max(position);
            Ok(Permit::for_test())
        })
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        None
    }

    fn recover(&self) -> Result<Recovery, BusError> {
        Ok(Recovery::default())
    }

    fn commit(&self, _: Delta, _: Position) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn row(&self, _: Table, _: Vec<u8>) -> BoxFuture<'_, Result<Option<Vec<u8>>, BusError>> {
        Box::pin(async { Ok(None) })
    }

    fn read(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, BusError> {
        Ok(None)
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }
}
