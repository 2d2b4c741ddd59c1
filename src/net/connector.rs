//! TCP connections to resolved and checked addresses.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tower::Service;

use super::guard::{Guard, Refusal};

/// How long one address may take to accept; the next one is tried then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Resolves a host, checks each address and connects to the first allowed one that accepts.
///
/// Addresses written as numbers go the same way as names: what counts is where the connection would go.
#[derive(Clone)]
pub struct Connector {
    guard: Arc<Guard>,
    resolve: Arc<Resolve>,
}

/// Gives the addresses of a host. One answer is checked and used; nobody asks twice for one connection.
pub(super) type Resolve = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

impl Connector {
    /// Asks the system for addresses.
    pub fn new(guard: Guard) -> Self {
        Self::resolving(
            guard,
            Arc::new(|host, port| Box::pin(async move { Ok(lookup_host((host.as_str(), port)).await?.collect()) })),
        )
    }

    pub(super) fn resolving(guard: Guard, resolve: Arc<Resolve>) -> Self {
        Self { guard: Arc::new(guard), resolve }
    }

    /// The addresses of a host, a name or an address, that may be connected to: one or more.
    ///
    /// # Errors
    /// When there is none, or none that may be.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = self.addresses(host, port).await?;
        let mut refused = ConnectError::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        let mut allowed = Vec::new();
        for address in addresses {
            match self.guard.check(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(refusal) => refused = refusal.into(),
            }
        }
        if allowed.is_empty() { Err(refused) } else { Ok(allowed) }
    }

    /// Whether all addresses of a host may be connected to: for clients that resolve it by themselves.
    ///
    /// # Errors
    /// When one may not, or there is none.
    pub async fn permits(&self, host: &str, port: u16) -> Result<(), ConnectError> {
        for address in self.addresses(host, port).await? {
            self.guard.check(address.ip())?;
        }
        Ok(())
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        match host.parse::<IpAddr>() {
            Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
            Err(_) => (self.resolve)(host.to_owned(), port).await.map_err(ConnectError::Resolve),
        }
    }

    /// A connection to the first address of the host that may be connected to and accepts.
    ///
    /// # Errors
    /// When there is none: what the last address said.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, there is no connection.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let mut last = ConnectError::NoHost;
        for address in self.resolve(host, port).await? {
            last = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(ConnectError::Connect)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => ConnectError::Connect(error),
                Err(_) => ConnectError::Connect(io::ErrorKind::TimedOut.into()),
            };
        }
        Err(last)
    }

    async fn follow(&self, uri: &Uri) -> Result<TcpStream, ConnectError> {
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        self.connect(host, port).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The guard refused the address.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// There is no host in it.
    #[error("the address has no host")]
    NoHost,
    /// The name has no address.
    #[error("resolve the host: {0}")]
    Resolve(#[source] io::Error),
    /// Nobody accepts there.
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.follow(&uri).await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_is_permitted_only_when_all_its_addresses_are() {
        let of = |addresses: &'static [&'static str]| {
            let found =
                move |port| addresses.iter().map(move |one| SocketAddr::new(one.parse().expect("an address"), port));
            let resolve =
                move |_, port| -> BoxFuture<'static, _> { Box::pin(std::future::ready(Ok(found(port).collect()))) };
            Connector::resolving(Guard::default(), Arc::new(resolve))
        };
        let mixed = of(&["203.0.113.7", "169.254.169.254"]);
        assert_eq!(mixed.resolve("kafka", 9092).await.expect("one of them").len(), 1);
        assert!(matches!(mixed.permits("kafka", 9092).await, Err(ConnectError::Refused(_))));
        assert!(of(&["203.0.113.7", "203.0.113.8"]).permits("kafka", 9092).await.is_ok());
        assert!(matches!(of(&[]).permits("127.0.0.1", 9092).await, Err(ConnectError::Refused(_))));
    }
}
