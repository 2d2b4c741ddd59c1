//! One rule end to end, on a real API server: what a user sees when events happen, rights are missing, specs are wrong.

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use support::{
    PATIENCE, eventually,
    sink::{Answer, Request, Sink},
    site::{Shop, Site, condition, shared as site, shop},
};

mod support;

#[path = "first_rule/namespaces.rs"]
mod namespaces;
#[path = "first_rule/resources.rs"]
mod resources;
#[path = "first_rule/rights.rs"]
mod rights;

fn on_events(reason: &str) -> Value {
    json!([{"name": "crash", "kubernetesEvent": {"types": ["Warning"], "reasons": [reason]}}])
}

fn grow(by: &str) -> Value {
    json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": by}})
}

fn tell() -> Value {
    json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "severity": "Warning",
        "title": "${event.data.regarding.name} is down", "text": "${event.data.message}"}})
}

#[tokio::test]
async fn an_event_scales_a_deployment_launches_a_job_and_delivers_an_alert() {
    let shop = shop("story").await;
    let sink = Sink::start().await;
    shop.deployment("web", 2).await;
    shop.sink("oncall", &sink.url("/alerts")).await;
    let job = json!({"name": "collect", "job": {"script": {"image": "example.invalid/tools:1", "run": "echo \"$SIGNALBOX_EVENT\""}}});
    shop.rule("web-crash", json!({"sources": on_events("BackOff"), "actions": [grow("2"), job, tell()]})).await;

    shop.event("web-1.1", "web-1", "BackOff").await;

    let alerts = sink.await_requests(1).await;
    let alert = alerts[0].json();
    assert_eq!(alert["title"], "web-1 is down");
    assert_eq!(alert["text"], "BackOff of web-1");
    assert_eq!(alert["severity"], "Warning");
    shop.await_replicas("web", 4).await;
    let jobs = shop.api("batch/v1", "Job").list(&ListParams::default()).await.expect("list Jobs");
    assert_eq!(jobs.items.len(), 1);
    let owner = &jobs.items[0].metadata.owner_references.as_ref().expect("the Job has an owner")[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("EventRule", "web-crash"));

    let status =
        shop.rule_status("web-crash", "one firing succeeded", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["counts"]["matched"], 1);
    assert_eq!(status["recent"][0]["outcome"], "Succeeded");
    assert_eq!(status["recent"][0]["event"]["subject"], format!("{}/Pod/web-1", shop.name));
    let names: Vec<_> =
        status["recent"][0]["actions"].as_array().expect("actions").iter().map(|a| a["name"].clone()).collect();
    assert_eq!(names, ["grow", "collect", "tell"]);
    told(&shop, "EventRule", "web-crash", "Fired").await;
    told(&shop, "Deployment", "web", "ScaledByRule").await;
}

/// Waits for a Kubernetes Event about an object.
async fn told(shop: &Shop, kind: &str, name: &str, reason: &str) -> String {
    let events = shop.api("events.k8s.io/v1", "Event");
    eventually(&format!("Event {reason} on {kind} {name}"), PATIENCE, async || {
        let events = events.list(&ListParams::default()).await.ok()?;
        let found = events.items.into_iter().find(|event| {
            event.data["regarding"]["kind"] == kind
                && event.data["regarding"]["name"] == name
                && event.data["reason"] == reason
        });
        found.map(|event| event.data["note"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

fn texts(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn all_faults_of_a_spec_are_told_at_once_with_their_places() {
    let shop = shop("faults").await;
    let spec = json!({
        "sources": on_events("BackOff"),
        "when": [{"name": "a", "expression": "evnt.type == 'x'"}, {"name": "b", "expression": "1 +"}],
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "s"}, "text": "${event.data.message"}}],
        "throttle": {"cooldown": "7d"},
    });
    shop.create("signalbox.dev/v1alpha1", "EventRule", "faulty", json!({"spec": spec})).await;
    let status =
        shop.rule_status("faulty", "not ready", |status| condition(status, "Ready")["reason"] == "InvalidSpec").await;
    let message = condition(&status, "Ready")["message"].to_string();
    assert!(message.contains("168h"), "{message}");

    let merge = json!({"spec": {"throttle": {"cooldown": "168h"}}});
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    rules.patch("faulty", &PatchParams::default(), &Patch::Merge(&merge)).await.expect("edit the rule");
    let status = shop
        .rule_status("faulty", "the expressions' faults", |status| {
            condition(status, "Ready")["message"].as_str().is_some_and(|message| message.contains("evnt"))
        })
        .await;
    let message = condition(&status, "Ready")["message"].to_string();
    for place in ["spec.when[0].expression:1:1", "spec.when[1].expression:1:", "spec.actions[0].notify.text"] {
        assert!(message.contains(place), "{place} is not in {message}");
    }
}

#[tokio::test]
async fn odd_kubernetes_events_are_events_with_a_time_and_a_count() {
    let shop = shop("odd").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"},
        "title": "${event.data.reason}", "text": "${event.data.count}/${event.data.delta} ${event.data.reporter}: ${event.data.message} ${event.time}"}});
    let sources = json!([{"name": "any", "kubernetesEvent": {"types": ["Warning"], "reasons": ["FailedScheduling", "HandMade", "Repeated"]}}]);
    shop.rule("odd", json!({"sources": sources, "actions": [text]})).await;

    let about = json!({"apiVersion": "v1", "kind": "Pod", "name": "api-1", "namespace": shop.name});
    // As the scheduler writes it: only eventTime.
    shop.create("v1", "Event", "api-1.1", json!({"involvedObject": about, "reason": "FailedScheduling", "message": "0/3 nodes are available", "action": "Scheduling",
        "type": "Warning", "eventTime": "2026-11-02T07:30:00.123456Z", "reportingComponent": "default-scheduler", "reportingInstance": "s-1",
        "source": {}, "firstTimestamp": null, "lastTimestamp": null})).await;
    // By hand: no time, no count, no message.
    shop.create(
        "v1",
        "Event",
        "api-1.2",
        json!({"involvedObject": about, "reason": "HandMade", "message": "", "type": "Warning"}),
    )
    .await;
    let told = sink.await_requests(2).await;
    let text = |reason: &str| {
        let one = told.iter().map(|request| request.json()).find(|alert| alert["title"] == reason).unwrap_or_default();
        one["text"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(text("FailedScheduling"), "1/1 default-scheduler: 0/3 nodes are available 2026-11-02T07:30:00.123456Z");
    assert!(text("HandMade").starts_with("1/1 :  20"), "{}", text("HandMade"));

    // A series: the first, the 2, the 31 - and a label that is no occurrence.
    let mut series = json!({"eventTime": "2026-11-02T07:31:00.000001Z", "reportingController": "example.com/pump", "reportingInstance": "p-0",
        "action": "Probing", "reason": "Repeated", "note": "stalled", "type": "Warning", "regarding": about});
    shop.create("events.k8s.io/v1", "Event", "api-1.3", series.take()).await;
    let events = shop.api("events.k8s.io/v1", "Event");
    sink.await_requests(3).await;
    for (patch, runs) in [
        (json!({"series": {"count": 2, "lastObservedTime": "2026-11-02T07:32:10.000000Z"}}), 4),
        (json!({"series": {"count": 31, "lastObservedTime": "2026-11-02T08:01:00.000000Z"}}), 5),
        (json!({"metadata": {"labels": {"seen": "yes"}}}), 5),
    ] {
        events.patch("api-1.3", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("patch the Event");
        sink.await_requests(runs).await;
    }
    // Whatever the label would have caused comes before what follows it.
    shop.event("last.1", "last", "HandMade").await;
    let all = sink.await_requests(6).await;
    assert_eq!(all.len(), 6);
    let repeated: Vec<String> = all
        .iter()
        .map(|request| request.json())
        .filter(|alert| alert["title"] == "Repeated")
        .map(|alert| alert["text"].as_str().unwrap_or_default().split(' ').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(repeated, ["1/1", "2/1", "31/29"]);
}

#[tokio::test]
async fn a_cooldown_suppresses_and_counts() {
    let shop = shop("cooldown").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.rule("calm", json!({"sources": on_events("BackOff"), "throttle": {"cooldown": "1h"}, "actions": [tell()]}))
        .await;
    for (name, pod) in [("a.1", "a"), ("a.2", "a"), ("b.1", "b"), ("a.3", "a")] {
        shop.event(name, pod, "BackOff").await;
    }
    let status = shop
        .rule_status("calm", "four matches", |status| {
            status["counts"]["matched"] == 4 && status["counts"]["succeeded"] == 2
        })
        .await;
    assert_eq!(status["counts"]["suppressed"]["cooldown"], 2);
    assert_eq!(sink.requests().len(), 2);
}

#[tokio::test]
async fn a_firing_that_waited_longer_than_its_deadline_is_expired_and_told() {
    let shop = shop("deadline").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.rule("prompt", json!({"sources": on_events("BackOff"), "startingDeadline": "1s", "actions": [tell()]})).await;
    // The second firing of the group has to wait for the first.
    sink.answer_next(Answer::status(200).after(std::time::Duration::from_secs(3)));
    shop.event("a.1", "a", "BackOff").await;
    sink.await_requests(1).await;
    shop.event("a.2", "a", "BackOff").await;
    let status = shop.rule_status("prompt", "one is expired", |status| status["counts"]["expired"] == 1).await;
    assert_eq!((&status["counts"]["succeeded"], &status["counts"]["failed"]), (&json!(1), &json!(0)));
    assert_eq!(status["recent"][0]["outcome"], "Expired");
    assert!(status["recent"][0]["message"].as_str().expect("a message").contains("startingDeadline"), "{status}");
    assert_eq!(sink.requests().len(), 1);
}

#[tokio::test]
async fn a_suspended_rule_evaluates_nothing_and_catches_up_nothing() {
    let shop = shop("suspend").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.rule("paused", json!({"sources": on_events("BackOff"), "actions": [tell()]})).await;
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    let set = async |suspend: bool| {
        let merge = json!({"spec": {"suspend": suspend}});
        rules.patch("paused", &PatchParams::default(), &Patch::Merge(&merge)).await.expect("edit the rule");
        let wanted = if suspend { "Suspended" } else { "InForce" };
        shop.rule_status("paused", wanted, |status| condition(status, "Ready")["reason"] == wanted).await;
    };
    set(true).await;
    shop.event("while.1", "while", "BackOff").await;
    set(false).await;
    shop.event("after.1", "after", "BackOff").await;
    sink.await_requests(1).await;
    let status = shop.rule_status("paused", "one match", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["counts"]["seen"], 1);
    assert_eq!(sink.requests()[0].json()["title"], "after is down");
}

#[tokio::test]
async fn editing_a_rule_never_meets_a_conflict_and_the_old_or_the_new_version_judges() {
    let shop = shop("edit").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let spec = |version: usize| {
        json!({"sources": on_events("BackOff"), "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"},
            "title": format!("v{version}"), "text": "${event.data.regarding.name}"}}]})
    };
    shop.rule("edited", spec(0)).await;
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    for number in 0..40 {
        shop.event(&format!("p{number}.1"), &format!("p{number}"), "BackOff").await;
        if number % 4 == 3 {
            let merge = json!({"spec": spec(number)});
            rules.patch("edited", &PatchParams::default(), &Patch::Merge(&merge)).await.expect("no conflict");
        }
    }
    let told = sink.await_requests(40).await;
    let mut pods: Vec<_> = told.iter().map(|request| request.json()["text"].to_string()).collect();
    pods.sort();
    pods.dedup();
    assert_eq!(pods.len(), 40, "each event was judged by one version");
    let status = shop.rule_status("edited", "all are counted", |status| status["counts"]["succeeded"] == 40).await;
    assert_eq!(status["counts"]["fired"], 40);

    rules.delete("edited", &DeleteParams::default()).await.expect("delete the rule");
    eventually("the rule is gone", PATIENCE, async || rules.get_opt("edited").await.ok().filter(Option::is_none)).await;
    // The operator hears of rules in their order: when it knows the next one, it knows that this one is gone.
    let mut other = spec(99);
    other["sources"] = on_events("Other");
    shop.rule("other", other).await;
    shop.event("gone.1", "gone", "BackOff").await;
    shop.event("other.1", "other", "Other").await;
    let told = sink.await_requests(41).await;
    assert_eq!(told[40].json()["title"], "v99");
}

#[tokio::test]
async fn a_rule_that_sets_itself_off_is_slowed_down_says_so_and_holds_up_no_other() {
    let mut site = Site::start().await;
    site.setup = site.setup.args(&["--firings-per-minute=5"]);
    let shop = site.namespace("runaway").await;
    let operator = site.setup.start_ready().await;
    shop.deployment("web", 0).await;
    shop.deployment("db", 0).await;
    let updates = json!([{"name": "changed", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["web"], "operations": ["Update"]}}]);
    shop.rule("wild", json!({"sources": updates, "actions": [grow("1")]})).await;
    let on_db = json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "db"}, "by": "1"}});
    shop.rule("calm", json!({"sources": on_events("Crash"), "actions": [on_db]})).await;
    let touch = json!({"metadata": {"labels": {"touched": "yes"}}});
    let web = shop.api("apps/v1", "Deployment");
    web.patch("web", &PatchParams::default(), &Patch::Merge(&touch)).await.expect("the first update");

    let runs_away = |status: &Value| condition(status, "Acting")["reason"] == "RunawayRule";
    let status = shop.rule_status("wild", "running away", runs_away).await;
    let message = condition(&status, "Acting")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("Deployment/web fires more than 5 times a minute"), "{message}");
    assert!(message.contains("throttle.cooldown") && message.contains("limits.firingsPerMinute"), "{message}");
    told(&shop, "EventRule", "wild", "RunawayRule").await;
    assert!(operator.metrics().await.contains("signalbox_slowed_rules 1\n"));
    shop.event("c.1", "c", "Crash").await;
    shop.rule_status("calm", "another rule acts", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!((shop.replicas("web").await, shop.replicas("db").await), (5, 1));
}

#[tokio::test]
async fn a_rule_that_observes_tells_what_it_would_change_and_changes_nothing() {
    let shop = shop("observe").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 2).await;
    let script = json!({"name": "look", "job": {"wait": "Completed", "script": {"image": "example.invalid/tools:1", "run": "true"}}});
    let tell = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "title": "crash", "text": "of ${event.data.regarding.name}"}});
    let actions = json!([grow("1"), tell, script]);
    shop.rule("careful", json!({"mode": "Observe", "sources": on_events("BackOff"), "actions": actions})).await;
    shop.event("a.1", "a", "BackOff").await;
    let status = shop.rule_status("careful", "observed", |status| status["counts"]["observed"] == 1).await;
    let firing = &status["recent"][0];
    assert_eq!(firing["outcome"], "Observed", "{status:#}");
    let said: Vec<&str> =
        (0..3).map(|index| firing["actions"][index]["message"].as_str().unwrap_or_default()).collect();
    assert_eq!(said[0], format!("would scale Deployment {}/web from 2 to 3", shop.name));
    assert!(
        said[2].starts_with("would create Job ") && said[2].ends_with("which runs example.invalid/tools:1"),
        "{said:?}"
    );
    assert_eq!(said[1], "would notify EventSink oncall: crash: of a");
    assert_eq!(condition(&status, "Acting")["reason"], "Observed");

    let jobs = shop.api("batch/v1", "Job").list(&ListParams::default()).await.expect("list Jobs").items.len();
    assert_eq!((shop.replicas("web").await, jobs, sink.requests().len()), (2, 0, 0), "nothing is done");

    // The same rule acts when it is told to, and what it observed is not made up for.
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    let patch = json!({"spec": {"mode": "Enforce"}});
    rules.patch("careful", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("enforce");
    shop.rule_ready("careful").await;
    shop.event("b.1", "b", "BackOff").await;
    sink.await_requests(1).await;
    assert_eq!((shop.replicas("web").await, sink.requests().len()), (3, 1));
}
