//! What a rule that is deleted or suspended has opened elsewhere is ended.

use super::{timeline::Timeline, *};
use crate::{api::NotifyOperation, record::OpenFiring};

/// A rule that fires for what is above 5, with these notifications and a scale.
fn above(notify: &[Value], more: Value) -> Value {
    let name = |(number, notify): (usize, &Value)| json!({"name": format!("n{number}"), "notify": notify});
    let mut actions: Vec<Value> = notify.iter().enumerate().map(name).collect();
    actions.push(json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 3}}));
    let mut body = json!({"actions": actions,
        "trigger": {"value": {"expression": "double(event.data.v)", "within": "60s", "above": "5"}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

fn sample(name: &str, v: f64) -> EventInput {
    let mut input = about("shop", name, "R", json!({"v": v}));
    Arc::get_mut(&mut input.event).expect("one owner").time = None;
    input
}

/// A rule that has fired for the Pods `p` and `q`, of which `q` has ended.
fn fired(body: Value) -> Timeline {
    let mut line = Timeline::of(body);
    for (second, name, v) in [(0, "p", 9.0), (0, "q", 9.0), (1, "q", 1.0)] {
        line.event(second, &sample(name, v));
    }
    assert_eq!(line.progress().active_total, 1);
    line
}

fn removed(body: Value) -> Vec<OpenFiring> {
    let mut line = fired(body);
    line.fold(2, &Record::RuleRemove(rule_ref("web").uid));
    line.engine.take_closings()
}

fn pager(more: Value) -> Value {
    let mut notify = json!({"sinkRef": {"name": "pager"}, "title": "${string(value)}", "text": "t"});
    for (key, value) in more.as_object().into_iter().flatten() {
        notify[key] = value.clone();
    }
    notify
}

#[test]
fn a_rule_that_is_deleted_ends_each_incident_that_it_may_have_opened_and_does_nothing_else() {
    let over = json!([{"name": "over", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 1}}]);
    let notify = [
        pager(json!({})),
        pager(json!({"severity": "Critical"})),
        pager(json!({"dedupKey": "${event.data.regarding.name}", "operation": "Acknowledge"})),
        pager(json!({"operation": "Resolve"})),
        pager(json!({"sinkRef": {"name": "other"}})),
    ];
    let opened = removed(above(&notify, json!({"resolveActions": over})));
    assert_eq!(opened.len(), 1, "what has ended is not ended again");
    let OpenFiring { firing, event, spec, .. } = &opened[0];
    assert_eq!((firing.kind, firing.closes, &*firing.group), (FiringKind::Resolved, true, "shop/Pod/p"));
    assert_eq!(event.subject.as_deref(), Some("shop/Pod/p"));
    let ends: Vec<_> = firing.actions(spec).iter().map(|action| action.notify.as_deref().expect("notify")).collect();
    let told = |sink: &str, key: Option<&str>| (sink.to_owned(), key.map(str::to_owned));
    let known: Vec<_> = ends.iter().map(|end| (end.sink_ref.name.clone(), end.dedup_key.clone())).collect();
    let key = Some("${event.data.regarding.name}");
    assert_eq!(known, [told("pager", None), told("pager", key), told("other", None)]);
    assert!(ends.iter().all(|end| end.operation == Some(NotifyOperation::Resolve)));
    assert!(ends.iter().all(|end| end.text.as_deref().is_some_and(|text| text.contains("the rule was deleted"))));
    let faults = compile(&firing.rule, firing.generation, spec).err().unwrap_or_default();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn there_is_nothing_to_end_where_nothing_was_opened_or_it_cannot_be_told() {
    let lost = pager(json!({"dedupKey": "${actions.n0.status}"}));
    assert_eq!(removed(above(&[pager(json!({})), lost], json!({})))[0].spec.resolve_actions.len(), 1);
    assert!(removed(above(&[], json!({}))).is_empty());
    assert!(removed(above(&[pager(json!({}))], json!({"mode": "Observe"}))).is_empty());
    let mut line = Timeline::of(above(&[pager(json!({}))], json!({})));
    line.fold(2, &Record::RuleRemove(rule_ref("web").uid));
    assert!(line.engine.take_closings().is_empty(), "it has not fired");
}

#[test]
fn a_rule_that_is_suspended_ends_them_once_and_one_that_is_changed_does_not() {
    let body = |more: Value| above(&[pager(json!({}))], more);
    let mut line = fired(body(json!({})));
    line.put(2, 2, body(json!({"suspend": true})));
    let opened = line.engine.take_closings();
    assert_eq!((opened.len(), line.progress().active_total), (1, 0));
    let text = opened[0].spec.resolve_actions[0].notify.as_ref().and_then(|notify| notify.text.clone());
    assert!(text.is_some_and(|text| text.contains("the rule was suspended")));
    assert!(!opened[0].spec.suspend, "it is as it was when it fired");
    let progress = line.progress();
    assert_eq!((progress.counts.fired, &*progress.recent[0].id), (3, &*opened[0].firing.id.0));
    line.put(3, 3, body(json!({"suspend": true, "historyLimit": 3})));
    assert!(line.engine.take_closings().is_empty());

    let mut line = fired(body(json!({})));
    let changed = json!({"trigger": {"value": {"expression": "double(event.data.v)", "within": "60s", "above": "6"}}});
    line.put(2, 2, body(changed));
    assert!(line.engine.take_closings().is_empty());
}
