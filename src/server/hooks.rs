//! Where senders of events come in: `POST /hooks/{namespace}/{name}`, on a listener of its own.
//!
//! Nobody is trusted before [`Hooks::receive`] knows who it is: bytes are counted while they are read, headers and bodies have to come in time, and when
//! there are too many connections, those that dawdle go first. Memory is bounded by [`LIMITS`]; beyond, senders are asked to come
//! again.

use std::{fmt, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Extension, Path, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::lobby::{Lobby, Place};
use crate::{
    sources::webhook::{Hook, Hooks, Received, Refusal},
    telemetry::Metrics,
};

/// How long a connection may take to send a request's head, and how long it may be silent between requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD: usize = 32 << 10;
/// How much there may be at the same time.
#[derive(Clone, Copy, Debug)]
struct Limits {
    connections: usize,
    /// Requests that are being stored.
    requests: usize,
    /// Bytes of bodies, and an estimate of what is made of them.
    bytes: usize,
}

/// 4,096 silent connections of 10 KiB each are 40 MiB. With a disk that takes half a second, 512 requests at a time are a thousand a second.
const LIMITS: Limits = Limits { connections: 4096, requests: 512, bytes: 128 << 20 };
/// What JSON takes when it is read, times what it took before, beside the body itself.
const READ: usize = 3;
/// How long a new connection waits for the one that was cut for it to be gone.
const GONE_TIME: Duration = Duration::from_secs(1);
/// The pause after the system had no connection to give, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long answers under way may take at the end: as long as [`Hooks::receive`] waits at most, together.
const PATIENCE: Duration = Duration::from_secs(11);
/// After how many seconds to come again.
const RETRY_AFTER: u64 = 2;

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

const BUSY: Refusal = Refusal::Unavailable("too much is coming in at once: send it again later");
const STOPPING: Refusal = Refusal::Unavailable("signalbox is stopping: send it again later");
const STARTING: Refusal = Refusal::Unavailable("the EventSources are not known yet: send it again later");

/// What the server needs.
#[derive(Clone)]
pub struct Door {
    /// The EventSources.
    pub hooks: Hooks,
    /// Whether all EventSources that exist are known: before, a path that is not known may be that of one.
    pub listed: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Figures.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// What all connections share.
#[derive(Clone)]
struct Hall {
    door: Door,
    lobby: Arc<Lobby>,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Serves until `shutdown`, then finishes the answers under way, for at most 11 s.
///
/// # Errors
/// None: what fails concerns one connection, and is tried again.
pub async fn serve(listener: TcpListener, door: Door, shutdown: CancellationToken) -> io::Result<()> {
    serve_within(LIMITS, listener, door, shutdown).await
}

async fn serve_within(limits: Limits, listener: TcpListener, door: Door, stop: CancellationToken) -> io::Result<()> {
    let hall = Hall {
        door,
        lobby: Arc::default(),
        requests: Arc::new(Semaphore::new(limits.requests)),
        bytes: Arc::new(Semaphore::new(limits.bytes)),
        stop: stop.clone(),
    };
    let router = router(hall.clone());
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let Some(permit) = enter(&room, &hall).await else { continue };
                connections.spawn(connection(stream, router.clone(), hall.clone(), permit));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection of a sender was not accepted");
                hall.cut_oldest();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Nothing is lost with those that take longer: they were not told that their events are stored.
    let _ = timeout(PATIENCE, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    Ok(())
}

/// Room for a connection; if there is none, another is cut.
async fn enter(room: &Arc<Semaphore>, hall: &Hall) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        return Some(permit);
    }
    hall.cut_oldest();
    timeout(GONE_TIME, Arc::clone(room).acquire_owned()).await.ok()?.ok()
}

impl Hall {
    fn cut_oldest(&self) {
        if self.lobby.cut_oldest() {
            self.door.metrics.webhooks().connection_cut();
        }
    }
}

/// Serves one connection until it ends, is cut or the server stops.
async fn connection(stream: TcpStream, router: Router, hall: Hall, _room: OwnedSemaphorePermit) {
    let place = hall.lobby.enter();
    let waits = Arc::clone(&place);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&waits));
        router.clone().oneshot(request.map(Body::new))
    });
    // Fails when the connection is gone already.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = place.cut() => return,
        () = hall.stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving => ended,
                () = place.cut() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection of a sender ended");
    }
}

fn router(hall: Hall) -> Router {
    Router::new()
        .route("/hooks/{namespace}/{name}", post(take).options(ask).fallback(other_method))
        .fallback(async |State(hall): State<Hall>| unknown(&hall))
        .with_state(hall)
}

fn unknown(hall: &Hall) -> Response {
    let refusal = Refusal::Malformed("there is no such EventSource".to_owned());
    hall.door.hooks.refused(None, &refusal);
    (StatusCode::NOT_FOUND, refusal.to_string()).into_response()
}

async fn other_method(State(hall): State<Hall>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let refusal = Refusal::Malformed("send events by POST".to_owned());
    hall.door.hooks.refused(hall.door.hooks.get(&namespace, &name).as_deref(), &refusal);
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], refusal.to_string()).into_response()
}

/// What a sender of CloudEvents asks before it sends, so that nobody is made to send to who does not want it. Whether it may send is seen by each
/// request's credentials all the same. <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection>
async fn ask(
    State(hall): State<Hall>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some(hook) = hall.door.hooks.get(&namespace, &name) else { return nobody(&hall) };
    let allowed = match hook.handshake() {
        Ok(Some(allowed)) if headers.contains_key(REQUEST_ORIGIN) => allowed,
        Ok(_) => return other_method(State(hall), Path((namespace, name))).await,
        Err(refusal) => {
            hall.door.hooks.refused(Some(&hook), &refusal);
            return answer(&refusal);
        }
    };
    let rate = allowed.map_or_else(|| "*".to_owned(), |events| events.to_string());
    let headers = [(header::ALLOW, "POST".to_owned()), (ALLOWED_ORIGIN, "*".to_owned()), (ALLOWED_RATE, rate)];
    (StatusCode::OK, headers).into_response()
}

/// For who is not known, or not yet.
fn nobody(hall: &Hall) -> Response {
    if (hall.door.listed)() {
        return unknown(hall);
    }
    hall.door.hooks.refused(None, &STARTING);
    answer(&STARTING)
}

/// Takes one request.
async fn take(
    State(hall): State<Hall>,
    Path((namespace, name)): Path<(String, String)>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Response {
    let Some(hook) = hall.door.hooks.get(&namespace, &name) else { return nobody(&hall) };
    let (parts, body) = request.into_parts();
    let read = match timeout(BODY_TIME, read(&hall, &hook, &parts.headers, body)).await {
        Ok(read) => read,
        Err(_) => {
            let refusal = Refusal::Malformed("the body did not come in time".to_owned());
            hall.door.hooks.refused(Some(&hook), &refusal);
            return (StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")], refusal.to_string()).into_response();
        }
    };
    let (body, _bytes, _request) = match read {
        Ok(read) => read,
        Err(refusal) => {
            hall.door.hooks.refused(Some(&hook), &refusal);
            return answer(&refusal);
        }
    };
    place.is_served();
    let received = hall.door.hooks.receive(&hook, &parts.headers, &body).await;
    place.waits();
    match received {
        Ok(Received { new: 0, .. }) => StatusCode::OK.into_response(),
        Ok(_) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => answer(&refusal),
    }
}

/// A body, the bytes that are counted for it, and a place among the requests that are being stored.
type Whole = (Vec<u8>, OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Reads the body, as far as it may go.
async fn read(hall: &Hall, hook: &Hook, headers: &HeaderMap, body: Body) -> Result<Whole, Refusal> {
    if hall.stop.is_cancelled() {
        return Err(STOPPING);
    }
    let max = hall.door.hooks.admits(hook)?;
    let too_large = || Refusal::TooLarge(format!("the body is larger than {max} bytes"));
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let (mut body, mut whole, mut counted) = (pin!(body), Vec::new(), count(hall, 0)?);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::Malformed("the body is cut off".to_owned()))?;
        let part: Bytes = frame.into_data().unwrap_or_default();
        if whole.len() + part.len() > max {
            return Err(too_large());
        }
        counted.merge(count(hall, part.len())?);
        whole.extend_from_slice(&part);
    }
    let unfolded = if headers.contains_key(header::CONTENT_ENCODING) { max } else { 0 };
    counted.merge(count(hall, whole.len() * READ + unfolded)?);
    let request = Arc::clone(&hall.requests).try_acquire_owned().map_err(|_| BUSY)?;
    Ok((whole, counted, request))
}

/// Counts bytes while the permit lives. When there are too many, the sender that dawdles most gives up its own.
fn count(hall: &Hall, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let bytes = u32::try_from(bytes).map_err(|_| BUSY)?;
    Arc::clone(&hall.bytes).try_acquire_many_owned(bytes).map_err(|_| {
        hall.cut_oldest();
        BUSY
    })
}

fn answer(refusal: &Refusal) -> Response {
    let said = refusal.to_string();
    let again = |seconds: u64| (header::RETRY_AFTER, seconds.to_string());
    match refusal {
        Refusal::Unauthenticated => (StatusCode::UNAUTHORIZED, said).into_response(),
        Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, said).into_response(),
        Refusal::Unsupported(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, said).into_response(),
        // The rest of the body is not waited for.
        Refusal::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, [(header::CONNECTION, "close")], said).into_response(),
        Refusal::RateLimited(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            (StatusCode::TOO_MANY_REQUESTS, [again(seconds.max(1))], said).into_response()
        }
        Refusal::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, [again(RETRY_AFTER)], said).into_response(),
    }
}

#[cfg(test)]
mod tests;
