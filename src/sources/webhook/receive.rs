//! A request's way into the log: who sends, what it is, whether it came before, append, and wait for the disk.

use std::{collections::HashSet, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Hook, Hooks, Received, Refusal,
    hook::Webhook,
    unfold::{too_large, unfold},
};
use crate::{
    api::WebhookPreset,
    bus::BusError,
    event::{
        Event,
        cloud_events::{self, DecodeError},
        event_source, trail,
        webhook::{self, preset},
    },
    net::HOPS,
    poison,
    record::Position,
    sources::{
        accept::{By, Put},
        ids::{self, Hash},
    },
};

/// How long a request waits for room in the log, for all its events together. The log is full when the shard is far behind or the disk has no space.
const ROOM: Duration = Duration::from_secs(2);
/// How long a request waits for the disk. Half a second is slow already; most senders give up after ten.
const DISK: Duration = Duration::from_secs(8);

const UNSIGNED: &str = "a signature is one of the body, not of the headers: send events in structured or in batch mode";
const NO_ROOM: Refusal = Refusal::Unavailable("the log has no room: send it again later");
const NO_SPACE: Refusal = Refusal::Unavailable("the log's disk is full: send it again later");
const SLOW_DISK: Refusal = Refusal::Unavailable("the log was not written in time: send it again later");
const CLOSED: Refusal = Refusal::Unavailable("signalbox is stopping: send it again later");
const UNDER_WAY: Refusal = Refusal::Unavailable("the same event is being stored: send it again later");
const UNREAD: Refusal = Refusal::Unavailable("the EventSource's Secrets were not read yet: send it again later");

impl Hooks {
    /// Takes a request with its whole body as it came. When this gives a result, what was sent is on stable storage and will be judged once,
    /// whatever happens from then on; events that no rule asks for are only counted.
    ///
    /// # Errors
    /// Why it is not taken. Of a batch, some events may be stored all the same when it is [`Refusal::Unavailable`]: sent again they are duplicates.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, events may have been stored or not.
    pub async fn receive(&self, hook: &Hook, headers: &HeaderMap, body: &[u8]) -> Result<Received, Refusal> {
        let received = self.take_in(hook, headers, body).await;
        match &received {
            Ok(received) => {
                hook.shared().received(*received, self.0.accept.clock().now().timestamp());
                self.0.accept.metrics().webhooks().received(received.new, received.duplicates);
            }
            Err(refusal) => self.refused(Some(hook), refusal),
        }
        received
    }

    async fn take_in(&self, hook: &Hook, headers: &HeaderMap, body: &[u8]) -> Result<Received, Refusal> {
        let (webhook, max) = (hook.webhook()?, self.admits(hook)?);
        let secrets = hook.secrets().ok_or(UNREAD)?;
        let now = self.0.accept.now();
        let known = webhook.verifier.verify(&secrets, headers, body, now / 1_000_000);
        known.map_err(|_| Refusal::Unauthenticated)?;
        let plain = unfold(headers, body, max)?;
        let events = poison::caught(|| self.decode(hook, webhook, headers, &plain)).unwrap_or_else(|poisoned| {
            tracing::error!(source = hook.name(), namespace = hook.namespace(), error = %poisoned, "a request was not taken");
            Err(Refusal::Malformed(poisoned.to_string()))
        })?;
        webhook.draw(events.len())?;
        // What waits for room holds memory: when the disk is known to be full, nobody waits.
        if self.0.accept.bus().stats().disk_full && !events.is_empty() {
            return Err(NO_SPACE);
        }
        self.store(hook, events, now).await
    }

    /// The events, and by what each is told when it comes again.
    pub(super) fn decode(
        &self,
        hook: &Hook,
        webhook: &Webhook,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Vec<(Event, Option<Hash>)>, Refusal> {
        let hops = hops(headers)?;
        match webhook.preset {
            WebhookPreset::Generic => {}
            WebhookPreset::CloudEvents => return cloud_events(webhook, headers, body, hops),
            preset => return self.sent(hook, webhook, (headers, body), preset, hops),
        }
        let sent = hook.id_of(webhook, headers)?;
        let id = sent.clone().unwrap_or_else(|| self.0.accept.next_id());
        let source = event_source::event_source(hook.namespace(), hook.name());
        let mut event = webhook::decode(headers, body, &id, (&source, &webhook.type_), &webhook.kept)?;
        trail::arrive(&mut event, hops).map_err(Refusal::Malformed)?;
        event.time = Some(self.0.accept.clock().now().timestamp());
        event.subject = Some(subject(hook));
        let hash = sent.map(|_| ids::hash(&event));
        Ok(vec![(event, hash)])
    }

    /// The events of a sender that is known by name.
    fn sent(
        &self,
        hook: &Hook,
        webhook: &Webhook,
        (headers, body): (&HeaderMap, &[u8]),
        sender: WebhookPreset,
        hops: u64,
    ) -> Result<Vec<(Event, Option<Hash>)>, Refusal> {
        let delivery = preset::decode(sender, webhook.alerts, preset::Request { headers, body })?;
        let now = self.0.accept.clock().now().timestamp();
        if delivery.ping {
            hook.shared().pinged(now);
        }
        if delivery.truncated > 0 {
            self.0.accept.metrics().webhooks().truncated(delivery.truncated);
            if hook.shared().may_warn() {
                let (namespace, source, alerts) = (hook.namespace(), hook.name(), delivery.truncated);
                tracing::warn!(
                    namespace,
                    source,
                    alerts,
                    "the sender left alerts out of its notification: let its max_alerts be larger"
                );
            }
        }
        let (source, subject) = (event_source::event_source(hook.namespace(), hook.name()), subject(hook));
        let of_request = hook.id_of(webhook, headers)?;
        let one = |told: preset::Told| {
            let is_known = told.id.is_some() || of_request.is_some();
            let id = of_request.clone().unwrap_or_else(|| self.0.accept.next_id());
            let mut event = told.event((&source, &subject), &id, now)?;
            trail::arrive(&mut event, hops).map_err(Refusal::Malformed)?;
            let hash = is_known.then(|| ids::hash(&event));
            Ok((event, hash))
        };
        delivery.events.into_iter().map(one).collect()
    }

    async fn store(&self, hook: &Hook, events: Vec<(Event, Option<Hash>)>, now: u64) -> Result<Received, Refusal> {
        let until = Instant::now() + ROOM;
        let by = By { namespace: hook.namespace(), name: hook.name(), uid: hook.uid() };
        let (accept, mut received, mut seen, mut last) =
            (&self.0.accept, Received::default(), HashSet::new(), Position::default());
        for (event, hash) in events {
            if hash.is_some_and(|hash| !seen.insert(hash)) {
                received.duplicates += 1;
                continue;
            }
            let put = timeout_at(until, accept.put(by, &Arc::new(event), hash, now)).await.map_err(|_| NO_ROOM)?;
            match put.map_err(|error| refusal(&error))? {
                Put::UnderWay => return Err(UNDER_WAY),
                Put::Before(position) => {
                    received.duplicates += 1;
                    last = last.max(position);
                    continue;
                }
                Put::Unwanted => {}
                Put::New(position) => {
                    last = last.max(position);
                    // Not awaited for long, and no reason not to answer.
                    let _ = timeout_at(until, accept.shed()).await;
                }
            }
            received.new += 1;
        }
        if last > Position::default() {
            let durable = timeout(DISK, accept.bus().durable(last)).await.map_err(|_| SLOW_DISK)?;
            durable.map_err(|error| refusal(&error))?;
        }
        Ok(received)
    }
}

/// What events without a thing that they are about are about.
fn subject(hook: &Hook) -> String {
    format!("{}/EventSource/{}", hook.namespace(), hook.name())
}

fn cloud_events(
    webhook: &Webhook,
    headers: &HeaderMap,
    body: &[u8],
    hops: u64,
) -> Result<Vec<(Event, Option<ids::Hash>)>, Refusal> {
    // Whoever has overheard a request could make any other event of it.
    if webhook.verifier.signs() && cloud_events::is_binary(headers) {
        return Err(Refusal::Malformed(UNSIGNED.to_owned()));
    }
    let mut events = cloud_events::decode(headers, body)?;
    events.iter_mut().try_for_each(|event| trail::arrive(event, hops)).map_err(Refusal::Malformed)?;
    let hashed = |event| (ids::hash(&event), event);
    Ok(events.into_iter().map(hashed).map(|(hash, event)| (event, Some(hash))).collect())
}

/// How many steps of rules led to the request, as it says itself.
fn hops(headers: &HeaderMap) -> Result<u64, Refusal> {
    let mut values = headers.get_all(HOPS).iter();
    let number = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    match (values.next(), values.next()) {
        (None, _) => Ok(0),
        (Some(value), None) => {
            number(value).ok_or_else(|| Refusal::Malformed(format!("{HOPS} must be a whole number, 0 or more")))
        }
        _ => Err(Refusal::Malformed(format!("{HOPS} is there twice"))),
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Unsupported(why) => Self::Unsupported(why),
            DecodeError::Malformed(why) => Self::Malformed(why),
            DecodeError::TooMany(_) => Self::TooLarge(error.to_string()),
        }
    }
}

fn refusal(error: &BusError) -> Refusal {
    match error {
        BusError::Full => NO_SPACE,
        BusError::TooLarge(_) => too_large(crate::bus::embedded::MAX_RECORD),
        BusError::TooDeep => Refusal::Malformed(error.to_string()),
        BusError::Closed | BusError::Storage(_) | BusError::Open { .. } | BusError::Locked { .. } => CLOSED,
    }
}
