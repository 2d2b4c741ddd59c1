//! Requests that are no CloudEvents, as events: the body is `data`. What senders that are known by name tell is read by a [`preset`].
//!
//! JSON is kept as it is. A form becomes a map of texts; one with nothing but `payload`, which holds JSON, becomes that (GitHub's default). Text stays
//! text, everything else is bytes.

mod alerts;
mod docker_hub;
mod falco;
mod github;
mod gitlab;
mod harbor;
mod image;
pub mod preset;

use http::{HeaderMap, HeaderName};
use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use super::{
    Event,
    cloud_events::{ContentType, DecodeError, attribute},
    json, trail,
};

/// The content type of forms.
const FORM: &str = "application/x-www-form-urlencoded";
/// The field in which senders put JSON.
const PAYLOAD: &str = "payload";

/// A header that is kept with the event, and the name of the extension that it is kept as.
pub type KeptHeader = (HeaderName, String);

/// The extension that a header is kept as; nothing when there can be none of that name, as for one of letters that CloudEvents has a meaning for.
pub fn extension(header: &HeaderName) -> Option<String> {
    extension_named(header.as_str())
}

/// As [`extension`], of any name: its letters, in lower case, and digits.
pub fn extension_named(name: &str) -> Option<String> {
    const TAKEN: [&str; 11] = [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "data",
        "datacontenttype",
        "dataschema",
        trail::HOPS,
        trail::RULES,
    ];
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    (!name.is_empty() && name.len() <= 128 && !TAKEN.contains(&name.as_str())).then_some(name)
}

/// The event of a request, without subject and time.
///
/// # Errors
/// When the body is not what the content type says, or the id or a header that is kept cannot be an attribute.
pub fn decode(
    headers: &HeaderMap,
    body: &[u8],
    id: &str,
    (source, type_): (&str, &str),
    kept: &[KeptHeader],
) -> Result<Event, DecodeError> {
    attribute("the delivery's id", id)?;
    let content_type = ContentType::of(headers)?;
    let (data, bytes) = payload(&content_type, body)?;
    let mut event = Event { bytes, ..Event::new(id, source, type_, data) };
    if !content_type.whole.is_empty() {
        attribute("the content type", &content_type.whole)?;
        event.extensions.insert("datacontenttype".to_owned(), content_type.whole.into());
    }
    for (header, name) in kept {
        if let Some(value) = value(headers, header)? {
            event.extensions.insert(name.clone(), value.into());
        }
    }
    Ok(event)
}

/// The value of a header; nothing when it is not there or empty.
fn value(headers: &HeaderMap, header: &HeaderName) -> Result<Option<String>, DecodeError> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(DecodeError::Malformed(format!("{header}: there are two such headers")));
    }
    let text = std::str::from_utf8(value.as_bytes());
    let text = text.map_err(|_| DecodeError::Malformed(format!("{header} is no UTF-8")))?;
    if text.is_empty() {
        return Ok(None);
    }
    attribute(header.as_str(), text).map(|()| Some(text.to_owned()))
}

fn payload(content_type: &ContentType, body: &[u8]) -> Result<(Value, Option<ByteString>), DecodeError> {
    if content_type.media != FORM {
        return content_type.payload(body);
    }
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        if fields.insert(name.into_owned(), value.into_owned().into()).is_some() {
            return Err(DecodeError::Malformed("a field of the form is there twice".to_owned()));
        }
    }
    match fields.get(PAYLOAD).and_then(Value::as_str) {
        Some(text) if fields.len() == 1 => match json::read(text.as_bytes()) {
            Ok(document) => Ok((document, None)),
            Err(why) if text.trim_start().starts_with(['{', '[']) => {
                Err(DecodeError::Malformed(format!("read JSON of the form's payload: {why}")))
            }
            Err(_) => Ok((fields.into(), None)),
        },
        _ => Ok((fields.into(), None)),
    }
}

#[cfg(test)]
mod tests;
