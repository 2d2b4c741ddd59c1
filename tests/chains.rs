//! Rules in chains, on a real API server: what one emits another does, once, and what leads back to itself ends.

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use support::{
    PATIENCE, eventually,
    http::post,
    sink::Sink,
    site::{Shop, Site},
};
use tokio::sync::OnceCell;

mod support;

/// One control plane and one operator for the tests that leave them as they are.
async fn shop(prefix: &str) -> Shop {
    let site = support::site::shared().await;
    let name = site.namespace(prefix).await.name;
    Shop { name, client: site.plane.client().await }
}

fn on_crash() -> Value {
    json!({"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}})
}

fn hears(type_: &str) -> Value {
    json!({"name": "chained", "events": {"types": [type_]}})
}

fn emit(type_: &str) -> Value {
    json!({"name": "say", "emit": {"type": type_, "data": {"of": "${event.id}"}}})
}

fn grow() -> Value {
    json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}})
}

/// Waits until the rule has fired, and has been kept from it as a loop, so often.
async fn fired(shop: &Shop, rule: &str, fired: u64, loops: u64) -> Value {
    let told = |status: &Value| {
        let counts = &status["counts"];
        counts["fired"] == fired
            && counts["succeeded"] == fired
            && counts["suppressed"]["loop"].as_u64().unwrap_or(0) == loops
    };
    shop.rule_status(rule, &format!("{fired} firings and {loops} loops"), told).await
}

#[tokio::test]
async fn what_is_emitted_is_acted_upon_once_over_kills_of_the_operator() {
    let site = Site::start().await;
    let shop = site.namespace("killed").await;
    let mut operator = site.setup.start_ready().await;
    shop.deployment("web", 0).await;
    shop.rule("says", json!({"sources": [on_crash()], "actions": [emit("com.acme.crash")]})).await;
    shop.rule("does", json!({"sources": [hears("com.acme.*")], "actions": [grow()]})).await;
    let mut events = 0;
    for _ in 0..4 {
        for _ in 0..6 {
            events += 1;
            shop.event(&format!("web-{events}.1"), &format!("web-{events}"), "BackOff").await;
        }
        // Somewhere on their way.
        operator.kill();
        operator = site.setup.start_ready().await;
    }
    fired(&shop, "says", events, 0).await;
    let status = fired(&shop, "does", events, 0).await;
    assert_eq!(shop.replicas("web").await, events.cast_signed());
    let event = &status["recent"][0]["event"];
    let source = format!("/apis/signalbox.dev/v1alpha1/namespaces/{}/eventrules/says", shop.name);
    assert_eq!((&event["type"], &event["source"]), (&json!("com.acme.crash"), &json!(source)));
}

#[tokio::test]
async fn two_rules_that_set_each_other_off_end_after_one_round_and_are_named() {
    let shop = shop("loop").await;
    let sources = json!([on_crash(), hears("com.acme.pong")]);
    shop.rule("ping", json!({"sources": sources, "actions": [emit("com.acme.ping")]})).await;
    shop.rule("pong", json!({"sources": [hears("com.acme.ping")], "actions": [emit("com.acme.pong")]})).await;
    for round in 1..=2 {
        shop.event(&format!("web.{round}"), "web", "BackOff").await;
        fired(&shop, "pong", round, 0).await;
        fired(&shop, "ping", round, round).await;
    }
    let note = async || {
        let events = shop.api("v1", "Event").list(&ListParams::default()).await.ok()?;
        let notes = events.iter().filter(|event| event.data["reason"] == "Suppressed");
        notes
            .filter_map(|event| event.data["message"].as_str())
            .find(|note| note.contains("ping → pong"))
            .map(str::to_owned)
    };
    let note = eventually("the loop is told", PATIENCE, note).await;
    assert!(note.contains("rules set each other off"), "{note}");
}

#[tokio::test]
async fn a_rule_that_hears_of_failures_is_told_of_those_of_others_and_not_of_its_own() {
    let (shop, sink) = (shop("failures").await, Sink::start().await);
    let fails = json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "none"}, "to": 1}});
    shop.rule("fails", json!({"sources": [on_crash()], "actions": [fails.clone()]})).await;
    let told = json!({"name": "tell", "http": {"url": sink.url("/"), "body": "${event.data}"}});
    let listens = json!([hears("dev.signalbox.rule.failed")]);
    shop.rule("tells", json!({"sources": listens, "actions": [told, fails]})).await;
    shop.event("web.1", "web", "BackOff").await;
    shop.rule_status("tells", "it has failed too", |status| status["counts"]["failed"] == 1).await;
    let [request] = sink.requests().try_into().expect("one failure was told");
    let data = request.json();
    assert_eq!((&data["rule"]["name"], &data["place"]), (&json!("fails"), &json!("actions[grow]")));
    assert_eq!(data["group"], format!("{}/Pod/web", shop.name));
    assert!(data["message"].as_str().is_some_and(|message| message.contains("none")), "{data}");
    assert_eq!(request.header("signalbox-hops"), Some("2"));
    let status = shop.rule_status("tells", "one firing", |status| status["counts"]["fired"] == 1).await;
    assert_eq!(status["counts"]["suppressed"]["total"], 0, "it does not hear of itself");
}

#[tokio::test]
async fn a_request_to_the_webhook_it_came_by_ends_after_eight_hops() {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    let site = SITE.get_or_init(Site::start).await;
    let shop = site.namespace("round").await;
    let operator = site.setup.start_ready().await;
    shop.source("round", json!({"webhook": {"auth": {"none": {}}}})).await;
    let path = format!("/hooks/{}/round", shop.name);
    let again = json!({"name": "again", "http": {"url": format!("http://{}{path}", operator.hooks()), "body": "${event.data}"}});
    let sources = json!([{"name": "sent", "ref": {"name": "round"}}]);
    shop.rule("round", json!({"sources": sources, "actions": [again]})).await;
    let headers = [("Content-Type", "application/json")];
    assert_eq!(post(operator.hooks(), &path, &headers, b"{\"n\": 1}").await.expect("an answer").0, 202);
    let status = shop.rule_status("round", "the last is refused", |status| status["counts"]["failed"] == 1).await;
    // With none to eight hops.
    assert_eq!((&status["counts"]["fired"], &status["counts"]["succeeded"]), (&json!(9), &json!(8)), "{status:#}");
    assert!(status["lastError"]["message"].as_str().is_some_and(|said| said.contains("400")), "{status:#}");
}

/// B3 no. 19: what its controller says about a rule's own scaling sets the rule off once more, and not again.
#[tokio::test]
async fn a_rule_that_scales_when_its_deployment_is_scaled_follows_its_own_echo_once() {
    let shop = shop("echo").await;
    let scaled = json!({"name": "scaled", "kubernetesEvent": {"reasons": ["ScalingReplicaSet"], "regarding": {"kind": "Deployment"}}});
    shop.rule("echo", json!({"sources": [scaled], "actions": [grow()]})).await;
    // Its controller tells of the first replica, and then of each that the rule asks for.
    shop.deployment("web", 1).await;
    let ended = |status: &Value| {
        let counts = &status["counts"];
        counts["suppressed"]["loop"].as_u64() > Some(0) && counts["fired"] == counts["succeeded"]
    };
    let status = shop.rule_status("echo", "it has ended", ended).await;
    // Where the Event is faster than the answer to the write, it is not known for an echo, and it takes one more.
    let fired = status["counts"]["fired"].as_i64().unwrap_or_default();
    assert!((2..=3).contains(&fired), "{status:#}");
    assert_eq!(shop.replicas("web").await, 1 + fired);
    let api = shop.api("v1", "Event");
    let note = async || {
        let events = api.list(&ListParams::default()).await.ok()?;
        let mut notes = events.iter().filter_map(|event| event.data["message"].as_str());
        notes.find(|note| note.contains("the chain of them ends here: echo")).map(|_| ())
    };
    eventually("it is told, with its name", PATIENCE, note).await;

    // What somebody else does is answered again.
    let replicas = json!({"spec": {"replicas": 10}});
    let deployments = shop.api("apps/v1", "Deployment");
    deployments.patch("web", &PatchParams::default(), &Patch::Merge(&replicas)).await.expect("scale it");
    let again = |status: &Value| {
        let counts = &status["counts"];
        counts["fired"].as_i64() > Some(fired) && counts["suppressed"]["loop"].as_u64() > Some(1)
    };
    shop.rule_status("echo", "it has answered somebody else, and ended again", again).await;
}
