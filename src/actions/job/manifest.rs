//! The Job object: what the user wrote, what is ours, and how the event gets into the pod.

use serde_json::{Map, Value, json};

use crate::{
    actions::{
        CAUSED_BY, Context, Failure,
        name::label_value,
        pods::{self, CONTAINERS, undollared},
        text,
    },
    api::{self, JobScript},
    telemetry::traces::traceparent,
};

const RULE: &str = "signalbox.dev/rule";
const FIRING: &str = "signalbox.dev/firing";
const SUBJECT: &str = "signalbox.dev/subject";
/// Annotation of the pod that holds the event; the file in the container is this annotation.
const EVENT: &str = "signalbox.dev/event";

/// A single string of a process's environment may have 128 KiB on Linux (`MAX_ARG_STRLEN`); 28 KiB are left for the name and what a runtime adds.
/// A longer event is in the file only.
const MOST_IN_ENV: usize = 100 * 1024;
/// What all annotations of an object may have together (`TotalAnnotationSizeLimitB`).
const MOST_IN_ANNOTATIONS: usize = 256 * 1024;
const VOLUME: &str = "signalbox-event";
const FOLDER: &str = "/run/signalbox";
const FILE: &str = "event.json";
/// Where a Job has the spec of its pods.
const POD: &str = "/spec/template/spec";
/// `nobody`, which is no user of any image that matters.
const NOBODY: i64 = 65534;

/// The template as the user wrote it with its texts filled in; where Kubernetes takes only texts, numbers are written out.
pub(super) fn of_template(written: &Value, filled: Option<&Value>) -> Result<Value, Failure> {
    let mut template = filled.cloned().unwrap_or(Value::Null);
    if !template.get("spec").is_some_and(Value::is_object) {
        return Err(Failure::last("job.template has no spec"));
    }
    for path in ["/metadata", "/spec/template/metadata"] {
        for map in ["labels", "annotations"] {
            for value in
                template.pointer_mut(&format!("{path}/{map}")).and_then(Value::as_object_mut).into_iter().flatten()
            {
                *value.1 = Value::String(text::of(Some(value.1), &format!("job.template {map}"))?);
            }
        }
    }
    pods::keep_literal(&mut template, written, POD, "job.template")?;
    Ok(template)
}

/// The template of a script: not repeated by Kubernetes, and allowed in namespaces with Pod Security `restricted`.
pub(super) fn of_script(script: &JobScript) -> Value {
    let command: Vec<String> = script.shell.iter().chain([&script.run]).map(|text| undollared(text)).collect();
    json!({"spec": {"backoffLimit": 0, "template": {"spec": {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": true, "runAsUser": NOBODY, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "script",
            "image": script.image,
            "command": command,
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    }}}})
}

/// Takes `ttlSecondsAfterFinished` out: a Job that went before its outcome is recorded would be created once more after a crash.
pub(super) fn take_ttl(template: &mut Value) -> Option<i64> {
    template.get_mut("spec")?.as_object_mut()?.remove("ttlSecondsAfterFinished")?.as_i64()
}

/// The whole Job, without the event.
pub(super) fn job(cx: &Context, template: Value, name: &str) -> Value {
    let pick = |path: &str| template.pointer(path).and_then(Value::as_object).cloned().unwrap_or_default();
    let ours =
        [(RULE.to_owned(), label_value(&cx.rule.name).into()), (FIRING.to_owned(), cx.firing.to_string().into())];
    let mut labels = pick("/metadata/labels");
    labels.extend(ours.clone());
    let mut annotations = pick("/metadata/annotations");
    annotations.insert(CAUSED_BY.to_owned(), cx.cause().into());
    annotations.insert(RULE.to_owned(), cx.rule.to_string().into());
    if let Some(subject) = &cx.event.subject {
        annotations.insert(SUBJECT.to_owned(), subject.as_str().into());
    }
    let mut spec = pick("/spec");
    let pod = object(object(&mut spec, "template"), "spec");
    let account = pods::account(pod).unwrap_or(&cx.account.name).to_owned();
    pod.remove("serviceAccount");
    pod.insert("serviceAccountName".to_owned(), account.into());
    pod.entry("restartPolicy").or_insert_with(|| "Never".into());
    object(object(object(&mut spec, "template"), "metadata"), "labels").extend(ours);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": cx.rule.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
                "kind": "EventRule",
                "name": cx.rule.name,
                "uid": cx.rule.uid,
                "controller": false,
                "blockOwnerDeletion": false,
            }],
        },
        "spec": spec,
    })
}

/// The Job's name.
pub(super) fn name(job: &Value) -> &str {
    job.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The images that its pods run.
pub(super) fn images(job: &Value) -> Vec<&str> {
    let containers = job.pointer("/spec/template/spec/containers").and_then(Value::as_array).into_iter().flatten();
    containers.filter_map(|container| container.get("image")?.as_str()).collect()
}

/// The same Job by another name.
pub(super) fn renamed(job: &Value, name: &str) -> Value {
    let mut job = job.clone();
    object(root(&mut job), "metadata").insert("name".to_owned(), name.into());
    job
}

/// The account of the Job's pods.
pub(super) fn account(job: &Value) -> &str {
    job.pointer(POD).and_then(Value::as_object).and_then(pods::account).unwrap_or_default()
}

/// The Job with the event in its pods: as the variable `SIGNALBOX_EVENT`, and as the file that `SIGNALBOX_EVENT_FILE` names.
///
/// # Errors
/// Final when the event is too large for a pod's annotations.
pub(super) fn with_event(cx: &Context, mut job: Value) -> Result<Value, Failure> {
    let event =
        serde_json::to_string(&*cx.event).map_err(|error| Failure::last(format!("encode the event: {error}")))?;
    let template = object(object(root(&mut job), "spec"), "template");
    let annotations = object(object(template, "metadata"), "annotations");
    annotations.insert(EVENT.to_owned(), event.as_str().into());
    let total: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if total > MOST_IN_ANNOTATIONS {
        return Err(Failure::last(format!(
            "the event of {} bytes does not fit into a pod: its annotations would have {total} bytes, {MOST_IN_ANNOTATIONS} are allowed",
            event.len()
        )));
    }
    let pod = object(template, "spec");
    let item = json!({"path": FILE, "fieldRef": {"fieldPath": format!("metadata.annotations['{EVENT}']")}});
    push(pod, "volumes", json!({"name": VOLUME, "downwardAPI": {"items": [item]}}));
    // By this name the libraries of OpenTelemetry find it.
    let parent = json!({"name": "TRACEPARENT", "value": traceparent(&cx.firing, &cx.action)});
    let mut variables = vec![parent, json!({"name": "SIGNALBOX_EVENT_FILE", "value": format!("{FOLDER}/{FILE}")})];
    if event.len() <= MOST_IN_ENV {
        variables.push(json!({"name": "SIGNALBOX_EVENT", "value": undollared(&event)}));
    }
    for list in CONTAINERS {
        for container in pod.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let container = root(container);
            push(container, "volumeMounts", json!({"name": VOLUME, "mountPath": FOLDER, "readOnly": true}));
            // First, so that the user's own variables can refer to them, and win where they have the same name.
            for variable in &variables {
                array(container, "env").insert(0, variable.clone());
            }
        }
    }
    Ok(job)
}

fn push(map: &mut Map<String, Value>, list: &str, item: Value) {
    array(map, list).push(item);
}

fn array<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = map.entry(key).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it was made an array")
}

fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    root(map.entry(key).or_insert_with(|| json!({})))
}

fn root(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made an object")
}
