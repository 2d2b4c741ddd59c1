//! Connections to servers.

use std::{error::Error as _, net::SocketAddr, time::Duration};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event as Told, ServerAddr, ServerError};
use tokio::{sync::mpsc, time::timeout};

use super::{
    super::{feed::Feed, link::Down},
    ANSWER, BATCH, PORT,
};
use crate::{
    api::{NatsCluster, Tls, address},
    telemetry::Rejection,
};

/// How long one server may take until it has taken the credentials.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one address of a server may take, where it has several; all of them have this time.
const EACH: Duration = Duration::from_secs(3);
/// What the server has told and was not looked at yet; more of it is left out, but for the end of the connection, which ends the channel too.
const TOLD: usize = 64;

/// A connection to the first server that takes it: the client, the server's address, and what the client tells.
pub(in crate::sources::feeds) async fn connect(
    cluster: NatsCluster<'_>,
    feed: &Feed,
) -> Result<(Client, String, mpsc::Receiver<Told>), Down> {
    let mut last = Down::refused("nats.servers: at least one must be named");
    for server in cluster.servers {
        match connect_to(server, cluster, feed).await {
            Ok((client, told)) => return Ok((client, server.clone(), told)),
            Err(down) => last = down,
        }
    }
    Err(last)
}

async fn connect_to(
    server: &str,
    cluster: NatsCluster<'_>,
    feed: &Feed,
) -> Result<(Client, mpsc::Receiver<Told>), Down> {
    let (host, port) = address(server, PORT).map_err(|fault| Down::refused(fault.to_string()))?;
    let addresses = feed.resolve(&host, port).await?;
    // Beyond what was checked it connects to nothing: not to other addresses of the name, nor to servers that the server tells of. A connection
    // that breaks is given up: the next begins with the name.
    let servers: Vec<ServerAddr> = addresses.iter().filter_map(|address| url(address).parse().ok()).collect();
    let (each, all) = patience(servers.len());
    let (tell, told) = mpsc::channel(TOLD);
    let mut options = ConnectOptions::new()
        .name(format!("signalbox {}/{}", feed.namespace, feed.name))
        .ignore_discovered_servers()
        .retain_servers_order()
        .max_reconnects(servers.len())
        .connection_timeout(each)
        .request_timeout(Some(ANSWER))
        .subscription_capacity(BATCH * 16)
        .event_callback(move |event| {
            let _ = tell.try_send(event);
            std::future::ready(())
        });
    options = match cluster.tls {
        Some(tls) => options.require_tls(true).tls_client_config(feed.tls(tls, &host)?),
        // The server may ask for it.
        None => match feed.tls(&Tls::default(), &host) {
            Ok(config) => options.tls_client_config(config),
            Err(_) => options,
        },
    };
    options = authenticated(options, cluster, feed)?;
    let connecting = async_nats::connect_with_options(servers, options);
    match timeout(all, connecting).await {
        Ok(Ok(client)) => Ok((client, told)),
        Ok(Err(error)) => Err(refusal(server, &error)),
        Err(_) => Err(Down::unreachable(format!("{server}: no answer within {} s", all.as_secs()))),
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

fn url(address: &SocketAddr) -> String {
    format!("nats://{address}")
}

fn authenticated(options: ConnectOptions, cluster: NatsCluster<'_>, feed: &Feed) -> Result<ConnectOptions, Down> {
    let Some(auth) = cluster.auth else { return Ok(options) };
    if let Some(login) = &auth.login {
        let password = feed.secret(&login.password_secret_ref)?;
        return Ok(options.user_and_password(login.username.clone(), password.to_owned()));
    }
    if let Some(key) = &auth.token_secret_ref {
        return Ok(options.token(feed.secret(key)?.to_owned()));
    }
    if let Some(key) = &auth.nkey_secret_ref {
        return Ok(options.nkey(feed.secret(key)?.trim().to_owned()));
    }
    let Some(key) = &auth.credentials_secret_ref else { return Ok(options) };
    let wrong = format!("key {} of Secret {} is no credentials file of NATS", key.key, key.name);
    options.credentials(feed.secret(key)?).map_err(|_| Down::unauthenticated(wrong))
}

fn refusal(server: &str, error: &async_nats::ConnectError) -> Down {
    let why = error.source().map_or_else(|| error.to_string(), |source| format!("{}: {source}", error.kind()));
    let message = format!("{server}: {why}");
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Down::unauthenticated(message),
        ConnectErrorKind::Tls | ConnectErrorKind::ServerParse => Down::refused(message),
        _ => Down::unreachable(message),
    }
}

/// Waits until the connection breaks, or the server refuses something.
pub(in crate::sources::feeds) async fn broken(told: &mut mpsc::Receiver<Told>, feed: &Feed, server: &str) -> Down {
    let mut said = String::new();
    loop {
        match told.recv().await {
            Some(Told::ServerError(error)) => {
                let text = error.to_string();
                if text.to_ascii_lowercase().contains("permissions violation") {
                    return Down::refused(format!("{server}: {text}: give the user this right"));
                }
                if matches!(error, ServerError::AuthorizationViolation) || text.to_ascii_lowercase().contains("auth") {
                    return Down::unauthenticated(format!("{server}: {text}"));
                }
                said = format!(": {text}");
            }
            // What was published meanwhile is lost: the client has no room for it.
            Some(Told::SlowConsumer(_)) => feed.rejected(Rejection::Unavailable),
            Some(Told::Disconnected | Told::Closed) | None => {
                return Down::unreachable(format!("{server}: the connection broke{said}"));
            }
            Some(_) => {}
        }
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
