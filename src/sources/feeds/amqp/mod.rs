//! Events of a queue of an AMQP 0.9.1 broker: messages are acknowledged once they are stored, and rejected when they are no events.

mod consume;
mod line;
mod plan;
mod pump;

use std::{convert::Infallible, time::Duration};

use lapin::{
    Channel, Error, ErrorKind,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use super::{
    feed::Feed,
    kind::{kept_faults, type_fault},
    link::Down,
};
use crate::api::{AmqpQueueType, AmqpSource, DEFAULT_AMQP_TYPE};
use consume::Consume;
use line::Broker;
pub(super) use line::{over, share};
use plan::Plan;
use pump::InHand;

/// How long the broker may take for everything before the first message, and for any question.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the schema cannot tell.
pub(super) fn faults(source: &AmqpSource) -> Vec<String> {
    let mut faults = Vec::new();
    source.broker().faults("amqp", &mut faults);
    faults.extend(type_fault("amqp.type", source.type_.as_deref(), DEFAULT_AMQP_TYPE));
    kept_faults("amqp.headers", &source.headers, &mut faults);
    faults
}

/// Takes messages until the connection ends. Dropped, it stops: what was not acknowledged comes again.
pub(super) async fn run(source: &AmqpSource, feed: &Feed) -> Result<Infallible, Down> {
    let line = share(source.broker(), feed).await?;
    over(&line, session(source, feed, &line.client)).await
}

async fn session(source: &AmqpSource, feed: &Feed, broker: &Broker) -> Result<Infallible, Down> {
    let plan = Plan::new(source, feed.source());
    let (channel, held, consumer) = in_time(begin(source, feed, broker)).await?;
    let (host, port) = source.broker().place().map_err(|fault| Down::refused(fault.to_string()))?;
    feed.connected(format!("{host}:{port}, queue {} of virtual host {}", source.queue, source.virtual_host));
    Consume::new((&plan, feed), (channel, held), consumer).run().await
}

/// What the broker answers, if it does so in time.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, Down>>) -> Result<T, Down> {
    let late = || Down::unreachable(format!("the broker did not answer in {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
}

async fn begin(source: &AmqpSource, feed: &Feed, broker: &Broker) -> Result<(Channel, InHand, lapin::Consumer), Down> {
    let channel = broker.channel().await?;
    declare(&channel, source).await?;
    channel.basic_qos(source.prefetch, BasicQosOptions::default()).await.map_err(down)?;
    let tag = short("the identity", &feed.identity())?;
    let queue = short("queue", &source.queue)?;
    // From here on bodies come.
    let held = broker.hold(&channel);
    let consumer = channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default());
    let consumer = consumer.await.map_err(down)?;
    Ok((channel, held, consumer))
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
