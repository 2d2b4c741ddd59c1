//! How rules judge, on a real API server: what is counted, and what a user is told of events that did not fire.

use std::{collections::BTreeSet, time::Duration};

use kube::{
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use support::{
    eventually,
    sink::{Request, Sink},
    site::{Shop, Site},
};

mod support;

#[path = "judging/crowds.rs"]
mod crowds;

fn texts(requests: &[Request]) -> BTreeSet<String> {
    requests.iter().map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

fn tell(text: &str) -> Value {
    json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}}])
}

async fn matched(shop: &Shop, rule: &str, count: u64) -> Value {
    shop.rule_status(rule, &format!("{count} matched"), |status| status["counts"]["matched"] == count).await
}

#[tokio::test]
async fn occurrences_are_counted_for_each_group_across_a_kill() {
    let site = Site::start().await;
    let shop = site.namespace("count").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let spec = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "groupBy": [{"name": "app", "expression": "event.data.regarding.name.split('-')[0]"}],
        "trigger": {"count": {"atLeast": 3, "within": "10m"}},
        "actions": tell("${group.app} ${string(count)}"),
    });
    shop.rule("apps", spec).await;

    for pod in ["web-1", "db-1", "web-2"] {
        shop.event(&format!("{pod}.1"), pod, "BackOff").await;
    }
    let status = matched(&shop, "apps", 3).await;
    assert_eq!((&status["counts"]["fired"], &status["lastFiringTime"]), (&json!(0), &Value::Null));
    operator.kill();
    let operator = site.setup.start_ready().await;
    shop.event("web-3.1", "web-3", "BackOff").await;
    sink.await_requests(1).await;
    let again = Patch::Merge(json!({"count": 3}));
    shop.api("v1", "Event").patch("db-1.1", &PatchParams::default(), &again).await.expect("count again");
    let told = texts(&sink.await_requests(2).await);
    assert_eq!(told, BTreeSet::from(["web 3".to_owned(), "db 3".to_owned()]));
    let status = shop.rule_status("apps", "2 succeeded", |status| status["counts"]["succeeded"] == 2).await;
    assert_eq!((&status["counts"]["matched"], &status["recent"][0]["group"]), (&json!(5), &json!("db")));
    assert!(
        operator.metrics().await.contains("signalbox_rule_decisions_total{decision=\"Counted\"} 0"),
        "since the start"
    );
}

/// Hard case 2, as it is stored and patched by the senders of events.k8s.io/v1.
#[tokio::test]
async fn a_series_that_jumps_is_counted_whole_when_it_was_last_observed() {
    let site = Site::start().await;
    let shop = site.namespace("series").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let _operator = site.setup.start_ready().await;
    let rule = |trigger: Value, text: &str| {
        let mut spec = json!({"sources": [{"name": "pump", "kubernetesEvent": {"reasons": ["PumpStalled"]}}], "actions": tell(text)});
        if !trigger.is_null() {
            spec["trigger"] = trigger;
        }
        spec
    };
    shop.rule("r1", rule(Value::Null, "r1 ${string(event.data.delta)}")).await;
    shop.rule("r2", rule(json!({"count": {"atLeast": 10, "within": "10m"}}), "r2 ${string(count)}")).await;

    let regarding = json!({"apiVersion": "v1", "kind": "Pod", "name": "api-7c9d-x1", "namespace": shop.name});
    let event = json!({
        "eventTime": "2026-11-02T07:31:00.000000Z", "reportingController": "example.com/pump-controller",
        "reportingInstance": "pump-controller-0", "action": "Probing", "reason": "PumpStalled", "note": "pump p-1 stalled",
        "type": "Warning", "regarding": regarding,
    });
    shop.create("events.k8s.io/v1", "Event", "p-1.18a1f0000000b001", event).await;
    for (round, patch) in [
        json!({"series": {"count": 2, "lastObservedTime": "2026-11-02T07:32:10.000000Z"}}),
        json!({"series": {"count": 31, "lastObservedTime": "2026-11-02T08:01:00.000000Z"}}),
        json!({"metadata": {"labels": {"seen": "yes"}}}),
    ]
    .into_iter()
    .enumerate()
    {
        // A watch may take two changes for one.
        matched(&shop, "r2", round.min(2) as u64 + 1).await;
        let events = shop.api("events.k8s.io/v1", "Event");
        events.patch("p-1.18a1f0000000b001", &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch");
    }
    shop.event("last.1", "last", "PumpStalled").await;
    matched(&shop, "r2", 4).await;
    sink.await_requests(5).await;
    let told = sink.requests();
    assert_eq!(told.len(), 5);
    let expected = ["r1 1", "r1 29", "r2 29"].map(str::to_owned);
    assert_eq!(texts(&told), BTreeSet::from(expected));
}

/// What kubectl prints, with runs of blanks as one.
async fn kubectl(site: &Site, shop: &Shop, args: &[&str]) -> String {
    let output = site.plane.kubectl(&[args, &["-n", &shop.name]].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn what_a_rule_nearly_took_is_found_with_describe_alone() {
    let site = Site::start().await;
    let shop = site.namespace("near").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let _operator = site.setup.start_ready().await;
    let pods = |app: &str| {
        let resource = json!({"apiVersion": "v1", "kind": "Pod", "operations": ["Create"], "selector": {"matchLabels": {"app": app}}});
        json!({"sources": [{"name": "made", "resource": resource}], "actions": tell("${object.metadata.name}")})
    };
    shop.rule("misspelt", pods("wbe")).await;
    let often = json!([{"name": "often", "expression": "event.data.count >= 3"}]);
    let crash = json!([{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}]);
    shop.rule("strict", json!({"sources": crash, "when": often, "actions": tell("${event.id}")})).await;

    let pod = |name: &str| {
        let spec = json!({"containers": [{"name": "app", "image": "example.invalid/app:1"}]});
        json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec})
    };
    shop.create("v1", "Pod", "web-1", pod("web-1")).await;
    shop.event("web-1.1", "web-1", "BackOff").await;
    let told = |status: &Value| status["lastNearMiss"]["condition"].is_string();
    let status = shop.rule_status("misspelt", "a near miss", told).await;
    let miss = &status["lastNearMiss"];
    assert_eq!(miss["condition"], "sources[made].resource.selector");
    assert_eq!(miss["saw"], "label app = web; wanted wbe");
    assert_eq!(miss["event"]["subject"], format!("{}/Pod/web-1", shop.name));
    let described = kubectl(&site, &shop, &["describe", "er", "misspelt"]).await;
    assert!(described.contains("Last Near Miss: Condition: sources[made].resource.selector Event:"), "{described}");
    assert!(described.contains("Saw: label app = web; wanted wbe"), "{described}");

    let status =
        shop.rule_status("strict", "a near miss", |status| told(status) && status["counts"]["seen"] == 1).await;
    assert_eq!(status["lastNearMiss"]["condition"], "when[often]");
    assert_eq!(status["lastNearMiss"]["saw"], "event.data.count = 1");
    let wide = kubectl(&site, &shop, &["get", "er", "-o", "wide"]).await;
    assert!(wide.contains("ACCOUNT SUPPRESSED NEAR MISS MESSAGE"), "{wide}");
    assert!(wide.contains("signalbox-rules 0 when[often] the rule is in force"), "{wide}");

    // What was told of the spec before says nothing of the one that is right.
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    let right = Patch::Merge(json!({"spec": pods("web")}));
    rules.patch("misspelt", &PatchParams::default(), &right).await.expect("correct the rule");
    shop.rule_ready("misspelt").await;
    shop.create("v1", "Pod", "web-2", pod("web-2")).await;
    assert_eq!(texts(&sink.await_requests(1).await), BTreeSet::from(["web-2".to_owned()]));
    let status = shop.rule_status("misspelt", "it fired", |status| status["counts"]["succeeded"] == 1).await;
    assert_ne!(status["lastNearMiss"]["condition"], "sources[made].resource.selector", "{status}");
}

#[tokio::test]
async fn only_updates_that_change_a_followed_value_fire_also_across_a_kill_and_for_a_later_rule() {
    let site = Site::start().await;
    let shop = site.namespace("changes").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 1).await;
    let operator = site.setup.start_ready().await;
    let rule = |expression: &str, text: &str| {
        let resource = json!({"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Update"], "changedExpressions": [expression]});
        json!({"sources": [{"name": "web", "resource": resource}], "actions": tell(text)})
    };
    let deployments = shop.api("apps/v1", "Deployment");
    let patch = async |body: Value| {
        deployments.patch("web", &PatchParams::default(), &Patch::Merge(body)).await.expect("patch the Deployment")
    };
    let annotate = async |value: &str| patch(json!({"metadata": {"annotations": {"note": value}}})).await;
    let scale = async |replicas: u32| patch(json!({"spec": {"replicas": replicas}})).await;

    shop.rule(
        "scaled",
        rule("object.spec.?replicas", "replicas ${string(oldObject.spec.replicas)} to ${string(object.spec.replicas)}"),
    )
    .await;
    annotate("a").await;
    scale(2).await;
    sink.await_requests(1).await;
    // Its watch runs already: a list is taken for it, so that the very next change is one.
    shop.rule("noted", rule("object.metadata.annotations[?'note']", "note ${object.metadata.annotations.note}")).await;
    annotate("b").await;
    sink.await_requests(2).await;
    operator.kill();
    annotate("c").await;
    let _operator = site.setup.start_ready().await;
    scale(3).await;
    for rule in ["scaled", "noted"] {
        let status = shop.rule_status(rule, "2 succeeded", |status| status["counts"]["succeeded"] == 2).await;
        assert_eq!(status["counts"]["matched"], 2, "{status}");
    }
    // After a kill a notification may be sent again.
    let expected = ["replicas 1 to 2", "note b", "note c", "replicas 2 to 3"].map(str::to_owned);
    assert_eq!(texts(&sink.requests()), BTreeSet::from(expected));
}

#[tokio::test]
async fn a_budget_of_the_rule_bounds_its_firings_also_after_a_kill() {
    let site = Site::start().await;
    let shop = site.namespace("budget").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let spec = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "throttle": {"budget": {"firings": 2, "per": "1h", "scope": "Rule"}},
        "actions": tell("${event.data.regarding.name}"),
    });
    shop.rule("two", spec).await;
    for pod in ["a", "b", "c"] {
        shop.event(&format!("{pod}.1"), pod, "BackOff").await;
    }
    matched(&shop, "two", 3).await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    shop.event("d.1", "d", "BackOff").await;
    let status = matched(&shop, "two", 4).await;
    assert_eq!((&status["counts"]["fired"], &status["counts"]["suppressed"]["budget"]), (&json!(2), &json!(2)));
    assert_eq!(status["counts"]["suppressed"]["total"], 2);
    let events = shop.api("events.k8s.io/v1", "Event");
    let told = async || {
        let events = events.list(&Default::default()).await.ok()?.items;
        let told = |event: &DynamicObject| event.data["reason"] == "Suppressed" && event.data["action"] == "Budget";
        events.into_iter().find(told)
    };
    let told = eventually("it is told on the rule", Duration::from_secs(60), told).await;
    assert_eq!(told.data["regarding"]["name"], "two");
    assert!(told.data["note"].to_string().contains("did not fire: throttle.budget is used up"), "{:?}", told.data);
    assert_eq!(texts(&sink.await_requests(2).await).len(), 2);
    let wrong = json!({"sources": [{"name": "s", "kubernetesEvent": {}}], "throttle": {}, "actions": tell("x")});
    let object = json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "metadata": {"name": "none", "namespace": shop.name}, "spec": wrong});
    let said = site.plane.try_apply(&object.to_string()).await;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("cooldown or budget must be set"), "{said}");
}
