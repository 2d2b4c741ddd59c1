//! How far a consumer group of Kafka is behind. The client is no member of it.

use std::convert::Infallible;

use rdkafka::{config::FromClientConfigAndContext as _, consumer::BaseConsumer};
use serde_json::json;

use super::{
    super::{
        feed::Feed,
        kafka::{allowed, blocking, down, lag, look, settings},
        link::Down,
    },
    Ask, Depth, Sampler,
};
use crate::{
    api::KafkaLag,
    net::kafka::{self, Listener, Outside, brokers, metadata, partitions},
};

/// A client that asks about a group.
struct Group<'a> {
    place: &'a KafkaLag,
    client: Outside<BaseConsumer<Listener>>,
}

/// Connects, and samples until the connection breaks.
pub(super) async fn run(place: &KafkaLag, sampler: Sampler<'_>) -> Result<Infallible, Down> {
    let settings = settings(place.cluster(), sampler.feed)?;
    look(&settings, &place.topics, &place.group, sampler.feed).await?;
    let mut config = settings.config();
    config.set("group.id", &place.group);
    let client = BaseConsumer::from_config_and_context(&config, Listener::default());
    let client = client.map_err(|error| down(kafka::sorted(&error)))?;
    sampler.run(Group { place, client: Outside::new(client) }).await
}

impl Ask for Group<'_> {
    async fn depth(&mut self, feed: &Feed) -> Result<Depth, Down> {
        let (client, topics) = (self.client.share(), self.place.topics.clone());
        let (known, count, lag) = blocking(move || {
            let answers = metadata(&client, &topics)?;
            let places = partitions(&answers)?;
            let count: usize = places.iter().map(|(_, partitions)| partitions.len()).sum();
            Ok((brokers(&answers), count, lag(&*client, &places)?))
        })
        .await?;
        allowed(&known, feed).await?;
        Ok(Depth {
            told: format!("{}, group {}, {count} partitions", self.place.brokers.join(", "), self.place.group),
            queue: self.place.group.clone(),
            lag: lag.values().sum(),
            more: vec![("topics", json!(lag))],
        })
    }
}
