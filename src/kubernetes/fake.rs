//! An API server played by a function, for tests.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::Value;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path without query.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) user: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

type Answer = dyn Fn(&Seen) -> (u16, Value) + Send + Sync;

/// Answers every request by a function and remembers it.
#[derive(Clone)]
pub(crate) struct Fake {
    answer: Arc<Answer>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(&Seen) -> (u16, Value) + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), seen: Arc::default() }
    }

    pub(crate) fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await?.to_bytes();
                let seen = Seen {
                    method: parts.method,
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    user: parts.headers.get("impersonate-user").and_then(|v| v.to_str().ok()).map(str::to_owned),
                    headers: parts.headers,
                    body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
                };
                let (status, body) = (fake.answer)(&seen);
                fake.seen.lock().push(seen);
                let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
                Ok::<_, kube::Error>(response.expect("a valid response"))
            }
        });
        Client::new(service, "default")
    }

    /// Everything asked so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

/// The body that Kubernetes sends with an error.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": message});
    (code, body)
}
