//! An HTTP proxy before the API server that the test makes unreliable: it answers in its place, keeps answers back, cuts watches.
//!
//! Plain HTTP towards the operator, so that requests can be seen; whoever asks shows his own token to the API server.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt as _, stream};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::control_plane::ControlPlane;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// The API server never sees it; the answer has this status.
    Refuse(u16),
    /// The API server carries it out; the answer has this status.
    Deny(u16),
    /// The API server carries it out; the connection breaks in the middle of the answer.
    Cut,
    /// The API server carries it out; the answer ends in its middle, as if that were its end.
    Halve,
    /// The API server carries it out; there is no answer, ever.
    Swallow,
    /// The API server carries it out; the answer comes so much later.
    Hold(Duration),
    /// The API server carries it out; the answer passes and is kept.
    Keep,
    /// The API server never sees it; the answer is the one that was kept last.
    Replay,
    /// The answer breaks off after so long: cleanly, or in the middle of what comes next.
    End(Duration, How),
}

/// How an answer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Cleanly,
    Broken,
    /// After half of what came next.
    Halved,
}

/// A request as the proxy sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub body: Bytes,
}

impl Seen {
    pub fn is_watch(&self) -> bool {
        self.query.split('&').any(|part| part == "watch=1" || part == "watch=true")
    }

    /// Whether it is a PATCH of this subresource.
    pub fn patches(&self, subresource: &str) -> bool {
        self.method == Method::PATCH && self.path.ends_with(&format!("/{subresource}"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

type Decide = Pin<Box<dyn Future<Output = Fate> + Send>>;
type Decider = Arc<dyn Fn(Seen) -> Decide + Send + Sync>;

struct Shared {
    upstream: Client,
    decide: Decider,
    seen: Mutex<Vec<(Seen, Fate)>>,
    kept: Mutex<Bytes>,
}

/// The running proxy. Dropping it ends it.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Proxy {
    /// Starts one that does with each request what `decide` says.
    pub async fn start<F>(plane: &ControlPlane, decide: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Fate> + Send + 'static,
    {
        let mut config = plane.config().await;
        // Who asks brings his own.
        config.auth_info = kube::config::AuthInfo::default();
        let upstream = Client::try_from(config).expect("make a client");
        let decide: Decider = Arc::new(move |seen| Box::pin(decide(seen)));
        let shared = Arc::new(Shared { upstream, decide, seen: Mutex::default(), kept: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("know the port");
        let router = Router::new().fallback(forward).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serve");
        });
        Self { address, shared, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What became of the requests that `which` chooses, in order.
    pub fn fates(&self, which: impl Fn(&Seen) -> bool) -> Vec<Fate> {
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(seen, _)| which(seen)).map(|(_, fate)| *fate).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("read a request");
    let seen = Seen {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: body.clone(),
    };
    let fate = (shared.decide)(seen.clone()).await;
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push((seen, fate));
    if let Fate::Refuse(status) = fate {
        return answer(status);
    }
    if fate == Fate::Replay {
        let kept = shared.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        return ([(header::CONTENT_TYPE, "application/json")], kept).into_response();
    }
    let response = upstream(&shared.upstream, head, body).await;
    match fate {
        Fate::Pass | Fate::Refuse(_) | Fate::Replay => response,
        Fate::Keep => {
            let (head, body) = response.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("read an answer");
            *shared.kept.lock().unwrap_or_else(PoisonError::into_inner) = body.clone();
            Response::from_parts(head, Body::from(body))
        }
        Fate::Deny(status) => {
            // Not before it is carried out.
            let _ = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            answer(status)
        }
        Fate::Hold(time) => {
            tokio::time::sleep(time).await;
            response
        }
        Fate::Swallow => std::future::pending().await,
        Fate::Cut => halved(response, Some(cut())).await,
        Fate::Halve => halved(response, None).await,
        Fate::End(after, how) => ending(response, after, how),
    }
}

async fn upstream(client: &Client, mut head: Parts, body: Bytes) -> Response {
    for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    head.uri = path.parse().expect("a path");
    match client.send(axum::http::Request::from_parts(head, kube::client::Body::from(body.to_vec()))).await {
        Ok(response) => {
            let (mut head, body) = response.into_parts();
            head.headers.remove(header::TRANSFER_ENCODING);
            Response::from_parts(head, Body::new(body))
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// What the API server itself would say.
fn answer(status: u16) -> Response {
    let reason = match status {
        409 => "Conflict",
        504 => "Timeout",
        _ => "Unknown",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status,
        "reason": reason, "message": format!("the proxy says {reason}")});
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// The first half of the response, then an error or what looks like the end.
async fn halved(response: Response, error: Option<std::io::Error>) -> Response {
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("read an answer");
    let half = body.slice(..body.len() / 2);
    Response::from_parts(head, Body::from_stream(stream::iter([Ok(half)].into_iter().chain(error.map(Err)))))
}

fn cut() -> std::io::Error {
    std::io::Error::other("the proxy cuts the connection")
}

/// The response, breaking off after some time.
fn ending(response: Response, after: Duration, how: How) -> Response {
    let (mut head, body) = response.into_parts();
    // With a length a clean end would be none.
    head.headers.remove(header::CONTENT_LENGTH);
    let end = Instant::now() + after;
    let frames = Box::pin(body.into_data_stream().map(|frame| frame.map_err(std::io::Error::other)));
    Response::from_parts(head, Body::from_stream(until(frames, end, how)))
}

type Frame = Result<Bytes, std::io::Error>;

fn until(
    frames: impl Stream<Item = Frame> + Send + Unpin + 'static,
    end: Instant,
    how: How,
) -> impl Stream<Item = Frame> {
    stream::unfold(Some(frames), move |frames| async move {
        let mut frames = frames?;
        match (tokio::time::timeout_at(end, frames.next()).await, how) {
            (Ok(Some(frame)), _) => Some((frame, Some(frames))),
            (Ok(None), _) | (Err(_), How::Cleanly) => None,
            (Err(_), How::Broken) => Some((Err(cut()), None)),
            (Err(_), How::Halved) => {
                let Some(Ok(frame)) = frames.next().await else { return None };
                Some((Ok(frame.slice(..frame.len() / 2)), None))
            }
        }
    })
}
