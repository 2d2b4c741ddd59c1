//! Connections to servers of NATS, for sources that subscribe and sinks that publish.
//!
//! The client is given the addresses that passed the guard, and connects to nothing else: not to other addresses of the name, nor to servers that the
//! server tells of. A connection that breaks is given up by whoever made it: the next begins with the name.

use std::{error::Error as _, net::SocketAddr, time::Duration};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use rustls::ClientConfig;
use tokio::{sync::mpsc, time::timeout};

use crate::api::{NatsAuth, SecretKeyRef};

/// How long a server may take to answer a question.
pub const ANSWER: Duration = Duration::from_secs(10);
/// How long one server may take until it has taken the credentials.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one address of a server may take, where it has several; all of them have this time.
const EACH: Duration = Duration::from_secs(3);
/// What the server has told and was not looked at yet; more of it is left out, but for the end of the connection, which ends the channel too.
const TOLD: usize = 64;

/// A server, and how to get in.
pub struct Way<'a> {
    /// The server, for messages.
    pub server: &'a str,
    /// Its addresses.
    pub addresses: &'a [SocketAddr],
    /// What the client calls itself.
    pub name: String,
    /// How to speak TLS.
    pub tls: Encryption,
    /// Who comes.
    pub login: Login<'a>,
    /// Messages of one subscription that wait to be read.
    pub waiting: usize,
}

/// Whether a connection is encrypted.
pub enum Encryption {
    /// It must be.
    Must(Box<ClientConfig>),
    /// If the server asks for it.
    May(Option<Box<ClientConfig>>),
}

/// Credentials.
pub enum Login<'a> {
    /// None.
    Nobody,
    /// User name and password.
    Password(&'a str, &'a str),
    /// A token.
    Token(&'a str),
    /// The seed of an NKey.
    Nkey(&'a str),
    /// What a credentials file holds, and the key that holds it.
    Credentials(&'a str, &'a SecretKeyRef),
}

impl<'a> Login<'a> {
    /// What a spec says. `read` gives the values of Secrets.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn of<E>(auth: Option<&'a NatsAuth>, read: impl Fn(&SecretKeyRef) -> Result<&'a str, E>) -> Result<Self, E> {
        let Some(auth) = auth else { return Ok(Self::Nobody) };
        Ok(match (&auth.login, &auth.token_secret_ref, &auth.nkey_secret_ref, &auth.credentials_secret_ref) {
            (Some(login), ..) => Self::Password(&login.username, read(&login.password_secret_ref)?),
            (_, Some(key), ..) => Self::Token(read(key)?),
            (_, _, Some(key), _) => Self::Nkey(read(key)?),
            (_, _, _, Some(key)) => Self::Credentials(read(key)?, key),
            _ => Self::Nobody,
        })
    }
}

/// Why there is no connection. Never holds credentials of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// The credentials were not taken.
    #[error("{0}")]
    Unauthenticated(String),
    /// The certificate, or the address, cannot be used.
    #[error("{0}")]
    Refused(String),
}

/// A connection, and what the client tells of it: the channel ends with it.
///
/// # Errors
/// When no address takes it.
///
/// # Cancel safety
/// Dropped before it is ready, there is no connection.
pub async fn connect(way: Way<'_>) -> Result<(Client, mpsc::Receiver<Event>), Fault> {
    let Way { server, addresses, name, tls, login, waiting } = way;
    let servers: Vec<ServerAddr> =
        addresses.iter().filter_map(|address| format!("nats://{address}").parse().ok()).collect();
    let (each, all) = patience(servers.len());
    let (tell, told) = mpsc::channel(TOLD);
    let options = ConnectOptions::new()
        .name(name)
        .ignore_discovered_servers()
        .retain_servers_order()
        .max_reconnects(servers.len())
        .connection_timeout(each)
        .request_timeout(Some(ANSWER))
        .subscription_capacity(waiting)
        .event_callback(move |event| {
            let _ = tell.try_send(event);
            std::future::ready(())
        });
    let options = match tls {
        Encryption::Must(config) => options.require_tls(true).tls_client_config(*config),
        Encryption::May(Some(config)) => options.tls_client_config(*config),
        Encryption::May(None) => options,
    };
    let options = match login {
        Login::Nobody => options,
        Login::Password(username, password) => options.user_and_password(username.to_owned(), password.to_owned()),
        Login::Token(token) => options.token(token.to_owned()),
        Login::Nkey(seed) => options.nkey(seed.trim().to_owned()),
        Login::Credentials(file, SecretKeyRef { name, key }) => {
            let wrong = || Fault::Unauthenticated(format!("key {key} of Secret {name} is no credentials file of NATS"));
            options.credentials(file).map_err(|_| wrong())?
        }
    };
    match timeout(all, async_nats::connect_with_options(servers, options)).await {
        Ok(Ok(client)) => Ok((client, told)),
        Ok(Err(error)) => Err(fault(server, &error)),
        Err(_) => Err(Fault::Unreachable(format!("{server}: no answer within {} s", all.as_secs()))),
    }
}

/// How long one of so many addresses may take, and all of them.
fn patience(addresses: usize) -> (Duration, Duration) {
    if addresses > 1 {
        (EACH, CONNECT.max(EACH * u32::try_from(addresses).unwrap_or(u32::MAX)))
    } else {
        (CONNECT, CONNECT)
    }
}

fn fault(server: &str, error: &async_nats::ConnectError) -> Fault {
    let why = error.source().map_or_else(|| error.to_string(), |source| format!("{}: {source}", error.kind()));
    let message = format!("{server}: {why}");
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Fault::Unauthenticated(message),
        ConnectErrorKind::Tls | ConnectErrorKind::ServerParse => Fault::Refused(message),
        _ => Fault::Unreachable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_time() {
        assert_eq!(patience(1), (CONNECT, CONNECT));
        assert_eq!(patience(2), (EACH, CONNECT));
        assert_eq!(patience(7), (EACH, Duration::from_secs(21)));
    }
}
