//! Traces in the OpenTelemetry protocol: one for each firing, from its event to the end of its last action.
//!
//! Everything is made of records of the log and of their times, and every id of the firing's own, so that a process that goes on with a firing
//! goes on with its trace. The encoding is OTLP's JSON, which is as much a part of the protocol as protobuf and needs no library.
//! Nothing is made, and nothing is kept, while no endpoint is configured.

use std::{collections::HashMap, fmt::Write as _};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::{
    api::{ActionOutcome, FiringOutcome},
    record::{EventInput, Finished, Firing, FiringId, Head, Intent, OpenFiring, Outcome, Stamp},
};

/// Spans that wait to be sent: at about 1 KiB each this is 4 MiB. What comes when it is full is dropped and counted.
pub const QUEUE: usize = 4096;
/// An event whose own time is longer ago did not wait for us: it tells of something old. Its trace begins when it was accepted.
const PAST: i64 = 300 * 1_000_000;
/// Steps whose begin is remembered. More are never open at once; were they, those begun so far would only be told without it.
const BEGUN: usize = 65_536;

/// Makes spans of what the log says. Off by default.
#[derive(Default)]
pub struct Traces(Option<Inner>);

struct Inner {
    queue: mpsc::Sender<Span>,
    dropped: Counter,
    /// When steps began, in microseconds since 1970.
    begun: HashMap<(FiringId, String), i64>,
    /// When this process began: a step of an earlier one is told from then on.
    since: i64,
}

/// A span. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    kind: Kind,
    begin: i64,
    end: i64,
    attributes: Vec<(&'static str, String)>,
    fault: Option<String>,
}

/// OTLP's `SpanKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Internal = 1,
    Consumer = 5,
}

impl Traces {
    /// Traces, and where their spans come out. `now`: wall time in microseconds since 1970.
    pub fn new(dropped: Counter, now: i64) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        (Self(Some(Inner { queue, dropped, begun: HashMap::new(), since: now })), spans)
    }

    /// The rule was found to fire, until `now`.
    pub fn fired(&self, head: &Head, input: &EventInput, firing: &Firing, now: Stamp) {
        let Some(inner) = &self.0 else { return };
        let event = &*input.event;
        let accepted = head.stamp.wall;
        let receive = Span {
            kind: Kind::Consumer,
            attributes: vec![
                ("cloudevents.event_id", event.id.clone()),
                ("cloudevents.event_source", event.source.clone()),
                ("cloudevents.event_spec_version", "1.0".to_owned()),
                ("cloudevents.event_type", event.type_.clone()),
                ("cloudevents.event_subject", event.subject.clone().unwrap_or_default()),
            ],
            ..child(firing, "receive", (begin(firing, event.time), accepted))
        };
        let judge = Span {
            attributes: vec![("signalbox.group", firing.group.clone())],
            ..child(firing, "judge", (accepted, now.wall))
        };
        inner.send(receive);
        inner.send(judge);
    }

    /// A step is about to act.
    pub fn intended(&mut self, head: &Head, intent: &Intent) {
        let Some(inner) = &mut self.0 else { return };
        if inner.begun.len() >= BEGUN {
            inner.begun.clear();
        }
        inner.begun.entry((intent.firing.clone(), intent.action.clone())).or_insert(head.stamp.wall);
    }

    /// A step has an outcome.
    pub fn settled(&mut self, head: &Head, open: &OpenFiring, outcome: &Outcome) {
        let Some(inner) = &mut self.0 else { return };
        let begun = inner.begun.remove(&(outcome.firing.clone(), outcome.action.clone()));
        let intended = open.steps.get(&outcome.action).is_some_and(|step| step.intent.is_some());
        let end = head.stamp.wall;
        let begin = begun.unwrap_or(if intended { inner.since.max(open.firing.stamp.wall) } else { end });
        let failed = outcome.outcome == ActionOutcome::Failed;
        inner.send(Span {
            attributes: vec![
                ("signalbox.action", outcome.action.clone()),
                ("signalbox.outcome", format!("{:?}", outcome.outcome)),
                ("signalbox.message", outcome.message.clone()),
            ],
            fault: failed.then(|| outcome.message.clone()),
            ..child(&open.firing, &act(&outcome.action), (begin, end))
        });
    }

    /// A firing has ended.
    pub fn finished(&self, head: &Head, open: &OpenFiring, finished: &Finished) {
        let Some(inner) = &self.0 else { return };
        let firing = &open.firing;
        let failed = matches!(finished.outcome, FiringOutcome::Failed | FiringOutcome::Expired);
        inner.send(Span {
            trace: trace(&firing.id),
            id: span(&firing.id, ""),
            parent: None,
            name: format!("fire {}", firing.rule),
            kind: Kind::Internal,
            begin: begin(firing, open.event.time),
            end: head.stamp.wall,
            attributes: vec![
                ("k8s.namespace.name", firing.rule.namespace.clone()),
                ("signalbox.rule", firing.rule.name.clone()),
                ("signalbox.firing", firing.id.to_string()),
                ("signalbox.source", firing.source.clone()),
                ("signalbox.outcome", format!("{:?}", finished.outcome)),
            ],
            fault: failed.then(|| finished.message.clone()),
        });
    }
}

impl Inner {
    fn send(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

fn child(firing: &Firing, name: &str, (begin, end): (i64, i64)) -> Span {
    Span {
        trace: trace(&firing.id),
        id: span(&firing.id, name),
        parent: Some(span(&firing.id, "")),
        name: name.to_owned(),
        kind: Kind::Internal,
        begin,
        end: end.max(begin),
        attributes: Vec::new(),
        fault: None,
    }
}

/// When the trace begins: with the event itself, as far as that can be.
fn begin(firing: &Firing, time: Option<Timestamp>) -> i64 {
    let accepted = firing.stamp.wall;
    let time = time.map_or(accepted, Timestamp::as_microsecond);
    if (0..PAST).contains(&accepted.saturating_sub(time)) { time } else { accepted }
}

/// What a step says of its trace to whom it calls or starts, so that what they tell a collector belongs to it, in W3C's `traceparent` form:
/// <https://www.w3.org/TR/trace-context/#traceparent-header-field-values>. The same for every repetition, and whether or not an endpoint is configured here.
pub fn traceparent(firing: &FiringId, action: &str) -> String {
    format!("00-{}-{}-01", trace(firing), span(firing, &act(action)))
}

/// The name of a step's span.
fn act(action: &str) -> String {
    format!("act {action}")
}

/// The trace of a firing, the same in every process: 16 bytes in hexadecimal digits.
fn trace(firing: &FiringId) -> String {
    digits(&["trace", &firing.0], 16)
}

/// A span of it: 8 bytes.
fn span(firing: &FiringId, name: &str) -> String {
    digits(&["span", &firing.0, name], 8)
}

fn digits(parts: &[&str], bytes: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(bytes).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The body of a request to `/v1/traces`: an `ExportTraceServiceRequest`.
pub fn request(spans: &[Span], instance: &str) -> Value {
    let resource = [("service.name", "signalbox"), ("service.version", VERSION), ("service.instance.id", instance)];
    let resource: Vec<Value> = resource.into_iter().map(|(key, value)| attribute(key, value)).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{
            "scope": {"name": "signalbox", "version": VERSION},
            "spans": spans.iter().map(Span::encode).collect::<Vec<_>>(),
        }],
    }]})
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Span {
    fn encode(&self) -> Value {
        let attributes: Vec<Value> = self
            .attributes
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| attribute(key, value))
            .collect();
        let nanos = |micros: i64| i128::from(micros).saturating_mul(1000).to_string();
        let mut span = json!({
            "traceId": self.trace,
            "spanId": self.id,
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": nanos(self.begin),
            "endTimeUnixNano": nanos(self.end),
            "attributes": attributes,
        });
        if let Some(parent) = &self.parent {
            span["parentSpanId"] = json!(parent);
        }
        if let Some(fault) = &self.fault {
            span["status"] = json!({"code": 2, "message": fault});
        }
        span
    }
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

#[cfg(test)]
mod tests;
