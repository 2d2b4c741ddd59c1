//! Sources of kind `queueLag`: how many messages wait in a queue, sampled again and again. A file for each place.

#[cfg(feature = "kafka")]
mod kafka;

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{feed::Feed, link::Down};
use crate::{
    api::{QueueKind, QueueLagSource},
    event::{TYPE_QUEUE_LAG, message::Message},
};

/// How often may be sampled.
const INTERVAL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// How deep a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Depth {
    /// What it is called.
    queue: String,
    /// How many messages wait.
    lag: u64,
    /// How many of them in each topic, where it has topics.
    topics: BTreeMap<String, u64>,
}

/// What is wrong with a spec.
pub(super) fn faults(spec: &QueueLagSource) -> Vec<String> {
    let mut faults = Vec::new();
    if !INTERVAL.contains(&spec.interval.get()) {
        faults.push("queueLag.interval: must be 1s to 1h".to_owned());
    }
    match spec.kind() {
        Some(QueueKind::Kafka(kafka)) => kafka.cluster().faults("queueLag.kafka", &mut faults),
        None => faults.push("queueLag: exactly one place must be set: kafka".to_owned()),
    }
    faults
}

/// A place that can be asked.
enum Place<'a> {
    #[cfg(feature = "kafka")]
    Kafka(kafka::Group<'a>),
}

impl<'a> Place<'a> {
    async fn connect(spec: &'a QueueLagSource, feed: &Feed) -> Result<Self, Down> {
        match spec.kind() {
            #[cfg(feature = "kafka")]
            Some(QueueKind::Kafka(place)) => kafka::Group::connect(place, feed).await.map(Self::Kafka),
            #[cfg(not(feature = "kafka"))]
            Some(QueueKind::Kafka(_)) => Err(Down::refused(
                "queueLag.kafka: this operator was built without it: use one built with the feature kafka",
            )),
            None => Err(Down::refused("queueLag: exactly one place must be set: kafka")),
        }
    }

    async fn depth(&mut self, feed: &Feed) -> Result<Depth, Down> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(group) => group.depth(feed).await,
        }
    }
}

/// Connects, and samples until the connection breaks.
///
/// # Cancel safety
/// Dropped, the connection ends.
pub(super) async fn run(spec: &QueueLagSource, feed: &Feed) -> Result<Infallible, Down> {
    let mut place = Place::connect(spec, feed).await?;
    let mut next = Instant::now();
    loop {
        let depth = place.depth(feed).await?;
        feed.lag(depth.lag);
        let body = body(&depth);
        feed.take(&[message(&body, feed)]).await?;
        // What waited for the log is not caught up: a sample tells how it is when it is taken.
        next = (next + spec.interval.get()).max(Instant::now());
        sleep_until(next).await;
    }
}

fn body(depth: &Depth) -> Vec<u8> {
    let Depth { queue, lag, topics } = depth;
    let body = if topics.is_empty() {
        json!({"queue": queue, "lag": lag})
    } else {
        json!({"queue": queue, "lag": lag, "topics": topics})
    };
    body.to_string().into_bytes()
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
