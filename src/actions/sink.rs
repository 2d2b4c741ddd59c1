//! What `notify` and `publish` share: finding an EventSink, and delivering to it.
//!
//! The rule's account needs `get` on the EventSink; the Secrets are read with the rights of the sink's own account.

use std::sync::Arc;

use super::{Context, Failure, FailureKind, secrets};
use crate::{
    api,
    kubernetes::{Right, Unusable},
    sinks::{Delivered, Entry, Parcel, Reach, Retry, Secrets, Sink, SinkError},
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
    cx.services
        .sinks
        .get(namespace, name)
        .ok_or_else(|| Failure::last(format!("there is no EventSink {name} in namespace {namespace}")))
}

/// Whether the sink can be used, and takes this.
pub(super) fn check<'e>(entry: &'e Entry, name: &str, parcel: &Parcel) -> Result<&'e Sink, Failure> {
    let sink = entry.sink.as_ref();
    let sink = sink.map_err(|fault| Failure::last(format!("EventSink {name} cannot be used: {fault}")))?;
    sink.check(entry.kind, parcel).map_err(|why| Failure::last(format!("EventSink {name} {why}")))?;
    Ok(sink)
}

/// Delivers to the sink of this name, if it takes this; when the service refuses the credentials, once more with those that the Secrets hold by now.
pub(super) async fn deliver(cx: &Context, name: &str, parcel: &Parcel) -> Result<Delivered, Failure> {
    let entry = find(cx, name).await?;
    let sink = check(&entry, name, parcel)?;
    let sinks = &cx.services.sinks;
    let reach = Reach { http: &cx.services.http, connections: sinks.connections(), threads: sinks.threads() };
    let secrets = read(cx, &entry, sink, name).await?;
    let taken = match sink.deliver(parcel, &secrets, reach).await {
        Err(error) if error.retry == Retry::FreshSecrets => {
            entry.attempt_failed(&error);
            let fresh = reread(cx, &entry, sink, name).await?;
            if fresh == secrets { Err(error) } else { sink.deliver(parcel, &fresh, reach).await }
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
