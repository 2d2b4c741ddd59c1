//! The HTTP client.

use std::{error::Error, fmt, io::Cursor, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use k8s_openapi::jiff::{Timestamp, fmt::rfc2822};
use rustls::RootCertStore;

use super::{
    connector::{ConnectError, Connector},
    guard::{Guard, Refusal},
    tls::SystemRoots,
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
/// It follows no redirect, reads at most [`MAX_RESPONSE`] bytes unless it is told otherwise, sends no credentials of its own, and connects only where its
/// [`Guard`] lets it.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpsConnector<Connector>, Full<Cursor<Vec<u8>>>>,
    connector: Connector,
    roots: SystemRoots,
}

/// One request.
pub struct Call<'a> {
    /// The method.
    pub method: Method,
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
    /// The headers.
    pub headers: HeaderMap,
    /// The first bytes of the body, [`MAX_RESPONSE`] unless more was asked for.
    pub body: Vec<u8>,
    /// Whether the body may have more than these.
    pub cut: bool,
}

impl Response {
    /// Whether the status says that the same request may be answered otherwise later.
    pub fn is_transient(&self) -> bool {
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        self.status.is_server_error() || later.contains(&self.status)
    }

    /// What the answer says, as one short line.
    pub fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(1024)]);
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().filter(|c| !c.is_control()).take(160).collect()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("request to {name}: {kind}")]
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
    /// A client whose connections pass `guard`; trusts the certificate authorities of the system's bundle, which is read for the first certificate. Without
    /// a bundle plain HTTP works, and every certificate is refused.
    pub fn new(guard: Guard) -> Self {
        let roots = SystemRoots::default();
        let tls = roots.client_config();
        Self { roots, ..Self::over(Connector::new(guard), tls) }
    }

    /// A client that may connect to this host and trusts no certificate: reading the system's bundle takes longer than most tests.
    #[cfg(test)]
    pub(crate) fn to_this_host() -> Self {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().expect("a range")], vec![]);
        Self::over(Connector::new(guard), no_authorities())
    }

    /// A client that trusts no certificate, and whose names are resolved by a function.
    #[cfg(test)]
    pub(crate) fn resolving(
        guard: Guard,
        resolve: impl Fn(u16) -> Vec<std::net::SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        let resolve = move |_, port| -> futures::future::BoxFuture<'static, _> {
            Box::pin(std::future::ready(Ok(resolve(port))))
        };
        Self::over(Connector::resolving(guard, Arc::new(resolve)), no_authorities())
    }

    /// A client that connects by `connector` and speaks TLS as `tls` says.
    pub fn over(connector: Connector, tls: rustls::ClientConfig) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_PER_HOST)
            .build(https);
        Self { client, connector, roots: SystemRoots::default() }
    }

    /// A client that speaks TLS as `tls` says, past the same guard. Its connections are its own.
    pub fn with_tls(&self, tls: rustls::ClientConfig) -> Self {
        Self { roots: self.roots.clone(), ..Self::over(self.connector.clone(), tls) }
    }

    /// The way to servers of other protocols, past the same guard.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The authorities that the system trusts, for TLS to such servers; read when they are first asked for.
    pub fn roots(&self) -> Arc<RootCertStore> {
        self.roots.get()
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When there is no answer. An answer with an error status is an answer. Errors never contain the address, only its name.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the request may or may not have had its effect.
    pub async fn call(&self, call: Call<'_>) -> Result<Response, HttpError> {
        self.call_for(call, MAX_RESPONSE).await
    }

    /// [`Http::call`] that reads the first `most` bytes of the answer.
    ///
    /// # Errors
    /// As [`Http::call`].
    ///
    /// # Cancel safety
    /// As [`Http::call`].
    pub async fn call_for(&self, call: Call<'_>, most: usize) -> Result<Response, HttpError> {
        let name = call.name;
        self.send(call, most).await.map_err(|kind| HttpError { name: name.to_owned(), kind })
    }

    async fn send(&self, call: Call<'_>, most: usize) -> Result<Response, HttpErrorKind> {
        let uri = address(call.url).map_err(HttpErrorKind::Address)?;
        let mut request = Request::new(Full::new(Cursor::new(call.body)));
        *request.method_mut() = call.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = call.headers;
        let exchange = async {
            let response = self.client.request(request).await.map_err(classify)?;
            let (parts, body) = response.into_parts();
            let retry_after = parts.headers.get(header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| self::retry_after(value.to_str().ok()?));
            let body = read(body, most).await?;
            let cut = body.len() >= most;
            Ok(Response { status: parts.status, retry_after, headers: parts.headers, body, cut })
        };
        match tokio::time::timeout(call.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(HttpErrorKind::Timeout(call.timeout)),
        }
    }
}

#[cfg(test)]
fn no_authorities() -> rustls::ClientConfig {
    tls_builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

pub(super) fn tls_builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of the default protocol versions")
}

/// An address that users give, if it is one that is taken.
///
/// # Errors
/// Says what is wrong with it.
pub fn address(url: &str) -> Result<Uri, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "the address is not a URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("the address must begin with http:// or https://");
    }
    let Some(authority) = uri.authority() else {
        return Err("the address has no host");
    };
    if authority.as_str().contains('@') {
        return Err("the address must not hold a user name or password");
    }
    if authority.host().is_empty() {
        return Err("the address has no host");
    }
    Ok(uri)
}

async fn read<B>(mut body: B, most: usize) -> Result<Vec<u8>, HttpErrorKind>
where
    B: BodyExt + Unpin,
    B::Data: AsRef<[u8]>,
    B::Error: Error,
{
    let mut bytes = Vec::new();
    while bytes.len() < most {
        match body.frame().await {
            None => break,
            Some(Err(error)) => return Err(HttpErrorKind::Broken(chain(&error))),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let room = most - bytes.len();
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
