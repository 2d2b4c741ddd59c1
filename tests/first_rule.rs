//! One rule end to end, on a real API server: what a user sees when events happen, rights are missing, specs are wrong.

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use support::{
    PATIENCE, eventually,
    sink::{Answer, Request, Sink},
    site::{Shop, Site, condition, shared as site, shop},
};

mod support;

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

#[tokio::test]
async fn a_missing_right_is_named_and_a_grant_heals_without_a_restart() {
    let shop = shop("rights").await;
    weak_account(&shop).await;
    shop.deployment("web", 1).await;
    let spec = json!({"serviceAccountName": "weak", "sources": on_events("BackOff"), "actions": [grow("1")]});
    shop.create("signalbox.dev/v1alpha1", "EventRule", "weak", json!({"spec": spec})).await;

    let status = shop
        .rule_status("weak", "the missing right", |status| condition(status, "Authorized")["status"] == "False")
        .await;
    let message = condition(&status, "Authorized")["message"].as_str().unwrap_or_default().to_owned();
    for part in ["list", "watch", "events", &shop.name, "weak", "kubectl create role"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert_eq!(condition(&status, "Ready")["status"], "False");

    // May watch, but not scale.
    grant(&shop, "watcher", "events", "list,watch").await;
    let listens = |status: &Value| condition(status, "Listening")["status"] == "True";
    shop.rule_status("weak", "events arrive", listens).await;
    let lacks = format!("weak may not get, patch deployments.apps/scale web in namespace {}", shop.name);
    let says = |status: &Value| condition(status, "Authorized")["message"].to_string().contains(&lacks);
    shop.rule_status("weak", "what the action needs is told", says).await;
    shop.event("web-1.1", "web-1", "BackOff").await;
    let status = shop.rule_status("weak", "a failed firing", |status| status["counts"]["failed"] == 1).await;
    assert_eq!(status["counts"]["deadLettered"], 1, "it is kept");
    let message = status["lastError"]["message"].as_str().unwrap_or_default().to_owned();
    for part in ["deployments", "scale", &shop.name, "weak"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert_eq!(shop.replicas("web").await, 1);
    let note = told(&shop, "EventRule", "weak", "ActionFailed").await;
    assert!(note.contains("grow"), "{note}");

    grant(&shop, "scaler", "deployments.apps/scale", "get,patch").await;
    shop.rule_ready("weak").await;
    shop.event("web-1.2", "web-1", "BackOff").await;
    shop.await_replicas("web", 2).await;
}

/// The account `weak`, which may be used and has no rights.
async fn weak_account(shop: &Shop) {
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: weak, namespace: NS, labels: {signalbox.dev/usable-by-rules: \"true\"}}}";
    site().await.plane.apply(&account.replace("NS", &shop.name)).await;
}

/// Runs the commands that a message gives, which are its end: `...: kubectl a && kubectl b`.
async fn follow(advice: &str) {
    let commands = advice.split_once("with: ").expect("the message gives commands").1;
    for command in commands.split(" && ") {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "kubectl", "{command}");
        let output = site().await.plane.kubectl(&words[1..]).await;
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The message of a status condition that is False.
async fn complaint(shop: &Shop, rule: &str, type_: &str) -> String {
    let is_false = |status: &Value| condition(status, type_)["status"] == "False";
    let status = shop.rule_status(rule, &format!("{type_} is False"), is_false).await;
    condition(&status, type_)["message"].as_str().unwrap_or_default().to_owned()
}

async fn grant(shop: &Shop, name: &str, resource: &str, verbs: &str) {
    let plane = &site().await.plane;
    let role =
        ["create", "role", name, "-n", &shop.name, &format!("--resource={resource}"), &format!("--verb={verbs}")];
    assert!(plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:weak", shop.name);
    let binding = ["create", "rolebinding", name, "-n", &shop.name, &format!("--role={name}"), &account];
    assert!(plane.kubectl(&binding).await.status.success());
}

/// A rule of the account `weak` that says its name and the object's.
fn told_by_weak(name: &str, sources: Value, text: &str) -> Value {
    let tell = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": format!("{name} {text}")}});
    json!({"serviceAccountName": "weak", "sources": sources, "actions": [tell]})
}

fn texts(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| request.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_right_that_is_taken_away_silences_the_rule_until_it_is_given_back() {
    const POD: &str = "${event.data.regarding.name}";
    let shop = shop("revoked").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    weak_account(&shop).await;
    grant(&shop, "teller", "eventsinks.signalbox.dev", "get").await;
    grant(&shop, "watcher", "events", "list,watch").await;
    shop.rule("weak", told_by_weak("weak", on_events("BackOff"), POD)).await;
    let mut other = told_by_weak("other", on_events("BackOff"), POD);
    other["serviceAccountName"] = json!("signalbox-rules");
    shop.rule("other", other).await;
    shop.event("first.1", "first", "BackOff").await;
    sink.await_requests(2).await;

    let plane = &site().await.plane;
    let revoke = ["delete", "rolebinding", "watcher", "-n", &shop.name];
    assert!(plane.kubectl(&revoke).await.status.success());
    let message = complaint(&shop, "weak", "Authorized").await;
    for part in ["list", "watch", "events", &shop.name, "weak"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    shop.event("while.1", "while", "BackOff").await;
    sink.await_requests(3).await;

    let account = format!("--serviceaccount={}:weak", shop.name);
    let again = ["create", "rolebinding", "watcher", "-n", &shop.name, "--role=watcher", &account];
    assert!(plane.kubectl(&again).await.status.success());
    shop.rule_ready("weak").await;
    shop.event("last.1", "last", "BackOff").await;
    let mut told = texts(&sink.await_requests(5).await);
    told.sort();
    assert_eq!(told, ["other first", "other last", "other while", "weak first", "weak last"]);
}

#[tokio::test]
async fn what_the_operator_may_not_watch_is_told_with_the_commands_that_allow_it() {
    let shop = shop("operator").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    weak_account(&shop).await;
    grant(&shop, "teller", "eventsinks.signalbox.dev", "get").await;
    grant(&shop, "watcher", "configmaps", "list,watch").await;
    let sources =
        json!([{"name": "maps", "resource": {"apiVersion": "v1", "kind": "ConfigMap", "operations": ["Create"]}}]);
    let spec = told_by_weak("maps", sources, "${object.metadata.name}");
    shop.create("signalbox.dev/v1alpha1", "EventRule", "maps", json!({"spec": spec})).await;
    let message = complaint(&shop, "maps", "Listening").await;
    for part in ["the operator itself", "configmaps", &shop.name, "signalbox.dev/aggregate-to-watch"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    // The others work.
    shop.rule("other", json!({"sources": on_events("BackOff"), "actions": [tell()]})).await;
    shop.event("p.1", "p", "BackOff").await;
    sink.await_requests(1).await;

    follow(&message).await;
    shop.rule_ready("maps").await;
    shop.create("v1", "ConfigMap", "new", json!({})).await;
    assert_eq!(texts(&sink.await_requests(2).await)[1], "maps new");
}

/// A pod that nobody runs.
async fn pod(shop: &Shop, name: &str, app: &str) {
    let spec = json!({"containers": [{"name": "app", "image": "example.invalid/app:1"}]});
    let metadata = json!({"name": name, "labels": {"app": app}});
    shop.create("v1", "Pod", name, json!({"metadata": metadata, "spec": spec})).await;
}

#[tokio::test]
async fn labels_of_what_an_event_is_about_are_read_as_the_account() {
    let shop = shop("labels").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    weak_account(&shop).await;
    grant(&shop, "teller", "eventsinks.signalbox.dev", "get").await;
    grant(&shop, "watcher", "events", "list,watch").await;
    let regarding = json!({"apiVersion": "v1", "kind": "Pod", "selector": {"matchLabels": {"app": "web"}}});
    let sources = json!([{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"], "regarding": regarding}}]);
    let text = "${event.data.regarding.name} ${event.data.regarding.labels['app']}";
    let spec = told_by_weak("rule", sources, text);
    shop.create("signalbox.dev/v1alpha1", "EventRule", "labels", json!({"spec": spec})).await;
    pod(&shop, "web-1", "web").await;
    pod(&shop, "db-1", "db").await;
    let message = complaint(&shop, "labels", "Authorized").await;
    assert!(message.contains("may not get pods in namespace"), "{message}");
    shop.event("early.1", "web-1", "BackOff").await;

    follow(&message).await;
    shop.rule_ready("labels").await;
    for pod in ["db-1", "gone-1", "web-1"] {
        shop.event(&format!("{pod}.1"), pod, "BackOff").await;
    }
    sink.await_requests(1).await;
    let status = shop.rule_status("labels", "it is counted", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["counts"]["matched"], 1);
    assert_eq!(texts(&sink.requests()), ["rule web-1 web"]);
}

#[tokio::test]
async fn namespaces_are_chosen_by_their_labels() {
    let (shop, near, far) = (shop("chooser").await, shop("near").await, shop("far").await);
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    view_everything(&shop).await;
    let plane = &site().await.plane;
    let label = ["label", "namespace", &near.name, &format!("chosen-by={}", shop.name)];
    assert!(plane.kubectl(&label).await.status.success());
    let namespaces = json!({"from": "Selector", "selector": {"matchLabels": {"chosen-by": shop.name}}});
    let sources = json!([{"name": "crash", "kubernetesEvent": {"reasons": ["Chosen"], "namespaces": namespaces}}]);
    let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.subject}"}});
    shop.rule("chosen", json!({"sources": sources, "actions": [text]})).await;
    for place in [&shop, &far, &near] {
        place.event("p.1", "p", "Chosen").await;
    }
    sink.await_requests(1).await;
    let status = shop.rule_status("chosen", "it is counted", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["counts"]["matched"], 1);
    assert_eq!(texts(&sink.requests()), [format!("{}/Pod/p", near.name)]);
}

#[tokio::test]
async fn one_event_that_two_watches_bring_fires_each_rule_once() {
    let shop = shop("twice").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    view_everything(&shop).await;
    for (name, from) in [("same", "Same"), ("all", "All")] {
        let sources =
            json!([{"name": "crash", "kubernetesEvent": {"reasons": ["Twice"], "namespaces": {"from": from}}}]);
        let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": format!("{name} ${{event.data.regarding.name}}")}});
        shop.rule(name, json!({"sources": sources, "actions": [text]})).await;
    }
    for pod in ["a", "b"] {
        shop.event(&format!("{pod}.1"), pod, "Twice").await;
        for rule in ["same", "all"] {
            let count = if pod == "a" { 1 } else { 2 };
            shop.rule_status(rule, "it is counted", |status| status["counts"]["succeeded"] == count).await;
        }
    }
    let mut told = texts(&sink.requests());
    told.sort();
    assert_eq!(told, ["all a", "all b", "same a", "same b"]);
}

/// Lets `signalbox-rules` see everything in the cluster.
async fn view_everything(shop: &Shop) {
    site().await.plane.apply(&format!("{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: view-{0}}}, \
        roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}, subjects: [{{kind: ServiceAccount, name: signalbox-rules, namespace: {0}}}]}}", shop.name)).await;
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
async fn changes_of_resources_are_events_and_what_existed_is_not() {
    let shop = shop("resource").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("old", 1).await;
    let sources = json!([{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Create", "Delete"],
        "selector": {"matchExpressions": [{"key": "quiet", "operator": "DoesNotExist"}]}}}]);
    let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "title": "${event.data.operation}",
        "text": "${object.metadata.name} ${'x' in object.metadata.labels}"}});
    shop.rule("watch", json!({"sources": sources, "actions": [text]})).await;

    shop.deployment("new", 1).await;
    sink.await_requests(1).await;
    shop.api("apps/v1", "Deployment").delete("old", &DeleteParams::default()).await.expect("delete");
    let told = sink.await_requests(2).await;
    let words: Vec<_> = told
        .iter()
        .map(|request| request.json())
        .map(|alert| format!("{} {}", alert["title"], alert["text"]))
        .collect();
    assert_eq!(words, ["\"Create\" \"new false\"", "\"Delete\" \"old false\""]);
}

#[tokio::test]
async fn existing_objects_fire_when_the_rule_asks_for_it() {
    let shop = shop("existing").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("one", 1).await;
    shop.deployment("two", 1).await;
    let sources = json!([{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Create"], "existing": "Fire"}}]);
    shop.rule("all", json!({"sources": sources, "actions": [tell_object()]})).await;
    let mut names: Vec<_> =
        sink.await_requests(2).await.iter().map(|request| request.json()["text"].clone().to_string()).collect();
    names.sort();
    assert_eq!(names, ["\"one\"", "\"two\""]);
}

fn tell_object() -> Value {
    json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${object.metadata.name}"}})
}

#[tokio::test]
async fn a_kind_that_comes_later_starts_working() {
    let shop = shop("later").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let sources = json!([{"name": "w", "resource": {"apiVersion": "late.example.com/v1", "kind": "Widget", "operations": ["Create"]}}]);
    let spec = json!({"sources": sources, "actions": [tell_object()]});
    shop.create("signalbox.dev/v1alpha1", "EventRule", "later", json!({"spec": spec})).await;
    let status = shop
        .rule_status("later", "the kind is not there", |status| {
            condition(status, "Listening")["reason"] == "KindNotFound"
        })
        .await;
    assert!(condition(&status, "Listening")["message"].to_string().contains("Widget"));

    let plane = &site().await.plane;
    plane.apply("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: widgets.late.example.com}, \
        spec: {group: late.example.com, scope: Namespaced, names: {plural: widgets, singular: widget, kind: Widget}, \
        versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}").await;
    plane.apply(&format!("{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {{name: watch-widgets, labels: {{signalbox.dev/aggregate-to-watch: \"true\"}}}}, \
        rules: [{{apiGroups: [late.example.com], resources: [widgets], verbs: [list, watch]}}]}}\n---\n\
        {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: widgets, namespace: {0}}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: watch-widgets}}, \
        subjects: [{{kind: ServiceAccount, name: signalbox-rules, namespace: {0}}}]}}", shop.name)).await;
    shop.rule_ready("later").await;
    shop.create("late.example.com/v1", "Widget", "first", json!({})).await;
    assert_eq!(sink.await_requests(1).await[0].json()["text"], "first");
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
async fn objects_without_a_namespace_are_seen_by_those_who_ask_for_them() {
    let shop = shop("scope").await;
    view_everything(&shop).await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let rule = async |name: &str, source: Value| {
        let text = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "title": name, "text": "${event.subject}"}});
        shop.rule(name, json!({"sources": [{"name": "s", "kubernetesEvent": source}], "actions": [text]})).await;
    };
    let reason = "NodeNotReadyHere";
    rule("own", json!({"reasons": [reason]})).await;
    rule("nodes", json!({"reasons": [reason], "regarding": {"kind": "Node"}, "namespaces": {"from": "All", "clusterScoped": "Include"}})).await;
    rule(
        "both",
        json!({"reasons": [reason], "namespaces": {"from": "Names", "names": [shop.name], "clusterScoped": "Include"}}),
    )
    .await;

    let node = json!({"metadata": {"name": format!("node-7.{}", shop.name), "namespace": "default"}, "involvedObject": {"kind": "Node", "name": "node-7", "uid": "node-7"},
        "reason": reason, "message": "m", "type": "Normal", "count": 1, "source": {"component": "node-controller"}});
    let default = Shop { name: "default".to_owned(), client: shop.client.clone() };
    default.create("v1", "Event", &format!("node-7.{}", shop.name), node).await;
    shop.event("p.1", "p", reason).await;

    let told = sink.await_requests(4).await;
    let mut words: Vec<_> = told
        .iter()
        .map(|request| request.json())
        .map(|alert| format!("{} {}", alert["title"], alert["text"]))
        .collect();
    words.sort();
    let pod = format!("{}/Pod/p", shop.name);
    assert_eq!(
        words,
        [
            "\"both\" \"Node/node-7\"".to_owned(),
            format!("\"both\" \"{pod}\""),
            "\"nodes\" \"Node/node-7\"".to_owned(),
            format!("\"own\" \"{pod}\"")
        ]
    );
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

#[tokio::test]
async fn a_rule_that_observes_shows_which_right_its_account_lacks() {
    let shop = shop("observe-denied").await;
    weak_account(&shop).await;
    shop.deployment("web", 2).await;
    let spec = json!({"mode": "Observe", "serviceAccountName": "weak", "sources": on_events("BackOff"), "actions": [grow("1")]});
    grant(&shop, "events", "events", "list,watch").await;
    // It listens, and is not ready: that the account may not scale is known before it fires.
    shop.create("signalbox.dev/v1alpha1", "EventRule", "careful", json!({"spec": spec})).await;
    let listens = |status: &Value| condition(status, "Listening")["status"] == "True";
    shop.rule_status("careful", "listening", listens).await;
    shop.event("a.1", "a", "BackOff").await;
    let status = shop.rule_status("careful", "failed", |status| status["counts"]["failed"] == 1).await;
    let message = status["recent"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("may not get deployments.apps/scale"), "{message}");
}
