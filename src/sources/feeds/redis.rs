//! `redis`: streams of Redis, by consumer groups.

use std::{convert::Infallible, fmt::Display, time::Duration};

use k8s_openapi::jiff::Timestamp;
use redis::{
    AsyncConnectionConfig, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError, Value,
    aio::MultiplexedConnection, cmd,
};
use serde_json::{Map, Value as Json};
use tokio::time::{Instant, timeout};

use super::{
    feed::{Feed, Taken},
    kind::type_fault,
    link::Down,
};
use crate::{
    api::{DEFAULT_REDIS_TYPE, RedisSource, RedisStart, address},
    event::message::Message,
    telemetry::Rejection,
};

/// The port of servers.
const PORT: u16 = 6379;
/// How long the server may take until it has taken the credentials.
const CONNECT: Duration = Duration::from_secs(10);
/// Entries that are taken together at most.
const BATCH: usize = 64;
/// The same before it is known how large they are.
const FIRST: usize = 8;
/// Bytes that are asked for at once, by how large the entries before were. One may be 512 MB by itself, and is read whole.
const BYTES: usize = 8 << 20;
/// For how long the server holds a question while nothing comes.
const BLOCK: Duration = Duration::from_secs(5);
/// How long the server may take to answer any question beyond that.
const ANSWER: Duration = Duration::from_secs(15);
/// How often the server is asked how much waits.
const LAG: Duration = Duration::from_secs(10);
/// For how long it is told that entries had gone before they were taken.
const SHOWN: Duration = Duration::from_mins(10);

/// What the schema cannot tell.
pub(super) fn faults(spec: &RedisSource) -> Vec<String> {
    let mut faults = Vec::new();
    faults.extend(address(&spec.server, PORT).err().map(|fault| format!("redis.server: {fault}")));
    if let Some(tls) = &spec.tls {
        tls.faults("redis.tls", &mut faults);
    }
    if !(Duration::from_secs(1)..=Duration::from_hours(24)).contains(&spec.claim_after.get()) {
        faults.push("redis.claimAfter: must be 1s to 24h".to_owned());
    }
    faults.extend(type_fault("redis.type", spec.type_.as_deref(), DEFAULT_REDIS_TYPE));
    faults
}

/// Connects, and takes entries until the connection breaks.
pub(super) async fn run(spec: &RedisSource, feed: &Feed) -> Result<Infallible, Down> {
    let (host, port) = address(&spec.server, PORT).map_err(|fault| Down::refused(fault.to_string()))?;
    let stream = feed.open(&host, port, spec.tls.as_ref()).await?;
    let mut info = RedisConnectionInfo::default().set_db(spec.database.into());
    if let Some(auth) = &spec.auth {
        info = info.set_password(feed.secret(&auth.password_secret_ref)?);
        if let Some(name) = &auth.username {
            info = info.set_username(name);
        }
    }
    // A question that the server holds is one that takes long.
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(BLOCK + ANSWER));
    let connecting = MultiplexedConnection::new_with_config(&info, stream, config);
    let connected = timeout(CONNECT, connecting).await;
    let silent = |_| Down::unreachable(format!("{}: no answer within 10 s", spec.server));
    let connected = connected.map_err(silent)?;
    let (connection, driver) = connected.map_err(|error| down(&spec.server, "connect", &error))?;
    let reader = Reader {
        spec,
        feed,
        connection,
        group: spec.group.clone().unwrap_or_else(|| feed.identity()),
        consumer: feed.identity(),
        count: FIRST,
        lost: None,
        made: false,
    };
    tokio::select! {
        ended = reader.read() => ended,
        () = driver => Err(Down::unreachable(format!("{}: the connection broke", spec.server))),
    }
}

/// What the server has said, by what is to be done about it.
fn down(server: &str, what: &str, error: &RedisError) -> Down {
    // What cannot be read is shown with what was read: entries may hold anything.
    let said = match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "the answer is not one that Redis gives".to_owned(),
        _ => error.to_string(),
    };
    let message = format!("{server}: {what}: {said}");
    match (error.kind(), error.code().unwrap_or_default()) {
        (ErrorKind::AuthenticationFailed, _) | (_, "WRONGPASS" | "NOAUTH") => Down::unauthenticated(message),
        (ErrorKind::Io, _) | (_, "LOADING" | "MASTERDOWN" | "CLUSTERDOWN") => Down::unreachable(message),
        _ => Down::refused(message),
    }
}

/// An entry of a stream.
struct Entry {
    id: String,
    /// Names and values, in their order; nothing when the entry was trimmed away before it was acknowledged.
    fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// A consumer of a group.
struct Reader<'a> {
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

impl Reader<'_> {
    async fn read(mut self) -> Result<Infallible, Down> {
        self.make_group().await?;
        self.tell().await?;
        // What was delivered before this process, or this connection, began and not acknowledged.
        while self.fetch("0").await? > 0 {}
        let claim = self.spec.claim_after.get() / 2;
        let (mut claimed, mut told) = (Instant::now(), Instant::now());
        self.claim().await?;
        loop {
            self.fetch(">").await?;
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
        let stream = cmd("XINFO").arg("STREAM").arg(&self.spec.stream).query_async(&mut self.connection).await;
        let stream: Vec<(String, Value)> = match stream {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::Server(redis::ServerErrorKind::ResponseError) => return Ok(None),
            Err(error) => return Err(self.down("look at it", &error)),
        };
        Ok(text(&stream, "last-generated-id").map(|id| stamp(&id)))
    }

    /// Takes entries: those of this consumer from the start (`0`), or new ones (`>`). How many there were.
    async fn fetch(&mut self, from: &str) -> Result<usize, Down> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(&self.consumer).arg("COUNT").arg(self.count);
        if from == ">" {
            read.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        }
        read.arg("STREAMS").arg(&self.spec.stream).arg(from);
        match read.query_async::<Value>(&mut self.connection).await {
            Err(error) if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) => self.make_group().await.map(|()| 0),
            Err(error) => Err(self.down("read", &error)),
            Ok(answer) => {
                let entries = entries_of_streams(answer).map_err(|error| self.down("read", &error))?;
                self.store(entries).await
            }
        }
    }

    /// Takes over what other consumers of the group have had for too long.
    async fn claim(&mut self) -> Result<(), Down> {
        let mut start = "0-0".to_owned();
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
            self.store(claimed).await?;
            if next == "0-0" {
                return Ok(());
            }
            start = next;
        }
    }

    /// Takes entries into the log, and acknowledges them.
    async fn store(&mut self, entries: Vec<Entry>) -> Result<usize, Down> {
        if entries.is_empty() {
            return Ok(0);
        }
        let bodies: Vec<Option<Body>> = entries.iter().map(|entry| body(self.spec, entry)).collect();
        let messages: Vec<Message<'_>> = entries
            .iter()
            .zip(&bodies)
            .filter_map(|(entry, body)| Some(message(self, entry, body.as_ref()?)))
            .collect();
        let taken = self.feed.take(&messages).await?;
        (self.count, self.made) = (together(&entries), false);
        let poison = taken.iter().filter(|taken| matches!(taken, Taken::Poison(_))).count();
        tracing::trace!(entries = entries.len(), poison, "entries are stored");
        for (entry, _) in entries.iter().zip(&bodies).filter(|(_, body)| body.is_none()) {
            // Trimmed away, or without the field: it is counted, and nobody gets it again.
            let why = if entry.fields.is_none() { Rejection::Unavailable } else { Rejection::Malformed };
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
        Ok(entries.len())
    }

    /// Tells how much waits, and whether anything was trimmed away before it was taken.
    async fn tell(&mut self) -> Result<(), Down> {
        let groups = cmd("XINFO").arg("GROUPS").arg(&self.spec.stream).query_async(&mut self.connection).await;
        let groups: Vec<Vec<(String, Value)>> = match groups {
            Ok(Value::Array(groups)) => {
                groups.into_iter().filter_map(|group| FromRedisValue::from_redis_value(group).ok()).collect()
            }
            Ok(_) => Vec::new(),
            // It is made again when it is read.
            Err(error) if error.kind() == ErrorKind::Server(redis::ServerErrorKind::ResponseError) => return Ok(()),
            Err(error) => return Err(self.down("look at groups", &error)),
        };
        let ours = groups.iter().find(|group| text(group, "name").as_deref() == Some(self.group.as_str()));
        let Some(ours) = ours else { return Ok(()) };
        let waiting = number(ours, "lag").zip(number(ours, "pending")).map(|(lag, pending)| lag + pending);
        let stream = cmd("XINFO").arg("STREAM").arg(&self.spec.stream).query_async(&mut self.connection).await;
        let stream: Vec<(String, Value)> = stream.map_err(|error| self.down("look at it", &error))?;
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

/// Milliseconds and number of an entry's id.
fn stamp(id: &str) -> (u64, u64) {
    let (time, number) = id.split_once('-').unwrap_or((id, "0"));
    (time.parse().unwrap_or_default(), number.parse().unwrap_or_default())
}

/// Where a group goes on that is made again, of which everything was taken up to `mark`. `last` is the highest id of the stream: where that is less, the
/// stream is another one, and whatever it has is new.
fn resumed(mark: (u64, u64), last: Option<(u64, u64)>) -> String {
    if last.is_some_and(|last| last >= mark) { format!("{}-{}", mark.0, mark.1) } else { "0".to_owned() }
}

/// How many entries of about this size are to be asked for.
fn together(entries: &[Entry]) -> usize {
    let size =
        |entry: &Entry| entry.fields.iter().flatten().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let largest = entries.iter().map(size).max().unwrap_or_default();
    (BYTES / largest.max(1)).clamp(1, BATCH)
}

/// How many entries were deleted or trimmed away that the group had not got, as far as the server can tell (Redis 7).
fn lost(stream: &[(String, Value)], group: &[(String, Value)]) -> u64 {
    let gone = number(stream, "entries-added").zip(number(stream, "length"));
    // The server does not count for a group that has got nothing yet.
    let begun = text(group, "last-delivered-id").is_some_and(|id| stamp(&id) > (0, 0));
    let read = number(group, "entries-read").or((!begun).then_some(0));
    gone.zip(read).map_or(0, |((added, length), read)| added.saturating_sub(length).saturating_sub(read))
}

fn find<'v>(pairs: &'v [(String, Value)], name: &str) -> Option<&'v Value> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn text(pairs: &[(String, Value)], name: &str) -> Option<String> {
    String::from_redis_value_ref(find(pairs, name)?).ok()
}

fn number(pairs: &[(String, Value)], name: &str) -> Option<u64> {
    u64::from_redis_value_ref(find(pairs, name)?).ok()
}

/// What was read of one stream; nothing when the time was over.
fn entries_of_streams(answer: Value) -> Result<Vec<Entry>, RedisError> {
    let streams: Option<Vec<(String, Value)>> = FromRedisValue::from_redis_value(answer)?;
    match streams.into_iter().flatten().next() {
        Some((_, found)) => entries(found),
        None => Ok(Vec::new()),
    }
}

/// Where to go on, what was taken over, and how many entries were gone.
fn claimed(answer: Value) -> Result<(String, Vec<Entry>, usize), RedisError> {
    let mut parts: std::vec::IntoIter<Value> = Vec::from_redis_value(answer)?.into_iter();
    let next = FromRedisValue::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
    let found = entries(parts.next().unwrap_or(Value::Array(Vec::new())))?;
    let trimmed: Vec<String> = FromRedisValue::from_redis_value(parts.next().unwrap_or(Value::Array(Vec::new())))?;
    Ok((next, found, trimmed.len()))
}

fn entries(found: Value) -> Result<Vec<Entry>, RedisError> {
    let found: Vec<Value> = FromRedisValue::from_redis_value(found)?;
    // Redis 6 gives nothing at all for an entry that is gone.
    let found = found.into_iter().filter(|entry| *entry != Value::Nil);
    found
        .map(|entry| {
            let (id, fields): (String, Option<Vec<Vec<u8>>>) = FromRedisValue::from_redis_value(entry)?;
            let pairs =
                |fields: Vec<Vec<u8>>| fields.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            Ok(Entry { id, fields: fields.map(pairs) })
        })
        .collect()
}

// === Messages ===

/// The body of a message, and its headers.
struct Body {
    body: Vec<u8>,
    headers: Vec<(String, String)>,
}

/// What an entry says; nothing when it is gone, or has no such field, or fields that are no text where a map of texts is asked for.
fn body(spec: &RedisSource, entry: &Entry) -> Option<Body> {
    let fields = entry.fields.as_ref()?;
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).ok();
    let Some(field) = &spec.field else {
        let map: Option<Map<String, Json>> =
            fields.iter().map(|(name, value)| Some((text(name)?, Json::String(text(value)?)))).collect();
        let body = Json::Object(map?).to_string().into_bytes();
        return Some(Body { body, headers: Vec::new() });
    };
    let (_, body) = fields.iter().find(|(name, _)| name == field.as_bytes())?;
    let others = fields.iter().filter(|(name, _)| name != field.as_bytes());
    let headers = others.filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    Some(Body { body: body.clone(), headers })
}

#[allow(clippy::needless_update, reason = "other protocols may tell more than this one")]
fn message<'m>(reader: &'m Reader<'_>, entry: &'m Entry, body: &'m Body) -> Message<'m> {
    let (spec, stream) = (reader.spec, reader.spec.stream.as_str());
    let milliseconds = i64::try_from(stamp(&entry.id).0).unwrap_or_default();
    Message {
        id: Some(format!("{stream}/{}", entry.id)),
        source: reader.feed.source(),
        type_: spec.type_.as_deref().unwrap_or(DEFAULT_REDIS_TYPE),
        subject: Some(stream.to_owned()),
        time: Timestamp::from_millisecond(milliseconds).ok(),
        content_type: None,
        headers: body.headers.clone(),
        extensions: vec![("redisstream".to_owned(), stream.into()), ("redisid".to_owned(), entry.id.as_str().into())],
        body: &body.body,
        ..Message::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn what_an_answer_held_is_not_told() {
        let error = entries(bulk("canary")).map(drop).expect_err("no list");
        let told = down("redis:6379", "read", &error);
        assert!(!told.message.contains("canary") && told.message.contains("redis:6379: read"), "{told}");
    }

    #[test]
    fn a_group_that_was_gone_goes_on_where_it_was() {
        assert_eq!(resumed((7, 2), Some((9, 0))), "7-2");
        assert_eq!(resumed((7, 2), Some((7, 2))), "7-2");
        assert_eq!(resumed((7, 2), Some((7, 1))), "0", "another stream");
        assert_eq!(resumed((7, 2), None), "0", "none any more");
        assert_eq!(resumed((0, 0), Some((9, 0))), "0-0", "of an empty one nothing was taken");
        let (shared, place) = (super::super::link::Shared::default(), "redis:6379/0/jobs/ops");
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
    fn what_was_trimmed_away_before_it_was_taken_is_known() {
        let of = |pairs: &[(&str, Value)]| -> Vec<(String, Value)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        };
        let stream = of(&[("length", Value::Int(2)), ("entries-added", Value::Int(5))]);
        let group = |read: Value, last: &str| of(&[("entries-read", read), ("last-delivered-id", bulk(last))]);
        assert_eq!(lost(&stream, &group(Value::Nil, "0-0")), 3, "it has got nothing");
        assert_eq!(lost(&stream, &group(Value::Int(1), "7-0")), 2);
        assert_eq!(lost(&stream, &group(Value::Int(4), "7-0")), 0);
        assert_eq!(lost(&stream, &group(Value::Nil, "7-0")), 0, "nobody knows");
        assert_eq!(lost(&of(&[("length", Value::Int(2))]), &group(Value::Nil, "0-0")), 0, "Redis 6");
    }

    #[test]
    fn of_large_entries_few_are_asked_for() {
        let entry = |size: usize| Entry { id: "7-0".to_owned(), fields: Some(vec![(Vec::new(), vec![0; size])]) };
        assert_eq!(together(&[entry(10), entry(0)]), BATCH);
        assert_eq!(together(&[entry(10), entry(1 << 20)]), 8);
        assert_eq!(together(&[entry(32 << 20)]), 1);
    }

    #[test]
    fn an_entry_that_was_trimmed_away_has_no_fields_and_others_keep_their_order() {
        let entry = |id: &str, fields: Value| Value::Array(vec![bulk(id), fields]);
        let fields = Value::Array(vec![bulk("b"), bulk("1"), bulk("a"), bulk("2")]);
        let stream = Value::Array(vec![entry("7-0", fields), entry("8-0", Value::Nil), Value::Nil]);
        let answer = Value::Array(vec![Value::Array(vec![bulk("jobs"), stream])]);
        let found = entries_of_streams(answer).expect("entries");
        let ids: Vec<(&str, bool)> = found.iter().map(|entry| (entry.id.as_str(), entry.fields.is_some())).collect();
        assert_eq!(ids, [("7-0", true), ("8-0", false)]);
        assert_eq!(found[0].fields.as_ref().map(|fields| fields[0].0.clone()), Some(b"b".to_vec()));
        assert_eq!(entries_of_streams(Value::Nil).expect("the time was over").len(), 0);
        let six = Value::Array(vec![bulk("9-0"), Value::Array(Vec::new())]);
        assert_eq!(
            claimed(six).map(|(next, found, trimmed)| (next, found.len(), trimmed)).ok(),
            Some(("9-0".to_owned(), 0, 0))
        );
        let seven = Value::Array(vec![bulk("0-0"), Value::Array(Vec::new()), Value::Array(vec![bulk("3-0")])]);
        assert_eq!(claimed(seven).map(|(_, _, trimmed)| trimmed).ok(), Some(1));
        assert_eq!((stamp("17-2"), stamp("x")), ((17, 2), (0, 0)));
    }
}
