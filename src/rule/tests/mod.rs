//! Rules judged from outside: put, listen, judge, decide. What the tests share.

mod absent;
mod approvals;
mod batch;
mod breaker;
mod budget;
mod chains;
mod changes;
mod clocks;
mod closings;
mod conditions;
mod counting;
mod dedupe;
mod due;
mod echoes;
mod flow;
mod gone;
mod held;
mod hostile;
mod http;
mod index;
mod left;
mod near;
mod old;
mod own;
mod progress;
mod properties;
mod publish;
mod references;
mod restores;
mod samples;
mod sequences;
mod silences;
mod sources;
mod stopped;
mod timeline;
mod values;
mod waits;
mod windows;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{ActionOutcome, EventRuleSpec, FiringKind, FiringOutcome},
    event::{Event, Labels, Origin, Seen, WatchKey},
    record::{
        Account, Deadline, Decision, Effect, EventInput, Finished, Firing, FiringId, Head, Intent, Judgement, LogId,
        Lookups, OpenFiring, Outcome, Position, Record, RulePut, RuleRef, RuleUid, SourceRef, Stamp, SuppressedReason,
        Table, Writes,
    },
};

const SECOND: i64 = 1_000_000;

fn log() -> LogId {
    LogId("log".into())
}

fn head(position: u64, seconds: i64) -> Head {
    Head {
        position: Position(position),
        stamp: Stamp { at: seconds * SECOND, wall: (1_790_000_000 + seconds) * SECOND },
    }
}

fn rule_ref(name: &str) -> RuleRef {
    RuleRef { uid: RuleUid(format!("uid-{name}").into()), namespace: "shop".into(), name: name.into() }
}

/// A firing of the rule's first version, made so many seconds after the beginning.
fn firing(id: &str, rule: &str, source: &str, seconds: i64) -> Firing {
    Firing {
        id: FiringId(id.into()),
        rule: rule_ref(rule),
        generation: 1,
        source: source.into(),
        group: String::new(),
        group_values: Default::default(),
        count: None,
        kind: Default::default(),
        step: None,
        planned: None,
        restores: None,
        closes: false,
        value: None,
        baseline: None,
        input: Position(1),
        stamp: head(1, seconds).stamp,
    }
}

/// A spec with a notification as its action, unless it brings actions.
fn spec(mut body: Value) -> Arc<EventRuleSpec> {
    let action = json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.id}"}}]);
    let map = body.as_object_mut().expect("an object");
    map.entry("actions").or_insert(action);
    map.entry("sources").or_insert(json!([{"name": "any", "kubernetesEvent": {}}]));
    Arc::new(serde_json::from_value(body).expect("a spec"))
}

/// The narrow watch that sees things of a namespace.
fn watch(api_version: &str, kind: &str, namespace: &str) -> WatchKey {
    let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
    WatchKey { api_version: api_version.into(), kind: kind.into(), namespace }
}

/// The same event, as the watch of the whole cluster sees it.
fn wide(mut input: EventInput) -> EventInput {
    input.origin.watch.namespace = None;
    input
}

fn input(event: Event, watch: WatchKey) -> EventInput {
    EventInput {
        event: Arc::new(event),
        origin: Origin::new(watch, "u".into(), None),
        only: None,
        lookups: Lookups::default(),
    }
}

/// A Kubernetes Event about a Pod of `namespace` (none: about a Node).
fn about(namespace: &str, name: &str, reason: &str, more: Value) -> EventInput {
    let mut data = json!({
        "type": "Warning", "reason": reason, "message": "m", "count": 1, "delta": 1, "time": "2026-11-02T07:16:20Z",
        "reporter": "kubelet", "object": {},
        "regarding": {"apiVersion": "v1", "kind": if namespace.is_empty() { "Node" } else { "Pod" }, "name": name}
    });
    if !namespace.is_empty() {
        data["regarding"]["namespace"] = json!(namespace);
    }
    for (key, value) in more.as_object().into_iter().flatten() {
        data[key] = value.clone();
    }
    let subject = if namespace.is_empty() { format!("Node/{name}") } else { format!("{namespace}/Pod/{name}") };
    let event = Event {
        subject: Some(subject),
        time: Some("2026-11-02T07:16:20Z".parse().expect("time")),
        ..Event::new("u/1", "/api/v1/events", "dev.signalbox.kubernetes.event", data)
    };
    input(event, watch("v1", "Event", namespace))
}

fn change(operation: &str, kind: &str, namespace: Option<&str>, name: &str, labels: Value) -> EventInput {
    let mut metadata = json!({"name": name, "labels": labels, "annotations": {}});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    let verb = match operation {
        "Create" => "created",
        "Update" => "updated",
        _ => "deleted",
    };
    let event = Event {
        subject: Some(format!("{}/{kind}/{name}", namespace.unwrap_or_default())),
        time: Some("2026-11-02T07:16:20Z".parse().expect("time")),
        ..Event::new(
            "u/7",
            "/apis/apps/v1",
            format!("dev.signalbox.resource.{verb}"),
            json!({"operation": operation, "gap": false, "object": {"kind": kind, "metadata": metadata}}),
        )
    };
    input(event, watch("apps/v1", kind, namespace.unwrap_or_default()))
}

fn put(engine: &mut Engine, name: &str, generation: i64, spec: &Arc<EventRuleSpec>) {
    let rule = rule_ref(name);
    engine.fold(&head(1, 0), &Record::RulePut(RulePut { rule, generation, spec: Arc::clone(spec) }));
}

fn listen(engine: &mut Engine, name: &str, generation: i64, source: &str, live: bool) {
    let source = SourceRef { rule: rule_ref(name).uid, generation, source: source.to_owned() };
    engine.fold(&head(1, 0), &if live { Record::Baseline(source) } else { Record::Deaf(source) });
}

/// An engine with one rule, `web`, in force.
fn engine_with(body: Value) -> Engine {
    let mut engine = Engine::new(log());
    let spec = spec(body);
    put(&mut engine, "web", 1, &spec);
    for source in &spec.sources {
        listen(&mut engine, "web", 1, &source.name, true);
    }
    engine
}

fn word(decision: &Decision) -> String {
    match decision {
        Decision::Fired(Firing { group, source, count: Some(count), .. }) => {
            format!("fired {group} by {source} x{count}")
        }
        Decision::Fired(Firing { group, kind: FiringKind::Step, step: Some(step), .. }) => {
            format!("step {step} {group}")
        }
        Decision::Fired(Firing { group, kind: FiringKind::Repeated, .. }) => format!("repeated {group}"),
        Decision::Fired(Firing { group, kind: FiringKind::Resolved, .. }) => format!("resolves {group}"),
        Decision::Fired(Firing { group, restores: Some(change), .. }) => {
            format!("gives back {} of {group}", change.back)
        }
        Decision::Fired(firing) => format!("fired {} by {}", firing.group, firing.source),
        Decision::Counted { group, .. } => format!("counted {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::Cooldown, .. } => format!("cooldown {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::Budget, .. } => format!("budget {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::TooManyGroups, .. } => format!("too many {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::TooMuchState, .. } => format!("too much {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::Backlog, .. } => format!("backlog {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::OwnWrite, .. } => format!("own write {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::Concurrency, .. } => format!("busy {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::Dedupe, .. } => format!("same {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::OutsideActiveWindow, .. } => format!("outside {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::Stopped, .. } => format!("stopped {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::Silence, .. } => format!("silenced {group}"),
        Decision::Passed { group, .. } => format!("passed {group}"),
        Decision::Suppressed { group, reason: SuppressedReason::Loop, .. } => format!("loop {group}"),
        Decision::Noted { group, mark, .. } => format!("{mark:?} {group}").to_lowercase(),
        Decision::Resolved { group, .. } => format!("resolved {group}"),
        Decision::Deferred { object, .. } => format!("waits for {object}"),
        Decision::Errored { place, message, .. } => format!("error {place}: {message}"),
    }
}

/// Judges events a second apart and tells the decisions in words, `-` for an event that was seen only and `.` for one that was not.
fn run(engine: &mut Engine, events: &[EventInput]) -> Vec<String> {
    let mut words = Vec::new();
    for (index, input) in events.iter().enumerate() {
        let head = head(10 + index as u64, index as i64);
        let judged = engine.judge(&head, input);
        engine.decide(&head, input, &judged.seen, &judged.decisions);
        match (judged.decisions.as_slice(), engine.seen_by(&judged.seen).as_slice()) {
            ([], []) => words.push(".".to_owned()),
            ([], _) => words.push("-".to_owned()),
            (decisions, _) => words.extend(decisions.iter().map(word)),
        }
    }
    words
}

#[track_caller]
fn check(rule: Value, events: &[EventInput], expected: &[&str]) {
    assert_eq!(run(&mut engine_with(rule), events), expected);
}
