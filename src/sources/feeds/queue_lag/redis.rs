//! How much waits for a consumer group of a stream of Redis. The client is no member of it.

use std::convert::Infallible;

use redis::{ErrorKind, RedisError, ServerErrorKind, aio::MultiplexedConnection};

use super::{
    super::{
        feed::Feed,
        link::Down,
        redis::{down, group_named, groups, number, share, stream, unread},
    },
    Ask, Depth, Sampler,
};
use crate::api::RedisLag;

/// A client that asks about a group.
struct Group<'a> {
    place: &'a RedisLag,
    connection: MultiplexedConnection,
}

/// Connects, and samples until the connection breaks.
pub(super) async fn run(place: &RedisLag, sampler: Sampler<'_>) -> Result<Infallible, Down> {
    let line = share(place.server(), sampler.feed).await?;
    tokio::select! {
        ended = sampler.run(Group { place, connection: line.client.clone() }) => ended,
        down = line.ended() => Err(down),
    }
}

impl Ask for Group<'_> {
    async fn depth(&mut self, _: &Feed) -> Result<Depth, Down> {
        let RedisLag { server, stream: name, group, .. } = self.place;
        let all = groups(&mut self.connection, name).await.map_err(|error| self.down(&error))?;
        let found = group_named(&all, group).ok_or_else(|| {
            Down::refused(format!(
                "{server}: stream {name} has no group {group}: workers or XGROUP CREATE {name} {group} 0 make it; or mend group"
            ))
        })?;
        let unacknowledged = number(found, "pending").unwrap_or_default();
        let stream = stream(&mut self.connection, name).await.map_err(|error| self.down(&error))?;
        let (unread, estimated) = unread(&stream, found);
        let advice = if estimated {
            ": how much the group has not read cannot be told since entries were deleted or trimmed, or the server is Redis 6: until it has read the last entry, all that there are count"
        } else {
            ""
        };
        Ok(Depth {
            told: format!("connected to {server}, group {group} of stream {name}{advice}"),
            queue: group.clone(),
            lag: unread.saturating_add(unacknowledged),
            more: vec![("unacknowledged", unacknowledged.into()), ("estimated", estimated.into())],
        })
    }
}

impl Group<'_> {
    fn down(&self, error: &RedisError) -> Down {
        let RedisLag { server, stream, group, .. } = self.place;
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::ResponseError) => Down::refused(format!(
                "{server}: look at stream {stream}: {error}: workers or XGROUP CREATE {stream} {group} 0 MKSTREAM make it; or mend stream or database"
            )),
            _ => down(server, &format!("look at stream {stream}"), error),
        }
    }
}
