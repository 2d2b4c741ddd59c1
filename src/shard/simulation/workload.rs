//! What happens in a run: events, changes of objects, and what people do to rules; made of a seed.

use std::sync::Arc;

use serde_json::{Value, json};

use super::world::Change;
use crate::{
    api::EventRuleSpec,
    event::{Event, Origin, Seen, TYPE_KUBERNETES_EVENT, TYPE_RESOURCE_UPDATED, WatchKey},
    record::{Control, EventInput, Lookups, Record, RulePut, RuleRef, RuleUid, SourceRef},
};

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A Kubernetes Event: number, reason, and what it is about.
    Event(usize, &'static str, String),
    /// Somebody changes an object.
    Touch(String),
    /// A new version of a rule.
    Edit(&'static str, i64),
    /// The oldest dead letter is run again; so many ask for it at once.
    Replay(usize),
    /// A rule is deleted.
    Remove(&'static str),
    /// All rules are stopped, or released.
    Switch(Control),
    /// A rule is silenced for so many seconds.
    Silence(&'static str, i64),
}

pub(super) const RULES: [&str; 11] =
    ["each", "cool", "count", "forbid", "echo", "undo", "starts", "ping", "pong", "hears", "failures"];
/// Those of them that are in each run. The others make it three times as long, and are in every fourth.
const ALWAYS: usize = 6;

/// Rules in which time does something, or a failure; in every second run.
pub(super) const TIMED: [&str; 6] = ["held", "absent", "batch", "lends", "breaks", "fails"];
/// The name of the actions that emit.
pub(super) const EMITS: &str = "emits";

pub(super) fn workload(random: &mut fastrand::Rng, length: usize) -> Vec<Item> {
    let (rules, timed) = match random.u8(0..4) {
        0 => (&RULES[..], &[][..]),
        1 | 2 => (&RULES[..ALWAYS], &TIMED[..]),
        _ => (&RULES[..ALWAYS], &[][..]),
    };
    let mut items: Vec<Item> = rules.iter().chain(timed).map(|rule| Item::Edit(rule, 1)).collect();
    for number in 0..length {
        let name = format!("o{}", random.u8(0..3));
        if !timed.is_empty() && random.u8(0..6) == 0 {
            items.push(happening(random, number));
            continue;
        }
        items.push(match random.u8(0..13) {
            0 => Item::Edit(RULES[random.usize(0..3)], 2 + number as i64),
            1 | 2 => Item::Touch(name),
            12 => Item::Replay(random.usize(1..=2)),
            3..6 => Item::Event(number, "Cool", name),
            6..9 => Item::Event(number, "Count", name),
            _ => Item::Event(number, "Each", name),
        });
    }
    items
}

/// What happens in runs with rules in which time does something.
fn happening(random: &mut fastrand::Rng, number: usize) -> Item {
    let rule = TIMED[random.usize(0..TIMED.len())];
    match random.u8(0..8) {
        0 => Item::Remove(rule),
        1 | 2 => Item::Edit(rule, 4 * number as i64 + 5),
        3 => Item::Switch(Control::Stop { by: "somebody".into(), why: String::new() }),
        4 | 5 => Item::Switch(Control::Release),
        _ => Item::Silence(rule, random.i64(0..60)),
    }
}

pub(super) fn put(rule: &str, generation: i64) -> Vec<Record> {
    let event = |reason: &str| json!({"name": "s", "kubernetesEvent": {"reasons": [reason]}});
    let bump = |name: &str, target: &str| {
        let target = json!({"kind": "Deployment", "name": target});
        json!({"name": name, "scale": {"target": target, "by": "1"}, "retry": {"limit": 3}, "onError": "Continue"})
    };
    let about = "${event.data.regarding.name}";
    let events = |types: &str| json!({"name": "s", "events": {"types": [types]}});
    let emit = |type_: &str| json!({"name": EMITS, "emit": {"type": type_, "data": "${event.id}"}});
    let spec: Value = match rule {
        "each" => json!({"sources": [event("Each")], "actions": [bump("a", about), bump("b", "shared")]}),
        "cool" => json!({"sources": [event("Cool")], "actions": [bump("a", about)], "throttle": {"cooldown": "20s"}}),
        "count" => json!({"sources": [event("Count")], "actions": [bump("a", about)],
            "trigger": {"count": {"atLeast": 2, "within": "1m"}}}),
        "forbid" => {
            json!({"sources": [event("Each")], "actions": [bump("a", "forbid")], "concurrencyPolicy": "Forbid"})
        }
        // A chain of two that leads back to its beginning, and those who hear of it and of what fails.
        "starts" => json!({"sources": [event("Count")], "actions": [emit("com.acme.a")]}),
        "ping" => json!({"sources": [events("com.acme.a")], "actions": [emit("com.acme.b")]}),
        "pong" => json!({"sources": [events("com.acme.b")], "actions": [emit("com.acme.a")]}),
        "hears" => json!({"sources": [events("com.acme.*")], "actions": [bump("a", "heard")]}),
        "failures" => {
            json!({"sources": [events("dev.signalbox.rule.failed")], "actions": [bump("a", "failures")]})
        }
        "held" => json!({"sources": [event_of_any()], "groupBy": by_object(), "actions": [bump("a", "held")],
            "when": [{"name": "cool", "expression": "event.data.reason == 'Cool'"}],
            "trigger": {"held": {"for": "5s", "steps": [{"after": "15s", "actions": [bump("b", "step")]}]}},
            "resolveActions": [bump("c", "over")]}),
        "absent" => json!({"sources": [event("Count")], "groupBy": by_object(), "actions": [bump("a", "absent")],
            "trigger": {"absent": {"for": "10s"}}}),
        "batch" => json!({"sources": [event("Each")], "groupBy": by_object(), "actions": [bump("a", "batch")],
            "trigger": {"batch": {"wait": "3s", "maxWait": "10s", "maxEvents": 3}}}),
        "lends" => {
            let mut lends = bump("a", "lent");
            lends["scale"]["restore"] = json!({"after": "20s"});
            json!({"sources": [event("Count")], "actions": [lends]})
        }
        "breaks" => {
            let mut breaks = bump("a", "broken");
            breaks["retry"]["limit"] = 0.into();
            let breaker = json!({"failures": 1, "resumeAfter": "10s"});
            json!({"sources": [event("Each")], "actions": [breaks], "breaker": breaker})
        }
        "fails" => {
            let mut fails = bump("a", "failing");
            fails["retry"]["limit"] = 0.into();
            json!({"sources": [event("Cool")], "actions": [fails], "failureActions": [emit("com.acme.failed")]})
        }
        "undo" => {
            let steps = [("a", "left"), ("b", "right"), ("c", "left")].map(|(name, target)| {
                let mut step = bump(name, target);
                step["onError"] = "Undo".into();
                step
            });
            json!({"sources": [event("Each")], "actions": steps})
        }
        _ => json!({"actions": [bump("a", "${object.metadata.name}")],
            "sources": [{"name": "s", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Update"]}}]}),
    };
    let mut spec: EventRuleSpec = serde_json::from_value(spec).expect("a spec");
    edit(&mut spec, generation);
    let uid = RuleUid(rule.into());
    let names = RuleRef { uid: uid.clone(), namespace: "shop".into(), name: rule.into() };
    let put = RulePut { rule: names, generation, spec: Arc::new(spec) };
    vec![Record::RulePut(put), Record::Baseline(SourceRef { rule: uid, generation, source: "s".into() })]
}

/// A source of all Events.
fn event_of_any() -> Value {
    json!({"name": "s", "kubernetesEvent": {}})
}

fn by_object() -> Value {
    json!([{"name": "object", "expression": "event.data.regarding.name"}])
}

/// What makes a later version of a rule another one: the same but for its actions, which keeps its groups; or suspended; or with groups that begin anew.
fn edit(spec: &mut EventRuleSpec, generation: i64) {
    match generation % 4 {
        2 => spec.suspend = true,
        3 => spec.actions.truncate(1),
        0 => {
            spec.trigger = serde_json::from_value(json!({"count": {"atLeast": 2, "within": "30s"}})).expect("a trigger")
        }
        _ => {}
    }
}

fn watch_of(api_version: &str, kind: &str) -> WatchKey {
    WatchKey { api_version: api_version.into(), kind: kind.into(), namespace: Some("shop".into()) }
}

fn input(id: String, type_: &str, data: Value, origin: Origin) -> Record {
    let subject = Some(origin.uid.clone());
    let event = Event { subject, ..Event::new(id, "/simulated", type_, data) };
    Record::Event(Box::new(EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() }))
}

pub(super) fn event(number: usize, reason: &str, name: &str) -> Record {
    let regarding = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": name});
    let data =
        json!({"type": "Warning", "reason": reason, "message": "m", "count": 1, "delta": 1, "regarding": regarding});
    let seen = Seen::new(number as u64 + 1, 1, format!("shop/e{number}"));
    let origin = Origin::new(watch_of("v1", "Event"), format!("e{number}"), Some(seen));
    input(format!("e{number}/1"), TYPE_KUBERNETES_EVENT, data, origin)
}

pub(super) fn changed(change: &Change) -> Record {
    let object =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop", "name": change.name}});
    let seen = Seen::new(change.version, 0, format!("shop/{}", change.name));
    let mut origin = Origin::new(watch_of("apps/v1", "Deployment"), format!("uid-{}", change.name), Some(seen));
    origin.marks = change.mark.iter().cloned().collect();
    let id = format!("uid-{}/{}", change.name, change.version);
    let data = json!({"operation": "Update", "gap": false, "object": object});
    input(id, TYPE_RESOURCE_UPDATED, data, origin)
}
