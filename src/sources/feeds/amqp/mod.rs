//! Events of a queue of an AMQP 0.9.1 broker: messages are acknowledged once they are stored, and rejected when they are no events.

mod consume;
mod plan;
mod pump;

use std::{convert::Infallible, time::Duration};

use lapin::{
    Channel, Connection, Error, ErrorKind,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{
    io::{DuplexStream, duplex},
    time::timeout,
};

use super::{
    feed::Feed,
    kind::{kept_faults, type_fault},
    link::{Down, DownReason},
};
use crate::{
    api::{AmqpBroker, AmqpQueueType, AmqpSource, DEFAULT_AMQP_TYPE},
    net::amqp::{self, LAST_WORDS, Login, said_by_tls},
};
use consume::Consume;
use plan::Plan;
pub(super) use pump::Held;
use pump::pump;

/// How long the broker may take for everything before the first message, and for any question.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes between the stream and the client: a frame is 128 KiB at most.
const BETWEEN: usize = 128 << 10;
/// The user that brokers come with.
const GUEST: &str = "guest";

/// What the schema cannot tell.
pub(super) fn faults(source: &AmqpSource) -> Vec<String> {
    let mut faults = Vec::new();
    source.broker().faults("amqp", &mut faults);
    faults.extend(type_fault("amqp.type", source.type_.as_deref(), DEFAULT_AMQP_TYPE));
    kept_faults("amqp.headers", &source.headers, &mut faults);
    faults
}

/// Takes messages until the connection ends. Dropped, it ends: what was not acknowledged comes again.
pub(super) async fn run(source: &AmqpSource, feed: &Feed) -> Result<Infallible, Down> {
    let (broker, held) = (source.broker(), Held::default());
    over(broker, feed, &held, |stream| session(source, (feed, &held), stream)).await
}

/// Does `work` over a connection to the broker until either ends.
pub(super) async fn over<F>(
    broker: AmqpBroker<'_>,
    feed: &Feed,
    held: &Held,
    work: impl FnOnce(DuplexStream) -> F,
) -> Result<Infallible, Down>
where
    F: Future<Output = Result<Infallible, Down>>,
{
    let (host, port) = broker.place().map_err(|fault| Down::refused(fault.to_string()))?;
    let stream = feed.open(&host, port, broker.tls).await?;
    // The client has a thread of its own, which ends with the stream. So that the stream ends with this function, it has only this end of it.
    let (near, mut far) = duplex(BETWEEN);
    let work = work(near);
    tokio::pin!(work);
    let ended = tokio::select! {
        ended = &mut work => return ended,
        ended = pump(stream, &mut far, held) => ended,
    };
    drop(far);
    let by_tls = ended.as_ref().err().and_then(said_by_tls);
    match (timeout(LAST_WORDS, work).await, by_tls) {
        (Ok(Err(Down { reason: DownReason::Unreachable, .. })) | Err(_), Some(said)) => Err(Down::unreachable(said)),
        (Ok(said), _) => said,
        (Err(_), None) => {
            let why = ended.err().map_or("the broker closed the connection".to_owned(), |error| error.to_string());
            Err(Down::unreachable(why))
        }
    }
}

async fn session(source: &AmqpSource, (feed, held): (&Feed, &Held), stream: DuplexStream) -> Result<Infallible, Down> {
    let plan = Plan::new(source, feed.source());
    // The connection is closed when it is dropped.
    let (_connection, channel, consumer) = in_time(begin(source, feed, stream)).await?;
    let (host, port) = source.broker().place().map_err(|fault| Down::refused(fault.to_string()))?;
    feed.connected(format!("{host}:{port}, queue {} of virtual host {}", source.queue, source.virtual_host));
    Consume::new((&plan, feed, held), channel, consumer).run().await
}

/// What the broker answers, if it does so in time.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, Down>>) -> Result<T, Down> {
    let late = || Down::unreachable(format!("the broker did not answer in {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
}

async fn begin(
    source: &AmqpSource,
    feed: &Feed,
    stream: DuplexStream,
) -> Result<(Connection, Channel, lapin::Consumer), Down> {
    let (connection, channel) = channel(source.broker(), feed, stream).await?;
    declare(&channel, source).await?;
    channel.basic_qos(source.prefetch, BasicQosOptions::default()).await.map_err(down)?;
    let tag = short("the identity", &feed.identity())?;
    let queue = short("queue", &source.queue)?;
    let consumer = channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default());
    let consumer = consumer.await.map_err(down)?;
    Ok((connection, channel, consumer))
}

/// Logs in, and opens a channel.
pub(super) async fn channel(
    broker: AmqpBroker<'_>,
    feed: &Feed,
    stream: DuplexStream,
) -> Result<(Connection, Channel), Down> {
    let (username, password) = match broker.login {
        Some(login) => (login.username.as_str(), feed.secret(&login.password_secret_ref)?),
        None => (GUEST, GUEST),
    };
    short("virtualHost", broker.virtual_host)?;
    let login = Login { username, password, virtual_host: broker.virtual_host };
    let connection = amqp::connect(stream, login, &feed.identity()).await.map_err(|error| match code(&error) {
        Some(ACCESS_REFUSED) => Down::unauthenticated(error.to_string()),
        Some(_) => Down::refused(error.to_string()),
        None => Down::unreachable(format!("{error}: look whether the port is that of AMQP, and whether it wants TLS")),
    })?;
    let channel = connection.create_channel().await.map_err(down)?;
    Ok((connection, channel))
}

/// Makes the queue, or looks whether it is there, and binds it.
async fn declare(channel: &Channel, source: &AmqpSource) -> Result<(), Down> {
    let (options, mut arguments) = (QueueDeclareOptions { durable: true, ..Default::default() }, FieldTable::default());
    let queue = || short("queue", &source.queue);
    let options = match &source.declare {
        None => QueueDeclareOptions { passive: true, ..options },
        Some(declare) => {
            if declare.queue_type == AmqpQueueType::Quorum {
                arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            }
            if let Some(exchange) = &declare.dead_letter_exchange {
                arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(exchange.as_str().into()));
            }
            options
        }
    };
    channel.queue_declare(queue()?, options, arguments).await.map_err(down)?;
    for binding in &source.bindings {
        let exchange = || short("exchange", &binding.exchange);
        for key in &binding.routing_keys {
            let key = short("routingKeys", key)?;
            let bound =
                channel.queue_bind(queue()?, exchange()?, key, QueueBindOptions::default(), FieldTable::default());
            bound.await.map_err(down)?;
        }
    }
    Ok(())
}

/// The code of AMQP for what is not there.
pub(super) const NOT_FOUND: u16 = 404;
/// The code of AMQP for wrong credentials, and for what the user may not do.
const ACCESS_REFUSED: u16 = 403;

/// What the broker says, as a number; nothing when it says nothing.
pub(super) fn code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

pub(super) fn down(error: Error) -> Down {
    match code(&error) {
        Some(_) => Down::refused(error.to_string()),
        None => Down::unreachable(error.to_string()),
    }
}

pub(super) fn short(what: &str, text: &str) -> Result<ShortString, Down> {
    ShortString::try_new(text).map_err(|_| Down::refused(format!("{what} has more than 255 bytes")))
}
