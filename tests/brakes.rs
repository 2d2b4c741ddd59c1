//! Breakers and the switch for all rules, on a real API server.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use support::{
    eventually,
    site::{Shop, Site, condition, shop},
};

mod support;

fn on(reason: &str) -> Value {
    json!([{"name": "crash", "kubernetesEvent": {"reasons": [reason]}}])
}

fn grow(name: &str) -> Value {
    json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": name}, "by": "1"}, "retry": {"limit": 0}})
}

async fn counted(shop: &Shop, rule: &str, what: &str, times: u64) -> Value {
    shop.rule_status(rule, &format!("{times} {what}"), |status| status["counts"][what] == times).await
}

#[tokio::test]
async fn a_rule_whose_actions_fail_is_only_observed_until_a_trial_succeeds() {
    let shop = shop("breaker").await;
    let spec =
        json!({"sources": on("Crash"), "breaker": {"failures": 2, "resumeAfter": "5s"}, "actions": [grow("web")]});
    shop.rule("grower", spec).await;
    shop.event("c.1", "a", "Crash").await;
    counted(&shop, "grower", "failed", 1).await;
    shop.event("c.2", "b", "Crash").await;
    let is = |reason: &'static str| move |status: &Value| condition(status, "Acting")["reason"] == reason;
    let status = shop.rule_status("grower", "tripped", is("Tripped")).await;
    let message = condition(&status, "Acting")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("2 firings in a row have failed") && message.contains("web"), "{message}");

    // While it is tripped it would succeed, and does nothing.
    shop.deployment("web", 1).await;
    shop.event("c.3", "c", "Crash").await;
    counted(&shop, "grower", "observed", 1).await;
    assert_eq!(shop.replicas("web").await, 1);

    let due = |status: &Value| {
        let message = condition(status, "Acting")["message"].as_str().unwrap_or_default().to_owned();
        message.contains("the next firing is a trial")
    };
    shop.rule_status("grower", "a trial is due", due).await;
    shop.event("c.4", "d", "Crash").await;
    shop.rule_status("grower", "it acts again", is("Succeeded")).await;
    shop.await_replicas("web", 2).await;
}

#[tokio::test]
async fn one_field_of_a_config_map_stops_all_rules_within_a_second_and_what_waited_goes_on() {
    let mut site = Site::start().await;
    site.setup = site.setup.args(&["--control=signalbox-system/signalbox-control"]);
    let shop = site.namespace("stopped").await;
    let operator = site.setup.start_ready().await;
    shop.deployment("web", 1).await;
    shop.rule("grower", json!({"sources": on("Crash"), "actions": [grow("web")]})).await;
    shop.rule("other", json!({"sources": on("Nothing"), "actions": [grow("web")]})).await;
    shop.event("c.1", "a", "Crash").await;
    shop.await_replicas("web", 2).await;

    let configs: Api<ConfigMap> = Api::namespaced(site.client.clone(), "signalbox-system");
    let say = async |data: Value| {
        let patch = Patch::Merge(json!({"data": data}));
        configs.patch("signalbox-control", &PatchParams::default(), &patch).await.expect("set the switch");
    };
    let gauge = async |operator: &support::operator::Operator, value: &str| {
        let line = format!("signalbox_stopped {value}\n");
        eventually(&format!("signalbox_stopped is {value}"), Duration::from_secs(30), async || {
            operator.metrics().await.contains(&line).then_some(())
        })
        .await;
    };
    say(json!({"stop": "true", "reason": "a drill"})).await;
    let said = Instant::now();
    gauge(&operator, "1").await;
    assert!(said.elapsed() < Duration::from_secs(2), "{:?}", said.elapsed());
    shop.event("c.2", "b", "Crash").await;
    let suppressed = |status: &Value| status["counts"]["suppressed"]["stopped"] == 1;
    shop.rule_status("grower", "one is suppressed", suppressed).await;
    let stopped = |status: &Value| {
        let acting = condition(status, "Acting");
        let message = acting["message"].as_str().unwrap_or_default();
        acting["reason"] == "Stopped"
            && message.contains("signalbox-system/signalbox-control")
            && message.contains("a drill")
    };
    for rule in ["grower", "other"] {
        shop.rule_status(rule, "it says so", stopped).await;
    }

    // A kill does not release it.
    operator.kill();
    let operator = site.setup.start_ready().await;
    gauge(&operator, "1").await;
    shop.event("c.3", "c", "Crash").await;
    shop.rule_status("grower", "two are suppressed", |status| status["counts"]["suppressed"]["stopped"] == 2).await;
    assert_eq!(shop.replicas("web").await, 2);

    say(json!({"stop": null})).await;
    gauge(&operator, "0").await;
    shop.event("c.4", "d", "Crash").await;
    shop.await_replicas("web", 3).await;
    for rule in ["grower", "other"] {
        shop.rule_status(rule, "it acts again", |status| condition(status, "Acting")["status"] == "True").await;
    }
}
