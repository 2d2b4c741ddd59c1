//! How far a consumer group of Kafka is behind. The client is no member of it.

use rdkafka::{config::FromClientConfigAndContext as _, consumer::BaseConsumer};

use super::{
    super::{
        feed::Feed,
        kafka::{allowed, blocking, lag, look, settings},
        link::Down,
    },
    Depth,
};
use crate::{
    api::KafkaLag,
    net::kafka::{self, Listener, Outside, brokers, metadata, partitions},
};

/// A client that asks about a group.
pub(super) struct Group<'a> {
    place: &'a KafkaLag,
    client: Outside<BaseConsumer<Listener>>,
}

impl<'a> Group<'a> {
    /// Connects to the cluster.
    pub(super) async fn connect(place: &'a KafkaLag, feed: &Feed) -> Result<Self, Down> {
        let settings = settings(place.cluster(), feed)?;
        let places = look(&settings, &place.topics, &place.group, feed).await?;
        let mut config = settings.config();
        config.set("group.id", &place.group);
        let client = BaseConsumer::from_config_and_context(&config, Listener::default());
        let client = client.map_err(|error| super::super::kafka::down(kafka::sorted(&error)))?;
        let count: usize = places.iter().map(|(_, partitions)| partitions.len()).sum();
        feed.connected(format!("{}, group {}, {count} partitions", place.brokers.join(", "), place.group));
        Ok(Self { place, client: Outside::new(client) })
    }

    /// How many records wait.
    pub(super) async fn depth(&mut self, feed: &Feed) -> Result<Depth, Down> {
        let (client, topics) = (self.client.share(), self.place.topics.clone());
        let (known, lag) = blocking(move || {
            let answers = metadata(&client, &topics)?;
            Ok((brokers(&answers), lag(&*client, &partitions(&answers)?)?))
        })
        .await?;
        allowed(&known, feed).await?;
        Ok(Depth { queue: self.place.group.clone(), lag: lag.values().sum(), topics: lag })
    }
}
