//! What becomes of a firing's steps, on a real API server: timeouts, what is done when they fail, what is undone, what is given back, what is waited for;
//! and that a kill in the middle of any of these changes nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use support::{
    PATIENCE, eventually,
    proxy::{Fate, Proxy, Seen},
    sink::{Answer, Sink},
    site::{Shop, Site, condition, shared as site, shop},
};
use tokio::time::Instant;

mod support;

#[path = "flow/giving_back.rs"]
mod giving_back;

const GROUP: &str = "signalbox.dev/v1alpha1";

/// A rule that does this when a pod backs off.
fn rule(reason: &str, actions: Value) -> Value {
    json!({"sources": [{"name": "crash", "kubernetesEvent": {"reasons": [reason]}}], "actions": actions})
}

fn scale(name: &str, target: &str, more: Value) -> Value {
    let mut scale = json!({"target": {"kind": "Deployment", "name": target}});
    for (key, value) in more.as_object().into_iter().flatten() {
        scale[key] = value.clone();
    }
    json!({"name": name, "scale": scale})
}

/// An action whose target is not there.
fn fails() -> Value {
    let mut action = scale("fails", "absent", json!({"to": 1}));
    action["onError"] = "Undo".into();
    action
}

fn call(name: &str, sink: &Sink, more: Value) -> Value {
    let mut action = json!({"name": name, "http": {"url": sink.url("/")}});
    for (key, value) in more.as_object().into_iter().flatten() {
        action[key] = value.clone();
    }
    action
}

/// Waits until a rule's newest firing has ended.
async fn ended(shop: &Shop, rule: &str) -> Value {
    let done = |status: &Value| !["Running", ""].contains(&status["recent"][0]["outcome"].as_str().unwrap_or_default());
    shop.rule_status(rule, "a firing that has ended", done).await["recent"][0].clone()
}

fn message(firing: &Value) -> &str {
    firing["message"].as_str().unwrap_or_default()
}

/// Gives the rules' account a right.
async fn grant(site: &Site, shop: &Shop, name: &str, verbs: &str, resources: &str) {
    let (verbs, resources) = (format!("--verb={verbs}"), format!("--resource={resources}"));
    let role = ["create", "role", name, "-n", &shop.name, &verbs, &resources];
    assert!(site.plane.kubectl(&role).await.status.success());
    let (role, account) = (format!("--role={name}"), format!("--serviceaccount={}:signalbox-rules", shop.name));
    let binding = ["create", "rolebinding", name, "-n", &shop.name, &role, &account];
    assert!(site.plane.kubectl(&binding).await.status.success());
}

async fn set(shop: &Shop, deployment: &str, replicas: i64) {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let deployments = shop.api("apps/v1", "Deployment");
    deployments.patch(deployment, &PatchParams::default(), &patch).await.expect("somebody scales it");
}

async fn generation(shop: &Shop) -> Option<i64> {
    shop.api("apps/v1", "Deployment").get("web").await.expect("get the Deployment").metadata.generation
}

#[tokio::test]
async fn what_a_firing_has_changed_is_taken_back_and_what_cannot_be_is_said() {
    let (shop, sink) = (shop("undo").await, Sink::start().await);
    grant(site().await, &shop, "settings", "get,patch", "configmaps").await;
    grant(site().await, &shop, "undo", "delete", "jobs.batch").await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 2).await;
    let before = json!({"data": {"mode": "calm", "kept": "1"}, "metadata": {"name": "settings", "labels": {"a": "b"}}});
    shop.create("v1", "ConfigMap", "settings", before).await;
    let web = json!({"kind": "Deployment", "name": "web"});
    let patch = json!({"metadata": {"labels": {"a": null, "busy": "yes"}, "annotations": {"n": "1"}}, "data": {"mode": "busy"}});
    let actions = json!([
        scale("grow", "web", json!({"to": 6})),
        {"name": "settings", "patch": {"target": {"kind": "ConfigMap", "name": "settings"}, "patch": patch}},
        {"name": "restart", "rollout": {"target": web}},
        {"name": "pause", "rollout": {"target": web, "operation": "Pause"}},
        {"name": "collect", "job": {"script": {"image": "example.invalid/tools:1", "run": "true"}}},
        {"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "begun"}},
        fails(),
    ]);
    let mut spec = rule("BackOff", actions);
    spec["failureActions"] = json!([{"name": "sorry", "notify": {"sinkRef": {"name": "oncall"},
        "text": "${failure.action} ${failure.reason} ${string(actions.grow.to)}"}}]);
    shop.rule("undo", spec).await;
    shop.event("web.1", "web", "BackOff").await;
    let firing = ended(&shop, "undo").await;
    assert_eq!(firing["outcome"], "Failed");
    let of = |name: &str| {
        let all = firing["actions"].as_array().cloned().unwrap_or_default();
        let one = all.into_iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}: {firing:#}"));
        format!("{}: {}", one["outcome"].as_str().unwrap_or_default(), one["message"].as_str().unwrap_or_default())
    };
    let (web, config) = (format!("Deployment {}/web", shop.name), format!("ConfigMap {}/settings", shop.name));
    assert_eq!(of("grow.undo"), format!("Succeeded: scaled {web} from 6 to 2"));
    assert_eq!(of("settings.undo"), format!("Succeeded: patched {config}"));
    assert_eq!(of("pause.undo"), format!("Succeeded: resumed {web}"));
    assert_eq!(of("restart.undo"), "Skipped: a restart cannot be undone");
    assert_eq!(of("tell.undo"), "Skipped: a notification that was sent cannot be undone");
    assert!(of("collect.undo").starts_with("Succeeded: deleted Job "), "{}", of("collect.undo"));
    assert!(of("sorry").starts_with("Succeeded"), "{firing:#}");
    let texts: Vec<_> = sink.requests().iter().map(|request| request.json()["text"].clone()).collect();
    assert_eq!(texts, ["begun", "fails Refused 6"]);
    assert_eq!(shop.replicas("web").await, 2);
    let settings = shop.api("v1", "ConfigMap").get("settings").await.expect("get it");
    assert_eq!(settings.data["data"], json!({"mode": "calm", "kept": "1"}));
    assert_eq!(json!(settings.metadata.labels), json!({"a": "b"}));
    assert!(settings.metadata.annotations.is_none_or(|all| all.is_empty()));
    let jobs = shop.api("batch/v1", "Job").list(&ListParams::default()).await.expect("list Jobs").items;
    assert!(jobs.iter().all(|job| job.metadata.deletion_timestamp.is_some()), "{jobs:#?}");
    let web = shop.api("apps/v1", "Deployment").get("web").await.expect("get it");
    assert!(web.data["spec"]["paused"] != true);
}

#[tokio::test]
async fn what_somebody_else_has_changed_since_is_left_as_it_is() {
    let (shop, sink) = (shop("theirs").await, Sink::start().await);
    shop.deployment("web", 2).await;
    // The answer comes when the test has done its part.
    sink.answer(Answer::status(400).after(Duration::from_secs(3)));
    let actions = json!([
        scale("grow", "web", json!({"to": 6})),
        call("ask", &sink, json!({"onError": "Undo", "retry": {"limit": 0}})),
    ]);
    shop.rule("theirs", rule("BackOff", actions)).await;
    shop.event("web.1", "web", "BackOff").await;
    sink.await_requests(1).await;
    set(&shop, "web", 9).await;
    let firing = ended(&shop, "theirs").await;
    assert!(message(&firing).contains("was set to 9 by somebody else: it is left as it is"), "{firing:#}");
    assert_eq!(shop.replicas("web").await, 9);
}

/// A site whose operator's writes of this field manager get no answer while the switch is set.
async fn swallowing(site: &Site, manager: &'static str) -> (Proxy, Arc<AtomicBool>) {
    let swallows = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&swallows);
    let proxy = Proxy::start(&site.plane, move |seen: Seen| {
        let ours = seen.patches("scale") && seen.query.contains(manager) && switch.load(Ordering::SeqCst);
        async move { if ours { Fate::Swallow } else { Fate::Pass } }
    })
    .await;
    (proxy, swallows)
}

async fn swallowed(proxy: &Proxy) {
    eventually("a write without an answer", PATIENCE, async || {
        proxy.fates(|seen| seen.patches("scale")).contains(&Fate::Swallow).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_operator_killed_in_the_middle_of_an_undoing_goes_on_with_it_once() {
    let site = Site::start().await;
    let (proxy, swallows) = swallowing(&site, ".undo").await;
    let setup = site.setup_behind(&proxy);
    let shop = site.namespace("killed").await;
    let operator = setup.start_ready().await;
    shop.deployment("web", 2).await;
    shop.deployment("db", 1).await;
    // By then the controller has written its status: the write that gets no answer is not refused.
    let settle = json!({"name": "settle", "wait": {"for": "3s"}});
    let (db, web) = (scale("db", "db", json!({"to": 3})), scale("web", "web", json!({"by": "4"})));
    let actions = json!([db, web, settle, fails()]);
    shop.rule("killed", rule("BackOff", actions)).await;
    shop.event("web.1", "web", "BackOff").await;
    swallowed(&proxy).await;
    shop.await_replicas("web", 2).await;
    let written = generation(&shop).await;
    operator.kill();
    swallows.store(false, Ordering::SeqCst);
    let _operator = setup.start_ready().await;
    let firing = ended(&shop, "killed").await;
    let undone =
        |name: &str, from: i64, to: i64| format!("undone: scaled Deployment {}/{name} from {from} to {to}", shop.name);
    for part in [undone("web", 6, 2), undone("db", 3, 1)] {
        assert!(message(&firing).contains(&part), "{part}: {firing:#}");
    }
    assert_eq!((shop.replicas("web").await, shop.replicas("db").await), (2, 1));
    assert_eq!(generation(&shop).await, written, "it was written once");
}

#[tokio::test]
async fn what_failed_is_told_once_though_the_operator_is_killed_meanwhile() {
    let site = Site::start().await;
    let shop = site.namespace("told").await;
    let (asked, told) = (Sink::start().await, Sink::start().await);
    asked.answer(Answer::status(400));
    told.answer_next(Answer::status(200).after(Duration::from_secs(600)));
    let operator = site.setup.start_ready().await;
    let mut spec = rule("BackOff", json!([call("ask", &asked, json!({"retry": {"limit": 0}}))]));
    let tells = json!({"http": {"url": told.url("/"), "body": "${failure.action} ${failure.reason}"}});
    spec["failureActions"] = json!([call("tell", &told, tells), call("last", &told, json!({}))]);
    shop.rule("told", spec).await;
    shop.event("web.1", "web", "BackOff").await;
    told.await_requests(1).await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    let firing = ended(&shop, "told").await;
    assert_eq!(firing["outcome"], "Failed", "{firing:#}");
    assert_eq!(asked.requests().len(), 1, "what failed for good is not asked again");
    let requests = told.requests();
    let keys: Vec<_> = requests.iter().map(|request| request.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
    shop.rule_status("told", "the letter is kept", |status| status["counts"]["deadLettered"] == 1).await;
}

#[tokio::test]
async fn a_timeout_ends_at_its_instant_though_the_operator_was_away() {
    let site = Site::start().await;
    let shop = site.namespace("late").await;
    let sink = Sink::start().await;
    sink.answer(Answer::status(200).after(Duration::from_secs(600)));
    let operator = site.setup.start_ready().await;
    let timed = json!({"timeout": "3s", "retry": {"attemptTimeout": "1m"}});
    shop.rule("late", rule("BackOff", json!([call("ask", &sink, timed)]))).await;
    shop.event("web.1", "web", "BackOff").await;
    sink.await_requests(1).await;
    let began = Instant::now();
    operator.kill();
    tokio::time::sleep_until(began + Duration::from_secs(3)).await;
    let _operator = site.setup.start_ready().await;
    let firing = ended(&shop, "late").await;
    let told = "not done within its timeout of 3s: its time ended while the operator was not running";
    assert!(message(&firing).starts_with(told), "{firing:#}");
    assert_eq!(sink.requests().len(), 1, "it was not sent again");
}

#[tokio::test]
async fn a_killed_operator_waits_to_the_same_end() {
    const WAIT: Duration = Duration::from_secs(8);
    let site = Site::start().await;
    let shop = site.namespace("waits").await;
    let sink = Sink::start().await;
    let operator = site.setup.start_ready().await;
    shop.deployment("web", 1).await;
    let target = json!({"kind": "Deployment", "name": "web"});
    let until = json!({"expression": "target.spec.replicas == 3", "target": target, "timeout": "10m"});
    let actions = json!([
        call("begin", &sink, json!({})),
        {"name": "pause", "wait": {"for": "8s"}},
        call("paused", &sink, json!({})),
        {"name": "scaled", "wait": until},
        call("done", &sink, json!({})),
    ]);
    shop.rule("waits", rule("BackOff", actions)).await;
    shop.event("web.1", "web", "BackOff").await;
    sink.await_requests(1).await;
    let began = Instant::now();
    tokio::time::sleep_until(began + Duration::from_secs(4)).await;
    operator.kill();
    let killed = Instant::now();
    let operator = site.setup.start_ready().await;
    sink.await_requests(2).await;
    assert!(began.elapsed() >= WAIT - Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(killed.elapsed() < WAIT, "it has not begun anew: {:?}", killed.elapsed());
    operator.kill();
    let _operator = site.setup.start_ready().await;
    assert_eq!(sink.requests().len(), 2);
    set(&shop, "web", 3).await;
    let firing = ended(&shop, "waits").await;
    assert_eq!(firing["outcome"], "Succeeded", "{firing:#}");
    for part in ["waited 8s", "waited for Deployment ", "; wait.expression gives true"] {
        assert!(message(&firing).contains(part), "{part}: {firing:#}");
    }
    assert_eq!(sink.requests().len(), 3);
}

#[tokio::test]
async fn what_would_be_ignored_is_refused() {
    let tried = async |actions: Value| {
        let object = json!({"apiVersion": GROUP, "kind": "EventRule", "metadata": {"name": "tried", "namespace": "default"},
            "spec": rule("BackOff", actions)});
        let output = site().await.plane.try_apply(&object.to_string()).await;
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = tried(json!([
        scale("grow", "web", json!({"to": 1, "restore": {"after": "1m", "when": "Resolved"}})),
        {"name": "pause", "wait": {"for": "1s", "expression": "true", "target": {"kind": "Pod", "name": "p"}}},
        {"name": "look", "wait": {"expression": "true"}},
    ]))
    .await;
    for part in [
        "exactly one of after and when must be set",
        "exactly one of for and expression must be set",
        "target is for expression, which needs it; failExpression and timeout are for expression",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let shop = shop("refused").await;
    let action = scale("grow", "web", json!({"to": 1, "restore": {"when": "Resolved"}}));
    shop.create(GROUP, "EventRule", "wrong", json!({"spec": rule("BackOff", json!([action]))})).await;
    let invalid = |status: &Value| condition(status, "Ready")["reason"] == "InvalidSpec";
    let status = shop.rule_status("wrong", "its fault", invalid).await;
    let told = condition(&status, "Ready")["message"].to_string();
    assert!(told.contains("when: Resolved needs a trigger that has an end"), "{told}");
}
