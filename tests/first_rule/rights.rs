//! Which rights a rule and the operator need: what lacks is told, and a grant heals without a restart.

use super::*;

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
