//! Subjects of core NATS.

use std::{collections::VecDeque, convert::Infallible};

use async_nats::Client;
use futures::StreamExt as _;

use super::{
    super::{feed::Feed, link::Down},
    BATCH, message,
};
use crate::{
    api::{NatsCore, NatsSource},
    event::message::Message,
    telemetry::Rejection,
};

/// Bytes of a subject that are kept while others are stored, but for the last message: what comes then is not taken.
const HELD: usize = 16 << 20;
/// Messages of a subject that are kept so.
const HELD_MESSAGES: usize = 16_384;

/// Takes messages of a subject until the connection breaks.
pub(super) async fn subscribe(
    spec: &NatsSource,
    core: &NatsCore,
    feed: &Feed,
    client: &Client,
    server: &str,
) -> Result<Infallible, Down> {
    let failed =
        |error: &dyn std::fmt::Display| Down::refused(format!("{server}: subscribe to {}: {error}", core.subject));
    let subscribed = match &core.queue_group {
        Some(group) => client.queue_subscribe(core.subject.clone(), group.clone()).await,
        None => client.subscribe(core.subject.clone()).await,
    };
    let mut subscription = subscribed.map_err(|error| failed(&error))?;
    client.flush().await.map_err(|error| failed(&error))?;
    feed.connected(format!(
        "connected to {server}, subscribed to {}: what is published while there is no connection is lost",
        core.subject
    ));
    let (mut held, ended) = (Held::default(), || Down::unreachable(format!("{server}: the subscription ended")));
    loop {
        if held.messages.is_empty() {
            held.keep(subscription.next().await.ok_or_else(ended)?);
        }
        let chunk = held.take();
        let messages: Vec<Message<'_>> = chunk.iter().map(|one| message(spec, feed.source(), one, None)).collect();
        let mut taking = std::pin::pin!(feed.take(&messages));
        // It is read all the while, so that what waits has a bound in bytes.
        loop {
            tokio::select! {
                biased;
                taken = &mut taking => break drop(taken?),
                next = subscription.next() => if !held.keep(next.ok_or_else(ended)?) {
                    feed.rejected(Rejection::Unavailable);
                },
            }
        }
    }
}

/// What came while others were stored.
#[derive(Default)]
struct Held {
    messages: VecDeque<async_nats::Message>,
    bytes: usize,
}

impl Held {
    /// Whether there was room for it.
    fn keep(&mut self, message: async_nats::Message) -> bool {
        let room = self.bytes < HELD && self.messages.len() < HELD_MESSAGES;
        if room {
            self.bytes += message.length;
            self.messages.push_back(message);
        }
        room
    }

    /// The first of them.
    fn take(&mut self) -> Vec<async_nats::Message> {
        let count = self.messages.len().min(BATCH);
        let taken: Vec<_> = self.messages.drain(..count).collect();
        self.bytes -= taken.iter().map(|message| message.length).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::received, *};

    #[test]
    fn what_waits_while_others_are_stored_has_a_bound_in_bytes() {
        let mut held = Held::default();
        let kept = (0..20).filter(|_| held.keep(received(&[], 1 << 20))).count();
        assert_eq!((kept, held.bytes), (16, HELD));
        assert_eq!((held.take().len(), held.bytes), (16, 0));
        assert!(held.keep(received(&[], 1)));
    }

    #[test]
    fn many_small_messages_are_bounded_too() {
        let mut held = Held::default();
        let kept = (0..=HELD_MESSAGES).filter(|_| held.keep(received(&[], 1))).count();
        assert_eq!((kept, held.take().len()), (HELD_MESSAGES, BATCH));
    }
}
