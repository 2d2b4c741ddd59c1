//! Connections to servers of other protocols than HTTP, past the guard, by TLS or not.

use std::{io, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::connector::{ConnectError, Connector};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection that passed the guard, by TLS or not.
pub trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static> Wire for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Nobody accepts, or the guard refused the address.
    #[error("{0}: {1}")]
    Connect(String, #[source] ConnectError),
    /// No certificate can be for it.
    #[error("{0} is no name of a server")]
    Name(String),
    /// The server's certificate is not one to trust, or it speaks no TLS.
    #[error("TLS with {0}: {1}{advice}", advice = advice(.1))]
    Handshake(String, #[source] io::Error),
    /// The server says nothing.
    #[error("TLS with {0}: no answer within 10 s")]
    Silent(String),
}

/// What helps where a handshake comes to nothing.
fn advice(error: &io::Error) -> &'static str {
    use rustls::{CertificateError as Fault, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        // The signature is a bad one where an authority was made anew under its old name.
        Some(Error::InvalidCertificate(Fault::UnknownIssuer | Fault::BadSignature)) => {
            ": name its authority by tls.caSecretRef"
        }
        Some(Error::InvalidCertificate(Fault::NotValidForName | Fault::NotValidForNameContext { .. })) => {
            ": connect by a name that it is for"
        }
        _ => "",
    }
}

impl WireError {
    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Connect(_, ConnectError::Refused(_)) | Self::Name(_))
    }
}

/// A connection to a host, by TLS where there is a configuration for it.
///
/// # Errors
/// When nobody accepts, the guard refuses the address, or the server's certificate is not one to trust.
///
/// # Cancel safety
/// Dropped before it is ready, there is no connection.
pub async fn open(
    connector: &Connector,
    (host, port): (&str, u16),
    tls: Option<ClientConfig>,
) -> Result<Box<dyn Wire>, WireError> {
    let whom = || format!("{host}:{port}");
    let stream = connector.connect(host, port).await.map_err(|error| WireError::Connect(whom(), error))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| WireError::Name(host.to_owned()))?;
    match timeout(HANDSHAKE, TlsConnector::from(Arc::new(tls)).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(WireError::Handshake(whom(), error)),
        Err(_) => Err(WireError::Silent(whom())),
    }
}
