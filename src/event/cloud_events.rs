//! CloudEvents 1.0 over HTTP, as others send them: binary, structured and batch.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md> and `formats/json-format.md` beside it.
//! `data` in JSON is kept as it is. Bytes become JSON or text where the content type says so, and bytes otherwise ([`Event::bytes`]).

use std::collections::BTreeMap;

use data_encoding::BASE64;
use http::{HeaderMap, header};
use k8s_openapi::{ByteString, jiff::Timestamp};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::{Event, OWN_TYPES, json};

/// Bytes of an attribute. It may end up in names of groups, in status and in headers.
const MAX_ATTRIBUTE: usize = 4 << 10;
/// Extensions of one event.
const MAX_EXTENSIONS: usize = 64;
/// Events of one batch: each is a record of its own.
pub const MAX_BATCH: usize = 1_000;

/// Why a request is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It says that it is something else.
    #[error("{0}")]
    Unsupported(String),
    /// It breaks the rules.
    #[error("{0}")]
    Malformed(String),
    /// A batch of more events than [`MAX_BATCH`].
    #[error("the batch has {0} events; {MAX_BATCH} are taken at once")]
    TooMany(usize),
}

impl DecodeError {
    fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed(why.into())
    }

    fn of(self, index: usize) -> Self {
        Self::Malformed(format!("event {index} of the batch: {self}"))
    }
}

/// The events of a request. A batch may have none; all of it is refused when one event of it is.
///
/// # Errors
/// Names the attribute, and the index in a batch. What the attributes hold is not told.
pub fn decode(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, DecodeError> {
    let content_type = ContentType::of(headers)?;
    match formatted(&content_type, body)? {
        Some(events) => Ok(events),
        None => Ok(vec![binary(headers, &content_type, body)?]),
    }
}

/// The events of a body that is CloudEvents in structured or batch mode, by its content type; nothing when that says no such thing.
pub(super) fn formatted(content_type: &ContentType, body: &[u8]) -> Result<Option<Vec<Event>>, DecodeError> {
    match content_type.media.as_str() {
        "application/cloudevents+json" => {
            content_type.utf8()?;
            Ok(Some(vec![structured(read_json(body)?)?]))
        }
        "application/cloudevents-batch+json" => {
            content_type.utf8()?;
            batch(read_json(body)?).map(Some)
        }
        other if other.starts_with("application/cloudevents") => Err(DecodeError::Unsupported(format!(
            "the format {other} is not taken: send application/cloudevents+json or application/cloudevents-batch+json"
        ))),
        _ => Ok(None),
    }
}

/// Whether what the request says of its event stands in its headers, and not in its body. False where the content type cannot be told.
pub fn is_binary(headers: &HeaderMap) -> bool {
    ContentType::of(headers).is_ok_and(|content_type| !content_type.media.starts_with("application/cloudevents"))
}

/// A content type: the media type in lower case, and its charset.
pub(super) struct ContentType {
    /// As it was sent.
    pub(super) whole: String,
    pub(super) media: String,
    charset: Option<String>,
}

impl ContentType {
    /// That of a request; empty when it has none.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, DecodeError> {
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(Self::parse("")),
            (Some(value), None) => {
                value.to_str().map(Self::parse).map_err(|_| DecodeError::malformed("the content type is no text"))
            }
            _ => Err(DecodeError::malformed("there are two content types")),
        }
    }

    pub(super) fn parse(whole: &str) -> Self {
        let mut parts = whole.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let charset = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("charset").then(|| value.trim_matches('"').to_ascii_lowercase())
        });
        Self { whole: whole.to_owned(), media, charset }
    }

    fn utf8(&self) -> Result<(), DecodeError> {
        match self.charset.as_deref() {
            None | Some("utf-8" | "utf8" | "us-ascii") => Ok(()),
            Some(other) => Err(DecodeError::Unsupported(format!("the charset {other} is not taken: send UTF-8"))),
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.media.ends_with("/json") || self.media.ends_with("+json")
    }

    /// What the bytes are by this type: JSON, text, or bytes as they came.
    pub(super) fn payload(&self, bytes: &[u8]) -> Result<(Value, Option<ByteString>), DecodeError> {
        if self.is_json() && !bytes.is_empty() {
            self.utf8()?;
            return Ok((read_json(bytes)?, None));
        }
        let is_text = self.media.starts_with("text/") && self.utf8().is_ok();
        match std::str::from_utf8(bytes) {
            Ok("") => Ok((Value::Null, None)),
            Ok(text) if is_text => Ok((text.into(), None)),
            _ => Ok((Value::Null, Some(ByteString(bytes.to_vec())))),
        }
    }
}

fn read_json(bytes: &[u8]) -> Result<Value, DecodeError> {
    json::read(bytes).map_err(|why| DecodeError::Malformed(format!("read JSON: {why}")))
}

fn batch(document: Value) -> Result<Vec<Event>, DecodeError> {
    let Value::Array(events) = document else {
        return Err(DecodeError::malformed("a batch must be a list of events"));
    };
    if events.len() > MAX_BATCH {
        return Err(DecodeError::TooMany(events.len()));
    }
    let events = events.into_iter().enumerate();
    events.map(|(index, event)| structured(event).map_err(|error| error.of(index))).collect()
}

fn structured(document: Value) -> Result<Event, DecodeError> {
    let Value::Object(mut members) = document else {
        return Err(DecodeError::malformed(
            "an event must be a map: a list of them is application/cloudevents-batch+json",
        ));
    };
    let (data, encoded) = (members.remove("data"), members.remove("data_base64"));
    members.retain(|_, value| !value.is_null());
    let content_type = members.get("datacontenttype").and_then(Value::as_str).unwrap_or_default();
    let (data, bytes) = match (data, encoded) {
        (data, None | Some(Value::Null)) => (data.unwrap_or_default(), None),
        (None | Some(Value::Null), Some(Value::String(text))) => {
            let bytes = BASE64.decode(text.as_bytes());
            let bytes = bytes.map_err(|_| DecodeError::malformed("data_base64 is no Base64 with padding"))?;
            ContentType::parse(content_type).payload(&bytes)?
        }
        (None | Some(Value::Null), Some(_)) => return Err(DecodeError::malformed("data_base64 must be a text")),
        (Some(_), Some(_)) => return Err(DecodeError::malformed("data and data_base64 exclude each other")),
    };
    Ok(Event { data, bytes, ..attributes(members)? })
}

fn binary(headers: &HeaderMap, content_type: &ContentType, body: &[u8]) -> Result<Event, DecodeError> {
    let mut members = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        if members.insert(name.to_owned(), header_value(name, value.as_bytes())?.into()).is_some() {
            return Err(DecodeError::Malformed(format!("{name}: there are two such headers")));
        }
    }
    if !members.contains_key("specversion") {
        let hint = "send application/cloudevents+json, or the attributes in headers that begin with ce-";
        return Err(DecodeError::Malformed(format!("specversion is missing: {hint}")));
    }
    described(members, content_type, body)
}

/// The event of these attributes, which came beside its data.
pub(super) fn described(
    mut members: Map<String, Value>,
    content_type: &ContentType,
    body: &[u8],
) -> Result<Event, DecodeError> {
    // In binary mode the content type of the request is that of the data.
    members.remove("datacontenttype");
    if !content_type.whole.is_empty() {
        members.insert("datacontenttype".to_owned(), content_type.whole.clone().into());
    }
    let (data, bytes) = content_type.payload(body)?;
    Ok(Event { data, bytes, ..attributes(members)? })
}

/// An attribute out of a header: quotes and one round of percent-encoding taken off (section 3.1.3.2 of the binding).
pub(super) fn header_value(name: &str, value: &[u8]) -> Result<String, DecodeError> {
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let unquoted = inner.map(|inner| {
        let mut escaped = false;
        let plain = inner.iter().filter(|byte| {
            escaped = **byte == b'\\' && !escaped;
            !escaped
        });
        plain.copied().collect::<Vec<u8>>()
    });
    let value = unquoted.as_deref().unwrap_or(value);
    let text = percent_decode(value).decode_utf8();
    text.map(|text| text.into_owned()).map_err(|_| DecodeError::Malformed(format!("{name} is no UTF-8")))
}

/// The event of these attributes, without data.
fn attributes(mut members: Map<String, Value>) -> Result<Event, DecodeError> {
    let version = required(&mut members, "specversion")?;
    if version != "1.0" {
        return Err(DecodeError::malformed("specversion must be 1.0"));
    }
    let (id, source) = (required(&mut members, "id")?, required(&mut members, "source")?);
    let type_ = required(&mut members, "type")?;
    if type_.starts_with(OWN_TYPES) {
        return Err(DecodeError::Malformed(format!("type must not begin with {OWN_TYPES}: those are Signalbox's own")));
    }
    let time = optional(&mut members, "time")?.map(|time| time.parse::<Timestamp>()).transpose();
    let time = time.map_err(|_| DecodeError::malformed("time must be as RFC 3339 says: 2026-11-02T07:20:00Z"))?;
    let subject = optional(&mut members, "subject")?;
    let mut event = Event { subject, time, ..Event::new(id, source, type_, Value::Null) };
    event.extensions = extensions(members)?;
    Ok(event)
}

fn required(members: &mut Map<String, Value>, name: &str) -> Result<String, DecodeError> {
    optional(members, name)?.ok_or_else(|| DecodeError::Malformed(format!("{name} is missing")))
}

fn optional(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, DecodeError> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => attribute(name, &text).map(|()| Some(text)),
        Some(_) => Err(DecodeError::Malformed(format!("{name} must be a text"))),
    }
}

/// Whether a text can be an attribute.
///
/// # Errors
/// When it is empty, too long, or has control characters.
pub fn attribute(name: &str, text: &str) -> Result<(), DecodeError> {
    match text {
        "" => Err(DecodeError::Malformed(format!("{name} is empty"))),
        text if text.len() > MAX_ATTRIBUTE => {
            Err(DecodeError::Malformed(format!("{name} has {} bytes; {MAX_ATTRIBUTE} are allowed", text.len())))
        }
        text if text.chars().any(char::is_control) => {
            Err(DecodeError::Malformed(format!("{name} has control characters")))
        }
        _ => Ok(()),
    }
}

fn extensions(members: Map<String, Value>) -> Result<BTreeMap<String, Value>, DecodeError> {
    if members.len() > MAX_EXTENSIONS {
        let count = members.len();
        return Err(DecodeError::Malformed(format!("the event has {count} extensions; {MAX_EXTENSIONS} are allowed")));
    }
    for (name, value) in &members {
        let fits = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if name.is_empty() || name.len() > 128 || name == "data" || !fits {
            let why = "the name of an extension must be of lower-case letters and digits, and other than data";
            return Err(DecodeError::Malformed(format!("{:.40}: {why}", name.escape_debug().to_string())));
        }
        match value {
            Value::Bool(_) => {}
            Value::Number(number) if number.is_i64() || number.is_u64() => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => attribute(name, text)?,
            _ => {
                let why = "an extension must be a text, a whole number, true or false";
                return Err(DecodeError::Malformed(format!("{name}: {why}")));
            }
        }
    }
    Ok(members.into_iter().collect())
}

#[cfg(test)]
mod tests;
