//! Where notifications and published events go: one file per kind of EventSink, with that service's limits and manners.
//!
//! A kind is either one that tells people or their services of notifications ([`Notifier`]), or one that takes events ([`Publisher`]); the latter takes
//! notifications too, as events. It does not know the Kubernetes client: the Secrets it needs are read by the caller. Retries, too, are the caller's.

mod alertmanager;
#[cfg(feature = "amqp")]
mod amqp;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "mqtt", feature = "nats", feature = "redis"))]
mod broker;
mod cloud_events;
mod connections;
mod discord;
#[cfg(feature = "email")]
mod email;
mod endpoint;
mod fit;
mod hook;
pub mod incident;
#[cfg(feature = "kafka")]
mod kafka;
mod limit;
mod link;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "nats")]
mod nats;
mod pagerduty;
mod publication;
#[cfg(feature = "redis")]
mod redis;
mod registry;
mod secrets;
mod slack;
mod teams;
mod threads;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "mqtt", feature = "nats", feature = "redis"))]
mod topics;
mod webhook;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use hook::Hook;
use http::StatusCode;
use serde_json::{Value, json};

pub use connections::{Connections, Key};
pub use limit::{Limiter, Telling, Turn, digest};
pub use link::Link;
pub use publication::{CONTENT_TYPE, Publication, STRUCTURED};
pub use registry::{Deliveries, Entry, Registry};
pub use secrets::{SecretValue, Secrets};
pub use threads::Threads;

use crate::{
    api::{EventSinkSpec, NotifyField, NotifyOperation, ONE_SINK, SecretKeyRef, Severity, SinkKind},
    event::Event,
    net::{Http, HttpError, Response, TlsError, WireError},
    record::{FiringId, RuleRef},
};

/// How long one request to a service may take. An action's own timeout may end it earlier.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A service that tells people of a notification, or keeps watch for them.
///
/// To add a kind: a file here with a type that implements this or [`Publisher`]; a field in [`EventSinkSpec`] and a variant in [`SinkKind`]; an arm in
/// [`build`], which does not compile without; a sample under `deploy/samples/`; the tests that all kinds share, in `testing`.
pub trait Notifier: Send + Sync {
    /// The Secrets that [`Notifier::deliver`] needs.
    fn secrets(&self) -> Vec<SecretKeyRef>;

    /// Whether people read it, who can be told of many notifications as one.
    fn is_for_people(&self) -> bool {
        false
    }

    /// Whether what it is told stays open on the other side until it is told that it is over.
    fn keeps_incidents(&self) -> bool {
        false
    }

    /// Tells the notification, once. Calls with the same [`Notification::id`] are the same notification.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the notification may or may not have been taken.
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>>;
}

/// Something that takes events: a broker, or an endpoint of one.
pub trait Publisher: Send + Sync {
    /// The Secrets that [`Publisher::publish`] needs.
    fn secrets(&self) -> Vec<SecretKeyRef>;

    /// Whether it takes an event for this topic, or, without one, for its own.
    ///
    /// # Errors
    /// In words that follow on "EventSink NAME ".
    fn check(&self, topic: Option<&str>) -> Result<(), String>;

    /// Publishes the event, and is done only when it is known to be taken: acknowledged, where the protocol does that. Calls with the same `id` of the
    /// event are the same event, so the id goes where the broker looks for it to tell repetitions. A connection is kept in [`Reach::connections`].
    ///
    /// # Errors
    /// What may be otherwise later, and what is unknown, is to be retried ([`Retry::After`]); refused credentials are [`Retry::FreshSecrets`]; what is
    /// refused for good (too large, no such topic where none is made, no permission) is [`Retry::Never`]. Words of the broker go through
    /// [`Secrets::redact`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the event may or may not have been taken.
    fn publish<'a>(
        &'a self,
        publication: &'a Publication,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>>;
}

/// The ways out of the process.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// To HTTP endpoints; by [`Http::connector`] and [`Http::roots`] to servers of other protocols.
    pub http: &'a Http,
    /// To brokers: the connections that are kept.
    pub connections: &'a Connections,
    /// The threads that incidents have in channels.
    pub threads: &'a Threads,
}

/// What can be done with a sink.
pub enum Sink {
    /// Takes notifications.
    Notifier(Box<dyn Notifier>),
    /// Takes events, and notifications as events of type `dev.signalbox.notification`.
    Publisher(Box<dyn Publisher>),
}

/// What is sent to a sink.
#[derive(Clone, Debug)]
pub enum Parcel {
    /// By the action `notify`.
    Notification(Box<Notification>),
    /// By the action `publish`.
    Publication(Box<Publication>),
}

impl Sink {
    /// The Secrets that [`Sink::deliver`] needs.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        match self {
            Self::Notifier(sink) => sink.secrets(),
            Self::Publisher(sink) => sink.secrets(),
        }
    }

    /// Whether people read it, who can be told of many notifications as one.
    pub fn is_for_people(&self) -> bool {
        matches!(self, Self::Notifier(sink) if sink.is_for_people())
    }

    /// Whether what it is told stays open on the other side until it is told that it is over.
    pub fn keeps_incidents(&self) -> bool {
        matches!(self, Self::Notifier(sink) if sink.keeps_incidents())
    }

    /// Whether the sink takes it. `kind` is the field of the spec, for messages.
    ///
    /// # Errors
    /// In words that follow on "EventSink NAME ".
    pub fn check(&self, kind: &str, parcel: &Parcel) -> Result<(), String> {
        match (self, parcel) {
            (Self::Notifier(_), Parcel::Notification(_)) => Ok(()),
            (Self::Publisher(sink), Parcel::Notification(_)) => sink.check(None),
            (Self::Publisher(sink), Parcel::Publication(publication)) => sink.check(publication.topic.as_deref()),
            (Self::Notifier(_), Parcel::Publication(_)) => Err(format!(
                "is of kind {kind}, which takes notifications and no events: use the action notify, or a sink of kind cloudEvents or of a broker"
            )),
        }
    }

    /// Sends it, once.
    ///
    /// # Errors
    /// When it was not taken, or when that is not known.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it may or may not have been taken.
    pub async fn deliver(&self, parcel: &Parcel, secrets: &Secrets, reach: Reach<'_>) -> Result<Delivered, SinkError> {
        match (self, parcel) {
            (Self::Notifier(sink), Parcel::Notification(notification)) => {
                sink.deliver(notification, secrets, reach).await
            }
            (Self::Notifier(_), Parcel::Publication(_)) => Err(SinkError::never("the sink takes no events")),
            (Self::Publisher(sink), Parcel::Notification(notification)) => {
                sink.publish(&Publication::of(notification), secrets, reach).await
            }
            (Self::Publisher(sink), Parcel::Publication(publication)) => {
                sink.publish(publication, secrets, reach).await
            }
        }
    }
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
    pub id: String,
    /// What it means for its incident.
    pub operation: NotifyOperation,
    /// Which incident that is: the same from its beginning to its end. 255 bytes at most.
    pub incident: String,
    /// Whether it may have been told already: by an attempt whose end is not known.
    pub again: bool,
}

impl Notification {
    /// Everything about it, as JSON.
    fn document(&self) -> Value {
        let Self { severity, title, text, fields, event, rule, firing, operation, incident, .. } = self;
        json!({
            "operation": operation,
            "dedupKey": incident,
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

/// It was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// The service's status code; 0 where its protocol has none.
    pub status: u16,
    /// What was not as asked for, such as a text that had to be cut.
    pub note: Option<String>,
}

/// It was not taken.
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
pub fn build(spec: &EventSinkSpec) -> Result<Sink, BuildError> {
    Ok(match spec.kind() {
        Some(SinkKind::Slack(spec)) => Sink::Notifier(slack::of(spec)?),
        Some(SinkKind::Teams(spec)) => Sink::Notifier(Box::new(Hook::new(&teams::MANNER, &spec.url_secret_ref))),
        Some(SinkKind::Discord(spec)) => Sink::Notifier(Box::new(Hook::new(&discord::MANNER, &spec.url_secret_ref))),
        Some(SinkKind::PagerDuty(spec)) => Sink::Notifier(Box::new(pagerduty::PagerDuty::new(spec))),
        #[cfg(feature = "email")]
        Some(SinkKind::Email(spec)) => Sink::Notifier(Box::new(email::Email::new(spec)?)),
        Some(SinkKind::Webhook(spec)) => Sink::Notifier(Box::new(webhook::Webhook::new(spec)?)),
        Some(SinkKind::Alertmanager(spec)) => Sink::Notifier(Box::new(alertmanager::Alertmanager::new(spec)?)),
        Some(SinkKind::CloudEvents(spec)) => Sink::Publisher(Box::new(cloud_events::CloudEvents::new(spec)?)),
        #[cfg(feature = "nats")]
        Some(SinkKind::Nats(spec)) => Sink::Publisher(Box::new(nats::Nats::new(spec)?)),
        #[cfg(feature = "kafka")]
        Some(SinkKind::Kafka(spec)) => Sink::Publisher(Box::new(kafka::Kafka::new(spec)?)),
        #[cfg(feature = "amqp")]
        Some(SinkKind::Amqp(spec)) => Sink::Publisher(Box::new(amqp::Amqp::new(spec)?)),
        #[cfg(feature = "redis")]
        Some(SinkKind::Redis(spec)) => Sink::Publisher(Box::new(redis::Redis::new(spec)?)),
        #[cfg(feature = "mqtt")]
        Some(SinkKind::Mqtt(spec)) => Sink::Publisher(Box::new(mqtt::Mqtt::new(spec)?)),
        None => return Err(BuildError(vec![ONE_SINK.to_owned()])),
        #[allow(unreachable_patterns, reason = "some kinds can be left out of a build")]
        Some(kind) => {
            let name = kind.name();
            let fault = format!("{name}: this operator was built without it: use one built with the feature {name}");
            return Err(BuildError(vec![fault]));
        }
    })
}

impl SinkError {
    fn never(message: impl Into<String>) -> Self {
        Self { retry: Retry::Never, message: message.into() }
    }

    #[allow(dead_code, reason = "which kinds are built decides what is used")]
    fn later(message: impl Into<String>) -> Self {
        Self { retry: Retry::After(None), message: message.into() }
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

impl From<TlsError> for SinkError {
    /// What Secrets hold may be mended.
    fn from(error: TlsError) -> Self {
        Self { retry: Retry::FreshSecrets, message: error.to_string() }
    }
}

impl From<WireError> for SinkError {
    fn from(error: WireError) -> Self {
        let retry = if error.is_transient() { Retry::After(None) } else { Retry::Never };
        Self { retry, message: format!("connect to {error}") }
    }
}

impl From<HttpError> for SinkError {
    fn from(error: HttpError) -> Self {
        let retry = if error.kind.is_transient() { Retry::After(None) } else { Retry::Never };
        Self { retry, message: error.to_string() }
    }
}

/// As the alerts of Prometheus commonly have it, and as PagerDuty calls it.
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
        Severity::Critical => "critical",
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
