//! A rule on what an archive holds.

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::{
    api::{Alerts, FiringKind, Operation, WebhookPreset},
    event::{
        resource,
        webhook::preset::{Request, Told, decode},
    },
    record::{Lookups, RuleRef, RuleUid},
    rule::compile,
};

const START: i64 = 1_790_000_000_000_000;

fn rerun(spec: Value) -> Rerun {
    let rule = RuleRef { uid: RuleUid("u".into()), namespace: "shop".into(), name: "web".into() };
    let spec = Arc::new(serde_json::from_value(spec).expect("a spec"));
    Rerun::begin(&compile(&rule, 1, &spec).expect("a good rule"), instant(START)).expect("it begins")
}

fn spec(more: Value) -> Value {
    let mut resource = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    resource.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
    json!({"sources": [{"name": "d", "resource": resource}], "actions": [{"name": "say", "emit": {"type": "com.acme.x"}}]})
}

/// An update that a watch of this scope brought; `replicas` is what it has then.
fn update(scope: Option<&str>, namespace: &str, version: u64, replicas: u64) -> EventInput {
    let watch =
        WatchKey { api_version: "apps/v1".into(), kind: "Deployment".into(), namespace: scope.map(str::to_owned) };
    let raw = json!({"spec": {"replicas": replicas}, "metadata": {"name": "web", "namespace": namespace,
        "uid": format!("of-{namespace}"), "resourceVersion": version.to_string()}});
    let (operation, gap) = (Operation::Update, false);
    let change = resource::Change { watch: &watch, source: "/d", operation, gap, seen_at: instant(START) };
    let (event, origin) = resource::from_object(raw, change).expect("an object");
    EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() }
}

#[test]
fn an_event_happens_once_whichever_watches_brought_it_and_only_where_the_rule_looks() {
    let mut rerun = rerun(spec(json!({})));
    for (at, scope, namespace) in [(1, None, "shop"), (2, Some("shop"), "shop"), (3, None, "bank")] {
        rerun.happen(START + at, update(scope, namespace, 7, 1)).expect("it goes on");
    }
    let (backtest, unknown) = rerun.end(instant(START + 9)).expect("it ends");
    assert_eq!((backtest.events, backtest.firings.len()), ((1, 0), 1));
    assert_eq!(backtest.firings[0].at, 1);
    assert_eq!((backtest.span, unknown), (Some((instant(START + 1), instant(START + 1))), Unknown::default()));
}

#[test]
fn values_that_nobody_followed_are_followed_from_the_first_update_on() {
    let mut rerun = rerun(spec(json!({"changedExpressions": ["object.spec.replicas"]})));
    for (at, replicas) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        rerun.happen(START + at, update(None, "shop", 7 + at.unsigned_abs(), replicas)).expect("it goes on");
    }
    let (backtest, unknown) = rerun.end(instant(START + 9)).expect("it ends");
    assert_eq!(backtest.firings.iter().map(|firing| firing.at).collect::<Vec<_>>(), [3]);
    assert_eq!(unknown, Unknown { changes: 1, lookups: 0 }, "of the first it cannot be told");
}

#[test]
fn what_an_object_was_like_is_known_from_the_second_event_on_although_no_rule_read_it_at_the_time() {
    let mut body = spec(json!({"operations": ["Update"]}));
    body["when"] = json!([{"name": "grows", "expression": "oldObject.spec.replicas < object.spec.replicas"}]);
    let mut rerun = rerun(body);
    for (at, replicas) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        rerun.happen(START + at, update(None, "shop", 7 + at.unsigned_abs(), replicas)).expect("it goes on");
    }
    let (backtest, _) = rerun.end(instant(START + 9)).expect("it ends");
    assert_eq!(backtest.firings.iter().map(|firing| firing.at).collect::<Vec<_>>(), [3]);
    assert_eq!(backtest.errors.len(), 1, "of the first it cannot be told");
}

#[test]
fn of_an_object_that_nobody_saw_go_it_is_known_whether_it_had_the_labels() {
    let mut rerun =
        rerun(spec(json!({"selector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}})));
    let seen = update(None, "shop", 7, 1);
    let change = resource::Change {
        watch: &seen.origin.watch,
        source: "/d",
        operation: Operation::Delete,
        gap: true,
        seen_at: instant(START),
    };
    let last = seen.origin.seen.clone().expect("it is there");
    let (event, origin) = resource::from_memory("of-shop", &last, Values::default(), change);
    let gone = EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() };
    for (at, input) in [(1, seen), (2, gone)] {
        rerun.happen(START + at, input).expect("it goes on");
    }
    let (backtest, _) = rerun.end(instant(START + 9)).expect("it ends");
    assert_eq!(backtest.firings.iter().map(|firing| firing.at).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(backtest.errors.len(), 0);
}

#[test]
fn what_is_due_until_the_end_happens() {
    let mut absent = spec(json!({}));
    absent["trigger"] = json!({"absent": {"for": "1m"}});
    let mut rerun = rerun(absent);
    rerun.happen(START + 1, update(None, "shop", 7, 1)).expect("it goes on");
    let (backtest, _) = rerun.end(instant(START + 120_000_000)).expect("it ends");
    let firings: Vec<_> = backtest.firings.iter().map(|firing| (firing.at, firing.firing.kind)).collect();
    assert_eq!(firings, [(60_000_001, FiringKind::Fired)]);
}

/// The alerts of a notification, as the EventSource has taken them.
fn alerts(body: &[u8]) -> Vec<EventInput> {
    let request = Request { headers: &HeaderMap::new(), body };
    let delivery = decode(WebhookPreset::Alertmanager, Alerts::Each, request).expect("a notification");
    let input = |told: Told| {
        let event = told.event(("/alertmanager", "alertmanager"), "1", instant(START)).expect("an event");
        let origin = event_source::origin("shop", "alertmanager", event.id.clone(), 1);
        EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() }
    };
    delivery.events.into_iter().map(input).collect()
}

/// Hard case 11: the status of the notification says nothing about its alerts.
#[test]
fn an_alert_ends_what_it_began_and_no_other_alert_of_its_notification_does() {
    let mixed = include_bytes!("../../../tests/payloads/alertmanager-mixed.json");
    let resolved = include_bytes!("../../../tests/payloads/alertmanager-resolved-truncated.json");
    let say = json!([{"name": "say", "emit": {"type": "com.acme.x"}}]);
    let mut rerun = rerun(json!({
        "sources": [{"name": "alert", "ref": {"name": "alertmanager"}}],
        "when": [{"name": "firing", "expression": "event.data.status == 'firing'"}],
        "groupBy": [{"name": "queue", "expression": "event.data.labels.queue"}],
        "trigger": {"held": {"for": "10m"}}, "actions": say, "resolveActions": say,
    }));
    const MINUTE: i64 = 60_000_000;
    for (minute, body) in [(0, &mixed[..]), (5, &mixed[..]), (30, &resolved[..])] {
        for input in alerts(body) {
            rerun.happen(START + minute * MINUTE, input).expect("it goes on");
        }
    }
    let (backtest, _) = rerun.end(instant(START + 60 * MINUTE)).expect("it ends");
    let told: Vec<_> =
        backtest.firings.iter().map(|one| (one.at / MINUTE, one.firing.kind, one.firing.group.as_str())).collect();
    assert_eq!(told, [(10, FiringKind::Fired, "eu-1"), (30, FiringKind::Resolved, "eu-1")]);
    assert_eq!(backtest.events.0, 3, "the notification that comes again brings nothing new");
}
