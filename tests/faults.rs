//! A bad day on a real API server: answers get lost, watches break, writes are refused, the whole server goes away.
//! What was to be done is done once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use support::http::get;
use support::proxy::{Fate, How, Proxy, Seen};
use support::sink::{Answer, Sink};
use support::site::{Shop, Site};
use support::{PATIENCE, eventually};
use tokio::time::Instant;

mod support;

fn on_events() -> Value {
    json!([{"name": "crash", "kubernetesEvent": {"types": ["Warning"], "reasons": ["BackOff"]}}])
}

fn grow() -> Value {
    json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}})
}

fn tell(text: &str) -> Value {
    json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}})
}

/// The different texts that the sink was told.
fn told(sink: &Sink) -> BTreeSet<String> {
    sink.requests().iter().map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

fn counter() -> impl Fn() -> usize {
    let next = AtomicUsize::new(0);
    move || next.fetch_add(1, Ordering::SeqCst)
}

async fn edit(shop: &Shop, rule: &str, change: Value) {
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    rules.patch(rule, &PatchParams::default(), &Patch::Merge(&change)).await.expect("nobody is in the user's way");
}

#[tokio::test]
async fn status_writes_that_fail_repeat_no_action_and_the_status_is_right_in_the_end() {
    const EVENTS: usize = 50;
    let site = Site::start().await;
    let shop = site.namespace("conflicts").await;
    let next = counter();
    let proxy = Proxy::start(&site.plane, move |seen: Seen| {
        let fate = match seen.patches("status").then(&next) {
            Some(number) if number % 10 == 2 => Fate::Deny(504),
            Some(number) if number % 2 == 1 => Fate::Refuse(409),
            _ => Fate::Pass,
        };
        async move { fate }
    })
    .await;
    let setup = site.setup_behind(&proxy);
    let _operator = setup.start_ready().await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    let actions = |version: usize| json!([grow(), tell(&format!("${{event.data.regarding.name}} v{version}"))]);
    shop.rule("edited", json!({"sources": on_events(), "actions": actions(0)})).await;

    for number in 0..EVENTS {
        shop.event(&format!("p{number}.1"), &format!("p{number}"), "BackOff").await;
        match number % 5 {
            2 => edit(&shop, "edited", json!({"spec": {"actions": actions(number)}})).await,
            4 => edit(&shop, "edited", json!({"metadata": {"annotations": {"seen": number.to_string()}}})).await,
            _ => {}
        }
    }
    let status = shop.rule_status("edited", "all are counted", |status| status["counts"]["succeeded"] == EVENTS).await;
    assert_eq!(status["counts"]["fired"], EVENTS);
    assert_eq!(status["counts"]["failed"], 0);
    assert_eq!(sink.requests().len(), EVENTS, "each event is told once");
    let pods: BTreeSet<String> =
        told(&sink).iter().filter_map(|text| text.split(' ').next().map(str::to_owned)).collect();
    assert_eq!(pods.len(), EVENTS);
    assert_eq!(shop.replicas("web").await, 50);
    let fates = proxy.fates(|seen| seen.patches("status"));
    assert!(fates.contains(&Fate::Deny(504)) && fates.contains(&Fate::Refuse(409)), "{fates:?}");
}

#[tokio::test]
async fn watches_that_break_again_and_again_lose_nothing_and_repeat_nothing() {
    const CHANGES: usize = 1000;
    let site = Site::start().await;
    let shop = site.namespace("cut").await;
    let next = counter();
    let proxy = Proxy::start(&site.plane, move |seen: Seen| {
        let how = seen.is_watch().then(|| [How::Cleanly, How::Broken, How::Halved][next() % 3]);
        let fate = how.map_or(Fate::Pass, |how| Fate::End(Duration::from_millis(300), how));
        async move { fate }
    })
    .await;
    let setup = site.setup_behind(&proxy);
    let _operator = setup.start_ready().await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.rule("events", json!({"sources": on_events(), "actions": [tell("${event.data.regarding.name}")]})).await;
    let created = json!([{"name": "made", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Create", "Delete"]}}]);
    let object = tell("${event.data.operation} ${object.metadata.name}");
    shop.rule("objects", json!({"sources": created, "actions": [object]})).await;

    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for number in 0..CHANGES {
        pace.tick().await;
        shop.event(&format!("p{number}.1"), &format!("p{number}"), "BackOff").await;
        if number % 10 == 0 {
            shop.deployment(&format!("d{number}"), 0).await;
        }
        if number % 20 == 15 {
            let deployments = shop.api("apps/v1", "Deployment");
            deployments.delete(&format!("d{}", number - 15), &DeleteParams::default()).await.expect("delete");
        }
    }
    let alerts = CHANGES + CHANGES / 10 + CHANGES / 20;
    sink.await_requests(alerts).await;
    let status = shop.rule_status("events", "all are counted", |status| status["counts"]["succeeded"] == CHANGES).await;
    assert_eq!(status["counts"]["fired"], CHANGES);
    shop.event("last.1", "last", "BackOff").await;
    sink.await_requests(alerts + 1).await;
    assert_eq!(told(&sink).len(), alerts + 1, "each is told");
    assert_eq!(sink.requests().len(), alerts + 1, "each is told once");
    let broken = proxy.fates(|seen| seen.is_watch() && seen.path.ends_with("/events"));
    assert!(broken.len() >= 5, "{broken:?}");
}

#[tokio::test]
async fn a_scaling_whose_answer_is_lost_is_done_once() {
    const EVENTS: i64 = 12;
    let site = Site::start().await;
    let shop = site.namespace("lost").await;
    let next = counter();
    let proxy = Proxy::start(&site.plane, move |seen: Seen| {
        let fates = [Fate::Deny(504), Fate::Cut, Fate::Halve, Fate::Refuse(504), Fate::Pass, Fate::Swallow];
        let fate = if seen.patches("scale") { fates[next() % fates.len()] } else { Fate::Pass };
        async move { fate }
    })
    .await;
    let setup = site.setup_behind(&proxy);
    let _operator = setup.start_ready().await;
    shop.deployment("web", 0).await;
    let mut action = grow();
    action["retry"] = json!({"backoff": "100ms", "attemptTimeout": "2s"});
    shop.rule("lost", json!({"sources": on_events(), "actions": [action]})).await;
    for number in 0..EVENTS {
        shop.event(&format!("p{number}.1"), &format!("p{number}"), "BackOff").await;
    }
    let status = shop.rule_status("lost", "all have ended", |status| {
        let count = |name: &str| status["counts"][name].as_i64().unwrap_or_default();
        count("succeeded") + count("failed") == EVENTS
    });
    let status = status.await;
    assert_eq!(status["counts"]["succeeded"], EVENTS, "{status:#}");
    assert_eq!(shop.replicas("web").await, EVENTS, "each event added one");
    let fates = proxy.fates(|seen| seen.patches("scale"));
    for fate in [Fate::Deny(504), Fate::Cut, Fate::Halve, Fate::Refuse(504), Fate::Swallow] {
        assert!(fates.contains(&fate), "{fate:?} is not in {fates:?}");
    }
}

#[tokio::test]
async fn an_api_server_that_is_away_for_a_while_costs_nothing() {
    let site = Site::start().await;
    let shop = site.namespace("away").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    let mut operator = site.setup.start_ready().await;
    shop.rule("away", json!({"sources": on_events(), "actions": [tell("${event.data.regarding.name}"), grow()]})).await;

    // While the sink takes its time, the API server goes; scaling comes then.
    sink.answer_next(Answer::status(200).after(Duration::from_secs(1)));
    shop.event("before.1", "before", "BackOff").await;
    sink.await_requests(1).await;
    site.plane.stop_api_server();
    let until = Instant::now() + Duration::from_secs(10);
    eventually("ten seconds are over", PATIENCE, async || {
        let live = get(operator.address(), "/livez").await.map(|(status, _)| status);
        assert_eq!(live, Some(200), "the operator lives");
        (Instant::now() >= until).then_some(())
    })
    .await;
    site.plane.start_api_server().await;

    shop.await_replicas("web", 1).await;
    for number in 0..5 {
        shop.event(&format!("after{number}.1"), &format!("after{number}"), "BackOff").await;
    }
    let status = shop.rule_status("away", "all are done", |status| status["counts"]["succeeded"] == 6).await;
    assert_eq!(status["counts"]["failed"], 0);
    assert_eq!(shop.replicas("web").await, 6);
    assert_eq!(sink.requests().len(), 6);
    operator.ready().await;
}

#[tokio::test]
async fn a_job_of_somebody_else_is_left_alone_and_ours_is_launched_once() {
    let site = Site::start().await;
    let shop = site.namespace("names").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let (foreign, next) =
        (Arc::new(Shop { name: shop.name.clone(), client: shop.client.clone() }), Arc::new(counter()));
    let is_launch = |seen: &Seen| seen.method == "POST" && seen.path.ends_with("/jobs");
    let proxy = Proxy::start(&site.plane, move |seen: Seen| {
        let (foreign, next) = (foreign.clone(), next.clone());
        async move {
            match is_launch(&seen).then(|| next()) {
                // Somebody is faster.
                Some(0) => {
                    let wanted = seen.json();
                    let name = wanted["metadata"]["name"].as_str().expect("a name").to_owned();
                    let pod = json!({"containers": [{"name": "theirs", "image": "example.invalid/theirs:1"}], "restartPolicy": "Never"});
                    foreign.create("batch/v1", "Job", &name, json!({"spec": {"template": {"spec": pod}}})).await;
                    Fate::Pass
                }
                Some(1) => Fate::Swallow,
                _ => Fate::Pass,
            }
        }
    })
    .await;
    let setup = site.setup_behind(&proxy);
    let operator = setup.start_ready().await;
    let job = json!({"name": "collect", "job": {"script": {"image": "example.invalid/tools:1", "run": "true"}}});
    shop.rule("jobs", json!({"sources": on_events(), "actions": [job, tell("${actions.collect.name}")]})).await;
    shop.event("p.1", "p", "BackOff").await;
    let jobs = async |count: usize| {
        eventually(&format!("{count} Jobs"), PATIENCE, async || {
            let jobs = shop.api("batch/v1", "Job").list(&ListParams::default()).await.ok()?;
            (jobs.items.len() >= count).then_some(jobs.items)
        })
        .await
    };
    // Ours is there, and the operator dies before it knows.
    jobs(2).await;
    operator.kill();
    let _operator = setup.start_ready().await;
    let status = shop.rule_status("jobs", "it is done", |status| status["counts"]["succeeded"] == 1).await;

    let all = jobs(2).await;
    let (ours, theirs): (Vec<_>, Vec<_>) = all.into_iter().partition(|job| job.metadata.owner_references.is_some());
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    let name = |job: &kube::api::DynamicObject| job.metadata.name.clone().unwrap_or_default();
    assert_eq!(name(&ours[0]), format!("{}-2", name(&theirs[0])));
    assert_eq!(theirs[0].data["spec"]["template"]["spec"]["containers"][0]["name"], "theirs");
    let message = status["recent"][0]["actions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains(&name(&ours[0])) && message.contains("somebody else"), "{message}");

    // The same event once more, then another one.
    let label = json!({"metadata": {"labels": {"seen": "again"}}});
    shop.api("v1", "Event")
        .patch("p.1", &PatchParams::default(), &Patch::Merge(&label))
        .await
        .expect("label the Event");
    shop.event("q.1", "q", "BackOff").await;
    let status = shop.rule_status("jobs", "the other is done", |status| status["counts"]["succeeded"] == 2).await;
    assert_eq!(status["counts"]["fired"], 2);
    assert_eq!(jobs(3).await.len(), 3);
    assert_eq!(told(&sink).len(), 2);
}

#[tokio::test]
async fn a_deleted_rule_does_nothing_more_and_a_suspended_one_finishes_what_has_fired() {
    let site = Site::start().await;
    let shop = site.namespace("inflight").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let mut operator = site.setup.start_ready().await;
    for name in ["deleted", "suspended"] {
        let mut action = tell(&format!("{name} ${{event.data.regarding.name}}"));
        action["retry"] = json!({"limit": 10, "backoff": "1s", "maxBackoff": "2s"});
        shop.rule(name, json!({"sources": on_events(), "actions": [action, grow()]})).await;
    }
    shop.deployment("web", 0).await;
    sink.answer(Answer::status(503));
    shop.event("p.1", "p", "BackOff").await;
    sink.await_requests(4).await;
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    edit(&shop, "suspended", json!({"spec": {"suspend": true}})).await;
    rules.delete("deleted", &DeleteParams::default()).await.expect("delete the rule");
    let suspended = |status: &Value| support::site::condition(status, "Ready")["reason"] == "Suspended";
    // The operator hears of rules in their order: when it knows this one, it knows that the other is gone.
    let other = json!([{"name": "other", "kubernetesEvent": {"reasons": ["Other"]}}]);
    shop.rule("later", json!({"sources": other, "actions": [grow()]})).await;
    shop.rule_status("suspended", "it is suspended", suspended).await;
    let of_deleted = || sink.requests().iter().filter(|request| request.json()["text"] == "deleted p").count();
    let before = of_deleted();
    operator.kill();
    operator = site.setup.start_ready().await;
    sink.answer(Answer::status(200));
    let status = shop.rule_status("suspended", "it is done", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["counts"]["fired"], 1);
    assert_eq!(shop.replicas("web").await, 1, "one rule has gone on");
    assert!(of_deleted() <= before + 1, "an attempt that was under way came to its end, and no other was begun");
    let ended = operator.metrics().await;
    assert!(ended.contains("signalbox_firings_total{outcome=\"Succeeded\"} 1"), "{ended}");
}

/// A list of rules is read by the operator as a whole, so one that cannot be read must not hide the others.
#[tokio::test]
async fn a_rule_that_is_nested_too_deep_to_be_read_has_a_fault_and_the_others_work() {
    let site = Site::start().await;
    let shop = site.namespace("deep").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let operator = site.setup.start_ready().await;
    let sources = on_events();
    let patch = json!({"target": {"kind": "Deployment", "name": "web"}, "patch": {"spec": "DEEP"}});
    let rule = json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "metadata": {"name": "deep"},
        "spec": {"sources": sources, "actions": [{"name": "change", "patch": patch}]}});
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let path = format!("/apis/signalbox.dev/v1alpha1/namespaces/{}/eventrules", shop.name);
    let body = rule.to_string().replace("\"DEEP\"", &deep).into_bytes();
    let create = http::Request::post(&path).header("content-type", "application/json").body(body).expect("a request");
    shop.client.request_text(create).await.expect("the API server takes it");

    shop.rule("plain", json!({"sources": sources, "actions": [tell("${event.subject}")]})).await;
    drop(operator);
    let _operator = site.setup.start_ready().await;
    shop.event("p.1", "p", "BackOff").await;
    shop.rule_status("plain", "it has told", |status| status["counts"]["succeeded"] == 1).await;
    eventually("its fault is told", PATIENCE, async || {
        let read = http::Request::get(format!("{path}/deep")).body(Vec::new()).expect("a request");
        let text = shop.client.request_text(read).await.ok()?;
        text.contains("spec: it cannot be read").then_some(())
    })
    .await;
}
