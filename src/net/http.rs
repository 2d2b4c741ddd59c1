//! The HTTP client.

use std::{error::Error, fmt, io::Cursor, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use k8s_openapi::jiff::{Timestamp, fmt::rfc2822};

use super::{
    connector::{ConnectError, GuardedConnector},
    guard::{Guard, Refusal},
};

/// How much of an answer is read: 64 KiB. What tells why a request was refused is in its first lines.
pub const MAX_RESPONSE: usize = 64 * 1024;
/// Idle connections kept per host: as many as one rule has firings at once (16).
const POOL_PER_HOST: usize = 16;
/// How long an idle connection is kept; most servers and load balancers close after 60 s or more.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// An HTTP client for addresses that users give; cheap to clone, all clones share one pool of connections.
///
/// It follows no redirect, reads at most [`MAX_RESPONSE`] bytes, sends no credentials of its own, and connects only where its
/// [`Guard`] lets it.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpsConnector<GuardedConnector>, Full<Cursor<Vec<u8>>>>,
}

/// One POST request.
pub struct Post<'a> {
    /// Where to, `http://` or `https://`.
    pub url: &'a str,
    /// What errors call the address; the address itself may be a secret.
    pub name: &'a str,
    /// Headers; `Host` and `Content-Length` are set by the client.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// For everything from connecting to the last byte of the answer.
    pub timeout: Duration,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// `Retry-After`, as a span from now, at most an hour.
    pub retry_after: Option<Duration>,
    /// The first [`MAX_RESPONSE`] bytes of the body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("post to {name}: {kind}")]
pub struct HttpError {
    /// What the caller calls the address.
    pub name: String,
    /// What went wrong.
    #[source]
    pub kind: HttpErrorKind,
}

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum HttpErrorKind {
    /// The address is none, or not one that is taken. Repeating does not help.
    #[error("{0}")]
    Address(&'static str),
    /// The guard refused the address. Repeating does not help.
    #[error("{0}")]
    Refused(Refusal),
    /// No connection could be made: nothing was sent.
    #[error("{0}")]
    Connect(String),
    /// No full answer in time: whether the request had an effect is unknown.
    #[error("no answer within {}", seconds(.0))]
    Timeout(Duration),
    /// The connection broke: whether the request had an effect is unknown.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl HttpErrorKind {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Address(_) | Self::Refused(_))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// A client whose connections pass `guard`; trusts the certificate authorities of the system's bundle. Without a bundle plain HTTP
    /// works, and every certificate is refused.
    pub fn new(guard: Guard) -> Self {
        let builder = tls_builder();
        let tls = match builder.with_native_roots() {
            Ok(builder) => builder.with_no_client_auth(),
            Err(error) => {
                tracing::warn!(%error, "no certificate authorities found, https addresses will be refused");
                tls_builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
            }
        };
        Self::with_tls(guard, tls)
    }

    /// A client that may connect to this host and trusts no certificate: reading the system's bundle takes longer than most tests.
    #[cfg(test)]
    pub(crate) fn to_this_host() -> Self {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().expect("a range")], vec![]);
        Self::with_tls(
            guard,
            tls_builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(),
        )
    }

    fn with_tls(guard: Guard, tls: rustls::ClientConfig) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(GuardedConnector(Arc::new(guard)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_PER_HOST)
            .build(connector);
        Self { client }
    }

    /// Sends a POST and reads the answer.
    ///
    /// # Errors
    /// When there is no answer. An answer with an error status is an answer. Errors never contain the address, only its name.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the request may or may not have had its effect.
    pub async fn post(&self, post: Post<'_>) -> Result<Response, HttpError> {
        let name = post.name;
        self.send(post).await.map_err(|kind| HttpError { name: name.to_owned(), kind })
    }

    async fn send(&self, post: Post<'_>) -> Result<Response, HttpErrorKind> {
        let uri = address(post.url)?;
        let mut request = Request::new(Full::new(Cursor::new(post.body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = post.headers;
        let exchange = async {
            let response = self.client.request(request).await.map_err(classify)?;
            let status = response.status();
            let retry_after =
                response.headers().get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
            let body = read(response.into_body()).await?;
            Ok(Response { status, retry_after, body })
        };
        match tokio::time::timeout(post.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(HttpErrorKind::Timeout(post.timeout)),
        }
    }
}

fn tls_builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of the default protocol versions")
}

fn address(url: &str) -> Result<Uri, HttpErrorKind> {
    let uri: Uri = url.parse().map_err(|_| HttpErrorKind::Address("the address is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(HttpErrorKind::Address("the address must begin with http:// or https://"));
    }
    let Some(authority) = uri.authority() else {
        return Err(HttpErrorKind::Address("the address has no host"));
    };
    if authority.as_str().contains('@') {
        return Err(HttpErrorKind::Address("the address must not hold a user name or password"));
    }
    if authority.host().is_empty() {
        return Err(HttpErrorKind::Address("the address has no host"));
    }
    Ok(uri)
}

async fn read<B>(mut body: B) -> Result<Vec<u8>, HttpErrorKind>
where
    B: BodyExt + Unpin,
    B::Data: AsRef<[u8]>,
    B::Error: Error,
{
    let mut bytes = Vec::new();
    while bytes.len() < MAX_RESPONSE {
        match body.frame().await {
            None => break,
            Some(Err(error)) => return Err(HttpErrorKind::Broken(chain(&error))),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let room = MAX_RESPONSE - bytes.len();
                    let data = data.as_ref();
                    bytes.extend_from_slice(&data[..data.len().min(room)]);
                }
            }
        }
    }
    Ok(bytes)
}

fn classify(error: legacy::Error) -> HttpErrorKind {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(ConnectError::Refused(refusal)) = inner.downcast_ref() {
            return HttpErrorKind::Refused(*refusal);
        }
        source = inner.source();
    }
    if error.is_connect() { HttpErrorKind::Connect(chain(&error)) } else { HttpErrorKind::Broken(chain(&error)) }
}

/// The innermost cause: the outer ones say "client error" and the like.
fn chain(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

/// A `Retry-After` as seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = rfc2822::parse(value.trim()).ok()?.timestamp();
            Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
