//! `publish`: publishes an event through an EventSink that takes events.
//!
//! The event's id is the step's, so that all repetitions, also after a crash, are one event to who receives it.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Action, Attempt, Context, Done, Failure, Undo, recording, sink, text};
use crate::{
    api::{self, ActionOutcome, DEFAULT_PUBLISHED_TYPE},
    bus::Permit,
    event::{Event, MAX_LEVELS, cloud_events, levels, rule_event},
    kubernetes::{Cluster, Right},
    record::Effect,
    sinks::{CONTENT_TYPE, Parcel, Publication},
};

/// Bytes of the data as JSON: as of `emit`. It is in the log, and in memory while the firing is open.
const MAX_DATA: usize = 64 << 10;
const JSON: &str = "application/json";

/// The action.
pub(super) struct Publish(api::Publish);

impl Publish {
    pub(super) fn new(spec: &api::Publish) -> Self {
        Self(spec.clone())
    }

    fn request(&self, cx: &Context, filled: &Value) -> Result<Request, Failure> {
        let optional = |is_set: bool, field: &str| match is_set {
            true => attribute(field, text::of(filled.get(field), field)?).map(Some),
            false => Ok(None),
        };
        let type_ = optional(self.0.type_.is_some(), "type")?.unwrap_or_else(|| DEFAULT_PUBLISHED_TYPE.to_owned());
        if type_ != DEFAULT_PUBLISHED_TYPE {
            rule_event::emittable(&type_).map_err(|why| odd(format!("type {why}")))?;
        }
        let given = match &self.0.data {
            None => None,
            Some(_) if self.0.is_json() => Some(filled.get("data").cloned().unwrap_or_default()),
            Some(_) => Some(text::of(filled.get("data"), "data")?.into()),
        };
        if let Some(data) = &given {
            let size = data.to_string().len();
            if size > MAX_DATA {
                return Err(odd(format!("data has {size} bytes as JSON; {MAX_DATA} are allowed")));
            }
            if levels(data) > MAX_LEVELS {
                return Err(odd(format!("data has more than {MAX_LEVELS} levels")));
            }
        }
        Ok(Request {
            sink: self.0.sink_ref.name.clone(),
            topic: optional(self.0.topic.is_some(), "topic")?,
            key: optional(self.0.key.is_some(), "key")?,
            type_,
            subject: match self.0.subject {
                Some(_) => optional(true, "subject")?,
                None => cx.event.subject.clone(),
            },
            given: given.map(|data| Given { data, content_type: self.0.content_type.clone() }),
        })
    }
}

/// What is recorded before the event is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    sink: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(rename = "type")]
    type_: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Nothing: the data of the event that made the rule fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given: Option<Given>,
}

/// Data that the rule gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    data: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

impl Request {
    fn read(recorded: &Value) -> Result<Self, Failure> {
        recording::read(recorded)
    }

    fn parcel(self, cx: &Context) -> Parcel {
        let source = rule_event::event_source(&cx.rule.namespace, &cx.rule.name);
        let mut event = Event::new(cx.key(), source, self.type_, Value::Null);
        event.subject = self.subject;
        event.time = cx.event.time;
        let content_type = match self.given {
            Some(Given { data, content_type }) => {
                event.data = data;
                Some(content_type.unwrap_or_else(|| JSON.to_owned()))
            }
            None => {
                event.data.clone_from(&cx.event.data);
                event.bytes.clone_from(&cx.event.bytes);
                let own = cx.event.extensions.get(CONTENT_TYPE).and_then(Value::as_str).map(str::to_owned);
                own.or_else(|| event.bytes.is_none().then(|| JSON.to_owned()))
            }
        };
        event.extensions.extend(content_type.map(|content_type| (CONTENT_TYPE.to_owned(), content_type.into())));
        let Self { topic, key, .. } = self;
        Parcel::Publication(Box::new(Publication { event, topic, key, hops: cx.hops.saturating_add(1) }))
    }

    /// `com.acme.paid to EventSink broker`, for messages.
    fn told(&self) -> String {
        let topic = self.topic.as_ref().map(|topic| format!(", topic {topic}")).unwrap_or_default();
        format!("{} to EventSink {}{topic}", self.type_, self.sink)
    }
}

fn attribute(field: &str, value: String) -> Result<String, Failure> {
    cloud_events::attribute(field, &value).map_err(|error| odd(error.to_string()))?;
    Ok(value)
}

fn odd(why: String) -> Failure {
    Failure::last(format!("publish: {why}"))
}

impl Action for Publish {
    fn rights<'a>(&'a self, _cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move { vec![sink::right(namespace, &self.0.sink_ref.name)] })
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let request = self.request(cx, filled)?;
            let entry = sink::find(cx, &request.sink).await?;
            sink::check(&entry, &request.sink, &request.clone().parcel(cx))?;
            recording::of(&request)
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
            let request = Request::read(request)?;
            let (name, told, type_) = (request.sink.clone(), request.told(), request.type_.clone());
            let delivered = sink::deliver(cx, &name, request.parcel(cx)).await?;
            let note = delivered.note.map(|note| format!(" ({note})")).unwrap_or_default();
            Ok(Done {
                outcome: ActionOutcome::Succeeded,
                message: format!("published {told}{note}"),
                result: json!({"id": cx.key(), "type": type_}),
                effect: None,
                reason: None,
            })
        })
    }

    fn changed(&self, _: &Context, _: &Value, _: Option<&Effect>) -> Undo {
        Undo::Never("an event that was published cannot be undone")
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let request = Request::read(request)?;
            let (name, told) = (request.sink.clone(), request.told());
            let entry = sink::find(cx, &name).await?;
            sink::check(&entry, &name, &request.parcel(cx))?;
            Ok(Done::observed(format!("would publish {told}"), Value::Null))
        })
    }

    fn gave_up(&self, cx: &Context, failure: &Failure) {
        sink::gave_up(cx, &self.0.sink_ref.name, failure);
    }
}

#[cfg(test)]
mod tests;
