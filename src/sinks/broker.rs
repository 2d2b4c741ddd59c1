//! What sinks of brokers share: the way to the server, connections that are kept, and how long everything may take.

use tokio::time::{Instant, timeout_at};

use super::{Connections, Key, REQUEST_TIMEOUT, Reach, Secrets, SinkError};
use crate::{
    api::{AddressFault, Login, SecretKeyRef, Tls},
    net::{Wire, open, tls_of},
    text::line,
};

/// A server of a broker, and how to get in.
pub(super) struct Server {
    host: String,
    port: u16,
    tls: Option<Tls>,
    login: Option<Login>,
}

/// A connection that is kept.
pub(super) trait Kept: Send + Sync + 'static {
    /// Whether it has ended: another one is made then.
    fn is_over(&self) -> bool;
}

impl Server {
    /// Notes what is wrong; `kind` is the field of the spec.
    pub(super) fn new(
        kind: &str,
        address: Result<(String, u16), AddressFault>,
        (tls, login): (Option<&Tls>, Option<&Login>),
        faults: &mut Vec<String>,
    ) -> Option<Self> {
        if let Some(tls) = tls {
            tls.faults(&format!("{kind}.tls"), faults);
        }
        let (host, port) = address.map_err(|fault| faults.push(format!("{kind}.address: {fault}"))).ok()?;
        Some(Self { host, port, tls: tls.cloned(), login: login.cloned() })
    }

    /// `host:port`, for messages.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What a connection to it is kept by. `more` is what else makes connections differ.
    pub(super) fn key(
        &self,
        kind: &'static str,
        secrets: &Secrets,
        needed: &[SecretKeyRef],
        more: &[&str],
    ) -> Result<Key, SinkError> {
        let Self { host, port, tls, login } = self;
        let port = port.to_string();
        let name = tls.as_ref().map(|tls| tls.server_name.as_deref().unwrap_or(host));
        // Which of the secrets are there, and what for, makes a difference, not what they are called.
        let which = tls.as_ref().map(|tls| (tls.ca_secret_ref.is_some(), tls.client_key_secret_ref.is_some()));
        let (which, login) = (format!("{which:?}"), format!("{:?}", login.as_ref().map(|login| &login.username)));
        let mut parts: Vec<&[u8]> =
            [host, port.as_str(), name.unwrap_or_default(), &which, &login].map(str::as_bytes).to_vec();
        parts.extend(more.iter().map(|part| part.as_bytes()));
        for key in needed {
            parts.push(secrets.get(key)?.bytes());
        }
        Ok(Key::of(kind, parts))
    }

    /// A connection, past the guard.
    pub(super) async fn open(&self, secrets: &Secrets, reach: Reach<'_>) -> Result<Box<dyn Wire>, SinkError> {
        let tls = match &self.tls {
            None => None,
            Some(tls) => {
                let read = |key: &SecretKeyRef| secrets.get(key).map(|value| value.bytes());
                Some(tls_of(tls, &self.host, &reach.http.roots(), read)?)
            }
        };
        Ok(open(reach.http.connector(), (&self.host, self.port), tls).await?)
    }

    /// User name and password.
    pub(super) fn login<'a>(&'a self, secrets: &'a Secrets) -> Result<Option<(&'a str, &'a str)>, SinkError> {
        let Some(Login { username, password_secret_ref }) = &self.login else { return Ok(None) };
        Ok(Some((username, secrets.text(password_secret_ref)?)))
    }
}

/// The connection of this key: the one that is kept, if it has not ended, or else a new one.
pub(super) async fn connected<C: Kept, M>(
    connections: &Connections,
    key: Key,
    make: impl Fn() -> M,
) -> Result<std::sync::Arc<C>, SinkError>
where
    M: Future<Output = Result<C, SinkError>>,
{
    let kept = connections.get(key, &make).await?;
    if !kept.is_over() {
        return Ok(kept);
    }
    connections.discard(key, &kept);
    connections.get(key, make).await
}

/// By when a delivery that begins now must be done.
pub(super) fn deadline() -> Instant {
    Instant::now() + REQUEST_TIMEOUT
}

/// What comes of it by then.
pub(super) async fn by<T>(
    deadline: Instant,
    name: &str,
    work: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| {
        Err(SinkError::later(format!("{name} did not answer within {} s", REQUEST_TIMEOUT.as_secs())))
    })
}

/// The same in words that can be shown: what a broker says is cut, made one line, and holds no secret.
pub(super) fn shown(error: SinkError, secrets: &Secrets) -> SinkError {
    SinkError { message: line(&secrets.redact(&error.message)), ..error }
}
