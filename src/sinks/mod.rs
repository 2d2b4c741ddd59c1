//! Where notifications go: one file per kind of EventSink, with that service's limits and manners.
//!
//! A sink knows how to tell one notification to one service. It does not know the Kubernetes client: the Secrets it needs are read by the
//! caller. Retries, too, are the caller's.

mod alertmanager;
mod cloud_events;
mod endpoint;
mod registry;
mod secrets;
mod slack;
mod webhook;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};

pub use registry::{Deliveries, Entry, Registry};
pub use secrets::{SecretValue, Secrets};

use crate::{
    api::{EventSinkSpec, NotifyField, SecretKeyRef, Severity, SinkKind},
    event::Event,
    net::{Http, HttpError, Response},
    record::{FiringId, RuleRef},
};

/// How long one request to a service may take. An action's own timeout may end it earlier.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Something that can be told a notification.
///
/// To add a kind: a file here with a type that implements this; a field in [`EventSinkSpec`] and a variant in [`SinkKind`]; an arm in
/// [`build`], which does not compile without; a sample under `deploy/samples/`.
pub trait Sink: Send + Sync {
    /// The Secrets that [`Sink::deliver`] needs.
    fn secrets(&self) -> Vec<SecretKeyRef>;

    /// Tells the notification, once. Calls with the same [`Notification::dedup_key`] are the same notification.
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        http: &'a Http,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>>;
}

/// What is told.
#[derive(Clone, Debug)]
pub struct Notification {
    /// How urgent it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// The message.
    pub text: String,
    /// Short facts beside the text.
    pub fields: Vec<NotifyField>,
    /// The event that made the rule fire.
    pub event: Arc<Event>,
    /// The rule.
    pub rule: RuleRef,
    /// The firing.
    pub firing: FiringId,
    /// How many steps of rules led to it, itself counted.
    pub hops: u64,
    /// The same for every repetition of this notification: firing and action.
    pub dedup_key: String,
}

impl Notification {
    /// Everything about it, as JSON.
    fn document(&self) -> Value {
        let Self { severity, title, text, fields, event, rule, firing, .. } = self;
        json!({
            "severity": severity,
            "title": title,
            "text": text,
            "fields": fields,
            "rule": {"namespace": rule.namespace, "name": rule.name, "uid": rule.uid},
            "firing": {"id": firing},
            "event": &**event,
        })
    }
}

/// A notification was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The service's status code.
    pub status: u16,
    /// What was not as asked for, such as a text that had to be cut.
    pub note: Option<String>,
}

/// A notification was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// Whether and when to try again.
    pub retry: Retry,
    /// What went wrong; never holds what is in a Secret.
    pub message: String,
}

/// Whether a delivery is worth repeating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Later; when the service said when, not before.
    After(Option<Duration>),
    /// Once more if the Secrets have changed: the service refused the credentials.
    FreshSecrets,
    /// It cannot succeed.
    Never,
}

/// Why a sink cannot be made of its spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct BuildError(pub Vec<String>);

/// The sink that the spec describes.
///
/// # Errors
/// Lists all faults of the spec.
pub fn build(spec: &EventSinkSpec) -> Result<Box<dyn Sink>, BuildError> {
    match spec.kind() {
        Some(SinkKind::Slack(spec)) => Ok(Box::new(slack::Slack::new(spec))),
        Some(SinkKind::Webhook(spec)) => Ok(Box::new(webhook::Webhook::new(spec)?)),
        Some(SinkKind::Alertmanager(spec)) => Ok(Box::new(alertmanager::Alertmanager::new(spec)?)),
        Some(SinkKind::CloudEvents(spec)) => Ok(Box::new(cloud_events::CloudEvents::new(spec)?)),
        None => {
            Err(BuildError(vec!["exactly one of slack, webhook, alertmanager and cloudEvents must be set".to_owned()]))
        }
    }
}

impl SinkError {
    fn never(message: impl Into<String>) -> Self {
        Self { retry: Retry::Never, message: message.into() }
    }

    /// What an answer with an error status means.
    fn answered(name: &str, response: &Response, secrets: &Secrets) -> Self {
        let retry = match response.status {
            _ if response.is_transient() => Retry::After(response.retry_after),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Retry::FreshSecrets,
            _ => Retry::Never,
        };
        let words = response.words();
        let hint = if response.status.is_redirection() { " (redirects are not followed)" } else { "" };
        let message = match words.as_str() {
            "" => format!("{name} answered {}{hint}", response.status),
            words => format!("{name} answered {}{hint}: {words}", response.status),
        };
        Self { retry, message: secrets.redact(&message) }
    }
}

impl From<HttpError> for SinkError {
    fn from(error: HttpError) -> Self {
        let retry = if error.kind.is_transient() { Retry::After(None) } else { Retry::Never };
        Self { retry, message: error.to_string() }
    }
}

#[cfg(test)]
pub(crate) mod testing;
