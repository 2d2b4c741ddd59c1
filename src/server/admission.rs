//! Where the API server asks about rules before it takes them, by TLS, on a listener of its own.
//!
//! Anybody in the network can connect. Answers tell which rights accounts lack, so only who knows the path gets one: it is made anew by each process, and
//! told to the API server alone. What can be asked at once is bounded.

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures::future::BoxFuture;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Bytes of a question: the API server takes objects of 1.5 MiB, and sends the old one along.
const QUESTION: usize = 4 << 20;
/// Connections at the same time: an API server keeps a few.
const CONNECTIONS: usize = 64;
/// Questions that are answered at the same time.
const AT_ONCE: usize = 4;
/// How long a handshake may take, and how long a connection may send a head or be silent.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a question may take to arrive and to be answered.
const QUESTION_TIME: Duration = Duration::from_secs(10);
/// How long an answer may take: less than the API server waits for it.
const ANSWER: Duration = Duration::from_secs(4);
/// The pause after the system had no connection to give.
const PAUSE: Duration = Duration::from_millis(50);

/// What is to be said of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opinion {
    /// What is wrong with it; nothing: it may be taken.
    pub faults: Vec<String>,
    /// What its author is told all the same.
    pub warnings: Vec<String>,
}

/// Who knows what is to be said of an object, given as JSON.
#[derive(Clone)]
pub struct Judge(pub Arc<dyn Fn(String) -> BoxFuture<'static, Opinion> + Send + Sync>);

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Review<'r> {
    #[serde(borrow)]
    request: Request<'r>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'r> {
    uid: String,
    #[serde(borrow)]
    object: Option<&'r RawValue>,
    #[serde(borrow)]
    old_object: Option<&'r RawValue>,
}

/// Serves questions that are asked at this path until `shutdown`. Answers under way are dropped then: the API server goes on without them.
///
/// # Errors
/// None: what fails concerns one connection, and is tried again.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    (path, judge): (&str, Judge),
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route(path, post(answer))
        .layer(DefaultBodyLimit::max(QUESTION))
        .with_state((judge, Arc::new(Semaphore::new(AT_ONCE))));
    let (acceptor, room) = (TlsAcceptor::from(tls), Arc::new(Semaphore::new(CONNECTIONS)));
    let mut connections = JoinSet::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        while connections.try_join_next().is_some() {}
        let (Ok((stream, _)), Ok(place)) = (accepted, Arc::clone(&room).try_acquire_owned()) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        connections.spawn(async move {
            connection(stream, acceptor, router).await;
            drop(place);
        });
    }
    connections.shutdown().await;
    Ok(())
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let stream = match timeout(HEAD_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake about rules failed"),
        Err(_) => return,
    };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = timeout(QUESTION_TIME, router.clone().oneshot(request.map(Body::new)));
        async move {
            match answer.await {
                Ok(answer) => answer,
                Err(_) => Ok((StatusCode::REQUEST_TIMEOUT, "the question did not arrive in time").into_response()),
            }
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::trace!(%error, "a connection about rules ended");
    }
}

async fn answer(State((judge, turns)): State<(Judge, Arc<Semaphore>)>, question: String) -> Response {
    let review: Review<'_> = match serde_json::from_str(&question) {
        Ok(review) => review,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("read the AdmissionReview: {error}")).into_response(),
    };
    let Request { uid, object, old_object } = review.request;
    let opinion = async {
        let _turn = turns.acquire().await;
        // What stays as it was is taken: its metadata may change, such as for its end.
        match object.filter(|object| old_object.is_none_or(|old| spec(old) != spec(object))) {
            Some(object) => (judge.0)(object.get().to_owned()).await,
            None => Opinion::default(),
        }
    };
    match timeout(ANSWER, opinion).await {
        Ok(opinion) => ([(header::CONTENT_TYPE, "application/json")], told(&uid, &opinion).to_string()).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time").into_response(),
    }
}

/// The spec; nothing when it cannot be read, and then it is another one.
fn spec(object: &RawValue) -> Option<Value> {
    let mut object: Value = serde_json::from_str(object.get()).ok()?;
    Some(object.get_mut("spec")?.take())
}

fn told(uid: &str, opinion: &Opinion) -> Value {
    let Opinion { faults, warnings } = opinion;
    let mut response = json!({"uid": uid, "allowed": faults.is_empty(), "warnings": warnings});
    if !faults.is_empty() {
        response["status"] = json!({"code": 422, "reason": "Invalid", "message": faults.join("\n")});
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(faults: &'static [&'static str]) -> Router {
        let judge = Judge(Arc::new(move |_| {
            let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
            Box::pin(async { Opinion { faults, warnings: vec!["w".to_owned()] } })
        }));
        Router::new().route("/rules", post(answer)).with_state((judge, Arc::new(Semaphore::new(1))))
    }

    async fn ask(router: Router, request: Value) -> Value {
        use http_body_util::BodyExt as _;
        let question = json!({"kind": "AdmissionReview", "request": request}).to_string();
        let question = hyper::Request::post("/rules").body(Body::from(question)).expect("a request");
        let body = router.oneshot(question).await.expect("an answer").into_body();
        serde_json::from_slice(&body.collect().await.expect("a body").to_bytes()).expect("JSON")
    }

    #[tokio::test]
    async fn a_rule_with_faults_is_refused_with_all_of_them() {
        let answer = ask(router(&["spec.a: x", "spec.b: y"]), json!({"uid": "7", "object": {"spec": {}}})).await;
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("7"), &json!(false)));
        assert_eq!(response["status"]["message"], "spec.a: x\nspec.b: y");
        assert_eq!(ask(router(&[]), json!({"uid": "7", "object": {"spec": {}}})).await["response"]["allowed"], true);
    }

    #[tokio::test]
    async fn a_rule_that_stays_as_it_was_is_taken_whatever_is_wrong_with_it() {
        let object = |spec: u8, label: &str| json!({"metadata": {"labels": {"a": label}}, "spec": {"s": spec}});
        let update =
            |old: Value, new: Value| ask(router(&["no"]), json!({"uid": "1", "object": new, "oldObject": old}));
        assert_eq!(update(object(1, "a"), object(1, "b")).await["response"]["allowed"], true);
        assert_eq!(update(object(1, "a"), object(2, "a")).await["response"]["allowed"], false);
    }
}
