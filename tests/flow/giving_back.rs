//! What is changed for a time comes back.

use kube::api::DeleteParams;

use super::*;

/// Waits until a firing of the kind has ended.
async fn restored(shop: &Shop, rule: &str) -> Value {
    let done =
        |status: &Value| status["recent"][0]["kind"] == "Restored" && status["recent"][0]["outcome"] != "Running";
    shop.rule_status(rule, "what it has changed is given back", done).await["recent"][0].clone()
}

#[tokio::test]
async fn what_was_changed_for_a_time_comes_back_unless_somebody_else_has_changed_it() {
    let shop = shop("lent").await;
    grant(site().await, &shop, "settings", "get,patch", "configmaps").await;
    for name in ["web", "theirs", "deleted"] {
        shop.deployment(name, 2).await;
        let action =
            scale("grow", name, json!({"by": "2", "restore": {"after": if name == "deleted" { "10m" } else { "4s" }}}));
        shop.rule(name, rule(name, json!([action]))).await;
    }
    shop.create("v1", "ConfigMap", "site", json!({"data": {"banner": "hello"}})).await;
    let patch = json!({"target": {"kind": "ConfigMap", "name": "site"}, "type": "JSON", "restore": {"after": "2s"},
        "patch": [{"op": "replace", "path": "/data/banner", "value": "slow"}, {"op": "add", "path": "/data/more", "value": "1"}]});
    shop.rule("page", rule("page", json!([{"name": "page", "patch": patch}]))).await;
    for name in ["web", "theirs", "deleted", "page"] {
        shop.event(&format!("{name}.1"), name, name).await;
    }
    shop.event("web.2", "other", "web").await;
    shop.await_replicas("web", 6).await;
    shop.await_replicas("theirs", 4).await;
    set(&shop, "theirs", 3).await;
    shop.await_replicas("deleted", 4).await;

    let firing = restored(&shop, "web").await;
    assert_eq!(message(&firing), format!("given back: scaled Deployment {}/web from 6 to 2", shop.name));
    assert_eq!(shop.replicas("web").await, 2);
    let firing = restored(&shop, "theirs").await;
    assert!(message(&firing).contains("was set to 3 by somebody else"), "{firing:#}");
    assert_eq!(shop.replicas("theirs").await, 3);
    let firing = restored(&shop, "page").await;
    assert!(message(&firing).starts_with("given back: patched ConfigMap"), "{firing:#}");
    let page = shop.api("v1", "ConfigMap").get("site").await.expect("get it");
    assert_eq!(page.data["data"], json!({"banner": "hello"}));

    shop.api(GROUP, "EventRule").delete("deleted", &DeleteParams::default()).await.expect("delete the rule");
    shop.await_replicas("deleted", 2).await;
}

#[tokio::test]
async fn what_lasts_is_held_until_it_has_ended() {
    let shop = shop("level").await;
    shop.deployment("web", 2).await;
    shop.deployment("alarm", 0).await;
    let spec = json!({
        "sources": [{"name": "alarm", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["alarm"]}}],
        "when": [{"name": "on", "expression": "object.metadata.?labels[?'rings'].orValue('no') == 'yes'"}],
        "trigger": {"held": {"for": "1s"}},
        "actions": [scale("grow", "web", json!({"to": 5, "restore": {"when": "Resolved"}}))],
    });
    shop.rule("level", spec).await;
    let alarm = shop.api("apps/v1", "Deployment");
    let ring = async |rings: &str| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"rings": rings}}}));
        alarm.patch("alarm", &PatchParams::default(), &patch).await.expect("it rings");
    };
    ring("yes").await;
    shop.await_replicas("web", 5).await;
    shop.rule_status("level", "the firing has ended", |status| status["counts"]["succeeded"] == 1).await;
    ring("no").await;
    let firing = restored(&shop, "level").await;
    assert_eq!(message(&firing), format!("given back: scaled Deployment {}/web from 5 to 2", shop.name));
    assert_eq!(shop.replicas("web").await, 2);
}

#[tokio::test]
async fn an_operator_killed_before_and_in_the_middle_of_giving_back_does_it_once() {
    let site = Site::start().await;
    let (proxy, swallows) = swallowing(&site, "-restore").await;
    let setup = site.setup_behind(&proxy);
    let shop = site.namespace("killed").await;
    let operator = setup.start_ready().await;
    shop.deployment("web", 2).await;
    let action = scale("grow", "web", json!({"by": "2", "restore": {"after": "5s"}}));
    shop.rule("killed", rule("BackOff", json!([action]))).await;
    shop.event("web.1", "web", "BackOff").await;
    shop.rule_status("killed", "it is done", |status| status["counts"]["succeeded"] == 1).await;
    operator.kill();
    let operator = setup.start_ready().await;
    swallowed(&proxy).await;
    shop.await_replicas("web", 2).await;
    let written = generation(&shop).await;
    operator.kill();
    swallows.store(false, Ordering::SeqCst);
    let _operator = setup.start_ready().await;
    let firing = restored(&shop, "killed").await;
    assert_eq!(message(&firing), format!("given back: scaled Deployment {}/web from 4 to 2", shop.name));
    assert_eq!((shop.replicas("web").await, generation(&shop).await), (2, written), "it was written once");
}

#[tokio::test]
async fn a_rule_deleted_while_the_operator_is_away_gives_back_what_it_has_changed() {
    let site = Site::start().await;
    let shop = site.namespace("gone").await;
    let operator = site.setup.start_ready().await;
    shop.deployment("web", 2).await;
    let action = scale("grow", "web", json!({"by": "2", "restore": {"after": "10m"}}));
    shop.rule("gone", rule("BackOff", json!([action]))).await;
    shop.event("web.1", "web", "BackOff").await;
    shop.rule_status("gone", "it is done", |status| status["counts"]["succeeded"] == 1).await;
    operator.kill();
    shop.api(GROUP, "EventRule").delete("gone", &DeleteParams::default()).await.expect("delete the rule");
    let _operator = site.setup.start_ready().await;
    shop.await_replicas("web", 2).await;
}
