//! `kubectl signalbox send` and `kubectl signalbox test-sink`: something to an EventSink, without a rule.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use serde_json::{Value, json};

use super::{Output, json, way::Way};
use crate::api::EventSink;

/// Kinds that keep incidents open until they are told that they are over.
const KEEP_INCIDENTS: [&str; 2] = ["pagerduty", "alertmanager"];

/// A notification of one's own, or an event.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["text", "event"])))]
pub(super) struct Sending {
    /// The EventSink.
    sink: String,
    /// The message.
    #[arg(long)]
    text: Option<String>,
    /// Its title.
    #[arg(long, default_value = "Sent by hand", conflicts_with = "event")]
    title: String,
    /// How urgent it is: Info, Warning, Error or Critical.
    #[arg(long, default_value = "Info", conflicts_with = "event")]
    severity: String,
    /// Which incident it is about, where the sink keeps such.
    #[arg(long, conflicts_with = "event")]
    dedup_key: Option<String>,
    /// Say that the incident is over.
    #[arg(long, conflicts_with = "event")]
    resolve: bool,
    /// File of a CloudEvent as JSON, for a sink that takes events: `type` and `data`; what is missing beside is made up.
    #[arg(long)]
    event: Option<PathBuf>,
    /// The ServiceAccount that sends it; default: the sink's own. It must be allowed to get the EventSink and the Secrets that it names.
    #[arg(long)]
    account: Option<String>,
}

/// A test.
#[derive(Debug, Args)]
pub(super) struct Testing {
    /// The EventSink.
    sink: String,
    /// What to say; default: that it is a test.
    #[arg(long)]
    text: Option<String>,
    /// Close the incident that a test before has opened.
    #[arg(long)]
    resolve: bool,
    /// The ServiceAccount that sends it; default: the sink's own. It must be allowed to get the EventSink and the Secrets that it names.
    #[arg(long)]
    account: Option<String>,
}

/// Sends it.
pub(super) async fn send(way: &Way, sending: &Sending, output: Output) -> anyhow::Result<String> {
    let sink = (sending.sink.as_str(), sending.account.as_deref());
    let Some(file) = &sending.event else {
        let operation = operation(sending.resolve);
        let mut notice =
            json!({"title": sending.title, "severity": sending.severity, "operation": operation, "text": sending.text});
        if let Some(key) = &sending.dedup_key {
            notice["dedupKey"] = key.as_str().into();
        }
        return deliver(way, sink, ("application/json", &notice), output).await.map(|told| told.text);
    };
    let event = event(file, &way.namespace, Timestamp::now())?;
    deliver(way, sink, ("application/cloudevents+json", &event), output).await.map(|told| told.text)
}

/// Sends a test, and tells what comes next.
pub(super) async fn test(way: &Way, testing: &Testing, output: Output) -> anyhow::Result<String> {
    let Testing { sink, text, resolve, account } = testing;
    let says = format!("This is a test of EventSink {}/{sink}. Nothing has happened.", way.namespace);
    let text = text.as_ref().unwrap_or(&says);
    let notice =
        json!({"title": "A test of Signalbox", "severity": "Info", "operation": operation(*resolve), "text": text});
    let told = deliver(way, (sink, account.as_deref()), ("application/json", &notice), output).await?;
    if output == Output::Json || *resolve || !KEEP_INCIDENTS.contains(&told.kind.as_str()) {
        return Ok(told.text);
    }
    let close = format!(
        "It is an incident there: close it with kubectl signalbox test-sink {sink} -n {} --resolve\n",
        way.namespace
    );
    Ok(told.text + &close)
}

fn operation(resolve: bool) -> &'static str {
    if resolve { "Resolve" } else { "Trigger" }
}

struct Told {
    kind: String,
    text: String,
}

async fn deliver(
    way: &Way,
    (sink, account): (&str, Option<&str>),
    (content_type, body): (&'static str, &Value),
    output: Output,
) -> anyhow::Result<Told> {
    let account = match account {
        Some(account) => account.to_owned(),
        None => own_account(way, sink).await?,
    };
    let token = way.token(&account).await?;
    let answer = way.send(&["sinks", sink, "deliveries"], (content_type, body.to_string()), &token).await?.good()?;
    let kind = answer["kind"].as_str().unwrap_or_default().to_owned();
    if output == Output::Json {
        return Ok(Told { kind, text: json(&answer) });
    }
    Ok(Told { text: told(&way.namespace, sink, &answer), kind })
}

/// What the sink answered.
fn told(namespace: &str, sink: &str, answer: &Value) -> String {
    let kind = answer["kind"].as_str().unwrap_or_default();
    let status = answer["status"].as_u64().filter(|status| *status > 0);
    let status = status.map(|status| format!(" and answered {status}")).unwrap_or_default();
    let note = answer["note"].as_str().map(|note| format!(" ({note})")).unwrap_or_default();
    format!("EventSink {namespace}/{sink} of kind {kind} took it{status}{note}.\n")
}

async fn own_account(way: &Way, sink: &str) -> anyhow::Result<String> {
    let sinks: Api<EventSink> = Api::namespaced(way.client.clone(), &way.namespace);
    let found = sinks.get(sink).await.with_context(|| format!("get EventSink {}/{sink}", way.namespace))?;
    Ok(found.spec.service_account_name)
}

/// The event of a file; what every event has and this one does not is filled in.
fn event(file: &Path, namespace: &str, now: Timestamp) -> anyhow::Result<Value> {
    let of = || format!("read {}", file.display());
    let text = std::fs::read_to_string(file).with_context(of)?;
    let mut event: Value = serde_json::from_str(&text).with_context(of)?;
    let Some(members) = event.as_object_mut() else {
        bail!("{} is no CloudEvent: it is no JSON object", file.display())
    };
    let id = format!("sent-by-hand-{}", now.as_microsecond());
    for (name, value) in [
        ("specversion", "1.0".to_owned()),
        ("id", id),
        ("source", format!("/namespaces/{namespace}/sent-by-hand")),
        ("time", now.to_string()),
    ] {
        members.entry(name).or_insert_with(|| value.into());
    }
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_event_has_is_filled_in_and_what_the_file_says_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("event.json");
        std::fs::write(&file, r#"{"type": "com.acme.paid", "id": "7", "data": {"sum": 3}}"#).expect("written");
        let event = event(&file, "shop", Timestamp::UNIX_EPOCH).expect("an event");
        let expected = json!({"specversion": "1.0", "id": "7", "source": "/namespaces/shop/sent-by-hand", "time": "1970-01-01T00:00:00Z",
            "type": "com.acme.paid", "data": {"sum": 3}});
        assert_eq!(event, expected);
        std::fs::write(&file, "[]").expect("written");
        let error = super::event(&file, "shop", Timestamp::UNIX_EPOCH).expect_err("a list");
        assert!(error.to_string().contains("no JSON object"), "{error}");
    }

    #[test]
    fn what_the_sink_answered_is_told() {
        let answer = json!({"kind": "slack", "status": 200, "note": "the text was cut"});
        assert_eq!(
            told("shop", "oncall", &answer),
            "EventSink shop/oncall of kind slack took it and answered 200 (the text was cut).\n"
        );
        let answer = json!({"kind": "email", "status": 0, "note": null});
        assert_eq!(told("shop", "oncall", &answer), "EventSink shop/oncall of kind email took it.\n");
    }
}
