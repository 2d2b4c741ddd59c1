//! A consumer of a group: reads entries, stores and acknowledges them, and takes over what others have had for too long.

use std::{convert::Infallible, fmt::Display, time::Duration};

use redis::{ErrorKind, RedisError, Value, aio::MultiplexedConnection, cmd};
use tokio::time::Instant;

use super::{
    super::{
        feed::{Feed, Taken},
        link::Down,
    },
    answer::{
        Entry, Fields, Found, claimed, entries_of_streams, group_named, groups, lost, number, stamp, stream, text,
        unread,
    },
    connect::down,
    message::{Body, body, message},
};
use crate::{
    api::{RedisSource, RedisStart},
    event::message::Message,
    telemetry::Rejection,
};

/// Entries that are taken together at most.
const BATCH: usize = 64;
/// The same before it is known how large they are.
const FIRST: usize = 1;
/// Bytes that are asked for at once, by how large the entries before were. What comes all the same, [`super::bound`] bounds.
const BYTES: usize = 8 << 20;
/// For how long the server holds a question while nothing comes.
pub(super) const BLOCK: Duration = Duration::from_secs(5);
/// How often the server is asked how much waits.
const LAG: Duration = Duration::from_secs(10);
/// For how long it is told that entries had gone before they were taken.
const SHOWN: Duration = Duration::from_mins(10);

/// What became of an answer.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    /// How many entries are done.
    entries: usize,
    /// There are more that were delivered, and are to be asked for again.
    cut: bool,
}

/// A consumer of a group.
pub(super) struct Reader<'a> {
    spec: &'a RedisSource,
    feed: &'a Feed,
    connection: MultiplexedConnection,
    group: String,
    consumer: String,
    /// How many entries are asked for.
    count: usize,
    /// When it was last seen that entries had gone before they were taken.
    lost: Option<Instant>,
    /// The group was made now, and has got nothing yet: what had gone before is none of its business.
    made: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(spec: &'a RedisSource, feed: &'a Feed, connection: MultiplexedConnection) -> Self {
        Self {
            spec,
            feed,
            connection,
            group: spec.group.clone().unwrap_or_else(|| feed.identity()),
            consumer: feed.identity(),
            count: FIRST,
            lost: None,
            made: false,
        }
    }

    /// Takes entries until the connection breaks.
    pub(super) async fn read(mut self) -> Result<Infallible, Down> {
        self.make_group().await?;
        self.tell().await?;
        self.catch_up().await?;
        let claim = self.spec.claim_after.get() / 2;
        let (mut claimed, mut told) = (Instant::now(), Instant::now());
        self.claim().await?;
        loop {
            if self.fetch(">").await?.cut {
                self.catch_up().await?;
            }
            if claimed.elapsed() >= claim {
                claimed = Instant::now();
                self.claim().await?;
            }
            if told.elapsed() >= LAG {
                told = Instant::now();
                self.tell().await?;
            }
        }
    }

    /// Takes what was delivered and is not acknowledged: before this process, or this connection, began, or with more than there was room for.
    async fn catch_up(&mut self) -> Result<(), Down> {
        while self.fetch("0").await?.entries > 0 {}
        Ok(())
    }

    fn down(&self, what: impl Display, error: &RedisError) -> Down {
        down(&self.spec.server, &format!("{what} of stream {}", self.spec.stream), error)
    }

    /// What entries are known of: another server, database, stream or group has others.
    fn place(&self) -> String {
        format!("{}/{}/{}/{}", self.spec.server, self.spec.database, self.spec.stream, self.group)
    }

    /// Makes the group, unless it is there. One that was there and is gone, with the stream or by itself, goes on where it was.
    async fn make_group(&mut self) -> Result<(), Down> {
        let (place, mark) = (self.place(), self.feed.shared.mark(&self.place()));
        let start = match mark {
            None => match self.spec.start_from {
                RedisStart::New => "$".to_owned(),
                RedisStart::All => "0".to_owned(),
            },
            Some(mark) => resumed(mark, self.last().await?),
        };
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(&self.spec.stream).arg(&self.group).arg(&start).arg("MKSTREAM");
        match make.query_async::<()>(&mut self.connection).await {
            Err(error) if error.code() == Some("BUSYGROUP") => {}
            Err(error) => return Err(self.down("make a consumer group", &error)),
            Ok(()) => self.made = true,
        }
        if let (true, Some(_)) = (self.made, mark) {
            let (group, stream) = (&self.group, &self.spec.stream);
            tracing::warn!(%group, %stream, from = %start, "a consumer group of Redis was gone, and is made again");
            if start == "0" {
                self.feed.shared.began_anew(&place);
            }
        }
        Ok(())
    }

    /// The highest id that the stream has given; nothing where there is no stream.
    async fn last(&mut self) -> Result<Option<(u64, u64)>, Down> {
        let stream = match stream(&mut self.connection, &self.spec.stream).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::Server(redis::ServerErrorKind::ResponseError) => return Ok(None),
            Err(error) => return Err(self.down("look at it", &error)),
        };
        Ok(text(&stream, "last-generated-id").map(|id| stamp(&id)))
    }

    /// Takes entries: those of this consumer from the start (`0`), or new ones (`>`). How many there were.
    async fn fetch(&mut self, from: &str) -> Result<Stored, Down> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(&self.consumer).arg("COUNT").arg(self.count);
        if from == ">" {
            read.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        }
        read.arg("STREAMS").arg(&self.spec.stream).arg(from);
        match read.query_async::<Value>(&mut self.connection).await {
            Err(error) if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) => {
                self.make_group().await.map(|()| Stored::default())
            }
            Err(error) => Err(self.down("read", &error)),
            Ok(answer) => {
                let found = entries_of_streams(answer).map_err(|error| self.down("read", &error))?;
                self.store(found).await
            }
        }
    }

    /// Takes over what other consumers of the group have had for too long.
    async fn claim(&mut self) -> Result<(), Down> {
        let (mut start, mut cut) = ("0-0".to_owned(), false);
        loop {
            let mut claim = cmd("XAUTOCLAIM");
            let idle = u64::try_from(self.spec.claim_after.get().as_millis()).unwrap_or(u64::MAX);
            claim.arg(&self.spec.stream).arg(&self.group).arg(&self.consumer).arg(idle).arg(&start);
            claim.arg("COUNT").arg(self.count);
            // Redis 7 gives as well the ids of what was trimmed away, which it has forgotten itself.
            let (next, claimed, trimmed) = match claim.query_async::<Value>(&mut self.connection).await {
                Ok(answer) => claimed(answer).map_err(|error| self.down("take over entries", &error))?,
                Err(error) if error.code() == Some("NOGROUP") => return Ok(()),
                Err(error) => return Err(self.down("take over entries", &error)),
            };
            (0..trimmed).for_each(|_| self.feed.rejected(Rejection::Unavailable));
            cut |= self.store(claimed).await?.cut;
            if next == "0-0" {
                return if cut { self.catch_up().await } else { Ok(()) };
            }
            start = next;
        }
    }

    /// Takes entries into the log, and acknowledges them.
    async fn store(&mut self, Found { entries, cut }: Found) -> Result<Stored, Down> {
        if entries.is_empty() {
            return Ok(Stored::default());
        }
        let bodies: Vec<Option<Body>> = entries.iter().map(|entry| body(self.spec, entry)).collect();
        let messages: Vec<Message<'_>> = entries
            .iter()
            .zip(&bodies)
            .filter_map(|(entry, body)| Some(message(self.spec, self.feed.source(), entry, body.as_ref()?)))
            .collect();
        let taken = self.feed.take(&messages).await?;
        (self.count, self.made) = (if cut { 1 } else { together(&entries) }, false);
        let poison = taken.iter().filter(|taken| matches!(taken, Taken::Poison(_))).count();
        tracing::trace!(entries = entries.len(), poison, "entries are stored");
        for (entry, _) in entries.iter().zip(&bodies).filter(|(_, body)| body.is_none()) {
            // It is counted, and nobody gets it again.
            let why = match entry.fields {
                Fields::Gone => Rejection::Unavailable,
                Fields::LeftOut => Rejection::TooLarge,
                Fields::Are(_) => Rejection::Malformed,
            };
            self.feed.rejected(why);
        }
        let mut done = cmd("XACK");
        done.arg(&self.spec.stream).arg(&self.group);
        for entry in &entries {
            done.arg(&entry.id);
        }
        let done = done.query_async::<u64>(&mut self.connection).await;
        done.map_err(|error| self.down("acknowledge entries", &error))?;
        if let Some(highest) = entries.iter().map(|entry| stamp(&entry.id)).max() {
            self.feed.shared.reached(&self.place(), highest);
        }
        Ok(Stored { entries: entries.len(), cut })
    }

    /// Tells how much waits, and whether anything was trimmed away before it was taken.
    async fn tell(&mut self) -> Result<(), Down> {
        let groups = match groups(&mut self.connection, &self.spec.stream).await {
            Ok(groups) => groups,
            // It is made again when it is read.
            Err(error) if error.kind() == ErrorKind::Server(redis::ServerErrorKind::ResponseError) => return Ok(()),
            Err(error) => return Err(self.down("look at groups", &error)),
        };
        let ours = group_named(&groups, &self.group);
        let Some(ours) = ours else { return Ok(()) };
        let stream = stream(&mut self.connection, &self.spec.stream).await;
        let stream = stream.map_err(|error| self.down("look at it", &error))?;
        let waiting = match unread(&stream, ours) {
            (unread, false) => number(ours, "pending").map(|pending| unread + pending),
            (_, true) => None,
        };
        let trimmed = text(&stream, "max-deleted-entry-id").map(|id| stamp(&id));
        let delivered = text(ours, "last-delivered-id").map(|id| stamp(&id));
        let deleted = trimmed.is_some_and(|trimmed| trimmed > delivered.unwrap_or_default() && trimmed > (0, 0));
        if !self.made && (deleted || lost(&stream, ours) > 0) {
            self.lost = Some(Instant::now());
        }
        let advice = if self.lost.is_some_and(|at| at.elapsed() < SHOWN) {
            "; entries were deleted or trimmed away before they were taken: let the stream keep more (MAXLEN, MINID)"
        } else {
            ""
        };
        if let (Some(delivered), None) = (delivered, self.feed.shared.mark(&self.place())) {
            self.feed.shared.reached(&self.place(), delivered);
        }
        let (server, stream, group) = (&self.spec.server, &self.spec.stream, &self.group);
        self.feed.connected(format!("connected to {server}, takes from stream {stream} by group {group}{advice}"));
        self.feed.lag(waiting);
        Ok(())
    }
}

/// Where a group goes on that is made again, of which everything was taken up to `mark`. `last` is the highest id of the stream: where that is less, the
/// stream is another one, and whatever it has is new.
fn resumed(mark: (u64, u64), last: Option<(u64, u64)>) -> String {
    if last.is_some_and(|last| last >= mark) { format!("{}-{}", mark.0, mark.1) } else { "0".to_owned() }
}

/// How many entries of about this size are to be asked for.
fn together(entries: &[Entry]) -> usize {
    let size = |entry: &Entry| match &entry.fields {
        Fields::Are(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>(),
        Fields::Gone => 0,
        Fields::LeftOut => BYTES,
    };
    let largest = entries.iter().map(size).max().unwrap_or_default();
    (BYTES / largest.max(1)).clamp(1, BATCH)
}

#[cfg(test)]
mod tests {
    use super::{super::super::link::Shared, *};

    #[test]
    fn a_group_that_was_gone_goes_on_where_it_was() {
        assert_eq!(resumed((7, 2), Some((9, 0))), "7-2");
        assert_eq!(resumed((7, 2), Some((7, 2))), "7-2");
        assert_eq!(resumed((7, 2), Some((7, 1))), "0", "another stream");
        assert_eq!(resumed((7, 2), None), "0", "none any more");
        assert_eq!(resumed((0, 0), Some((9, 0))), "0-0", "of an empty one nothing was taken");
        let (shared, place) = (Shared::default(), "redis:6379/0/jobs/ops");
        shared.reached(place, (7, 2));
        shared.reached(place, (6, 9));
        assert_eq!((shared.mark(place), shared.mark("redis:6379/1/jobs/ops")), (Some((7, 2)), None));
        shared.began_anew(place);
        shared.reached(place, (3, 0));
        assert_eq!(shared.mark(place), Some((3, 0)));
        shared.reached("redis:6379/1/jobs/ops", (1, 0));
        assert_eq!(shared.mark("redis:6379/1/jobs/ops"), Some((1, 0)));
    }

    #[test]
    fn of_large_entries_few_are_asked_for() {
        let entry =
            |size: usize| Entry { id: "7-0".to_owned(), fields: Fields::Are(vec![(Vec::new(), vec![0; size])]) };
        assert_eq!(together(&[entry(10), entry(0)]), BATCH);
        assert_eq!(together(&[entry(10), entry(1 << 20)]), 8);
        assert_eq!(together(&[entry(16 << 20)]), 1);
        assert_eq!(together(&[Entry { id: "7-0".to_owned(), fields: Fields::LeftOut }]), 1);
    }
}
