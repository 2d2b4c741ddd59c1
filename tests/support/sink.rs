//! An HTTP server that remembers what it was sent and answers as it is told.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request as AxumRequest, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{PATIENCE, eventually};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// When its body had been read.
    pub at: Instant,
}

impl Request {
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("a body of text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What the sink answers.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    delay: Duration,
    retry_after: Option<String>,
    type_: &'static str,
    body: String,
}

impl Answer {
    pub fn status(code: u16) -> Self {
        let status = StatusCode::from_u16(code).expect("a valid status");
        Self { status, delay: Duration::ZERO, retry_after: None, type_: "text/plain", body: String::new() }
    }

    /// The request is recorded at once and answered later.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Seconds, or an HTTP date.
    pub fn retry_after(self, value: &str) -> Self {
        Self { retry_after: Some(value.to_owned()), ..self }
    }

    pub fn json(self, body: &serde_json::Value) -> Self {
        Self { type_: "application/json", body: body.to_string(), ..self }
    }

    pub fn body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }
}

/// The running server. Dropping it ends it.
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    server: JoinHandle<()>,
}

struct Shared {
    requests: Vec<Request>,
    next: VecDeque<Answer>,
    otherwise: Answer,
}

impl Sink {
    /// Starts one on loopback that answers 200.
    pub async fn start() -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Starts one on an address that others can reach, for instance from inside a cluster.
    pub async fn start_on(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("listen");
        let address = listener.local_addr().expect("know the port");
        let shared = Shared { requests: vec![], next: VecDeque::new(), otherwise: Answer::status(200) };
        let shared = Arc::new(Mutex::new(shared));
        let router = Router::new().fallback(record).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serve");
        });
        Self { address, shared, server }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://HOST:PORT` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What to answer from now on, when nothing is queued.
    pub fn answer(&self, answer: Answer) {
        lock(&self.shared).otherwise = answer;
    }

    /// What to answer to the next request that has no answer yet; may be called several times.
    pub fn answer_next(&self, answer: Answer) {
        lock(&self.shared).next.push_back(answer);
    }

    /// What came in so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared).requests.clone()
    }

    /// Waits until at least `count` requests came in, and returns all that did.
    ///
    /// # Panics
    /// When they do not.
    pub async fn await_requests(&self, count: usize) -> Vec<Request> {
        eventually(&format!("the sink got {count} requests"), PATIENCE, async || {
            let came = lock(&self.shared).requests.len();
            (came >= count).then(|| self.requests())
        })
        .await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn record(State(shared): State<Arc<Mutex<Shared>>>, request: AxumRequest) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("read a request");
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let (method, headers) = (parts.method, parts.headers);
    let answer = {
        let mut shared = lock(&shared);
        shared.requests.push(Request { method, path, headers, body, at: Instant::now() });
        shared.next.pop_front().unwrap_or_else(|| shared.otherwise.clone())
    };
    tokio::time::sleep(answer.delay).await;
    let mut response = (answer.status, [(header::CONTENT_TYPE, answer.type_)], answer.body).into_response();
    if let Some(value) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, value.parse().expect("a valid header"));
    }
    response
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
