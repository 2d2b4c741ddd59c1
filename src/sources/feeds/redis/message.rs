//! What is made of entries.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::answer::{Entry, Fields, stamp};
use crate::{
    api::{DEFAULT_REDIS_TYPE, RedisSource},
    event::message::Message,
};

/// The body of a message, and its headers.
pub(super) struct Body {
    body: Vec<u8>,
    headers: Vec<(String, String)>,
}

/// What an entry says; nothing when it is gone or was left out, or has no such field, or fields that are no text where a map of texts is asked for.
pub(super) fn body(spec: &RedisSource, entry: &Entry) -> Option<Body> {
    let Fields::Are(fields) = &entry.fields else { return None };
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
pub(super) fn message<'m>(spec: &'m RedisSource, source: String, entry: &'m Entry, body: &'m Body) -> Message<'m> {
    let stream = spec.stream.as_str();
    let milliseconds = i64::try_from(stamp(&entry.id).0).unwrap_or_default();
    Message {
        id: Some(format!("{stream}/{}", entry.id)),
        source,
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
