//! Streams of JetStream.

use std::{convert::Infallible, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        self, AckKind, Context,
        consumer::{self, AckPolicy, Consumer, DeliverPolicy, pull},
    },
};
use futures::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use tokio::time::{Instant, interval, interval_at};

use super::{
    super::{
        feed::{Feed, Taken},
        link::Down,
    },
    BATCH, message,
};
use crate::{
    api::{JetStream, NatsDeliverPolicy, NatsSource},
    event::message::Message,
    net::nats::ANSWER,
};

/// Bytes that JetStream is asked for at once: one message of the largest size, with what the server counts beside its body.
const BYTES: usize = 65 << 20;
/// For how long the server keeps what asks for messages; it is asked anew then.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it is there while it has nothing.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often the server is asked how much waits while nothing comes.
const LAG: Duration = Duration::from_secs(30);
/// When the server removes a consumer that was made here and that nobody asks: 30 days.
const FORGOTTEN: Duration = Duration::from_hours(720);

/// Takes messages of a stream until the connection breaks.
pub(super) async fn consume(
    spec: &NatsSource,
    of: &JetStream,
    feed: &Feed,
    client: &Client,
    server: &str,
) -> Result<Infallible, Down> {
    let context = context(client, of.domain.as_deref());
    let consumer = consumer(of, feed, &context, server).await?;
    let info = consumer.cached_info();
    let (name, ack_wait) = (info.name.clone(), info.config.ack_wait);
    feed.connected(format!("connected to {server}, takes from stream {} by consumer {name}", of.stream));
    feed.lag(info.num_pending);
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Down::unreachable(format!("{server}: {what} consumer {name} of stream {}: {error}", of.stream))
    };
    let Pull { messages, bytes, expires, heartbeat } = Pull::of(&info.config);
    let pulling = consumer.stream().max_messages_per_batch(messages).max_bytes_per_batch(bytes);
    let pulling = pulling.expires(expires).heartbeat(heartbeat);
    let stream = pulling.messages().await.map_err(|error| failed("ask", &error))?;
    let mut chunks = stream.ready_chunks(messages);
    let mut look = interval_at(Instant::now() + LAG, LAG);
    loop {
        let chunk = tokio::select! {
            chunk = chunks.next() => chunk.ok_or_else(|| failed("read", &"it ended"))?,
            _ = look.tick() => {
                let info = consumer.get_info().await.map_err(|error| failed("look at", &error))?;
                feed.lag(info.num_pending);
                continue;
            }
        };
        let (mut fetched, mut ended) = (Vec::with_capacity(chunk.len()), None);
        for one in chunk {
            match one {
                Ok(one) => fetched.push(one),
                Err(error) => ended = Some(failed("read", &error)),
            }
        }
        store(spec, feed, &fetched, ack_wait).await?;
        if let Some(down) = ended {
            return Err(down);
        }
    }
}

/// What is asked for at once.
#[derive(Debug, PartialEq, Eq)]
struct Pull {
    messages: usize,
    bytes: usize,
    expires: Duration,
    heartbeat: Duration,
}

impl Pull {
    /// A consumer with limits of its own refuses to be asked for more.
    fn of(config: &consumer::Config) -> Self {
        let within = |own: i64, most: usize| match usize::try_from(own) {
            Ok(own) if own > 0 => own.min(most),
            _ => most,
        };
        let expires = if config.max_expires.is_zero() { EXPIRES } else { EXPIRES.min(config.max_expires) };
        // The server wants less than half of it.
        let heartbeat = HEARTBEAT.min(expires / 3);
        Self { messages: within(config.max_batch, BATCH), bytes: within(config.max_bytes, BYTES), expires, heartbeat }
    }
}

/// JetStream of a domain, or else of the account.
pub(in crate::sources::feeds) fn context(client: &Client, domain: Option<&str>) -> Context {
    let mut context = match domain {
        Some(domain) => jetstream::with_domain(client.clone(), domain),
        None => jetstream::new(client.clone()),
    };
    context.set_timeout(ANSWER);
    context
}

/// The consumer that is named, or the one of this EventSource, made if it is not there.
async fn consumer(
    of: &JetStream,
    feed: &Feed,
    context: &Context,
    server: &str,
) -> Result<Consumer<pull::Config>, Down> {
    let failed = |what: String, error: &dyn std::fmt::Display| Down::refused(format!("{server}: {what}: {error}"));
    let what = || format!("look for stream {}", of.stream);
    let stream = context.get_stream(&of.stream).await.map_err(|error| failed(what(), &error))?;
    let consumer = match &of.consumer {
        Some(name) => {
            let found = stream.get_consumer::<pull::Config>(name).await;
            found.map_err(|error| {
                let what =
                    format!("look for consumer {name} of stream {} (it must exist, and be a pull consumer)", of.stream);
                failed(what, &error)
            })?
        }
        None => {
            let mut config = config(of, feed);
            // Where one that is there began cannot be changed, and does not matter to it any more.
            if let Ok(known) = stream.consumer_info(feed.identity()).await {
                config.deliver_policy = known.config.deliver_policy;
            }
            let made = stream.create_consumer(config).await;
            made.map_err(|error| failed(format!("make consumer {} of stream {}", feed.identity(), of.stream), &error))?
        }
    };
    let info = consumer.cached_info();
    if info.config.ack_policy != AckPolicy::Explicit {
        let (name, stream) = (&info.name, &of.stream);
        return Err(Down::refused(format!(
            "{server}: consumer {name} of stream {stream} must have ack policy explicit, or what is lost on its way is not sent again"
        )));
    }
    Ok(consumer)
}

fn config(of: &JetStream, feed: &Feed) -> pull::Config {
    pull::Config {
        durable_name: Some(feed.identity()),
        description: Some(format!("EventSource {}/{} of signalbox", feed.namespace, feed.name)),
        deliver_policy: match of.deliver_policy.unwrap_or_default() {
            NatsDeliverPolicy::New => DeliverPolicy::New,
            NatsDeliverPolicy::All => DeliverPolicy::All,
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: of.ack_wait.map_or(Duration::from_secs(30), |wait| wait.get()),
        max_ack_pending: of.max_ack_pending.unwrap_or(256).into(),
        filter_subjects: of.filter_subjects.clone(),
        inactive_threshold: FORGOTTEN,
        ..pull::Config::default()
    }
}

/// Takes messages and acknowledges them. As long as the log has no room, the server is told that they are worked on.
async fn store(spec: &NatsSource, feed: &Feed, fetched: &[jetstream::Message], ack_wait: Duration) -> Result<(), Down> {
    let info = |one: &jetstream::Message| one.info().ok().map(Place::of);
    let places: Vec<Option<Place>> = fetched.iter().map(info).collect();
    let messages: Vec<Message<'_>> =
        fetched.iter().zip(&places).map(|(one, place)| message(spec, feed.source(), one, place.as_ref())).collect();
    let mut taking = std::pin::pin!(feed.take(&messages));
    let half = (ack_wait / 2).max(Duration::from_millis(100));
    let mut progress = interval(half);
    progress.reset();
    let taken = loop {
        tokio::select! {
            taken = &mut taking => break taken?,
            _ = progress.tick() => for one in fetched {
                acknowledge(one, AckKind::Progress).await?;
            },
        }
    };
    for (one, taken) in fetched.iter().zip(taken) {
        acknowledge(one, if taken == Taken::Stored { AckKind::Ack } else { AckKind::Term }).await?;
    }
    if let Some(place) = places.last().and_then(Option::as_ref) {
        feed.lag(place.pending);
    }
    Ok(())
}

/// One that does not reach the server is sent again, and known.
async fn acknowledge(one: &jetstream::Message, kind: AckKind) -> Result<(), Down> {
    one.ack_with(kind).await.map_err(|error| Down::unreachable(format!("acknowledge a message: {error}")))
}

/// Where JetStream keeps a message.
pub(super) struct Place {
    pub(super) stream: String,
    pub(super) sequence: u64,
    pub(super) published: Option<Timestamp>,
    pub(super) pending: u64,
}

impl Place {
    fn of(info: jetstream::message::Info<'_>) -> Self {
        let published = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).ok();
        Self { stream: info.stream.to_owned(), sequence: info.stream_sequence, published, pending: info.pending }
    }

    /// A stream that was made anew counts from 1 again.
    pub(super) fn id(&self) -> String {
        format!("{}/{}/{}", self.stream, self.sequence, self.published.map_or(0, |published| published.as_second()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_asked_for_no_more_than_it_allows() {
        let own = Pull { messages: BATCH, bytes: BYTES, expires: EXPIRES, heartbeat: HEARTBEAT };
        assert_eq!(Pull::of(&consumer::Config::default()), own);
        assert_eq!(
            Pull::of(&consumer::Config {
                max_batch: -1,
                max_bytes: -1,
                max_expires: EXPIRES * 2,
                ..Default::default()
            }),
            own
        );
        let limited = consumer::Config {
            max_batch: 2,
            max_bytes: 9_000,
            max_expires: Duration::from_millis(300),
            ..consumer::Config::default()
        };
        let (expires, heartbeat) = (Duration::from_millis(300), Duration::from_millis(100));
        assert_eq!(Pull::of(&limited), Pull { messages: 2, bytes: 9_000, expires, heartbeat });
    }
}
