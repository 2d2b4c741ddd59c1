//! `redis`: streams of Redis, by consumer groups.

mod answer;
mod connect;
mod message;
mod reader;

use std::{convert::Infallible, time::Duration};

pub(super) use self::{
    answer::{group_named, groups, number, stream, unread},
    connect::{down, share},
};
use self::{
    connect::{broke, connect},
    reader::Reader,
};
use super::{feed::Feed, kind::type_fault, link::Down};
use crate::api::{DEFAULT_REDIS_TYPE, RedisSource};

/// What the schema cannot tell.
pub(super) fn faults(spec: &RedisSource) -> Vec<String> {
    let mut faults = Vec::new();
    spec.server().faults("redis", &mut faults);
    if !(Duration::from_secs(1)..=Duration::from_hours(24)).contains(&spec.claim_after.get()) {
        faults.push("redis.claimAfter: must be 1s to 24h".to_owned());
    }
    faults.extend(type_fault("redis.type", spec.type_.as_deref(), DEFAULT_REDIS_TYPE));
    faults
}

/// Connects, and takes entries until the connection breaks.
pub(super) async fn run(spec: &RedisSource, feed: &Feed) -> Result<Infallible, Down> {
    let (connection, driver) = connect(spec.server(), feed).await?;
    tokio::select! {
        ended = Reader::new(spec, feed, connection).read() => ended,
        () = driver => Err(broke(&spec.server)),
    }
}
