//! Requests of senders that are known by name: what each tells of, as events.
//!
//! A preset is one file here with one function, an arm in [`decode`] and a value of [`WebhookPreset`]. What it gives may have an id of its own, by
//! which the same thing told again is no second event; where it has none, the delivery's id in the headers counts.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{FORM, alerts, docker_hub, falco, github, gitlab, harbor, payload, value};
use crate::{
    api::{Alerts, WebhookPreset},
    event::{
        Event,
        cloud_events::{ContentType, DecodeError, MAX_BATCH, attribute},
        json,
    },
};

/// What all events of a request share goes with each of them, all copies together up to so many bytes and twice the length of the body. Honest
/// senders need less: what their alerts share is in each of them anyway.
const SHARED: usize = 64 << 10;
/// Letters of a word that becomes part of a type.
const WORD: usize = 64;

/// A request, with the body as it was before it was compressed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Its body.
    pub body: &'r [u8],
}

/// What a request tells.
#[derive(Debug, Default)]
pub struct Delivery {
    /// One for each thing that it tells of.
    pub events: Vec<Told>,
    /// It only asks whether somebody is there.
    pub ping: bool,
    /// How many alerts the sender left out.
    pub truncated: u64,
}

/// An event without what its EventSource gives it.
#[derive(Debug, Default)]
pub struct Told {
    /// The id that it has in the body; nothing where there is none.
    pub id: Option<String>,
    /// CloudEvents `type`.
    pub type_: String,
    /// CloudEvents `subject`; nothing where the body names no thing.
    pub subject: Option<String>,
    /// When it happened; nothing where the body does not tell.
    pub time: Option<Timestamp>,
    /// CloudEvents `data`.
    pub data: Value,
    /// Extensions.
    pub extensions: BTreeMap<String, Value>,
}

/// The events of a request.
///
/// # Errors
/// When it is not what the sender of this name sends; what the body holds is not told. [`WebhookPreset::Generic`] and
/// [`WebhookPreset::CloudEvents`] are nobody's name, and unsupported here.
pub fn decode(preset: WebhookPreset, each: Alerts, request: Request<'_>) -> Result<Delivery, DecodeError> {
    match preset {
        WebhookPreset::GitHub => github::decode(request),
        WebhookPreset::GitLab => gitlab::decode(request),
        WebhookPreset::Alertmanager => alerts::decode("io.prometheus", each, request),
        WebhookPreset::Grafana => alerts::decode("com.grafana", each, request),
        WebhookPreset::Falco => falco::decode(request),
        WebhookPreset::Harbor => harbor::decode(request),
        WebhookPreset::DockerHub => docker_hub::decode(request),
        WebhookPreset::Generic | WebhookPreset::CloudEvents => {
            Err(DecodeError::Unsupported("the preset is of no sender that is known".to_owned()))
        }
    }
}

/// Whether the sender sends again what was answered with 503. What others were answered so is lost.
pub fn sends_again(preset: WebhookPreset) -> bool {
    !matches!(preset, WebhookPreset::GitHub | WebhookPreset::Falco | WebhookPreset::DockerHub)
}

/// The headers in which the sender puts the delivery's id, the best first. What tells several things has an id for each in the body.
pub fn id_headers(preset: WebhookPreset) -> Vec<HeaderName> {
    let names: &[&str] = match preset {
        WebhookPreset::GitHub => &["x-github-delivery"],
        WebhookPreset::GitLab => &["idempotency-key", "x-gitlab-event-uuid", "webhook-id"],
        _ => &[],
    };
    names.iter().copied().map(HeaderName::from_static).collect()
}

impl Told {
    /// The event, of an EventSource with this CloudEvents `source` and `subject`. They, the delivery's `id` and `now` count where the sender gives
    /// nothing better.
    ///
    /// # Errors
    /// When the id or the type cannot be an attribute.
    pub fn event(self, (source, subject): (&str, &str), id: &str, now: Timestamp) -> Result<Event, DecodeError> {
        let id = self.id.as_deref().unwrap_or(id);
        attribute("the delivery's id", id)?;
        attribute("type", &self.type_)?;
        let named = self.subject.filter(|subject| attribute("subject", subject).is_ok());
        let mut event = Event::new(id, source, self.type_, self.data);
        event.subject = Some(named.unwrap_or_else(|| subject.to_owned()));
        event.time = Some(self.time.unwrap_or(now));
        event.extensions = self.extensions;
        event.extensions.insert("datacontenttype".to_owned(), "application/json".into());
        Ok(event)
    }
}

impl From<Told> for Delivery {
    fn from(told: Told) -> Self {
        Self { events: vec![told], ..Self::default() }
    }
}

impl Request<'_> {
    /// The value of a header; nothing when it is not there or empty.
    pub(super) fn header(&self, name: &'static str) -> Result<Option<String>, DecodeError> {
        value(self.headers, &HeaderName::from_static(name))
    }

    /// The map that the body is. Senders that are known send JSON whatever they call it, or a form with JSON in it.
    pub(super) fn document(&self) -> Result<Map<String, Value>, DecodeError> {
        let content_type = ContentType::of(self.headers)?;
        let document = if content_type.media == FORM {
            payload(&content_type, self.body)?.0
        } else {
            json::read(self.body).map_err(|why| DecodeError::Malformed(format!("read JSON: {why}")))?
        };
        match document {
            Value::Object(members) => Ok(members),
            _ => Err(DecodeError::Malformed("the body must be a JSON object".to_owned())),
        }
    }

    /// The same body has the same: for senders that put the time into it, but no id.
    pub(super) fn digest(&self) -> String {
        digest(self.body)
    }

    /// How many bytes so many events may each have a copy of.
    pub(super) fn may_share(&self, events: usize) -> usize {
        match events {
            0 | 1 => usize::MAX,
            events => (self.body.len() * 2 + SHARED) / (events - 1),
        }
    }

    /// Whether so many events may each have a copy of what they share.
    pub(super) fn may_repeat(&self, shared: &Value, events: usize) -> Result<(), DecodeError> {
        if events > MAX_BATCH {
            return Err(DecodeError::TooMany(events));
        }
        if shared.to_string().len() > self.may_share(events) {
            let why = "what all entries of the list share is too large to go with each of them: send fewer at a time";
            return Err(DecodeError::Malformed(why.to_owned()));
        }
        Ok(())
    }
}

/// The start of a SHA-256, in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes)[..16])
}

/// A text that can be part of a type, in lower case: letters, digits, `_` and `-`.
pub(super) fn word(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= WORD
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    fits.then(|| text.to_ascii_lowercase())
}

/// A text of the document that is there and not empty.
pub(super) fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty())
}
