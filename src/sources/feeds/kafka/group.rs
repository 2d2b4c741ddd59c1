//! The member of a consumer group, and how it gives partitions back.
//!
//! A partition that is to be given to another member is not given back at once: first what was taken of it is stored and said to be, so that the other
//! begins after it.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, StreamConsumer},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use tokio::sync::Notify;

use crate::net::kafka::{self, Fault, Outside, Words};

/// A topic and a partition of it.
pub(super) type Place = (String, i32);

/// What the member's client tells, from whichever thread polls it.
#[derive(Default)]
pub(super) struct Group {
    pub(super) words: Words,
    state: Mutex<State>,
    /// Partitions have come or are to go.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    /// Partitions of ours that are not to be given back.
    ours: BTreeSet<Place>,
    /// Partitions to give back once what was taken of them is stored.
    leaving: Vec<TopicPartitionList>,
    /// The member is leaving: nobody stores anything any more, nor gives anything back.
    closing: bool,
    /// Nothing is fetched for the moment.
    paused: bool,
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.words.note(&error, reason);
    }
}

impl ConsumerContext for Group {
    /// As librdkafka's own way for the cooperative protocol, but for when partitions are given back.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, places: &mut TopicPartitionList) {
        let result = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.gain(consumer, places)
        } else if self.lose(places, consumer.assignment_lost()) {
            consumer.incremental_unassign(places)
        } else {
            Ok(())
        };
        if let Err(error) = result {
            tracing::warn!(%error, "partitions could not be taken or given back");
        }
        self.changed.notify_one();
    }
}

impl Group {
    fn gain(&self, consumer: &BaseConsumer<Self>, places: &TopicPartitionList) -> Result<(), KafkaError> {
        consumer.incremental_assign(places)?;
        let mut state = self.state.lock();
        state.ours.extend(listed(places));
        // One that went while it was paused is so still.
        if state.paused { consumer.pause(places) } else { consumer.resume(places) }
    }

    /// Whether partitions are to be given back at once: others may have them already (`lost`), or nothing is being stored any more.
    fn lose(&self, places: &TopicPartitionList, lost: bool) -> bool {
        let mut state = self.state.lock();
        for place in listed(places) {
            state.ours.remove(&place);
        }
        let at_once = lost || state.closing;
        if !at_once {
            state.leaving.push(places.clone());
        }
        at_once
    }

    /// Whether the partition is one of ours, and stays so as far as is known.
    pub(super) fn is_ours(&self, topic: &str, partition: i32) -> bool {
        // There are few, and the key cannot be borrowed in two parts.
        self.state.lock().ours.iter().any(|(known, number)| *number == partition && known == topic)
    }

    /// Whether partitions are to be given back.
    pub(super) fn is_leaving(&self) -> bool {
        !self.state.lock().leaving.is_empty()
    }
}

fn listed(places: &TopicPartitionList) -> impl Iterator<Item = Place> {
    let all = places.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect::<Vec<_>>();
    all.into_iter()
}

/// A member of a group. Dropped, it says goodbye in a thread of its own: that takes until the broker answers, 10 s at most.
pub(super) struct Member(Outside<StreamConsumer<Group>>);

impl Member {
    /// A client that is not subscribed to anything yet.
    pub(super) fn new(config: &ClientConfig) -> Result<Self, Fault> {
        let client = StreamConsumer::from_config_and_context(config, Group::default());
        Ok(Self(Outside::new(client.map_err(|error| kafka::sorted(&error))?)))
    }

    pub(super) fn client(&self) -> &StreamConsumer<Group> {
        &self.0
    }

    /// The client, for a thread of its own.
    pub(super) fn share(&self) -> Arc<StreamConsumer<Group>> {
        self.0.share()
    }

    pub(super) fn group(&self) -> &Group {
        self.client().context()
    }

    /// Gives back what is to be given back.
    pub(super) fn give_back(&self) {
        let leaving = std::mem::take(&mut self.group().state.lock().leaving);
        for places in leaving {
            tracing::debug!(?places, "partitions are given to another member of the group");
            if let Err(error) = self.client().incremental_unassign(&places) {
                tracing::warn!(%error, "partitions could not be given back");
            }
        }
    }

    /// Stops or goes on fetching. The member stays in the group.
    pub(super) fn pause(&self, paused: bool) -> Result<(), KafkaError> {
        // Held all the while: a partition that comes meanwhile is paused by whoever takes it.
        let mut state = self.group().state.lock();
        if state.paused == paused {
            return Ok(());
        }
        let all = self.client().assignment()?;
        if paused {
            self.client().pause(&all)?
        } else {
            self.client().resume(&all)?
        }
        state.paused = paused;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.group().state.lock().closing = true;
        // Until they are given back, the client waits with its goodbye.
        self.give_back();
    }
}
