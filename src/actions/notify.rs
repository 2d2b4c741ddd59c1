//! `notify`: sends a notification to an EventSink.
//!
//! The rule's account needs `get` on the EventSink; the Secrets are read with the rights of the sink's own account.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Action, Attempt, Context, Done, Failure, FailureKind, Undo, secrets, text};
use crate::{
    api::{self, ActionOutcome, NotifyField, Severity},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::Effect,
    sinks::{Delivered, Entry, Notification, Retry, Secrets, Sink, SinkError},
};

/// The action.
pub(super) struct Notify(api::Notify);

impl Notify {
    pub(super) fn new(spec: &api::Notify) -> Self {
        Self(spec.clone())
    }
}

/// What is recorded before the notification is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Request {
    sink: String,
    severity: Severity,
    title: String,
    text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<NotifyField>,
}

impl Action for Notify {
    fn rights<'a>(&'a self, _cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move { vec![right(namespace, &self.0.sink_ref.name)] })
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            find(cx, &self.0.sink_ref.name).await?;
            let fields = filled.get("fields").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let request = Request {
                sink: self.0.sink_ref.name.clone(),
                severity: self.0.severity,
                title: match self.0.title {
                    Some(_) => text::of(filled.get("title"), "title")?,
                    None => default_title(cx),
                },
                text: text::of(filled.get("text"), "text")?,
                fields: fields.iter().map(field).collect::<Result<_, _>>()?,
            };
            serde_json::to_value(request).map_err(|error| Failure::last(format!("record the request: {error}")))
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        _attempt: Attempt,
        _permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let request = Request::deserialize(request)
                .map_err(|error| Failure::last(format!("read the recorded request: {error}")))?;
            let entry = find(cx, &request.sink).await?;
            let sink = entry.sink.as_ref().map_err(|fault| unusable(&request.sink, fault))?;
            let delivered = deliver(cx, &entry, &request.sink, &**sink, &notification(cx, &request)).await?;
            entry.delivered(cx.services.clock.now().timestamp());
            let note = delivered.note.map(|note| format!(" ({note})")).unwrap_or_default();
            Ok(Done {
                outcome: ActionOutcome::Succeeded,
                message: format!("notified EventSink {}{note}", request.sink),
                result: json!({"status": delivered.status}),
                effect: None,
                reason: None,
            })
        })
    }

    fn changed(&self, _: &Context, _: &Value, _: Option<&Effect>) -> Undo {
        Undo::Never("a notification that was sent cannot be undone")
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let request = Request::deserialize(request)
                .map_err(|error| Failure::last(format!("read the recorded request: {error}")))?;
            let entry = find(cx, &request.sink).await?;
            entry.sink.as_ref().map_err(|fault| unusable(&request.sink, fault))?;
            let Request { sink, title, text, .. } = &request;
            Ok(Done::observed(format!("would notify EventSink {sink}: {title}: {text}"), Value::Null))
        })
    }

    fn gave_up(&self, cx: &Context, failure: &Failure) {
        if let Some(entry) = cx.services.sinks.get(&cx.rule.namespace, &self.0.sink_ref.name) {
            entry.failed(&failure.message);
        }
    }
}

fn default_title(cx: &Context) -> String {
    match &cx.event.subject {
        Some(subject) => format!("{}: {subject}", cx.rule.name),
        None => cx.rule.name.clone(),
    }
}

fn field(filled: &Value) -> Result<NotifyField, Failure> {
    let name = text::of(filled.get("name"), "fields[].name")?;
    let value = text::of(filled.get("value"), &format!("fields[{name}].value"))?;
    Ok(NotifyField { name, value })
}

fn notification(cx: &Context, request: &Request) -> Notification {
    Notification {
        severity: request.severity,
        title: request.title.clone(),
        text: request.text.clone(),
        fields: request.fields.clone(),
        event: Arc::clone(&cx.event),
        rule: cx.rule.clone(),
        firing: cx.firing.clone(),
        hops: cx.hops.saturating_add(1),
        dedup_key: cx.key(),
    }
}

/// The right to use a sink.
fn right(namespace: &str, name: &str) -> Right {
    Right::new("get", api::GROUP, "eventsinks").within(Some(namespace)).named(name)
}

/// The sink, if the rule's account may `get` it.
async fn find(cx: &Context, name: &str) -> Result<Arc<Entry>, Failure> {
    let namespace = &cx.rule.namespace;
    let right = right(namespace, name);
    match cx.services.cluster.may(&cx.account, &right).await {
        Ok(true) => {}
        Ok(false) => return Err(Failure::last(format!("notify EventSink {name}: {}", right.missing_for(&cx.account)))),
        Err(error) => return Err(Failure::retryable(format!("find out who may use EventSink {name}: {error}"))),
    }
    cx.services
        .sinks
        .get(namespace, name)
        .ok_or_else(|| Failure::last(format!("there is no EventSink {name} in namespace {namespace}")))
}

fn unusable(name: &str, fault: &impl std::fmt::Display) -> Failure {
    Failure::last(format!("EventSink {name} cannot be used: {fault}"))
}

/// Delivers to the sink of this name; when the service refuses the credentials, once more with those that the Secrets hold by now.
async fn deliver(
    cx: &Context,
    entry: &Entry,
    name: &str,
    sink: &dyn Sink,
    notification: &Notification,
) -> Result<Delivered, Failure> {
    let http = &cx.services.http;
    let secrets = read(cx, entry, sink, name).await?;
    let error = match sink.deliver(notification, &secrets, http).await {
        Ok(delivered) => return Ok(delivered),
        Err(error) => error,
    };
    entry.attempt_failed(&error);
    if error.retry != Retry::FreshSecrets {
        return Err(failure(error));
    }
    for key in sink.secrets() {
        cx.services.cluster.forget_secret(&entry.account.namespace, &key.name);
    }
    let fresh = read(cx, entry, sink, name).await?;
    if fresh == secrets {
        return Err(failure(error));
    }
    sink.deliver(notification, &fresh, http).await.map_err(|error| {
        entry.attempt_failed(&error);
        failure(error)
    })
}

fn failure(error: SinkError) -> Failure {
    let kind = match error.retry {
        Retry::After(after) => FailureKind::Retryable { after },
        Retry::FreshSecrets | Retry::Never => FailureKind::Final,
    };
    Failure { kind, message: error.message }
}

async fn read(cx: &Context, entry: &Entry, sink: &dyn Sink, name: &str) -> Result<Secrets, Failure> {
    let keys = sink.secrets();
    if keys.is_empty() {
        return Ok(Secrets::default());
    }
    let cluster = &cx.services.cluster;
    cluster.usable(&entry.account).await.map_err(|error| match error {
        crate::kubernetes::Unusable::Unknown { .. } => Failure::retryable(error.to_string()),
        error => Failure::last(error.to_string()),
    })?;
    let namespace = &entry.account.namespace;
    let mend = |what: &str| {
        format!("EventSink {name}: {what}; make it, or mend the sink: kubectl edit eventsink {name} -n {namespace}")
    };
    secrets::read(cx, &entry.account, keys, mend).await
}

#[cfg(test)]
mod tests;
