//! One EventSource of kind `webhook`: a version of its spec, the Secrets as they were read last, and its figures.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    BuildError, Counted, Figures, Refusal,
    verify::{Verifier, WEBHOOK_ID},
};
use crate::{
    api::{
        Alerts, DEFAULT_WEBHOOK_TYPE, EventSourceKind, EventSourceSpec, RateLimit, WebhookAuth, WebhookPreset,
        one_kind_of,
    },
    event::{
        OWN_TYPES,
        webhook::{KeptHeader, extension, preset},
    },
    kubernetes::Bucket,
    record::Account,
    sinks::Secrets,
};

/// Where senders put a delivery's id, if the spec does not say.
const ID_HEADERS: [HeaderName; 2] = [HeaderName::from_static("idempotency-key"), WEBHOOK_ID];
/// What a body may be, in bytes: what is larger might not fit into a record of the log.
const BODY: std::ops::RangeInclusive<u32> = 1024..=4 << 20;
/// In which time a rate is counted.
const PER: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// What the spec says, checked.
#[derive(Debug)]
pub(super) struct Webhook {
    pub(super) verifier: Verifier,
    pub(super) preset: WebhookPreset,
    pub(super) alerts: Alerts,
    pub(super) auth: WebhookAuth,
    pub(super) type_: String,
    pub(super) id_headers: Vec<HeaderName>,
    pub(super) max_body: usize,
    /// Headers that are kept with the event.
    pub(super) kept: Vec<KeptHeader>,
    rate: Option<Mutex<Bucket>>,
    /// Events that `rateLimit` allows in a minute.
    per_minute: Option<u64>,
}

impl Webhook {
    pub(super) fn new(spec: &EventSourceSpec) -> Result<Self, BuildError> {
        let Some(EventSourceKind::Webhook(spec)) = spec.kind() else {
            return Err(BuildError(vec![one_kind_of()]));
        };
        let mut faults = Vec::new();
        let verifier = Verifier::new(&spec.auth, spec.preset, &mut faults);
        if spec.alerts.is_some() && !matches!(spec.preset, WebhookPreset::Alertmanager | WebhookPreset::Grafana) {
            faults.push("webhook: alerts is for the presets Alertmanager and Grafana".to_owned());
        }
        if spec.preset != WebhookPreset::Generic
            && (spec.type_.is_some() || spec.id_header.is_some() || !spec.headers.is_empty())
        {
            faults.push("webhook: type, idHeader and headers are for preset Generic".to_owned());
        }
        let type_ = spec.type_.as_deref().unwrap_or(DEFAULT_WEBHOOK_TYPE);
        if type_.is_empty() || (type_.starts_with(OWN_TYPES) && type_ != DEFAULT_WEBHOOK_TYPE) {
            faults.push(format!("webhook.type: must not be empty and not begin with {OWN_TYPES}"));
        }
        let signed = spec.auth.standard_webhooks.is_some();
        if signed && spec.id_header.is_some() {
            faults.push("webhook.idHeader: not with standardWebhooks: webhook-id is the delivery's id".to_owned());
        }
        let named = spec.id_header.as_ref().map(|name| name.parse::<HeaderName>());
        let id_headers = match named {
            // Whoever has overheard a request can put any other header to it.
            None if signed => vec![WEBHOOK_ID],
            None if spec.preset == WebhookPreset::Generic => ID_HEADERS.to_vec(),
            None => preset::id_headers(spec.preset),
            Some(Ok(name)) => vec![name],
            Some(Err(_)) => {
                faults.push("webhook.idHeader: is no name of a header".to_owned());
                Vec::new()
            }
        };
        if !BODY.contains(&spec.max_body_bytes) {
            faults.push(format!("webhook.maxBodyBytes: must be {} to {}", BODY.start(), BODY.end()));
        }
        let rate = spec.rate_limit.as_ref().and_then(|limit| bucket(limit, &mut faults));
        let kept = kept(&spec.headers, verifier.as_ref(), &mut faults);
        match verifier {
            Some(verifier) if faults.is_empty() => Ok(Self {
                verifier,
                preset: spec.preset,
                alerts: spec.alerts.unwrap_or_default(),
                auth: spec.auth.clone(),
                type_: type_.to_owned(),
                id_headers,
                max_body: spec.max_body_bytes as usize,
                kept,
                rate: rate.map(Mutex::new),
                per_minute: spec.rate_limit.as_ref().map(per_minute),
            }),
            _ => Err(BuildError(faults)),
        }
    }

    /// Takes so many events out of what `rateLimit` allows.
    pub(super) fn draw(&self, events: usize) -> Result<(), Refusal> {
        let Some(rate) = &self.rate else { return Ok(()) };
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        rate.lock().draw(events, Instant::now()).map_err(Refusal::RateLimited)
    }
}

/// The headers that are kept, and the extensions that they become.
fn kept(names: &[String], verifier: Option<&Verifier>, faults: &mut Vec<String>) -> Vec<KeptHeader> {
    let mut kept: Vec<KeptHeader> = Vec::new();
    for name in names {
        let extension = name.parse::<HeaderName>().ok().and_then(|header| Some((extension(&header)?, header)));
        match extension {
            Some((_, header)) if verifier.is_some_and(|verifier| verifier.is_proof(&header)) => {
                faults.push(format!("webhook.headers: {name} shows who may send: it cannot be kept"));
            }
            Some((extension, _)) if kept.iter().any(|(_, other)| *other == extension) => {
                faults.push(format!("webhook.headers: two would be event.{extension}"));
            }
            Some((extension, header)) => kept.push((header, extension)),
            None => faults.push(format!("webhook.headers: {name} cannot be the name of an extension")),
        }
    }
    kept
}

/// At least one: a sender that may send none has no use for an answer.
fn per_minute(limit: &RateLimit) -> u64 {
    (u64::from(limit.events) * 60 / limit.per.get().as_secs().max(1)).max(1)
}

fn bucket(limit: &RateLimit, faults: &mut Vec<String>) -> Option<Bucket> {
    let per = limit.per.get();
    if !PER.contains(&per) || limit.events == 0 {
        faults.push("webhook.rateLimit: must be 1 event or more, per 1s to 24h".to_owned());
        return None;
    }
    let events = f64::from(limit.events);
    Some(Bucket::new(events / per.as_secs_f64(), events))
}

/// The Secrets as they were read last.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Nothing until they were read once. What is missing there is not in it.
    pub(super) secrets: Option<Arc<Secrets>>,
    /// Why not every Secret was read.
    pub(super) fault: Option<String>,
    /// When they are to be read again.
    pub(super) due: Instant,
}

/// One EventSource, in one version.
#[derive(Debug)]
pub struct Hook {
    namespace: String,
    name: String,
    uid: String,
    /// `metadata.generation` of the spec.
    pub generation: i64,
    /// The account that reads its Secrets.
    pub account: Account,
    made: Result<Webhook, BuildError>,
    reading: Mutex<Reading>,
    shared: Arc<Counted>,
}

impl Hook {
    pub(super) fn new(
        (namespace, name, uid): (&str, &str, &str),
        generation: i64,
        account: Account,
        made: Result<Webhook, BuildError>,
        shared: Arc<Counted>,
    ) -> Self {
        let nothing_to_read = made.as_ref().is_ok_and(|webhook| webhook.verifier.keys().is_empty());
        let secrets = nothing_to_read.then(Arc::default);
        let reading = Mutex::new(Reading { secrets, fault: None, due: Instant::now() });
        let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.to_owned());
        Self { namespace, name, uid, generation, account, made, reading, shared }
    }

    /// Takes over the Secrets that the version before has read, when it has read the same, so that it is not unready for a moment.
    pub(super) fn inherit(&mut self, before: &Hook) {
        let keys = |hook: &Hook| hook.made.as_ref().ok().map(|webhook| webhook.verifier.keys().to_vec());
        if self.account == before.account && keys(self).is_some() && keys(self) == keys(before) {
            self.reading = Mutex::new(before.reading.lock().clone());
        }
    }

    pub(super) fn webhook(&self) -> Result<&Webhook, Refusal> {
        self.made.as_ref().map_err(|_| super::NOT_READY)
    }

    /// Whether senders may ask, before they send CloudEvents, whether they may: how many events a minute they may send then, if there is a limit.
    ///
    /// # Errors
    /// When it takes nothing now.
    pub fn handshake(&self) -> Result<Option<Option<u64>>, Refusal> {
        let webhook = self.webhook()?;
        Ok((webhook.preset == WebhookPreset::CloudEvents).then_some(webhook.per_minute))
    }

    pub(super) fn secrets(&self) -> Option<Arc<Secrets>> {
        self.reading.lock().secrets.clone()
    }

    pub(super) fn due(&self) -> Instant {
        self.reading.lock().due
    }

    pub(super) fn read(&self, reading: Reading) {
        *self.reading.lock() = reading;
    }

    pub(super) fn shared(&self) -> Arc<Counted> {
        Arc::clone(&self.shared)
    }

    /// The delivery's id, where the request has one.
    pub(super) fn id_of(&self, webhook: &Webhook, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        for name in &webhook.id_headers {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => {}
                (Some(value), None) => {
                    let text = value.to_str().map_err(|_| Refusal::Malformed(format!("{name} is no text")))?;
                    return Ok(Some(text.to_owned()));
                }
                _ => return Err(Refusal::Malformed(format!("{name} is there twice"))),
            }
        }
        Ok(None)
    }

    /// `metadata.namespace`
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `metadata.name`
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `metadata.uid`
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// What became of its requests, since this process started.
    pub fn figures(&self) -> Figures {
        self.shared.get()
    }

    pub(super) fn fault(&self) -> Option<String> {
        let reading = self.reading.lock();
        match &self.made {
            Err(error) => Some(error.to_string()),
            Ok(_) if reading.fault.is_none() && reading.secrets.is_none() => {
                Some("its Secrets were not read yet".to_owned())
            }
            Ok(_) => reading.fault.clone(),
        }
    }

    /// Whether there is nothing to know any sender by.
    pub(super) fn is_shut(&self) -> bool {
        let secrets = self.reading.lock().secrets.clone();
        let (Ok(webhook), Some(secrets)) = (&self.made, secrets) else { return true };
        let mut keys = webhook.verifier.keys().iter().peekable();
        keys.peek().is_some() && keys.all(|key| secrets.get(key).is_err())
    }
}
