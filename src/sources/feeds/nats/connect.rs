//! Connections to servers.

use async_nats::{Client, Event as Told, ServerError};
use tokio::sync::mpsc;

use super::{
    super::{feed::Feed, link::Down},
    BATCH, PORT,
};
use crate::{
    api::{NatsCluster, Tls, address},
    net::nats::{self, Encryption, Fault, Login, Way},
    telemetry::Rejection,
};

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
    let tls = match cluster.tls {
        Some(tls) => Encryption::Must(Box::new(feed.tls(tls, &host)?)),
        None => Encryption::May(feed.tls(&Tls::default(), &host).ok().map(Box::new)),
    };
    let login = Login::of(cluster.auth, |key| feed.secret(key))?;
    let name = format!("signalbox {}/{}", feed.namespace, feed.name);
    let way = Way { server, addresses: &addresses, name, tls, login, waiting: BATCH * 16 };
    nats::connect(way).await.map_err(|fault| match fault {
        Fault::Unreachable(why) => Down::unreachable(why),
        Fault::Unauthenticated(why) => Down::unauthenticated(why),
        Fault::Refused(why) => Down::refused(why),
    })
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
