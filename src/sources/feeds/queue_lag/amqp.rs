//! How many messages are ready in a queue of an AMQP broker. It is declared passively, which changes nothing.

use std::convert::Infallible;

use lapin::{Channel, options::QueueDeclareOptions, types::FieldTable};

use super::{
    super::{
        amqp::{NOT_FOUND, code, down, in_time, over, share, short},
        feed::Feed,
        link::Down,
    },
    Ask, Depth, Sampler,
};
use crate::api::AmqpLag;

/// A channel on which is asked about a queue.
struct Queue<'a> {
    place: &'a AmqpLag,
    channel: Channel,
}

/// Connects, and samples until the connection breaks.
pub(super) async fn run(place: &AmqpLag, sampler: Sampler<'_>) -> Result<Infallible, Down> {
    let line = share(place.broker(), sampler.feed).await?;
    let sample = async {
        let channel = in_time(line.client.channel()).await?;
        sampler.run(Queue { place, channel }).await
    };
    over(&line, sample).await
}

impl Ask for Queue<'_> {
    async fn depth(&mut self, _: &Feed) -> Result<Depth, Down> {
        let AmqpLag { address, queue, virtual_host, .. } = self.place;
        let (name, options) = (short("queue", queue)?, QueueDeclareOptions { passive: true, ..Default::default() });
        let declared = async {
            let declared = self.channel.queue_declare(name, options, FieldTable::default()).await;
            declared.map_err(|error| match code(&error) {
                Some(NOT_FOUND) => Down::refused(format!("{error}: workers make it; or mend queue or virtualHost")),
                _ => down(error),
            })
        };
        let declared = in_time(declared).await?;
        Ok(Depth {
            told: format!("connected to {address}, queue {queue} of virtual host {virtual_host}"),
            queue: queue.clone(),
            lag: declared.message_count().into(),
            more: vec![("consumers", declared.consumer_count().into())],
        })
    }
}
