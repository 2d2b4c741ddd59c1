//! What `notify` and `publish` share: finding an EventSink, and delivering to it.
//!
//! The rule's account needs `get` on the EventSink; the Secrets are read with the rights of the sink's own account.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Context, Failure, FailureKind, secrets};
use crate::{
    api::{self, SinkRateLimit},
    kubernetes::{Right, Unusable},
    sinks::{Delivered, Entry, Parcel, Reach, Retry, Secrets, Sink, SinkError, Turn, digest},
};

/// The right to use a sink.
pub(super) fn right(namespace: &str, name: &str) -> Right {
    Right::new("get", api::GROUP, "eventsinks").within(Some(namespace)).named(name)
}

/// The sink, if the rule's account may `get` it.
pub(super) async fn find(cx: &Context, name: &str) -> Result<Arc<Entry>, Failure> {
    let namespace = &cx.rule.namespace;
    let right = right(namespace, name);
    match cx.services.cluster.may(&cx.account, &right).await {
        Ok(true) => {}
        Ok(false) => return Err(Failure::last(format!("use EventSink {name}: {}", right.missing_for(&cx.account)))),
        Err(error) => return Err(Failure::retryable(format!("find out who may use EventSink {name}: {error}"))),
    }
    cx.services.sinks.get(namespace, name).ok_or_else(|| Failure::last(missing(namespace, name)))
}

/// What is said of a sink that is not there.
pub(super) fn missing(namespace: &str, name: &str) -> String {
    format!(
        "there is no EventSink {name} in namespace {namespace}: make it, or name one of kubectl get esk -n {namespace}"
    )
}

/// Whether the sink can be used, and takes this.
pub(super) fn check<'e>(entry: &'e Entry, name: &str, parcel: &Parcel) -> Result<&'e Sink, Failure> {
    let sink = entry.sink.as_ref();
    let sink = sink.map_err(|fault| Failure::last(format!("EventSink {name} cannot be used: {fault}")))?;
    sink.check(entry.kind, parcel).map_err(|why| Failure::last(format!("EventSink {name} {why}")))?;
    Ok(sink)
}

/// Delivers to the sink of this name, if it takes this and its limit lets it.
pub(super) async fn deliver(cx: &Context, name: &str, mut parcel: Parcel) -> Result<Delivered, Failure> {
    let entry = find(cx, name).await?;
    let sink = check(&entry, name, &parcel)?;
    let unlinked = linked(&entry, &mut parcel);
    let delivered = limited(cx, &entry, sink, (name, &parcel)).await?;
    Ok(noted(delivered, unlinked))
}

/// Delivers to a sink that takes this, if its limit lets it now: nobody comes back for a later turn, so it takes none, and goes into no digest.
pub(super) async fn deliver_once(
    cx: &Context,
    entry: &Entry,
    sink: &Sink,
    name: &str,
    mut parcel: Parcel,
) -> Result<Delivered, Failure> {
    if let Some(limit) = &entry.limit {
        let turn = entry.limiter.once(limit, Instant::now());
        turn.map_err(|wait| Failure { kind: FailureKind::Turn(wait), message: reached(name, limit) })?;
    }
    let unlinked = linked(entry, &mut parcel);
    let delivered = with_secrets(cx, entry, sink, (name, &parcel)).await?;
    Ok(noted(delivered, unlinked))
}

/// Adds the sink's link to a notification, or tells why not.
fn linked(entry: &Entry, parcel: &mut Parcel) -> Option<String> {
    match (parcel, &entry.link) {
        (Parcel::Notification(notification), Some(link)) => link.add(notification).err(),
        _ => None,
    }
}

fn noted(delivered: Delivered, more: Option<String>) -> Delivered {
    let note: Vec<String> = delivered.note.into_iter().chain(more).collect();
    Delivered { note: (!note.is_empty()).then(|| note.join("; ")), status: delivered.status }
}

fn reached(name: &str, SinkRateLimit { notifications, per }: &SinkRateLimit) -> String {
    format!("EventSink {name} is sent {notifications} within {per} at most")
}

/// Delivers it, or all that waits as one, or says how long it has to wait.
async fn limited(
    cx: &Context,
    entry: &Entry,
    sink: &Sink,
    (name, parcel): (&str, &Parcel),
) -> Result<Delivered, Failure> {
    let Some(limit) = &entry.limit else { return with_secrets(cx, entry, sink, (name, parcel)).await };
    match entry.limiter.turn(limit, parcel, sink.is_for_people(), Instant::now()) {
        Turn::Send => with_secrets(cx, entry, sink, (name, parcel)).await,
        Turn::Told(count) => {
            let note = Some(format!("as one with others, {count} in all: the sink's rateLimit was reached"));
            Ok(Delivered { status: 0, note })
        }
        Turn::Wait(wait) => {
            let message = format!("{}: it waits for its turn", reached(name, limit));
            Err(Failure { kind: FailureKind::Turn(wait), message })
        }
        Turn::Digest(telling) => {
            let Some(told) = digest(telling.all()) else { return Err(Failure::last("there is nothing to tell")) };
            let count = telling.all().len();
            let delivered = with_secrets(cx, entry, sink, (name, &Parcel::Notification(Box::new(told)))).await?;
            telling.told(Instant::now());
            let digest = format!("as one with others, {count} in all: the sink's rateLimit was reached");
            let note: Vec<String> = delivered.note.into_iter().chain([digest]).collect();
            Ok(Delivered { note: Some(note.join("; ")), ..delivered })
        }
    }
}

/// Delivers it; when the service refuses the credentials, once more with those that the Secrets hold by now.
async fn with_secrets(
    cx: &Context,
    entry: &Entry,
    sink: &Sink,
    (name, parcel): (&str, &Parcel),
) -> Result<Delivered, Failure> {
    let sinks = &cx.services.sinks;
    let reach = Reach { http: &cx.services.http, connections: sinks.connections(), threads: sinks.threads() };
    let secrets = read(cx, entry, sink, name).await?;
    let taken = match sink.deliver(parcel, &secrets, reach).await {
        Err(error) if error.retry == Retry::FreshSecrets => {
            entry.attempt_failed(&error);
            let fresh = reread(cx, entry, sink, name).await?;
            if fresh == secrets { Err(refused(error, sink, entry)) } else { sink.deliver(parcel, &fresh, reach).await }
        }
        taken => taken,
    };
    match taken {
        Ok(delivered) => {
            entry.delivered(cx.services.clock.now().timestamp());
            Ok(delivered)
        }
        Err(error) => {
            entry.attempt_failed(&error);
            Err(failure(error))
        }
    }
}

/// The service refuses what the Secrets hold, and they have not changed.
fn refused(error: SinkError, sink: &Sink, entry: &Entry) -> SinkError {
    let mut names: Vec<String> = sink.secrets().into_iter().map(|key| key.name).collect();
    names.dedup();
    let secrets = names.join(" ");
    let namespace = &entry.account.namespace;
    let message = format!("{error}; put what it accepts there: kubectl edit secret {secrets} -n {namespace}");
    if names.is_empty() { error } else { SinkError { message, ..error } }
}

/// Something has failed for good.
pub(super) fn gave_up(cx: &Context, name: &str, failure: &Failure) {
    if let Some(entry) = cx.services.sinks.get(&cx.rule.namespace, name) {
        entry.failed(&failure.message);
    }
}

fn failure(error: SinkError) -> Failure {
    let kind = match error.retry {
        Retry::After(after) => FailureKind::Retryable { after },
        Retry::FreshSecrets | Retry::Never => FailureKind::Final,
    };
    Failure { kind, message: error.message }
}

async fn reread(cx: &Context, entry: &Entry, sink: &Sink, name: &str) -> Result<Secrets, Failure> {
    for key in sink.secrets() {
        cx.services.cluster.forget_secret(&entry.account.namespace, &key.name);
    }
    read(cx, entry, sink, name).await
}

pub(super) async fn read(cx: &Context, entry: &Entry, sink: &Sink, name: &str) -> Result<Secrets, Failure> {
    let keys = sink.secrets();
    if keys.is_empty() {
        return Ok(Secrets::default());
    }
    let cluster = &cx.services.cluster;
    cluster.usable(&entry.account).await.map_err(|error| match error {
        Unusable::Unknown { .. } => Failure::retryable(error.to_string()),
        error => Failure::last(error.to_string()),
    })?;
    let namespace = &entry.account.namespace;
    let mend = |what: &str| {
        format!("EventSink {name}: {what}; make it, or mend the sink: kubectl edit eventsink {name} -n {namespace}")
    };
    secrets::read(cx, &entry.account, keys, mend).await
}
