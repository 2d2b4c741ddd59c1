//! `pagerDuty`: an event of PagerDuty's Events API v2. One incident for each thing, opened and closed by one key.
//!
//! <https://developer.pagerduty.com/docs/events-api-v2-overview>: a summary of at most 1,024 characters, an event of at most 512 KB, a key of at most 255
//! characters; 202 is taken, 400 is refused for good, 429 and 5xx are to be repeated. An event that resolves what is not open has no effect there.

use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Delivered, Notification, Notifier, Reach, Retry, Secrets, SinkError, endpoint::post_json, fit::PLAIN, level,
};
use crate::api::{self, NotifyOperation, SecretKeyRef};

/// Characters of a summary.
const SUMMARY: usize = 1024;
/// Bytes of an event: 512 KB, with some room for how they are counted.
const EVENT: usize = 500_000;
/// Characters of the text where the details would be too large.
const SHORT_TEXT: usize = 10_000;
/// What errors call the address.
const NAME: &str = "PagerDuty";

/// The sink.
pub(super) struct PagerDuty {
    key: SecretKeyRef,
    url: String,
}

impl PagerDuty {
    pub(super) fn new(spec: &api::PagerDuty) -> Self {
        Self { key: spec.routing_key_secret_ref.clone(), url: spec.url.clone() }
    }
}

impl Notifier for PagerDuty {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        vec![self.key.clone()]
    }

    fn keeps_incidents(&self) -> bool {
        true
    }

    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let (body, note) = event(notification, secrets.text(&self.key)?);
            let response = post_json(reach.http, NAME, &self.url, body).await?;
            if response.status.is_success() {
                return Ok(Delivered { status: response.status.as_u16(), note });
            }
            let error = SinkError::answered(NAME, &response, secrets);
            // A key that was replaced is "invalid" there, as everything else that is wrong.
            let about_key = response.words().to_ascii_lowercase().replace('_', " ").contains("routing key");
            let is_key = response.status == StatusCode::BAD_REQUEST && about_key;
            Err(if is_key { SinkError { retry: Retry::FreshSecrets, ..error } } else { error })
        })
    }
}

/// The event, and what had to be left out of it.
fn event(notification: &Notification, routing_key: &str) -> (Vec<u8>, Option<String>) {
    let Notification { operation, incident, .. } = notification;
    let (action, has_payload) = match operation {
        NotifyOperation::Trigger => ("trigger", true),
        NotifyOperation::Acknowledge => ("acknowledge", false),
        NotifyOperation::Resolve => ("resolve", false),
    };
    let mut event = json!({"routing_key": routing_key, "event_action": action, "dedup_key": incident});
    if !has_payload {
        return (event.to_string().into_bytes(), None);
    }
    event["client"] = "Signalbox".into();
    event["payload"] = payload(notification);
    let body = event.to_string().into_bytes();
    if body.len() <= EVENT {
        return (body, None);
    }
    let note = format!("details of {} bytes were left out: PagerDuty takes 512 KB", body.len());
    event["payload"]["custom_details"] = json!({"text": PLAIN.fit(&notification.text, SHORT_TEXT), "note": note});
    (event.to_string().into_bytes(), Some(note))
}

fn payload(notification: &Notification) -> Value {
    let Notification { severity, event, rule, .. } = notification;
    let source = event.subject.clone().unwrap_or_else(|| rule.to_string());
    let mut payload = json!({
        "summary": PLAIN.fit(&notification.headline(), SUMMARY),
        "source": PLAIN.fit(&source, SUMMARY),
        "severity": level(*severity),
        "component": rule.name,
        "group": rule.namespace,
        "class": event.type_,
        "custom_details": notification.document(),
    });
    if let Some(time) = event.time {
        payload["timestamp"] = time.to_string().into();
    }
    payload
}

#[cfg(test)]
mod tests;
