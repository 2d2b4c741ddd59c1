//! Connections to a server.

use std::{sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{
    super::{feed::Feed, lines::Line, link::Down},
    reader::BLOCK,
};
use crate::{
    api::RedisServer,
    net::redis::{Driver, Login, connect as speak},
};

/// How long the server may take until it has taken the credentials.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may take to answer any question, beyond the time for which it is asked to hold one. An entry of 512 MB comes in that time over a
/// network that carries 35 MB a second; over a slower one it is never done, and status says so.
const ANSWER: Duration = Duration::from_secs(15);

/// A connection to the server.
pub(super) async fn connect(at: RedisServer<'_>, feed: &Feed) -> Result<(MultiplexedConnection, Driver), Down> {
    let (host, port) = at.address().map_err(|fault| Down::refused(fault.to_string()))?;
    let stream = feed.open(&host, port, at.tls).await?;
    let credentials = match at.auth {
        Some(auth) => Some((auth.username.as_deref(), feed.secret(&auth.password_secret_ref)?)),
        None => None,
    };
    // A question that the server holds is one that takes long.
    let connecting = speak(stream, Login { database: at.database, credentials }, BLOCK + ANSWER);
    let connected = timeout(CONNECT, connecting).await;
    let silent = |_| Down::unreachable(format!("{}: no answer within 10 s", at.server));
    connected.map_err(silent)?.map_err(|error| down(at.server, "connect", &error))
}

/// The connection of all EventSources of the namespace that get in this way, for questions that the server answers at once.
pub(in crate::sources::feeds) async fn share(
    at: RedisServer<'_>,
    feed: &Feed,
) -> Result<Arc<Line<MultiplexedConnection>>, Down> {
    let make = async {
        let (connection, driver) = connect(at, feed).await?;
        let server = at.server.to_owned();
        let driver = async move {
            driver.await;
            broke(&server)
        };
        Ok(Line::new(connection, driver))
    };
    feed.line("redis", &(at.server, at.database, at.auth, at.tls), Box::pin(make)).await
}

/// The driver of a connection has ended.
pub(super) fn broke(server: &str) -> Down {
    Down::unreachable(format!("{server}: the connection broke"))
}

/// What the server has said, by what is to be done about it.
pub(in crate::sources::feeds) fn down(server: &str, what: &str, error: &RedisError) -> Down {
    // What cannot be read is shown with what was read: entries may hold anything.
    let said = match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "the answer is not one that Redis gives".to_owned(),
        _ => error.to_string(),
    };
    let message = format!("{server}: {what}: {said}");
    match (error.kind(), error.code().unwrap_or_default()) {
        (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS" | "NOAUTH") => Down::unauthenticated(message),
        (ErrorKind::Io, _) | (_, "LOADING" | "MASTERDOWN" | "CLUSTERDOWN") => Down::unreachable(message),
        _ => Down::refused(message),
    }
}

#[cfg(test)]
mod tests {
    use redis::{FromRedisValue as _, Value};

    use super::*;

    #[test]
    fn what_an_answer_held_is_not_told() {
        let error = Vec::<u64>::from_redis_value(Value::BulkString(b"canary".to_vec())).expect_err("no list");
        let told = down("redis:6379", "read", &error.into());
        assert!(!told.message.contains("canary") && told.message.contains("redis:6379: read"), "{told}");
    }
}
