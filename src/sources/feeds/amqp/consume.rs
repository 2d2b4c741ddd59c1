//! The messages of a queue, from the first on.
//!
//! They are stored in batches, one after another, while the next ones come in, as many as the prefetch allows. What is stored is acknowledged up to the last
//! of a batch at once. One that comes again without an id is an event again: of messages that hold the same, nobody can tell which of them was acknowledged.

use std::{convert::Infallible, time::Duration};

use futures::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _},
};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicRejectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    super::{
        feed::{Feed, Taken},
        link::Down,
    },
    down,
    plan::Plan,
    pump::InHand,
    short,
};

/// How often it is asked how many messages wait in the queue.
const LAG: Duration = Duration::from_secs(15);

/// What goes on beside the loop.
type Work<'a, T> = Option<BoxFuture<'a, Result<T, Down>>>;

pub(super) struct Consume<'a> {
    plan: &'a Plan<'a>,
    feed: &'a Feed,
    channel: Channel,
    consumer: Consumer,
    held: InHand,
    waiting: Vec<Delivery>,
    storing: Work<'a, (Vec<Delivery>, Vec<Taken>)>,
    asking: Work<'a, ()>,
}

impl<'a> Consume<'a> {
    pub(super) fn new(
        (plan, feed): (&'a Plan<'a>, &'a Feed),
        (channel, held): (Channel, InHand),
        consumer: Consumer,
    ) -> Self {
        Self { plan, feed, channel, consumer, held, waiting: Vec::new(), storing: None, asking: None }
    }

    /// Goes on until the connection ends, or the queue is gone.
    pub(super) async fn run(mut self) -> Result<Infallible, Down> {
        let mut lag = interval(LAG);
        lag.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.store();
            let (storing, asking, consumer) = (&mut self.storing, &mut self.asking, &mut self.consumer);
            tokio::select! {
                answered = done(asking) => {
                    self.asking = None;
                    answered?;
                }
                stored = done(storing) => {
                    self.storing = None;
                    let (deliveries, taken) = stored?;
                    self.settle(&deliveries, &taken).await?;
                }
                delivery = consumer.next() => {
                    let delivery = delivery.ok_or_else(|| Down::refused("the broker ended the consumer: the queue is gone"))?;
                    self.waiting.push(delivery.map_err(down)?);
                    self.held.came();
                }
                _ = lag.tick() => self.ask(),
            }
        }
    }

    /// Begins to store what waits, unless something is being stored.
    fn store(&mut self) {
        if self.storing.is_some() || self.waiting.is_empty() {
            return;
        }
        let deliveries = std::mem::take(&mut self.waiting);
        let (plan, feed) = (self.plan, self.feed);
        let storing = async move {
            let messages: Vec<_> = deliveries.iter().map(|delivery| plan.message(delivery)).collect();
            let taken = feed.take(&messages).await?;
            drop(messages);
            Ok((deliveries, taken))
        };
        self.storing = Some(storing.boxed());
    }

    /// Rejects what is no event, and acknowledges everything else.
    async fn settle(&mut self, deliveries: &[Delivery], taken: &[Taken]) -> Result<(), Down> {
        let mut last = None;
        for (delivery, taken) in deliveries.iter().zip(taken) {
            match taken {
                Taken::Stored => last = Some(delivery.delivery_tag),
                Taken::Poison(_) => {
                    let gone = BasicRejectOptions { requeue: false };
                    self.channel.basic_reject(delivery.delivery_tag, gone).await.map_err(down)?;
                }
            }
        }
        if let Some(tag) = last {
            self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await.map_err(down)?;
        }
        deliveries.iter().for_each(|delivery| self.held.settled(delivery.data.len()));
        Ok(())
    }

    /// Asks how many messages wait, unless that is being asked.
    fn ask(&mut self) {
        if self.asking.is_some() {
            return;
        }
        let (plan, feed, channel) = (self.plan, self.feed, self.channel.clone());
        let asking = async move {
            let queue = short("queue", &plan.source.queue)?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(queue, options, FieldTable::default()).await.map_err(down)?;
            feed.lag(u64::from(queue.message_count()));
            Ok(())
        };
        self.asking = Some(asking.boxed());
    }
}

/// What comes of work that goes on; nothing, ever, where there is none.
async fn done<T>(work: &mut Work<'_, T>) -> Result<T, Down> {
    match work.as_mut() {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
