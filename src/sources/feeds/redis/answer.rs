//! What the server answers.

use redis::{ErrorKind, FromRedisValue, RedisError, Value, aio::MultiplexedConnection, cmd};

/// Names and values, in their order.
pub(in crate::sources::feeds) type Pairs = Vec<(String, Value)>;

/// The consumer groups of a stream.
pub(in crate::sources::feeds) async fn groups(
    connection: &mut MultiplexedConnection,
    stream: &str,
) -> Result<Vec<Pairs>, RedisError> {
    let groups: Vec<Value> = cmd("XINFO").arg("GROUPS").arg(stream).query_async(connection).await?;
    Ok(groups.into_iter().filter_map(|group| FromRedisValue::from_redis_value(group).ok()).collect())
}

/// The one of this name.
pub(in crate::sources::feeds) fn group_named<'g>(groups: &'g [Pairs], name: &str) -> Option<&'g Pairs> {
    groups.iter().find(|group| text(group, "name").as_deref() == Some(name))
}

/// What is known of a stream.
pub(in crate::sources::feeds) async fn stream(
    connection: &mut MultiplexedConnection,
    name: &str,
) -> Result<Pairs, RedisError> {
    cmd("XINFO").arg("STREAM").arg(name).query_async(connection).await
}

/// An entry of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) fields: Fields,
}

/// What an entry holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fields {
    /// Names and values, in their order.
    Are(Vec<(Vec<u8>, Vec<u8>)>),
    /// The entry was trimmed away before it was acknowledged.
    Gone,
    /// It is larger than what is read of one.
    LeftOut,
}

/// Entries of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// There are more, for which the answer had no room.
    pub(super) cut: bool,
}

/// What was read of one stream; nothing when the time was over.
pub(super) fn entries_of_streams(answer: Value) -> Result<Found, RedisError> {
    let streams: Option<Vec<(String, Value)>> = FromRedisValue::from_redis_value(answer)?;
    match streams.into_iter().flatten().next() {
        Some((_, found)) => entries(found),
        None => Ok(Found::default()),
    }
}

/// Where to go on, what was taken over, and how many entries were gone.
pub(super) fn claimed(answer: Value) -> Result<(String, Found, usize), RedisError> {
    let mut parts: std::vec::IntoIter<Value> = Vec::from_redis_value(answer)?.into_iter();
    let next = FromRedisValue::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
    let found = entries(parts.next().unwrap_or(Value::Array(Vec::new())))?;
    let trimmed: Vec<String> = FromRedisValue::from_redis_value(parts.next().unwrap_or(Value::Array(Vec::new())))?;
    Ok((next, found, trimmed.len()))
}

fn entries(found: Value) -> Result<Found, RedisError> {
    let found: Vec<Value> = FromRedisValue::from_redis_value(found)?;
    let mut all = Found::default();
    // Redis 6 gives nothing at all for an entry that is gone.
    for entry in found.into_iter().filter(|entry| *entry != Value::Nil) {
        let known = if is_left_out(&entry) {
            None
        } else {
            let (id, fields): (String, Value) = FromRedisValue::from_redis_value(entry)?;
            Some((id, self::fields(fields)?))
        };
        match known {
            // The first had all the room that there is; others are asked for again.
            Some((id, fields)) if all.entries.is_empty() || fields != Fields::LeftOut => {
                all.entries.push(Entry { id, fields });
            }
            _ if all.entries.is_empty() => {
                return Err((ErrorKind::UnexpectedReturnType, "an entry without an id").into());
            }
            _ => {
                all.cut = true;
                break;
            }
        }
    }
    Ok(all)
}

fn fields(fields: Value) -> Result<Fields, RedisError> {
    let fields = match fields {
        Value::Nil => return Ok(Fields::Gone),
        left_out if is_left_out(&left_out) => return Ok(Fields::LeftOut),
        fields => Vec::<Value>::from_redis_value(fields)?,
    };
    if fields.iter().any(is_left_out) {
        return Ok(Fields::LeftOut);
    }
    let fields: Result<Vec<Vec<u8>>, _> = fields.into_iter().map(FromRedisValue::from_redis_value).collect();
    let mut fields = fields?.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        pairs.push((name, value));
    }
    Ok(Fields::Are(pairs))
}

/// Whether this stands for what [`super::bound`] has left out. What entries hold is never a status.
fn is_left_out(value: &Value) -> bool {
    matches!(value, Value::SimpleString(_) | Value::Okay)
}

/// Milliseconds and number of an entry's id.
pub(super) fn stamp(id: &str) -> (u64, u64) {
    let (time, number) = id.split_once('-').unwrap_or((id, "0"));
    (time.parse().unwrap_or_default(), number.parse().unwrap_or_default())
}

/// How many entries a group has not read, and whether there may be fewer; there are no more than that.
///
/// Redis does not say where some behind what the group has read were deleted, Redis 6 never does, and Redis 7.0 counts those that were trimmed away before
/// they were read, also when the group has read the last one. A rule that scales up by more than there are does no harm: the workers read to the end, and
/// there nothing is left. Were nothing told, a group whose workers were scaled to nothing would wait for ever.
pub(in crate::sources::feeds) fn unread(stream: &[(String, Value)], group: &[(String, Value)]) -> (u64, bool) {
    let length = number(stream, "length").unwrap_or_default();
    let id = |pairs: &[(String, Value)], name: &str| text(pairs, name).map(|id| stamp(&id));
    let read = id(group, "last-delivered-id").unwrap_or_default();
    if length == 0 || id(stream, "last-generated-id").is_some_and(|last| read >= last) {
        return (0, false);
    }
    if read == (0, 0) || id(stream, "recorded-first-entry-id").is_some_and(|first| read < first) {
        return (length, false);
    }
    number(group, "lag").filter(|lag| *lag <= length).map_or((length, true), |lag| (lag, false))
}

/// How many entries were deleted or trimmed away that the group had not got, as far as the server can tell (Redis 7).
pub(super) fn lost(stream: &[(String, Value)], group: &[(String, Value)]) -> u64 {
    let gone = number(stream, "entries-added").zip(number(stream, "length"));
    // The server does not count for a group that has got nothing yet.
    let begun = text(group, "last-delivered-id").is_some_and(|id| stamp(&id) > (0, 0));
    let read = number(group, "entries-read").or((!begun).then_some(0));
    gone.zip(read).map_or(0, |((added, length), read)| added.saturating_sub(length).saturating_sub(read))
}

fn find<'v>(pairs: &'v [(String, Value)], name: &str) -> Option<&'v Value> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// A value that is a text.
pub(super) fn text(pairs: &[(String, Value)], name: &str) -> Option<String> {
    String::from_redis_value_ref(find(pairs, name)?).ok()
}

/// A value that is a number.
pub(in crate::sources::feeds) fn number(pairs: &[(String, Value)], name: &str) -> Option<u64> {
    u64::from_redis_value_ref(find(pairs, name)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn an_entry_that_was_trimmed_away_has_no_fields_and_others_keep_their_order() {
        let entry = |id: &str, fields: Value| Value::Array(vec![bulk(id), fields]);
        let fields = Value::Array(vec![bulk("b"), bulk("1"), bulk("a"), bulk("2")]);
        let stream = Value::Array(vec![entry("7-0", fields), entry("8-0", Value::Nil), Value::Nil]);
        let answer = Value::Array(vec![Value::Array(vec![bulk("jobs"), stream])]);
        let found = entries_of_streams(answer).expect("entries");
        let fields = [("b", "1"), ("a", "2")].map(|(name, value)| (name.into(), value.into())).to_vec();
        let seven = Entry { id: "7-0".to_owned(), fields: Fields::Are(fields) };
        let eight = Entry { id: "8-0".to_owned(), fields: Fields::Gone };
        assert_eq!(found, Found { entries: vec![seven, eight], cut: false });
        assert_eq!(entries_of_streams(Value::Nil).expect("the time was over"), Found::default());
        let six = Value::Array(vec![bulk("9-0"), Value::Array(Vec::new())]);
        assert_eq!(
            claimed(six).map(|(next, found, trimmed)| (next, found.entries.len(), trimmed)).ok(),
            Some(("9-0".to_owned(), 0, 0))
        );
        let seven = Value::Array(vec![bulk("0-0"), Value::Array(Vec::new()), Value::Array(vec![bulk("3-0")])]);
        assert_eq!(claimed(seven).map(|(_, _, trimmed)| trimmed).ok(), Some(1));
        assert_eq!((stamp("17-2"), stamp("x")), ((17, 2), (0, 0)));
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
    fn what_a_group_has_not_read_is_never_told_to_be_less_than_it_is() {
        let of = |pairs: &[(&str, &str)]| -> Pairs {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), bulk(value))).collect()
        };
        let group = |read| of(&[("last-delivered-id", read)]);
        let six = of(&[("length", "5"), ("last-generated-id", "9-0")]);
        let seven = of(&[("length", "5"), ("last-generated-id", "9-0"), ("recorded-first-entry-id", "4-0")]);
        for stream in [&six, &seven] {
            assert_eq!(unread(stream, &group("9-0")), (0, false), "it has read the last one");
            assert_eq!(unread(stream, &group("0-0")), (5, false), "it has read nothing");
            assert_eq!(unread(stream, &group("7-1")), (5, true), "somewhere between");
        }
        assert_eq!(unread(&six, &group("3-0")), (5, true), "nobody knows which is the first");
        assert_eq!(unread(&seven, &group("3-0")), (5, false), "all that it has read were trimmed away");
        let empty = of(&[("length", "0"), ("last-generated-id", "9-0"), ("recorded-first-entry-id", "0-0")]);
        assert_eq!(unread(&empty, &group("3-0")), (0, false));
        let told = |read, lag| of(&[("last-delivered-id", read), ("lag", lag)]);
        assert_eq!(unread(&seven, &told("7-0", "2")), (2, false), "the server says so");
        assert_eq!(unread(&seven, &told("7-0", "6")), (5, true), "there are not so many");
        assert_eq!(unread(&seven, &told("9-0", "4")), (0, false), "it counts what was trimmed away");
        assert_eq!(unread(&seven, &told("3-0", "9")), (5, false), "the same");
    }

    #[test]
    fn what_was_left_out_is_too_large_when_it_came_first_and_asked_for_again_otherwise() {
        let entry = |id: &str, fields: Value| Value::Array(vec![bulk(id), fields]);
        let small = |id: &str| entry(id, Value::Array(vec![bulk("a"), bulk("1")]));
        let out = || Value::SimpleString("x".to_owned());
        let value_out = |id: &str| entry(id, Value::Array(vec![bulk("a"), out()]));
        let read = |all: Vec<Value>| {
            let found = entries(Value::Array(all)).expect("entries");
            let told = |entry: &Entry| (entry.id.clone(), entry.fields == Fields::LeftOut);
            (found.entries.iter().map(told).collect::<Vec<_>>(), found.cut)
        };
        let one = |id: &str, out: bool| (id.to_owned(), out);
        assert_eq!(read(vec![value_out("1-0"), small("2-0")]), (vec![one("1-0", true), one("2-0", false)], false));
        assert_eq!(read(vec![entry("1-0", out()), value_out("2-0")]), (vec![one("1-0", true)], true));
        assert!(read(vec![small("1-0"), small("2-0"), out(), out()]).1);
        assert!(entries(Value::Array(vec![out()])).is_err(), "without its id nobody gets rid of it");
    }
}
