//! `cloudEvents`: a notification as an event of CloudEvents 1.0, by HTTP POST.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use super::{BuildError, Delivered, Notification, Secrets, Sink, SinkError, endpoint::Endpoint};
use crate::{
    api::{self, CloudEventsMode, SecretKeyRef},
    event::{rule_event, trail},
    net::Http,
};

/// The `type` of the events.
const TYPE: &str = "dev.signalbox.notification";
/// What headers of binary mode begin with; users' own headers must not look like attributes.
const PREFIX: &str = "ce-";

/// The sink.
pub(super) struct CloudEvents {
    endpoint: Endpoint,
    mode: CloudEventsMode,
}

impl CloudEvents {
    pub(super) fn new(spec: &api::CloudEvents) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let address = (spec.url.as_ref(), spec.url_secret_ref.as_ref());
        let endpoint = Endpoint::new("cloudEvents", address, &spec.headers, &mut faults);
        for header in &spec.headers {
            let name = header.name.to_ascii_lowercase();
            if name.starts_with(PREFIX) || name == header::CONTENT_TYPE.as_str() {
                faults.push(format!("cloudEvents.headers[{}]: signalbox itself sets this header", header.name));
            }
        }
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(Self { endpoint, mode: spec.mode }),
            _ => Err(BuildError(faults)),
        }
    }

    fn request(&self, notification: &Notification, secrets: &Secrets) -> Result<(HeaderMap, Value), SinkError> {
        let mut headers = self.endpoint.headers(notification, secrets)?;
        let attributes = attributes(notification);
        if self.mode == CloudEventsMode::Structured {
            let kind = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, kind);
            let mut event = json!({"datacontenttype": "application/json", "data": notification.document()});
            for (name, value) in attributes {
                event[name] = value.into();
            }
            return Ok((headers, event));
        }
        for (name, value) in attributes {
            let odd = |_| SinkError::never(format!("the attribute {name} is no header value"));
            let value = HeaderValue::from_str(&encoded(&value)).map_err(odd)?;
            let name = HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes());
            headers.insert(name.map_err(|_| SinkError::never("an attribute is no header"))?, value);
        }
        Ok((headers, notification.document()))
    }
}

impl Sink for CloudEvents {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        self.endpoint.secrets().cloned().collect()
    }

    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        http: &'a Http,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let (headers, body) = self.request(notification, secrets)?;
            self.endpoint.post(http, secrets, "", headers, body.to_string().into_bytes()).await
        })
    }
}

/// `source` and `id` are the same for every repetition of the notification and for no other.
fn attributes(notification: &Notification) -> Vec<(&'static str, String)> {
    let Notification { event, rule, dedup_key, hops, .. } = notification;
    let source = rule_event::event_source(&rule.namespace, &rule.name);
    let attributes = [
        ("specversion", "1.0".to_owned()),
        ("id", dedup_key.clone()),
        ("source", source),
        ("type", TYPE.to_owned()),
        (trail::HOPS, hops.to_string()),
    ];
    let optional = [("time", event.time.map(|time| time.to_string())), ("subject", event.subject.clone())];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    attributes.into_iter().chain(optional).collect()
}

/// A value as a header has it: space, quotes, percent and all that is not printable ASCII percent-encoded (section 3.1.3.2 of the binding).
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&'..=b'~' => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests;
