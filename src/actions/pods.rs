//! The spec of Pods, wherever it stands in an object: in a Job, in a Deployment, in a Pod itself.

use serde_json::{Map, Value};

use super::{Context, Failure, text};
use crate::{kubernetes::Unusable, record::Account};

/// Both lists of containers of a Pod that can have an environment and volumes.
pub(super) const CONTAINERS: [&str; 2] = ["containers", "initContainers"];
/// The lists of a container in which Kubernetes replaces `$(NAME)`, beside the values of its environment.
const COMMANDS: [&str; 7] = [
    "command",
    "args",
    "lifecycle/postStart/exec/command",
    "lifecycle/preStop/exec/command",
    "livenessProbe/exec/command",
    "readinessProbe/exec/command",
    "startupProbe/exec/command",
];

/// Where the spec of Pods stands in objects of a kind that Kubernetes itself brings.
pub(super) fn place(api_version: &str, kind: &str) -> Option<&'static str> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("", "Pod") => Some("/spec"),
        ("", "PodTemplate") => Some("/template/spec"),
        ("", "ReplicationController") | ("batch", "Job") => Some("/spec/template/spec"),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => Some("/spec/template/spec"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

/// Keeps what comes from an event from being expanded, in the Pods at `place` of `object`, which was made of `written` by filling its texts in; both stand
/// in the rule as `field`.
///
/// In commands, arguments and values of variables Kubernetes itself replaces `$(NAME)` by a variable of the container, a password perhaps. What comes from an
/// event must not do that: only a text that stands in the rule as it is does.
pub(super) fn keep_literal(object: &mut Value, written: &Value, place: &str, field: &str) -> Result<(), Failure> {
    for list in CONTAINERS {
        for container in 0..length(object, &format!("{place}/{list}")) {
            let base = format!("{place}/{list}/{container}");
            let mut texts = Vec::new();
            for list in COMMANDS {
                texts.extend((0..length(object, &format!("{base}/{list}"))).map(|n| format!("{base}/{list}/{n}")));
            }
            texts.extend((0..length(object, &format!("{base}/env"))).map(|n| format!("{base}/env/{n}/value")));
            for path in texts {
                literal(object, written, &path, field)?;
            }
        }
    }
    Ok(())
}

fn length(object: &Value, list: &str) -> usize {
    object.pointer(list).and_then(Value::as_array).map_or(0, Vec::len)
}

fn literal(object: &mut Value, written: &Value, path: &str, field: &str) -> Result<(), Failure> {
    let Some(value) = object.pointer_mut(path) else { return Ok(()) };
    let filled = text::of(Some(value), &format!("{field}{path}"))?;
    // Where the rule has no such text, it is of a list that was filled in as a whole.
    let from_event = written.pointer(path).and_then(Value::as_str).is_none_or(|text| text.contains("${"));
    *value = Value::String(if from_event { undollared(&filled) } else { filled });
    Ok(())
}

/// The text such that Kubernetes' expansion gives it back: `$$` stands for `$`.
pub(super) fn undollared(text: &str) -> String {
    text.replace('$', "$$")
}

/// `serviceAccount` is the old name of the field; the API server still takes it where the new one is empty.
pub(super) fn account(pod: &Map<String, Value>) -> Option<&str> {
    let named = |field| pod.get(field).and_then(Value::as_str).filter(|name: &&str| !name.is_empty());
    named("serviceAccountName").or_else(|| named("serviceAccount"))
}

/// Whether Pods of this namespace may run as the account of this name. Who may create Pods can run them as any account of the namespace; rules are bound
/// to their own, whose authors were checked, and to those that opted in.
pub(super) async fn usable(cx: &Context, namespace: &str, name: &str) -> Result<(), Failure> {
    let account = Account { namespace: namespace.to_owned(), name: name.to_owned() };
    if account == cx.account {
        return Ok(());
    }
    cx.services.cluster.opted_in(&account).await.map_err(|error| match error {
        Unusable::Unknown { .. } => Failure::retryable(error.to_string()),
        error => Failure::last(format!("run pods as another account than the rule's: {error}")),
    })
}
