use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    api::EventRuleSpec,
    record::{LogId, Position, RuleRef, RuleUid},
};

const SECOND: i64 = 1_000_000;

fn firing() -> Firing {
    let uid = RuleUid("uid".into());
    Firing {
        id: FiringId::derive(&LogId("log".into()), Position(7), &uid, "g"),
        rule: RuleRef { uid, namespace: "shop".into(), name: "crash".into() },
        generation: 1,
        source: "pods".into(),
        group: "g".into(),
        group_values: BTreeMap::new(),
        count: None,
        kind: Default::default(),
        step: None,
        planned: None,
        restores: None,
        closes: false,
        value: None,
        baseline: None,
        input: Position(7),
        stamp: Stamp { at: 0, wall: 100 * SECOND },
    }
}

fn input() -> EventInput {
    serde_json::from_value(json!({
        "event": {"id": "e/1", "source": "/api/v1/events", "type": "dev.signalbox.kubernetes.event",
            "subject": "shop/Pod/web-1", "time": "1970-01-01T00:01:39Z", "data": {}},
        "origin": {"watch": {"api_version": "v1", "kind": "Event"}, "uid": "e", "seen": null},
    }))
    .expect("an input")
}

fn open() -> OpenFiring {
    let spec: EventRuleSpec = serde_json::from_value(json!({"sources": [], "actions": []})).expect("a spec");
    OpenFiring {
        firing: firing(),
        event: input().event,
        events: Vec::new(),
        spec: Arc::new(spec),
        steps: BTreeMap::new(),
    }
}

fn head(second: i64) -> Head {
    Head { position: Position(9), stamp: Stamp { at: 0, wall: second * SECOND } }
}

fn outcome(outcome: ActionOutcome) -> Outcome {
    let (firing, action) = (firing().id, "grow".to_owned());
    Outcome {
        firing,
        action,
        outcome,
        message: "told".into(),
        result: Value::Null,
        effect: None,
        reason: None,
        remember: None,
    }
}

fn intent() -> Intent {
    serde_json::from_value(json!({"firing": firing().id, "action": "grow", "rendering": 0, "request": {}}))
        .expect("an intent")
}

fn finished() -> Finished {
    Finished {
        firing: firing().id,
        rule: firing().rule.uid,
        outcome: FiringOutcome::Failed,
        message: "no".into(),
        failed_at: None,
    }
}

fn taken(mut spans: mpsc::Receiver<Span>) -> Vec<Value> {
    let mut all = Vec::new();
    while let Ok(span) = spans.try_recv() {
        all.push(span);
    }
    let request = request(&all, "signalbox-0");
    request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_firing_is_one_trace_from_its_event_to_its_end() {
    let (mut traces, spans) = Traces::new(Counter::default(), 0);
    traces.fired(&head(100), &input(), &firing(), head(101).stamp);
    traces.intended(&head(102), &intent());
    traces.settled(&head(104), &open(), &outcome(ActionOutcome::Succeeded));
    traces.finished(&head(105), &open(), &finished());
    let spans = taken(spans);
    let seen: Vec<_> = spans
        .iter()
        .map(|span| {
            let time = |field: &str| span[field].as_str().and_then(|nanos| nanos.parse::<i64>().ok()).unwrap_or(-1);
            let name = span["name"].as_str().unwrap_or_default();
            (name, time("startTimeUnixNano") / 1_000_000_000, time("endTimeUnixNano") / 1_000_000_000)
        })
        .collect();
    assert_eq!(seen, [("receive", 99, 100), ("judge", 100, 101), ("act grow", 102, 104), ("fire shop/crash", 99, 105)]);
    let root = &spans[3];
    assert_eq!((root["traceId"].as_str().map(str::len), root["spanId"].as_str().map(str::len)), (Some(32), Some(16)));
    assert!(root.get("parentSpanId").is_none());
    assert_eq!(root["status"], json!({"code": 2, "message": "no"}));
    for span in &spans[..3] {
        assert_eq!((&span["traceId"], &span["parentSpanId"]), (&root["traceId"], &root["spanId"]));
        assert!(span.get("status").is_none());
    }
    let about = json!({"key": "cloudevents.event_subject", "value": {"stringValue": "shop/Pod/web-1"}});
    assert!(spans[0]["attributes"].as_array().expect("a list").contains(&about), "{}", spans[0]);
}

#[test]
fn another_process_goes_on_with_the_trace() {
    let (mut first, before) = Traces::new(Counter::default(), 0);
    first.settled(&head(104), &open(), &outcome(ActionOutcome::Failed));
    let (mut next, after) = Traces::new(Counter::default(), 150 * SECOND);
    let mut open = open();
    open.steps.entry("grow".into()).or_default().intent = Some((0, Value::Null));
    next.settled(&head(160), &open, &outcome(ActionOutcome::Succeeded));
    let (before, after) = (taken(before), taken(after));
    for id in ["traceId", "spanId", "parentSpanId"] {
        assert_eq!(before[0][id], after[0][id]);
    }
    assert_eq!(after[0]["startTimeUnixNano"], "150000000000", "what it did itself");
    assert_eq!(before[0]["startTimeUnixNano"], before[0]["endTimeUnixNano"], "it was never begun");
}

#[test]
fn an_old_event_does_not_make_the_trace_old() {
    let (traces, spans) = Traces::new(Counter::default(), 0);
    let mut old = firing();
    old.stamp.wall = 1000 * SECOND;
    traces.fired(&head(1000), &input(), &old, head(1000).stamp);
    assert_eq!(taken(spans)[0]["startTimeUnixNano"], "1000000000000");
}

#[test]
fn what_the_queue_cannot_take_is_counted_and_nothing_waits() {
    let dropped = Counter::default();
    let (traces, spans) = Traces::new(dropped.clone(), 0);
    for _ in 0..QUEUE + 5 {
        traces.finished(&head(1), &open(), &finished());
    }
    assert_eq!((dropped.get(), taken(spans).len()), (5, QUEUE));
}
