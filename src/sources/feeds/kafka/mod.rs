//! Sources of kind `kafka`: records of topics, taken as a member of a consumer group.
//!
//! The group's offsets go on after what is on stable storage, so a record comes again after a crash until then; what comes again is told by where it is.

mod group;
mod reader;
mod record;
mod survey;

use std::{convert::Infallible, sync::Arc};

use rdkafka::{
    ClientConfig,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
    metadata::Metadata,
};
use tokio::task::spawn_blocking;

use group::{Group, Member};
use reader::Reader;
use record::{Common, TOLD};
pub(super) use survey::lag;

use super::{
    feed::Feed,
    kind::{kept_faults, type_fault},
    link::Down,
};
use crate::{
    api::{DEFAULT_KAFKA_TYPE, KafkaCluster, KafkaSource},
    event::message::extension_named,
    net::kafka::{self, ANSWER, Fault, Places, Settings},
};

/// What is wrong with a spec.
pub(super) fn faults(spec: &KafkaSource) -> Vec<String> {
    let mut faults = Vec::new();
    spec.cluster().faults("kafka", &mut faults);
    if spec.topics.is_empty() {
        faults.push("kafka.topics: name at least one".to_owned());
    }
    if spec.group.is_empty() {
        faults.push("kafka.group: must not be empty".to_owned());
    }
    faults.extend(type_fault("kafka.type", spec.type_.as_deref(), DEFAULT_KAFKA_TYPE));
    kept_faults("kafka.headers", &spec.headers, &mut faults);
    let kept = spec.headers.iter().filter_map(|name| extension_named(name));
    let told = kept.filter(|name| TOLD.contains(&name.as_str()));
    faults.extend(told.map(|name| format!("kafka.headers: event.{name} is what the record itself tells")));
    faults
}

/// Connects, and takes records until the connection breaks.
///
/// # Cancel safety
/// Dropped, the member leaves its group. Records that were not said to be taken come again.
pub(super) async fn run(spec: &KafkaSource, feed: &Feed) -> Result<Infallible, Down> {
    let settings = settings(spec.cluster(), feed)?;
    let places = look(&settings, &spec.topics, &spec.group, feed).await?;
    let member = Member::new(&in_group(settings.config(), &spec.group)).map_err(down)?;
    let (client, start, of_group) = (member.share(), spec.start, places.clone());
    blocking(move || survey::begin(&*client, &of_group, start)).await?;
    let topics: Vec<&str> = spec.topics.iter().map(String::as_str).collect();
    member.client().subscribe(&topics).map_err(|error| down(kafka::sorted(&error)))?;
    let partitions: usize = places.iter().map(|(_, partitions)| partitions.len()).sum();
    feed.connected(format!("{}, group {}, {partitions} partitions", spec.brokers.join(", "), spec.group));
    let common = Common {
        source: feed.source(),
        type_: spec.type_.as_deref().unwrap_or(DEFAULT_KAFKA_TYPE).to_owned(),
        kept: spec.headers.iter().filter_map(|name| Some((name.clone(), extension_named(name)?))).collect(),
    };
    let survey = || Box::pin(keep_looking(member.share(), spec.topics.clone(), feed)) as _;
    Reader::new(&member, feed, Box::new(survey)).run(&common).await
}

/// Looks at the cluster beside taking records: whether all its brokers may be connected to, and how many records wait.
async fn keep_looking(
    client: Arc<StreamConsumer<Group>>,
    topics: Vec<String>,
    feed: &Feed,
) -> Result<Option<u64>, Down> {
    let looked = blocking(move || {
        let ask = |topic: &String| client.fetch_metadata(Some(topic), ANSWER);
        let answers: Result<Vec<Metadata>, KafkaError> = topics.iter().map(ask).collect();
        let answers = answers.map_err(|error| kafka::sorted(&error))?;
        let lag = lag(&*client, &kafka::partitions(&answers)?)?;
        Ok((kafka::brokers(&answers), lag.values().sum()))
    });
    match looked.await {
        Ok((brokers, lag)) => {
            allowed(&brokers, feed).await?;
            Ok(Some(lag))
        }
        // If nobody answers, no records come either, and that tells why.
        Err(error) => {
            tracing::debug!(%error, source = feed.name, "the cluster could not be asked how it is");
            Ok(None)
        }
    }
}

/// The cluster, and how to get in.
pub(super) fn settings<'a>(cluster: KafkaCluster<'a>, feed: &'a Feed) -> Result<Settings<'a>, Down> {
    Settings::of(cluster, feed.identity(), |key| feed.secret(key))
}

fn in_group(mut config: ClientConfig, group: &str) -> ClientConfig {
    config.set("group.id", group);
    config.set("partition.assignment.strategy", "cooperative-sticky");
    // A member that was killed holds its partitions for so long.
    config.set("session.timeout.ms", "10000").set("heartbeat.interval.ms", "3000");
    config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "1000");
    // What is committed is what was stored, and that is said by Reader.
    config.set("enable.auto.offset.store", "false");
    // Where a group begins, survey::begin says. What was deleted before it was taken is passed over.
    config.set("auto.offset.reset", "earliest");
    config.set("allow.auto.create.topics", "false").set("topic.metadata.refresh.interval.ms", "30000");
    // Each source holds 4 MiB of values, and one answer of a broker; a batch that is larger comes all the same. Keys and headers count as messages only:
    // so there are few, and they are fetched anew soon.
    config.set("queued.min.messages", "64").set("queued.max.messages.kbytes", "4096");
    config.set("fetch.queue.backoff.ms", "20");
    config.set("max.partition.fetch.bytes", "1048576").set("fetch.max.bytes", "4194304");
    config
}

/// The partitions of these topics, after a look whether all brokers and the group's coordinator may be connected to.
pub(super) async fn look(settings: &Settings<'_>, topics: &[String], group: &str, feed: &Feed) -> Result<Places, Down> {
    kafka::look(settings, (topics, Some(group)), feed.connector(), feed.roots()).await
}

/// Looks whether all addresses of these hosts may be connected to.
pub(super) async fn allowed(brokers: &[(String, u16)], feed: &Feed) -> Result<(), Down> {
    Ok(kafka::allowed(brokers, feed.connector()).await?)
}

/// Does what blocks in a thread for that. Dropped, it goes on there: each question ends by itself.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Down> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(down),
        Err(error) => Err(Down::unreachable(format!("the question to the cluster came to no end: {error}"))),
    }
}

/// As status says it.
pub(super) fn down(fault: Fault) -> Down {
    match fault {
        Fault::Unreachable(words) => Down::unreachable(words),
        Fault::Unauthenticated(words) => Down::unauthenticated(words),
        Fault::Refused(words) => Down::refused(words),
    }
}

impl From<Fault> for Down {
    fn from(fault: Fault) -> Self {
        down(fault)
    }
}
