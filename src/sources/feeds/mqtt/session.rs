//! A connection to the broker, from the subscription on.
//!
//! Messages are stored in batches, one after another, while the next ones come in; acknowledgements go out in the order of the messages. What waits is
//! bounded: beyond, nothing is read, and the broker keeps it. A message of QoS 2 is remembered by its packet identifier until the broker releases it, and
//! the broker may use that again once it is forgotten on stable storage. Where the broker has lost the session, all identifiers are forgotten first.

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
    net::mqtt::{Client, Error, Greeting, Incoming, Outgoing, Published, Qos, Receipt, Subscription, Words},
    telemetry::Rejection,
};

/// Messages that wait to be stored.
const MAX_WAITING: usize = 512;
/// Bytes of memory that they take: one more message is taken in while there are fewer.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Topics of earlier subscriptions that are remembered as given up.
const MAX_STRAYS: usize = 1_000;
/// Filters in one packet: brokers bound how many there may be, and how many bytes.
const FILTERS: usize = 8;
/// Packet identifiers that are forgotten at a time where the session is lost.
const PART: usize = 1_024;

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

/// What is asked of the broker about subscriptions.
enum Request {
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<String>),
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
    /// Messages of QoS 2 whose identifiers the broker has not released.
    held: HashSet<u16>,
    /// Those that it has released, and that are not being forgotten yet.
    released: Vec<u16>,
    /// Those that are being forgotten.
    forgetting: Option<BoxFuture<'a, Result<Vec<u16>, Down>>>,
    /// What is still to be asked of the broker about subscriptions, one packet after another.
    requests: VecDeque<Request>,
    /// What it was asked and has not answered, with the packet's identifier.
    asked: Option<(u16, Request)>,
    /// The identifier of the last such packet.
    last_request: u16,
    /// What it has granted, of each filter.
    granted: Vec<Qos>,
    /// The broker has not the session that it is to have.
    lost: bool,
    /// Topics whose subscriptions were given up.
    strays: HashSet<String>,
    /// When the broker was last heard, or could not be.
    heard: Instant,
}

impl<'a, S> Session<'a, S>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin,
{
    pub(super) fn new(plan: &'a Plan<'a>, feed: &'a Feed, client: Client<S>, greeting: Greeting) -> Self {
        let Greeting { session, keep_alive, .. } = greeting;
        let keep_alive = if keep_alive.is_zero() { Duration::from_secs(super::KEEP_ALIVE.into()) } else { keep_alive };
        Self {
            plan,
            feed,
            client,
            keep_alive,
            waiting: Vec::new(),
            waiting_bytes: 0,
            storing: None,
            held: HashSet::new(),
            released: Vec::new(),
            forgetting: None,
            requests: VecDeque::new(),
            asked: None,
            last_request: 0,
            granted: Vec::new(),
            lost: !session,
            strays: HashSet::new(),
            heard: Instant::now(),
        }
    }

    /// Goes on until the connection ends.
    pub(super) async fn run(mut self, broker: &str) -> Result<Infallible, End> {
        if self.lost {
            self.forget_all().await?;
        }
        let filters = self.plan.subscriptions();
        self.requests.extend(filters.chunks(FILTERS).map(|part| Request::Subscribe(part.to_vec())));
        self.ask().await?;
        let mut ping_at = Instant::now() + self.keep_alive / 2;
        loop {
            self.store();
            let full = self.waiting.len() >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES;
            self.forget();
            let (storing, forgetting, client) = (&mut self.storing, &mut self.forgetting, &mut self.client);
            tokio::select! {
                stored = done(storing) => {
                    self.storing = None;
                    self.acknowledge(stored.map_err(End::Down)?).await?;
                }
                free = done(forgetting) => {
                    self.forgetting = None;
                    self.client.send(free.map_err(End::Down)?.into_iter().map(Outgoing::Complete)).await?;
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
                    self.client.send([Outgoing::Ping]).await?;
                }
            }
        }
    }

    /// Forgets all that is remembered by packet identifiers: they begin anew.
    async fn forget_all(&mut self) -> Result<(), End> {
        let mut first = 1;
        while self.feed.remembers() && first <= usize::from(u16::MAX) {
            let part = (first..first + PART).filter_map(|id| u16::try_from(id).ok());
            self.feed.settled(part.map(|id| self.plan.held(id))).await.map_err(End::Down)?;
            first += PART;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Begins to forget the identifiers that the broker has released, unless some are being forgotten.
    fn forget(&mut self) {
        if self.forgetting.is_some() || self.released.is_empty() {
            return;
        }
        let ids = std::mem::take(&mut self.released);
        let (plan, feed) = (self.plan, self.feed);
        let forgetting = async move {
            feed.settled(ids.iter().map(|id| plan.held(*id))).await?;
            Ok(ids)
        };
        self.forgetting = Some(forgetting.boxed());
    }

    /// Asks the next thing about subscriptions, unless an answer is waited for.
    async fn ask(&mut self) -> Result<(), End> {
        if self.asked.is_some() {
            return Ok(());
        }
        let Some(request) = self.requests.pop_front() else { return Ok(()) };
        self.last_request = self.last_request.checked_add(1).unwrap_or(1);
        let packet = match &request {
            Request::Subscribe(filters) => Outgoing::Subscribe(self.last_request, filters.clone()),
            Request::Unsubscribe(filters) => Outgoing::Unsubscribe(self.last_request, filters.clone()),
        };
        self.asked = Some((self.last_request, request));
        Ok(self.client.send([packet]).await?)
    }

    /// What was asked with this identifier, if anything: it is answered.
    fn answered(&mut self, id: u16) -> Option<Request> {
        self.asked.take_if(|(asked, _)| *asked == id).map(|(_, request)| request)
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
                self.released.push(id);
                Ok(())
            }
            Incoming::Subscribed(id, each) => match self.answered(id) {
                Some(Request::Subscribe(filters)) => {
                    self.subscribed(&filters, &each, broker)?;
                    self.ask().await
                }
                _ => Ok(()),
            },
            Incoming::Unsubscribed(id) => {
                self.answered(id);
                self.ask().await
            }
            Incoming::Pong | Incoming::Taken(..) | Incoming::Other => Ok(()),
        }
    }

    fn subscribed(&mut self, filters: &[Subscription], each: &[Result<Qos, Words>], broker: &str) -> Result<(), End> {
        let refused: Vec<String> = filters
            .iter()
            .zip(each)
            .filter_map(|(one, code)| code.as_ref().err().map(|words| format!("{}: {words}", one.filter)))
            .collect();
        if each.len() != filters.len() || !refused.is_empty() {
            let what = if refused.is_empty() { "it is silent about some".to_owned() } else { refused.join("; ") };
            let why = format!("the broker refuses to be subscribed to: {what}; let the user read these topics");
            return Err(End::Down(Down::refused(why)));
        }
        self.granted.extend(each.iter().flatten());
        if self.granted.len() == self.plan.filters().len() {
            let lost = self.lost && self.feed.was_connected();
            self.feed.connected(self.plan.words(broker, &self.granted, lost));
        }
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
        self.waiting_bytes += message.as_ref().map_or(0, |message| message.size);
        self.waiting.push(Item { receipt, message });
        Ok(())
    }

    /// Unsubscribes what an earlier version of the source subscribed to, and a message of this topic came by.
    async fn give_up(&mut self, topic: &str) -> Result<(), End> {
        if self.strays.len() >= MAX_STRAYS {
            self.strays.clear();
        }
        // Without answers no more is asked.
        if self.requests.len() >= MAX_STRAYS || !self.strays.insert(topic.to_owned()) {
            return Ok(());
        }
        let strays = self.plan.strays(topic);
        if strays.is_empty() {
            return Ok(());
        }
        tracing::info!(topic = %topic.escape_debug(), "the session has a subscription of an earlier version of the EventSource: it is given up");
        self.requests.extend(strays.chunks(FILTERS).map(|part| Request::Unsubscribe(part.to_vec())));
        self.ask().await
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
        Ok(self.client.send(receipts).await?)
    }
}

/// What comes of work that goes on; nothing, ever, where there is none.
async fn done<T>(work: &mut Option<BoxFuture<'_, T>>) -> T {
    match work.as_mut() {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
