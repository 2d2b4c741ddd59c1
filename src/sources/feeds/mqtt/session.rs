//! A connection to the broker, from the subscription on.
//!
//! Messages are stored in batches, one after another, while the next ones come in; acknowledgements go out in the order of the messages. What waits is
//! bounded: beyond, nothing is read, and the broker keeps it. A ping follows each batch of acknowledgements: its answer proves that the broker has seen
//! them, so that nothing of the batch comes again.

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::time::{Instant, sleep_until};

use super::{
    super::{feed::Feed, link::Down},
    plan::Plan,
};
use crate::{
    net::mqtt::{Client, Error, Incoming, Outgoing, Published, Qos, Receipt, Words},
    telemetry::Rejection,
};

/// Messages that wait to be stored.
const MAX_WAITING: usize = 512;
/// Bytes of their payloads: one more message is taken in while there are fewer.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Topics of earlier subscriptions that are remembered as given up.
const MAX_STRAYS: usize = 1_000;

/// Why a session ended.
pub(super) enum End {
    /// The connection.
    Connection(Error),
    /// Something else.
    Down(Down),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Connection(error)
    }
}

/// A message that came, and what is owed for it. Without a message nothing is stored.
struct Item {
    receipt: Receipt,
    message: Option<Published>,
}

pub(super) struct Session<'a, S> {
    plan: &'a Plan<'a>,
    feed: &'a Feed,
    client: Client<S>,
    keep_alive: Duration,
    /// What came and is not being stored yet.
    waiting: Vec<Item>,
    waiting_bytes: usize,
    /// What is being stored.
    storing: Option<BoxFuture<'a, Result<Vec<Item>, Down>>>,
    /// What the broker is known to have seen once it answers each of these pings.
    pings: VecDeque<Vec<String>>,
    /// Messages of QoS 2 whose identifiers the broker has not released.
    held: HashSet<u16>,
    /// Topics whose subscriptions were given up.
    strays: HashSet<String>,
    /// When the broker was last heard, or could not be.
    heard: Instant,
}

impl<'a, S> Session<'a, S>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin,
{
    pub(super) fn new(plan: &'a Plan<'a>, feed: &'a Feed, client: Client<S>, keep_alive: Duration) -> Self {
        let keep_alive = if keep_alive.is_zero() { Duration::from_secs(super::KEEP_ALIVE.into()) } else { keep_alive };
        Self {
            plan,
            feed,
            client,
            keep_alive,
            waiting: Vec::new(),
            waiting_bytes: 0,
            storing: None,
            pings: VecDeque::new(),
            held: HashSet::new(),
            strays: HashSet::new(),
            heard: Instant::now(),
        }
    }

    /// Goes on until the connection ends.
    pub(super) async fn run(mut self, broker: &str) -> Result<Infallible, End> {
        self.client.send([Outgoing::Subscribe(self.plan.subscriptions())]).await?;
        let mut ping_at = Instant::now() + self.keep_alive / 2;
        loop {
            self.store();
            let full = self.waiting.len() >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES;
            let (storing, client) = (&mut self.storing, &mut self.client);
            let stored = async {
                match storing.as_mut() {
                    Some(storing) => storing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                stored = stored => {
                    self.storing = None;
                    self.acknowledge(stored.map_err(End::Down)?).await?;
                }
                packet = client.next(), if !full => {
                    self.heard = Instant::now();
                    self.take(packet?, broker).await?;
                }
                () = sleep_until(ping_at) => {
                    ping_at = Instant::now() + self.keep_alive / 2;
                    if full {
                        // Its answer cannot be read: the broker is only told that we are there.
                        self.heard = Instant::now();
                    } else if self.heard.elapsed() > self.keep_alive {
                        return Err(Error::Silent(self.keep_alive).into());
                    }
                    self.ping(Vec::new()).await?;
                }
            }
        }
    }

    async fn ping(&mut self, proves: Vec<String>) -> Result<(), End> {
        self.pings.push_back(proves);
        Ok(self.client.send([Outgoing::Ping]).await?)
    }

    async fn take(&mut self, packet: Incoming, broker: &str) -> Result<(), End> {
        match packet {
            Incoming::Message(message) => self.message(message).await,
            Incoming::Unread(receipt, why) => {
                self.feed.rejected(if why.is_ok() { Rejection::TooLarge } else { Rejection::Malformed });
                self.waiting.push(Item { receipt, message: None });
                Ok(())
            }
            Incoming::Released(id) => {
                self.held.remove(&id);
                Ok(self.client.send([Outgoing::Complete(id)]).await?)
            }
            Incoming::Subscribed(each) => self.subscribed(&each, broker),
            Incoming::Pong => {
                if let Some(seen) = self.pings.pop_front().filter(|seen| !seen.is_empty()) {
                    self.feed.settled(seen).await.map_err(End::Down)?;
                }
                Ok(())
            }
            Incoming::Taken(..) | Incoming::Other => Ok(()),
        }
    }

    fn subscribed(&self, each: &[Result<Qos, Words>], broker: &str) -> Result<(), End> {
        let filters = self.plan.filters();
        let refused: Vec<String> = filters
            .iter()
            .zip(each)
            .filter_map(|(filter, code)| code.as_ref().err().map(|words| format!("{filter}: {words}")))
            .collect();
        if each.len() != filters.len() || !refused.is_empty() {
            let what = if refused.is_empty() { "it is silent about some".to_owned() } else { refused.join("; ") };
            let why = format!("the broker refuses to be subscribed to: {what}; let the user read these topics");
            return Err(End::Down(Down::refused(why)));
        }
        self.feed.connected(broker);
        Ok(())
    }

    async fn message(&mut self, message: Published) -> Result<(), End> {
        if let Receipt::Receive(id) = message.receipt
            && !self.held.insert(id)
        {
            // It is here already, and owed one receipt.
            return Ok(());
        }
        let receipt = message.receipt;
        if !self.plan.asks_for(&message.topic) {
            self.give_up(&message.topic).await?;
            self.waiting.push(Item { receipt, message: None });
            return Ok(());
        }
        let message = Some(message).filter(|message| self.plan.takes(message));
        self.waiting_bytes += message.as_ref().map_or(0, |message| message.payload.len());
        self.waiting.push(Item { receipt, message });
        Ok(())
    }

    /// Unsubscribes what an earlier version of the source subscribed to, and a message of this topic came by.
    async fn give_up(&mut self, topic: &str) -> Result<(), End> {
        if self.strays.len() >= MAX_STRAYS {
            self.strays.clear();
        }
        if !self.strays.insert(topic.to_owned()) {
            return Ok(());
        }
        let strays = self.plan.strays(topic);
        if strays.is_empty() {
            return Ok(());
        }
        tracing::info!(topic = %topic.escape_debug(), "the session has a subscription of an earlier version of the EventSource: it is given up");
        Ok(self.client.send([Outgoing::Unsubscribe(strays)]).await?)
    }

    /// Begins to store what waits, unless something is being stored.
    fn store(&mut self) {
        if self.storing.is_some() || self.waiting.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let (plan, feed) = (self.plan, self.feed);
        let storing = async move {
            let messages: Vec<_> =
                items.iter().filter_map(|item| item.message.as_ref()).map(|one| plan.message(one)).collect();
            if !messages.is_empty() {
                feed.take(&messages).await?;
            }
            drop(messages);
            Ok(items)
        };
        self.storing = Some(storing.boxed());
    }

    async fn acknowledge(&mut self, items: Vec<Item>) -> Result<(), End> {
        let receipts = items.iter().filter_map(|item| match item.receipt {
            Receipt::None => None,
            Receipt::Acknowledge(id) => Some(Outgoing::Acknowledge(id)),
            Receipt::Receive(id) => Some(Outgoing::Receive(id)),
        });
        let receipts: Vec<Outgoing> = receipts.collect();
        if receipts.is_empty() {
            return Ok(());
        }
        self.client.send(receipts).await?;
        let told = items.iter().filter_map(|item| item.message.as_ref()).filter(|message| !message.retained);
        let seen = told.filter_map(|message| self.plan.told(message)).map(|told| told.by).collect();
        self.ping(seen).await
    }
}
