//! `amqp`: an event as a message of an exchange of AMQP 0.9.1, confirmed by the broker.
//!
//! There is no binding of CloudEvents for this version; names of headers are those of that for AMQP 1.0, as brokers that speak both pass them on.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md>

use std::io;

use lapin::{
    BasicProperties, Confirmation, Connection, Error, ErrorKind,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{
    io::{copy, duplex, split},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    BuildError, Delivered, Publication, Reach, Retry, STRUCTURED, Secrets, SinkError,
    broker::{self, Broker, Kept, Server, by, connected, deadline},
    topics::{Topics, Words},
};
use crate::{
    api::{AmqpSink, CloudEventsMode, SecretKeyRef},
    net::amqp::{LAST_WORDS, Login, carried, connect, said_by_tls},
};

/// What names of headers that hold attributes begin with.
const PREFIX: &str = "cloudEvents:";
/// Bytes between the stream and the client: a frame is 128 KiB at most.
const BETWEEN: usize = 128 << 10;
/// The user that brokers come with.
const GUEST: &str = "guest";
/// A message that outlives the broker's restart.
const PERSISTENT: u8 = 2;
/// The code of AMQP for wrong credentials, and for what the user may not do.
const ACCESS_REFUSED: u16 = 403;
/// The code of AMQP for what is not there.
const NOT_FOUND: u16 = 404;

/// The sink.
pub(super) struct Amqp {
    spec: AmqpSink,
    server: Server,
    topics: Topics,
    needed: Vec<SecretKeyRef>,
}

/// A connection. Dropped, it is closed.
struct Line {
    connection: Connection,
    /// Between the client, which has a thread of its own that ends with its stream, and the broker.
    bytes: AbortOnDropHandle<io::Result<()>>,
}

impl Kept for Line {
    fn is_over(&self) -> bool {
        self.bytes.is_finished() || !self.connection.status().connected()
    }
}

impl Amqp {
    pub(super) fn new(spec: &AmqpSink) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let way = (spec.tls.as_ref(), spec.login.as_ref());
        let server = Server::new("amqp.address", spec.place(), way, &mut faults);
        for (path, text) in [
            ("virtualHost", Some(&spec.virtual_host)),
            ("exchange", spec.exchange.as_ref()),
            ("routingKey", spec.routing_key.as_ref()),
        ] {
            faults.extend(text.and_then(|text| short(text).err()).map(|why| format!("amqp.{path}: {why}")));
        }
        broker::odd_patterns("amqp.allowedRoutingKeys", &spec.allowed_routing_keys, ("*", "#"), &mut faults);
        let words = Words { kind: "amqp", topic: "routingKey", allowed: "allowedRoutingKeys" };
        let topics = Topics::new(words, spec.routing_key.as_ref(), &spec.allowed_routing_keys, |pattern, key| {
            broker::fits(pattern, key, ("*", "#"))
        });
        let needed = spec.secrets().cloned().collect();
        match server {
            Some(server) if faults.is_empty() => Ok(Self { spec: spec.clone(), server, topics, needed }),
            _ => Err(BuildError(faults)),
        }
    }

    fn routing_key<'t>(&'t self, named: Option<&'t str>) -> Result<&'t str, String> {
        let key = self.topics.of(named)?;
        short(key).map_err(|why| format!("cannot publish to {key:?}: {why}"))?;
        Ok(key)
    }

    fn message(&self, publication: &Publication) -> Result<(BasicProperties, Vec<u8>), SinkError> {
        let event = &publication.event;
        let texts = |text: &str| short(text).map_err(|why| SinkError::never(format!("{text:.40}: {why}")));
        let mut properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id(texts(&event.id)?);
        if let Some(seconds) = event.time.and_then(|time| u64::try_from(time.as_second()).ok()) {
            properties = properties.with_timestamp(seconds);
        }
        if self.spec.mode == CloudEventsMode::Structured {
            return Ok((properties.with_content_type(texts(STRUCTURED)?), publication.structured()));
        }
        if let Some(content_type) = publication.content_type() {
            properties = properties.with_content_type(texts(content_type)?);
        }
        let mut headers = FieldTable::default();
        for (name, value) in publication.attributes() {
            headers.insert(texts(&format!("{PREFIX}{name}"))?, AMQPValue::LongString(value.as_str().into()));
        }
        Ok((properties.with_headers(headers), publication.body()))
    }

    async fn connect(&self, secrets: &Secrets, reach: Reach<'_>) -> Result<Line, SinkError> {
        let stream = self.server.open(secrets, reach).await?;
        let (username, password) = self.server.login(secrets)?.unwrap_or((GUEST, GUEST));
        let (near, far) = duplex(BETWEEN);
        let bytes = tokio::spawn(async move {
            let ((mut from_broker, mut to_broker), (mut from_client, mut to_client)) = (split(stream), split(far));
            let inward = async { copy(&mut from_broker, &mut to_client).await.map(drop) };
            carried(inward, async { copy(&mut from_client, &mut to_broker).await.map(drop) }).await
        });
        let bytes = AbortOnDropHandle::new(bytes);
        let login = Login { username, password, virtual_host: &self.spec.virtual_host };
        match connect(near, login, "signalbox").await {
            Ok(connection) => Ok(Line { connection, bytes }),
            Err(error) => Err(not_let_in(&error, bytes).await),
        }
    }
}

impl Broker for Amqp {
    fn needed(&self) -> &[SecretKeyRef] {
        &self.needed
    }

    fn place<'t>(&'t self, topic: Option<&'t str>) -> Result<&'t str, String> {
        self.routing_key(topic)
    }

    async fn send(
        &self,
        key: &str,
        publication: &Publication,
        secrets: &Secrets,
        reach: Reach<'_>,
    ) -> Result<Delivered, SinkError> {
        let (properties, body) = self.message(publication)?;
        let (deadline, name) = (deadline(), format!("the broker {}", self.server.name()));
        let kept = self.server.key("amqp", (secrets, &self.needed), std::slice::from_ref(&self.spec.virtual_host))?;
        let making = connected(reach.connections, kept, || self.connect(secrets, reach));
        let line = by(deadline, &name, making).await?;
        let exchange = self.spec.exchange.as_deref().unwrap_or_default();
        let taken = by(deadline, &name, line.publish((exchange, key), properties, &body)).await;
        if taken.is_err() && tokio::time::Instant::now() >= deadline {
            reach.connections.discard(kept, &line);
        }
        taken.map(|()| Delivered::default())
    }
}

impl Line {
    /// Publishes on a channel of its own: what the broker refuses ends the channel, with all that is on its way there.
    async fn publish(
        &self,
        (exchange, key): (&str, &str),
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), SinkError> {
        let to = || {
            if exchange.is_empty() {
                format!("queue {key}")
            } else {
                format!("exchange {exchange} by routing key {key}")
            }
        };
        let failed = |error: Error| {
            let message = format!("publish to {}: {error}", to());
            match code(&error) {
                Some(ACCESS_REFUSED) => SinkError::never(format!("{message}: give the user the right to write there")),
                Some(NOT_FOUND) => SinkError::never(format!("{message}: make it, or name another")),
                _ => SinkError::later(message),
            }
        };
        let text = |text: &str| short(text).map_err(SinkError::never);
        let channel = self.connection.create_channel().await.map_err(failed)?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed)?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent =
            channel.basic_publish(text(exchange)?, text(key)?, options, body, properties).await.map_err(failed)?;
        match sent.await.map_err(failed)? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => Err(SinkError::never(format!(
                "no queue takes what is published to {}: {}: bind one, or name another routing key",
                to(),
                returned.reply_text
            ))),
            Confirmation::Nack(None) => Err(SinkError::later(format!("the broker does not take it for {}", to()))),
            Confirmation::NotRequested => Err(SinkError::later("the broker does not confirm what it takes")),
        }
    }
}

/// Why there is no connection.
async fn not_let_in(error: &Error, bytes: AbortOnDropHandle<io::Result<()>>) -> SinkError {
    match code(error) {
        Some(ACCESS_REFUSED) => return SinkError { retry: Retry::FreshSecrets, message: error.to_string() },
        // The virtual host may be made, and the broker may be about to start.
        Some(_) => return SinkError::later(error.to_string()),
        None => {}
    }
    let broke = timeout(LAST_WORDS, bytes).await.ok().and_then(Result::ok).and_then(Result::err);
    let by_tls = broke.as_ref().and_then(said_by_tls);
    SinkError::later(
        by_tls.unwrap_or_else(|| format!("{error}: look whether the port is that of AMQP, and whether it wants TLS")),
    )
}

/// What the broker says, as a number; nothing when it says nothing.
fn code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

fn short(text: &str) -> Result<ShortString, &'static str> {
    ShortString::try_new(text).map_err(|_| "it has more than 255 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::{Publisher as _, testing::notification};

    #[test]
    fn an_event_is_a_message_with_headers_or_one_document() {
        let of = |spec: &str| {
            let spec = serde_json::from_str(spec).expect("a spec");
            let sink = Amqp::new(&spec).unwrap_or_else(|error| unreachable!("{error}"));
            sink.message(&Publication::of(&notification())).expect("a message")
        };
        let (properties, body) = of(r#"{"address": "h", "routingKey": "q"}"#);
        let headers = properties.headers().clone().expect("headers");
        let hops = headers.inner().get("cloudEvents:signalboxhops").cloned();
        assert_eq!((hops, body[0]), (Some(AMQPValue::LongString("3".into())), b'{'));
        let id = properties.message_id().as_ref().map(ShortString::as_str);
        assert_eq!((id, *properties.delivery_mode()), (Some("0123456789abcdef0123-tell"), Some(PERSISTENT)));
        let (properties, _) = of(r#"{"address": "h", "mode": "Structured"}"#);
        assert_eq!(properties.content_type().as_ref().map(ShortString::as_str), Some(STRUCTURED));
    }

    #[test]
    fn a_routing_key_has_255_bytes_at_most_and_is_one_that_is_allowed() {
        let spec = r#"{"address": "h", "allowedRoutingKeys": ["orders.*.paid", "log.#"]}"#;
        let sink =
            Amqp::new(&serde_json::from_str(spec).expect("a spec")).unwrap_or_else(|error| unreachable!("{error}"));
        for key in ["orders.7.paid", "log.a.b"] {
            assert_eq!(sink.check(Some(key)), Ok(()), "{key}");
        }
        for key in ["orders.7.8.paid", "other", &format!("log.{}", "x".repeat(300))] {
            assert!(sink.check(Some(key)).is_err(), "{key}");
        }
    }
}
