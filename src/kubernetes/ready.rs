//! Whether a denial can be believed: an API server that has just started answers before it has read the roles, and denies everything.
//!
//! So a denial counts only when the API server had said before that it is ready. Otherwise it is asked for that, and then once more for what
//! it denied: what was denied was not carried out, so that nothing is done twice.

use std::{sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use kube::{Client, client::Body, core::Status};
use parking_lot::Mutex;
use tokio::time::Instant;

/// An API server that was ready so lately still is: no one stops and starts again in so short a time.
const LATELY: Duration = Duration::from_secs(1);
/// How long it may take to say whether it is ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of it.
pub(super) struct Readiness {
    /// Nothing: denials are always believed.
    ready_at: Option<Mutex<Option<Instant>>>,
}

impl Readiness {
    /// Denials are doubted.
    pub(super) fn doubted() -> Self {
        Self { ready_at: Some(Mutex::new(None)) }
    }

    /// Denials are always believed.
    pub(super) fn assumed() -> Self {
        Self { ready_at: None }
    }

    /// Whether a denial of what is asked now is to be believed.
    pub(super) fn lately(&self) -> bool {
        let Some(ready_at) = &self.ready_at else { return true };
        ready_at.lock().is_some_and(|at| at.elapsed() < LATELY)
    }

    /// Asks whether the API server is ready.
    ///
    /// # Errors
    /// When it is not, or does not say so.
    pub(super) async fn ask(&self, client: &Client) -> Result<(), kube::Error> {
        let request = Request::get("/readyz").body(Vec::new()).map_err(kube::Error::HttpError)?;
        match tokio::time::timeout(PATIENCE, client.request_text(request)).await {
            Ok(Ok(_)) => {
                if let Some(ready_at) = &self.ready_at {
                    *ready_at.lock() = Some(Instant::now());
                }
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a denial is not believed: the API server is not ready");
                Err(kube::Error::Api(Box::new(not_ready())))
            }
            Err(_) => Err(kube::Error::Api(Box::new(not_ready()))),
        }
    }
}

/// A client that believes a denial only from an API server that is ready. While it is not, the answer is 503.
pub(super) fn doubting(base: Client, readiness: Arc<Readiness>) -> Client {
    let namespace = base.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (base, readiness) = (base.clone(), readiness.clone());
        async move {
            let (known, again) = (readiness.lately(), copy(&request));
            let response = base.send(request).await?;
            let Some(again) = again.filter(|_| response.status() == StatusCode::FORBIDDEN && !known) else {
                return Ok(response);
            };
            match readiness.ask(&base).await {
                Ok(()) => base.send(again).await,
                Err(_) => unavailable(),
            }
        }
    });
    Client::new(service, namespace)
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn not_ready() -> Status {
    Status::failure("the API server is not ready, it may not know the roles yet", "ServiceUnavailable").with_code(503)
}

fn unavailable() -> Result<Response<Body>, kube::Error> {
    let body = serde_json::to_vec(&not_ready()).map_err(kube::Error::SerdeError)?;
    Response::builder().status(503).body(Body::from(body)).map_err(kube::Error::HttpError)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::fake::{Fake, failure};

    /// An API server that answers in this order.
    fn script(answers: Vec<(&'static str, (u16, Value))>) -> (Fake, Client) {
        let answers = Mutex::new(VecDeque::from(answers));
        let fake = Fake::new(move |seen| {
            let (path, answer) = answers.lock().pop_front().expect("no more is asked");
            assert_eq!(seen.path, path);
            answer
        });
        let client = doubting(fake.client(), Arc::new(Readiness::doubted()));
        (fake, client)
    }

    const POD: &str = "/api/v1/namespaces/shop/pods/web";

    async fn code(client: &Client) -> u16 {
        match Api::<Pod>::namespaced(client.clone(), "shop").get("web").await {
            Ok(_) => 200,
            Err(kube::Error::Api(status)) => status.code,
            Err(error) => unreachable!("{error}"),
        }
    }

    fn denied() -> (u16, Value) {
        failure(403, "Forbidden", "pods \"web\" is forbidden: User \"u\" cannot get")
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_is_believed_from_an_api_server_that_is_ready() {
        let ready = ("/readyz", (200, json!("ok")));
        let (fake, client) = script(vec![
            (POD, denied()),
            ready.clone(),
            (POD, denied()),
            (POD, denied()),
            (POD, denied()),
            ready,
            (POD, denied()),
        ]);
        assert_eq!(code(&client).await, 403);
        assert_eq!(fake.requests().len(), 3);
        assert_eq!(code(&client).await, 403);
        assert_eq!(fake.requests().len(), 4, "it was ready lately");
        tokio::time::advance(LATELY).await;
        assert_eq!(code(&client).await, 403);
        assert_eq!(fake.requests().len(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_not_ready_denies_nothing() {
        let pod = (200, json!({"metadata": {"name": "web"}}));
        let (fake, client) = script(vec![
            (POD, denied()),
            ("/readyz", failure(403, "Forbidden", "forbidden: User \"u\" cannot get path \"/readyz\"")),
            (POD, denied()),
            ("/readyz", (500, json!("[-]informer-sync failed"))),
            (POD, denied()),
            ("/readyz", (200, json!("ok"))),
            (POD, pod),
        ]);
        assert_eq!((code(&client).await, code(&client).await, code(&client).await), (503, 503, 200));
        assert_eq!(fake.requests().len(), 7);
    }
}
