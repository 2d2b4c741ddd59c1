//! Connections to servers.

use std::{future::pending, sync::Arc};

use async_nats::{Client, Event as Told, ServerError};
use tokio::sync::{broadcast, mpsc};

use super::{
    super::{feed::Feed, lines::Line, link::Down},
    BATCH, PORT,
};
use crate::{
    api::{NatsCluster, Tls, address},
    net::nats::{self, Encryption, Fault, Login, Way},
    telemetry::Rejection,
};

/// What a server refuses that was not looked at yet.
const REFUSED: usize = 64;

/// A connection that EventSources share.
pub(in crate::sources::feeds) struct Server {
    pub(in crate::sources::feeds) client: Client,
    /// The server's address, for messages.
    pub(in crate::sources::feeds) address: String,
    /// What the user may not do, in the server's words.
    refused: broadcast::Sender<String>,
}

/// The connection of all EventSources of the namespace that get in this way.
pub(in crate::sources::feeds) async fn share(cluster: NatsCluster<'_>, feed: &Feed) -> Result<Arc<Line<Server>>, Down> {
    let make = async {
        let (client, address, told) = Box::pin(connect(cluster, feed, feed.shared_name())).await?;
        let (refused, _) = broadcast::channel(REFUSED);
        let driver = drive(told, refused.clone(), address.clone());
        Ok(Line::new(Server { client, address, refused }, driver))
    };
    // In a box: what it goes through would hold it several times, and overflow the stack.
    feed.line("nats", &(cluster.servers, cluster.auth, cluster.tls), Box::pin(make)).await
}

/// Waits until the connection breaks, and passes on what the server refuses.
async fn drive(mut told: mpsc::Receiver<Told>, refused: broadcast::Sender<String>, server: String) -> Down {
    let mut said = String::new();
    loop {
        match told.recv().await {
            Some(Told::ServerError(error)) => match sort(&error) {
                // Where nobody listens, nobody has asked.
                Said::Refused(text) => drop(refused.send(text)),
                Said::Unauthenticated(text) => return Down::unauthenticated(format!("{server}: {text}")),
                Said::Else(text) => said = format!(": {text}"),
            },
            Some(Told::Disconnected | Told::Closed) | None => return broke(&server, &said),
            // What the client has no room for JetStream sends again.
            Some(_) => {}
        }
    }
}

/// Waits until a connection that is shared breaks, or the server refuses something that is about this stream.
pub(in crate::sources::feeds) fn ended(line: &Line<Server>, stream: &str) -> impl Future<Output = Down> {
    let (broken, mut told) = (line.ended(), line.client.refused.subscribe());
    let refused = async move {
        loop {
            match told.recv().await {
                Ok(text) if concerns(&text, stream) => return refusal(&line.client.address, &text),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
    };
    async move {
        tokio::select! {
            down = broken => down,
            down = refused => down,
        }
    }
}

/// Whether what the server refuses is about a stream, as far as the subject tells: those of answers are everybody's.
fn concerns(text: &str, stream: &str) -> bool {
    let Some(subject) = text.split('"').nth(1) else { return true };
    let mut tokens = subject.split('.');
    subject.starts_with("_INBOX.") || tokens.any(|token| token == stream)
}

/// A connection to the first server that takes it: the client, the server's address, and what the client tells. `name` is what the client calls itself.
pub(super) async fn connect(
    cluster: NatsCluster<'_>,
    feed: &Feed,
    name: String,
) -> Result<(Client, String, mpsc::Receiver<Told>), Down> {
    let mut last = Down::refused("nats.servers: at least one must be named");
    for server in cluster.servers {
        match connect_to(server, cluster, feed, name.clone()).await {
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
    name: String,
) -> Result<(Client, mpsc::Receiver<Told>), Down> {
    let (host, port) = address(server, PORT).map_err(|fault| Down::refused(fault.to_string()))?;
    let addresses = feed.resolve(&host, port).await?;
    let tls = match cluster.tls {
        Some(tls) => Encryption::Must(Box::new(feed.tls(tls, &host)?)),
        None => Encryption::May(feed.tls(&Tls::default(), &host).ok().map(Box::new)),
    };
    let login = Login::of(cluster.auth, |key| feed.secret(key))?;
    let way = Way { server, addresses: &addresses, name, tls, login, waiting: BATCH * 16 };
    nats::connect(way).await.map_err(|fault| match fault {
        Fault::Unreachable(why) => Down::unreachable(why),
        Fault::Unauthenticated(why) => Down::unauthenticated(why),
        Fault::Refused(why) => Down::refused(why),
    })
}

/// Waits until a connection of the EventSource's own breaks, or the server refuses something.
pub(super) async fn broken(told: &mut mpsc::Receiver<Told>, feed: &Feed, server: &str) -> Down {
    let mut said = String::new();
    loop {
        match told.recv().await {
            Some(Told::ServerError(error)) => match sort(&error) {
                Said::Refused(text) => return refusal(server, &text),
                Said::Unauthenticated(text) => return Down::unauthenticated(format!("{server}: {text}")),
                Said::Else(text) => said = format!(": {text}"),
            },
            // What was published meanwhile is lost: the client has no room for it.
            Some(Told::SlowConsumer(_)) => feed.rejected(Rejection::Unavailable),
            Some(Told::Disconnected | Told::Closed) | None => return broke(server, &said),
            Some(_) => {}
        }
    }
}

/// What a server says, by what it means.
enum Said {
    /// The user lacks a right.
    Refused(String),
    /// The credentials are not taken any more.
    Unauthenticated(String),
    Else(String),
}

fn sort(error: &ServerError) -> Said {
    let text = error.to_string();
    let small = text.to_ascii_lowercase();
    if small.contains("permissions violation") {
        Said::Refused(text)
    } else if matches!(error, ServerError::AuthorizationViolation) || small.contains("auth") {
        Said::Unauthenticated(text)
    } else {
        Said::Else(text)
    }
}

fn refusal(server: &str, text: &str) -> Down {
    Down::refused(format!("{server}: {text}: give the user this right"))
}

fn broke(server: &str, said: &str) -> Down {
    Down::unreachable(format!("{server}: the connection broke{said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_is_told_to_whom_it_concerns() {
        let told = |text: &str| (concerns(text, "JOBS"), concerns(text, "OTHER"));
        let stream = "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.JOBS\"";
        assert_eq!(told(stream), (true, false));
        assert_eq!(told("Permissions Violation for Publish to \"$JS.ACK.JOBS.c.1.2.3.4.5\""), (true, false));
        assert_eq!(told("Permissions Violation for Publish to \"$JS.API.STREAM.INFO.JOBS2\""), (false, false));
        assert_eq!(told("Permissions Violation for Subscription to \"_INBOX.x.*\""), (true, true));
        assert_eq!(told("permissions violation"), (true, true), "nobody knows whose");
    }
}
