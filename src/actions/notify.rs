//! `notify`: sends a notification to an EventSink.

mod look;
mod story;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use story::Story;

use super::{Action, Attempt, Context, Done, Failure, Undo, recording, sink, text};
use crate::{
    api::{self, ActionOutcome, NotifyField, NotifyOperation, Severity},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::Effect,
    sinks::{Notification, Parcel, incident},
};

/// Facts of a notification: with a link, as many as every sink takes.
const FIELDS: usize = 24;

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
    #[serde(default, skip_serializing_if = "NotifyOperation::is_trigger")]
    operation: NotifyOperation,
    /// Empty: of the rule and the group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    incident: String,
}

impl Action for Notify {
    fn rights<'a>(&'a self, _cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move { vec![sink::right(namespace, &self.0.sink_ref.name)] })
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let entry = sink::find(cx, &self.0.sink_ref.name).await?;
            let story = match self.0.text {
                Some(_) => Story { text: text::of(filled.get("text"), "text")?, fields: Vec::new() },
                None => story::story(cx, &look::look(cx).await),
            };
            let fields = filled.get("fields").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let given = fields.iter().map(field);
            let request = Request {
                sink: self.0.sink_ref.name.clone(),
                severity: self.0.severity,
                title: match self.0.title {
                    Some(_) => text::of(filled.get("title"), "title")?,
                    None => default_title(cx),
                },
                text: story.text,
                fields: given.chain(story.fields.into_iter().map(Ok)).take(FIELDS).collect::<Result<_, _>>()?,
                operation: self.0.operation.unwrap_or(match cx.resolves {
                    true => NotifyOperation::Resolve,
                    false => NotifyOperation::Trigger,
                }),
                incident: match self.0.dedup_key {
                    Some(_) => incident::named(&text::of(filled.get("dedupKey"), "dedupKey")?),
                    None => String::new(),
                },
            };
            sink::check(&entry, &request.sink, &parcel(cx, &request, Attempt::First))?;
            recording::of(&request)
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        _permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let request = recording::read::<Request>(request)?;
            if cx.closes && sink::find(cx, &request.sink).await?.sink.as_ref().is_ok_and(|sink| !sink.keeps_incidents())
            {
                let message = format!("EventSink {} keeps no incidents: nothing was sent", request.sink);
                let (outcome, result) = (ActionOutcome::Unchanged, Value::Null);
                return Ok(Done { outcome, message, result, effect: None, reason: None });
            }
            let parcel = parcel(cx, &request, attempt);
            let delivered = sink::deliver(cx, &request.sink, parcel).await?;
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
            let request = recording::read::<Request>(request)?;
            let entry = sink::find(cx, &request.sink).await?;
            sink::check(&entry, &request.sink, &parcel(cx, &request, Attempt::First))?;
            let Request { sink, title, text, .. } = &request;
            Ok(Done::observed(format!("would notify EventSink {sink}: {title}: {text}"), Value::Null))
        })
    }

    fn gave_up(&self, cx: &Context, failure: &Failure) {
        sink::gave_up(cx, &self.0.sink_ref.name, failure);
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

fn parcel(cx: &Context, request: &Request, attempt: Attempt) -> Parcel {
    Parcel::Notification(Box::new(Notification {
        severity: request.severity,
        title: request.title.clone(),
        text: request.text.clone(),
        fields: request.fields.clone(),
        event: Arc::clone(&cx.event),
        rule: cx.rule.clone(),
        firing: cx.firing.clone(),
        hops: cx.hops.saturating_add(1),
        id: cx.key(),
        operation: request.operation,
        incident: match request.incident.as_str() {
            "" => incident::of_group(&cx.rule.uid, &cx.group),
            named => named.to_owned(),
        },
        again: attempt == Attempt::Again,
    }))
}

#[cfg(test)]
mod tests;
