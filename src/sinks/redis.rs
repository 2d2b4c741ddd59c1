//! `redis`: an event as an entry of a stream of Redis.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, aio::MultiplexedConnection, cmd};
use tokio_util::task::AbortOnDropHandle;

use super::{
    BuildError, CONTENT_TYPE, Connections, Delivered, Key, Publication, REQUEST_TIMEOUT, Reach, Retry, STRUCTURED,
    Secrets, SinkError,
    broker::{Broker, Kept, Server, by, connected, deadline},
    topics::{Topics, Words},
};
use crate::{
    api::{CloudEventsMode, RedisSink, SecretKeyRef},
    net::redis::{Login, connect},
};

/// What names of fields that hold attributes begin with.
const PREFIX: &str = "ce_";
/// The field that says what a whole event is.
const WHOLE: &str = "content-type";

/// The sink.
pub(super) struct Redis {
    spec: RedisSink,
    server: Server,
    topics: Topics,
    needed: Vec<SecretKeyRef>,
}

/// A connection. Dropped, it is closed.
struct Line {
    connection: MultiplexedConnection,
    driver: AbortOnDropHandle<()>,
}

/// A connection that was asked something. It is given up unless it answers, also when whoever asked waits no longer: servers of Redis give no other sign of
/// life, and nothing would come over one that hangs any more.
struct Asked<'a> {
    connections: &'a Connections,
    key: Key,
    line: &'a Arc<Line>,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.connections.discard(self.key, self.line);
        }
    }
}

impl Kept for Line {
    fn is_over(&self) -> bool {
        self.driver.is_finished()
    }
}

impl Redis {
    pub(super) fn new(spec: &RedisSink) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let server = Server::new("redis.server", spec.place(), (spec.tls.as_ref(), None), &mut faults);
        if spec.field.starts_with(PREFIX) || spec.field.eq_ignore_ascii_case(WHOLE) {
            faults.push(format!("redis.field: {} is a field of its own: name another", spec.field));
        }
        let words = Words { kind: "redis", topic: "stream", allowed: "allowedStreams" };
        let topics =
            Topics::new(words, spec.stream.as_ref(), &spec.allowed_streams, |allowed, stream| allowed == stream);
        let needed = spec.secrets().cloned().collect();
        match server {
            Some(server) if faults.is_empty() => Ok(Self { spec: spec.clone(), server, topics, needed }),
            _ => Err(BuildError(faults)),
        }
    }

    /// Names and values of an entry.
    fn fields(&self, publication: &Publication) -> Vec<(String, Vec<u8>)> {
        if self.spec.mode == CloudEventsMode::Structured {
            return vec![(WHOLE.to_owned(), STRUCTURED.into()), (self.spec.field.clone(), publication.structured())];
        }
        let content_type = publication.content_type().map(|value| (CONTENT_TYPE.to_owned(), value.to_owned()));
        let attributes = publication.attributes().into_iter().chain(content_type);
        let mut fields: Vec<(String, Vec<u8>)> =
            attributes.map(|(name, value)| (format!("{PREFIX}{name}"), value.into_bytes())).collect();
        fields.push((self.spec.field.clone(), publication.body()));
        fields
    }

    async fn connect(&self, secrets: &Secrets, reach: Reach<'_>) -> Result<Line, SinkError> {
        let stream = self.server.open(secrets, reach).await?;
        let credentials = match &self.spec.auth {
            Some(auth) => Some((auth.username.as_deref(), secrets.text(&auth.password_secret_ref)?)),
            None => None,
        };
        let connecting = connect(stream, Login { database: self.spec.database, credentials }, REQUEST_TIMEOUT);
        let (connection, driver) = connecting.await.map_err(|error| failed("connect", &error))?;
        Ok(Line { connection, driver: AbortOnDropHandle::new(tokio::spawn(driver)) })
    }
}

impl Broker for Redis {
    fn needed(&self) -> &[SecretKeyRef] {
        &self.needed
    }

    fn place<'t>(&'t self, topic: Option<&'t str>) -> Result<&'t str, String> {
        self.topics.of(topic)
    }

    async fn send(
        &self,
        stream: &str,
        publication: &Publication,
        secrets: &Secrets,
        reach: Reach<'_>,
    ) -> Result<Delivered, SinkError> {
        let (deadline, name) = (deadline(), format!("Redis at {}", self.server.name()));
        let user = format!("{:?}", self.spec.auth.as_ref().map(|auth| &auth.username));
        let key = self.server.key("redis", (secrets, &self.needed), &[user, self.spec.database.to_string()])?;
        let making = connected(reach.connections, key, || self.connect(secrets, reach));
        let line = by(deadline, &name, making).await?;
        let mut add = cmd("XADD");
        add.arg(stream);
        if let Some(most) = self.spec.max_length {
            add.arg("MAXLEN").arg("~").arg(most);
        }
        add.arg("*");
        for (name, value) in self.fields(publication) {
            add.arg(name).arg(value);
        }
        let mut connection = line.connection.clone();
        let added = async {
            let added = add.query_async::<String>(&mut connection).await;
            added.map_err(|error| failed(&format!("add to stream {stream}"), &error))
        };
        let mut asked = Asked { connections: reach.connections, key, line: &line, answered: false };
        let added = by(deadline, &name, added).await;
        // After an error of the connection nothing comes over it any more.
        asked.answered = !added.as_ref().is_err_and(|error| error.retry == Retry::After(None));
        added.map(|_| Delivered::default())
    }
}

/// What the server has said, by what is to be done about it.
fn failed(what: &str, error: &RedisError) -> SinkError {
    let code = error.code().unwrap_or_default();
    let message = format!("{what}: {error}");
    match (error.kind(), code) {
        (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS" | "NOAUTH") => {
            SinkError { retry: Retry::FreshSecrets, message }
        }
        (ErrorKind::Io, _)
        | (
            _,
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "READONLY" | "OOM" | "BUSY" | "TRYAGAIN" | "MISCONF"
            | "NOREPLICAS",
        ) => SinkError::later(message),
        (_, "NOPERM") => SinkError::never(format!("{message}: let the user run XADD on it")),
        (_, "MOVED" | "ASK") => {
            SinkError::never(format!("{message}: another server of the cluster has the key: name that in redis.server"))
        }
        (ErrorKind::Parse | ErrorKind::UnexpectedReturnType, _) => {
            SinkError::later(format!("{what}: the answer is not one that Redis gives"))
        }
        _ => SinkError::never(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::testing::notification;

    #[test]
    fn an_event_is_an_entry_with_attributes_as_fields_or_one_document() {
        let of = |spec: &str| {
            let spec = serde_json::from_str(spec).expect("a spec");
            let sink = Redis::new(&spec).unwrap_or_else(|error| unreachable!("{error}"));
            sink.fields(&Publication::of(&notification()))
        };
        let fields = of(r#"{"server": "h", "stream": "s"}"#);
        let value = |name: &str| {
            let mut all = fields.iter().filter(|(known, _)| known == name);
            all.next().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        assert_eq!((value("ce_id"), value("ce_signalboxhops")), ("0123456789abcdef0123-tell".into(), "3".into()));
        assert_eq!((value("ce_datacontenttype").as_str(), value("data").starts_with('{')), ("application/json", true));
        let fields = of(r#"{"server": "h", "field": "event", "mode": "Structured"}"#);
        assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["content-type", "event"]);
    }

    #[test]
    fn the_field_of_the_data_is_none_of_the_attributes() {
        let spec = serde_json::from_str(r#"{"server": "h", "field": "ce_id"}"#).expect("a spec");
        let said = Redis::new(&spec).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(said, "redis.field: ce_id is a field of its own: name another");
    }
}
