//! What the tests of sinks share.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::IntoResponse,
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::Notify};

use super::*;
use crate::record::RuleUid;

/// An EventSink's spec, written as JSON.
pub(crate) fn sink(spec: &str) -> EventSinkSpec {
    serde_json::from_str(spec).expect("a spec")
}

/// A notification with nothing odd about it.
pub(crate) fn notification() -> Notification {
    let event = Event {
        subject: Some("shop/Pod/web-1".into()),
        time: Some("2026-11-25T10:00:00Z".parse().expect("a time")),
        ..Event::new(
            "uid-1/3",
            "/apis/events.k8s.io/v1/events",
            crate::event::TYPE_KUBERNETES_EVENT,
            json!({"message": "Back-off"}),
        )
    };
    Notification {
        severity: Severity::Warning,
        title: "web keeps crashing".into(),
        text: "Back-off".into(),
        fields: vec![],
        event: Arc::new(event),
        rule: RuleRef { uid: RuleUid("rule-uid".into()), namespace: "shop".into(), name: "web-crashloop".into() },
        firing: FiringId("0123456789abcdef0123".into()),
        hops: 3,
        id: "0123456789abcdef0123-tell".into(),
        operation: NotifyOperation::Trigger,
        incident: "rule-uid/shop/Pod/web-1".into(),
        again: false,
    }
}

/// Delivers the notification, with connections that nobody else uses.
pub(crate) async fn tell(
    sink: &Sink,
    notification: &Notification,
    secrets: &Secrets,
    http: &Http,
) -> Result<Delivered, SinkError> {
    let reach = Reach { http, connections: &Connections::default(), threads: &Threads::default() };
    sink.deliver(&Parcel::Notification(Box::new(notification.clone())), secrets, reach).await
}

/// A client that may connect to this host.
pub(crate) fn http() -> Http {
    Http::to_this_host()
}

/// A service that gives the answers in order, the last one for ever, and remembers what it was sent.
pub(crate) struct Service {
    pub(crate) url: String,
    seen: Seen,
    paths: Paths,
    asked: Arc<Notify>,
    hung_up: Arc<Notify>,
}

/// Tells when it is dropped.
struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

type Silent = (Seen, Paths, Arc<Notify>, Arc<Notify>);

async fn never(
    State((seen, paths, asked, gone)): State<Silent>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    paths.lock().push(uri.path().to_owned());
    seen.lock().push((headers, body.to_vec()));
    let _gone = OnDrop(gone);
    asked.notify_one();
    std::future::pending().await
}

type Seen = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;
type Paths = Arc<Mutex<Vec<String>>>;
type Answers = Arc<Mutex<Vec<(u16, &'static str)>>>;

impl Service {
    pub(crate) async fn new(answers: &[(u16, &'static str)]) -> Self {
        let seen = Seen::default();
        let answers: Answers = Arc::new(Mutex::new(answers.iter().rev().copied().collect()));
        let paths = Paths::default();
        let router = Router::new().fallback(take).with_state((seen.clone(), paths.clone(), answers));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen, paths, asked: Arc::default(), hung_up: Arc::default() }
    }

    /// One that takes requests and never answers.
    pub(crate) async fn silent() -> Self {
        let (seen, paths, gone) = (Seen::default(), Paths::default(), Arc::new(Notify::new()));
        let (asked, hung_up) = (Arc::new(Notify::new()), gone.clone());
        let state = (seen.clone(), paths.clone(), asked.clone(), gone);
        let router = Router::new().fallback(never).with_state(state);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen, paths, asked, hung_up }
    }

    /// Waits until something was asked.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Waits until who asked has hung up.
    pub(crate) async fn hung_up(&self) {
        self.hung_up.notified().await;
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.paths.lock().clone()
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.seen.lock().iter().map(|(_, body)| serde_json::from_slice(body).expect("JSON")).collect()
    }

    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Vec<u8>)> {
        self.seen.lock().clone()
    }
}

async fn take(
    State((seen, paths, answers)): State<(Seen, Paths, Answers)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    paths.lock().push(uri.path().to_owned());
    seen.lock().push((headers, body.to_vec()));
    let mut answers = answers.lock();
    let (status, words) =
        if answers.len() > 1 { answers.pop() } else { answers.last().copied() }.unwrap_or((200, "ok"));
    let status = StatusCode::from_u16(status).expect("a status");
    let mut headers = HeaderMap::new();
    if status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert("retry-after", "30".parse().expect("a value"));
    }
    (status, headers, words)
}
