//! The messages of a queue, from the first on.
//!
//! They are stored in batches, one after another, while the next ones come in, as many as the prefetch allows. What is stored is acknowledged up to the last
//! of a batch at once. A question follows, how many messages wait: its answer proves that the broker has seen the acknowledgements, so that nothing of the
//! batch comes again.

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
    plan::{self, Number, Numbers, Plan},
    short,
};

/// How often it is asked how many messages wait in the queue.
const LAG: Duration = Duration::from_secs(15);

/// A message, and its number when it has no id.
type Item = (Delivery, Option<Number>);
/// What goes on beside the loop.
type Work<'a, T> = Option<BoxFuture<'a, Result<T, Down>>>;

pub(super) struct Consume<'a> {
    plan: &'a Plan<'a>,
    feed: &'a Feed,
    channel: Channel,
    consumer: Consumer,
    waiting: Vec<Item>,
    storing: Work<'a, (Vec<Item>, Vec<Taken>)>,
    numbers: Numbers,
    /// Those of messages that were acknowledged since the last question.
    acknowledged: Vec<Number>,
    /// The question, with the numbers that are free once it is answered.
    asking: Work<'a, Vec<Number>>,
}

impl<'a> Consume<'a> {
    pub(super) fn new(plan: &'a Plan<'a>, feed: &'a Feed, channel: Channel, consumer: Consumer) -> Self {
        let (waiting, numbers, acknowledged) = (Vec::new(), Numbers::default(), Vec::new());
        Self { plan, feed, channel, consumer, waiting, storing: None, numbers, acknowledged, asking: None }
    }

    /// Goes on until the connection ends, or the queue is gone.
    pub(super) async fn run(mut self) -> Result<Infallible, Down> {
        let mut lag = interval(LAG);
        lag.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.store();
            if !self.acknowledged.is_empty() {
                self.ask();
            }
            let (storing, asking, consumer) = (&mut self.storing, &mut self.asking, &mut self.consumer);
            tokio::select! {
                free = done(asking) => {
                    self.asking = None;
                    self.numbers.give(&free?);
                }
                stored = done(storing) => {
                    self.storing = None;
                    let (items, taken) = stored?;
                    self.settle(items, &taken).await?;
                }
                delivery = consumer.next() => {
                    let delivery = delivery.ok_or_else(|| Down::refused("the broker ended the consumer: the queue is gone"))?;
                    self.came(delivery.map_err(down)?);
                }
                _ = lag.tick() => self.ask(),
            }
        }
    }

    fn came(&mut self, delivery: Delivery) {
        let content = || plan::content(&self.plan.source.queue, &delivery);
        let number = plan::id(&delivery).is_none().then(content).map(|content| self.numbers.take(content));
        self.waiting.push((delivery, number));
    }

    /// Begins to store what waits, unless something is being stored.
    fn store(&mut self) {
        if self.storing.is_some() || self.waiting.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.waiting);
        let (plan, feed) = (self.plan, self.feed);
        let storing = async move {
            let messages: Vec<_> =
                items.iter().map(|(delivery, number)| plan.message(delivery, number.as_ref())).collect();
            let taken = feed.take(&messages).await?;
            drop(messages);
            Ok((items, taken))
        };
        self.storing = Some(storing.boxed());
    }

    /// Rejects what is no event, acknowledges everything else, and forgets what cannot come again.
    async fn settle(&mut self, items: Vec<Item>, taken: &[Taken]) -> Result<(), Down> {
        let mut last = None;
        for ((delivery, _), taken) in items.iter().zip(taken) {
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
        self.acknowledged.extend(items.into_iter().filter_map(|(_, number)| number));
        Ok(())
    }

    /// Asks how many messages wait, unless that is being asked.
    fn ask(&mut self) {
        if self.asking.is_some() {
            return;
        }
        let (plan, feed, channel) = (self.plan, self.feed, self.channel.clone());
        let numbers = std::mem::take(&mut self.acknowledged);
        let asking = async move {
            let queue = short("queue", &plan.source.queue)?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(queue, options, FieldTable::default()).await.map_err(down)?;
            feed.lag(u64::from(queue.message_count()));
            if !numbers.is_empty() {
                feed.settled(numbers.iter().map(plan::by).collect()).await?;
            }
            Ok(numbers)
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
