//! Sources of kind `queueLag`: how many messages wait in a queue, sampled again and again. A file for each place.

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(feature = "nats")]
mod jet_stream;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "redis")]
mod redis;

use std::{convert::Infallible, time::Duration};

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};

use super::{feed::Feed, link::Down};
use crate::{
    api::{QueueKind, QueueLagSource, one_place_of},
    event::{TYPE_QUEUE_LAG, message::Message},
};

/// How often may be sampled.
const INTERVAL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// How deep a queue is.
#[derive(Clone, Debug, PartialEq)]
struct Depth {
    /// Who says so, and what there is to know about it, for status.
    told: String,
    /// What it is called.
    queue: String,
    /// How many messages wait.
    lag: u64,
    /// What the place tells besides.
    more: Vec<(&'static str, Value)>,
}

/// What is wrong with a spec.
pub(super) fn faults(spec: &QueueLagSource) -> Vec<String> {
    let mut faults = Vec::new();
    if !INTERVAL.contains(&spec.interval.get()) {
        faults.push("queueLag.interval: must be 1s to 1h".to_owned());
    }
    match spec.kind() {
        Some(QueueKind::Kafka(kafka)) => kafka.cluster().faults("queueLag.kafka", &mut faults),
        Some(QueueKind::JetStream(of)) => of.cluster().faults("queueLag.jetStream", &mut faults),
        Some(QueueKind::Redis(redis)) => redis.server().faults("queueLag.redis", &mut faults),
        Some(QueueKind::Amqp(amqp)) => amqp.broker().faults("queueLag.amqp", &mut faults),
        None => faults.push(format!("queueLag: {}", one_place_of())),
    }
    faults
}

/// Connects, and samples until the connection breaks.
///
/// # Cancel safety
/// Dropped, the connection ends.
pub(super) async fn run(spec: &QueueLagSource, feed: &Feed) -> Result<Infallible, Down> {
    #[allow(unused_variables, reason = "each place can be left out of a build")]
    let sampler = Sampler { every: spec.interval.get(), feed };
    match spec.kind() {
        #[cfg(feature = "kafka")]
        Some(QueueKind::Kafka(place)) => kafka::run(place, sampler).await,
        #[cfg(feature = "nats")]
        Some(QueueKind::JetStream(place)) => jet_stream::run(place, sampler).await,
        #[cfg(feature = "redis")]
        Some(QueueKind::Redis(place)) => redis::run(place, sampler).await,
        #[cfg(feature = "amqp")]
        Some(QueueKind::Amqp(place)) => amqp::run(place, sampler).await,
        #[allow(unreachable_patterns, reason = "each place can be left out of a build")]
        Some(place) => Err(Down::refused(format!(
            "queueLag.{}: this operator was built without it: use one that was built with all features",
            place.name()
        ))),
        None => Err(Down::refused(format!("queueLag: {}", one_place_of()))),
    }
}

/// A connection to a place that can be asked again and again.
#[allow(dead_code, reason = "which kinds are built decides what is used")]
trait Ask {
    /// How deep the queue is now.
    fn depth(&mut self, feed: &Feed) -> impl Future<Output = Result<Depth, Down>> + Send;
}

/// What asks.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "which kinds are built decides what is used")]
struct Sampler<'a> {
    every: Duration,
    feed: &'a Feed,
}

#[allow(dead_code, reason = "which kinds are built decides what is used")]
impl Sampler<'_> {
    /// Samples until the place tells nothing any more.
    async fn run(self, mut place: impl Ask) -> Result<Infallible, Down> {
        let Self { every, feed } = self;
        let mut next = Instant::now();
        loop {
            let depth = place.depth(feed).await?;
            feed.connected(&depth.told);
            feed.lag(depth.lag);
            let body = body(depth);
            feed.take(&[message(&body, feed)]).await?;
            // What waited for the log is not caught up: a sample tells how it is when it is taken.
            next = (next + every).max(Instant::now());
            sleep_until(next).await;
        }
    }
}

fn body(depth: Depth) -> Vec<u8> {
    let Depth { told: _, queue, lag, more } = depth;
    let own = [("queue", Value::from(queue)), ("lag", lag.into())];
    let all: Map<String, Value> = own.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
    Value::Object(all).to_string().into_bytes()
}

fn message<'a>(body: &'a [u8], feed: &Feed) -> Message<'a> {
    Message {
        id: None,
        source: feed.source(),
        type_: TYPE_QUEUE_LAG,
        subject: Some(format!("{}/EventSource/{}", feed.namespace, feed.name)),
        time: Some(feed.accept.clock().now().timestamp()),
        content_type: Some("application/json"),
        body,
        ..Message::default()
    }
}
