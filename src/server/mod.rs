//! The servers: `/livez`, `/readyz` and `/metrics` for the cluster, below `/v1` what people ask about rules, [`hooks`] for senders of events, and
//! [`admission`] for the API server's questions about rules.

pub mod admission;
mod api;
pub mod hooks;
mod lobby;
mod taken;

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use api::{LateRules, Rules};

use self::taken::Door;
use crate::telemetry::{Metrics, OPEN_METRICS};

/// How long answers under way may take at the end. They are made in milliseconds; a client that never finishes its question would hold up the
/// end of the process for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the server tells.
#[derive(Clone)]
pub struct Admin {
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Whether the operator works, or what it still waits for.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// What people ask about rules, once there is an answer.
    pub rules: LateRules,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Serves until `shutdown`, then finishes the answers under way, for at most 1 s. A client that takes nothing of its answer for 30 s is cut.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) -> io::Result<()> {
    serve_router(listener, router(admin), shutdown).await
}

async fn serve_router(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let serving = axum::serve(Door(listener), router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        result = serving => result,
        () = patience => Ok(()),
    }
}

fn router(admin: Admin) -> Router {
    let rules = api::router(Arc::clone(&admin.rules));
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin)
        .merge(rules)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match (admin.ready)() {
        Ok(()) => "ok".into_response(),
        Err(waits) => (StatusCode::SERVICE_UNAVAILABLE, waits).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], admin.metrics.encode()).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt as _;
    use parking_lot::Mutex;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(admin: &Admin, path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = router(admin.clone()).oneshot(request).await.expect("an answer");
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (status, kind) = (answer.status(), kind.to_owned());
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, kind, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn it_is_alive_before_it_is_ready() {
        let synced = Arc::new(AtomicBool::new(false));
        let flag = synced.clone();
        let ready = move || {
            if flag.load(Ordering::Relaxed) { Ok(()) } else { Err("rules were not listed yet".to_owned()) }
        };
        let admin =
            Admin { metrics: Arc::new(Metrics::default()), ready: Arc::new(ready), rules: LateRules::default() };
        assert_eq!(ask(&admin, "/livez").await.0, StatusCode::OK);
        let (status, _, body) = ask(&admin, "/readyz").await;
        assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "rules were not listed yet"));
        synced.store(true, Ordering::Relaxed);
        assert_eq!(ask(&admin, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_in_the_open_metrics_format() {
        let admin =
            Admin { metrics: Arc::new(Metrics::default()), ready: Arc::new(|| Ok(())), rules: LateRules::default() };
        let (status, kind, body) = ask(&admin, "/metrics").await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, OPEN_METRICS));
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn it_ends_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let admin =
            Admin { metrics: Arc::new(Metrics::default()), ready: Arc::new(|| Ok(())), rules: LateRules::default() };
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, admin, shutdown.clone()));
        shutdown.cancel();
        server.await.expect("no panic").expect("a clean end");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        // Held by the answer, as a place among those who read the archive is.
        let (place, mut free) = tokio::sync::mpsc::channel::<()>(1);
        let place = Arc::new(Mutex::new(Some(place)));
        let endless = move || async move {
            let place = place.lock().take();
            Body::from_stream(futures::stream::repeat_with(move || {
                let _place = &place;
                Ok::<_, io::Error>(vec![b'.'; 1 << 16])
            }))
        };
        let router = Router::new().route("/endless", get(endless));
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_router(listener, router, shutdown.clone()));
        let mut client = TcpStream::connect(address).await.expect("a connection");
        client.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("a question");
        let mut first = [0; 12];
        client.read_exact(&mut first).await.expect("an answer begins");
        assert_eq!(&first, b"HTTP/1.1 200");
        assert_eq!(free.recv().await, None);
        shutdown.cancel();
        server.await.expect("no panic").expect("a clean end");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_no_client_that_never_finishes_its_question() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let admin = Admin { metrics: Arc::default(), ready: Arc::new(|| Ok(())), rules: LateRules::default() };
        let server = tokio::spawn(serve(listener, admin, shutdown.clone()));
        // The second is answered after the first was taken in.
        let ask = async |question: &str| {
            let mut client = TcpStream::connect(address).await.expect("a connection");
            client.write_all(question.as_bytes()).await.expect("a question");
            client
        };
        let _half = ask("GET /livez HTTP/1.1\r\n").await;
        let mut whole = ask("GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let mut answer = String::new();
        whole.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.ends_with("ok"), "{answer}");
        shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), server).await;
        ended.expect("it ends").expect("no panic").expect("a clean end");
    }
}
