//! Actions that send requests, by the operator on a real API server and a real HTTP server.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use support::{
    sink::{Answer, Request, Sink},
    site::{Shop, Site, condition, shared as site, shop},
};

mod support;

mod calling {
    mod email;
}

const GROUP: &str = "signalbox.dev/v1alpha1";

/// A rule that does this when a pod backs off.
fn rule(actions: Value) -> Value {
    json!({"sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}], "actions": actions})
}

fn keys(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.header("idempotency-key").expect("a key")).collect()
}

/// Waits until a rule's only firing has ended; gives its outcome and its message.
async fn ended(shop: &Shop, rule: &str) -> (String, String) {
    let done = |status: &Value| !["Running", ""].contains(&status["recent"][0]["outcome"].as_str().unwrap_or_default());
    let status = shop.rule_status(rule, "a firing that has ended", done).await;
    let text = |field: &str| status["recent"][0][field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("message"))
}

#[tokio::test]
async fn an_answer_feeds_a_later_action() {
    let (shop, sink) = (shop("feeds").await, Sink::start().await);
    sink.answer_next(Answer::status(200).json(&json!({"owner": "team/a", "open": true})));
    sink.answer_next(Answer::status(201));
    let actions = json!([
        {"name": "ask", "http": {"method": "GET", "url": sink.url("/owners/${event.data.regarding.name}?ns=${rule.namespace}"),
            "expectExpression": "response.status == 200 && response.body.open"}},
        {"name": "tell", "http": {"url": sink.url("/tickets/${actions.ask.body.owner}"),
            "headers": [{"name": "X-Status", "value": "${string(actions.ask.status)}"}],
            "body": {"pod": "${event.data.regarding.name}", "asked": "${actions.ask.body}"}}},
    ]);
    shop.rule("feeds", rule(actions)).await;
    shop.event("web.1", "web", "BackOff").await;
    let (outcome, message) = ended(&shop, "feeds").await;
    assert_eq!(outcome, "Succeeded", "{message}");
    assert!(message.contains(&format!("POST {} answered 201 Created", sink.url("/tickets/team%2Fa"))), "{message}");
    let [ask, tell] = sink.requests().try_into().expect("two requests");
    assert_eq!((ask.method.as_str(), ask.path.as_str()), ("GET", &*format!("/owners/web?ns={}", shop.name)));
    assert_eq!((tell.path.as_str(), tell.header("x-status")), ("/tickets/team%2Fa", Some("200")));
    assert_eq!(tell.json(), json!({"pod": "web", "asked": {"owner": "team/a", "open": true}}));
    let keys = [&ask, &tell].map(|request| request.header("idempotency-key").expect("a key"));
    assert!(keys[0].ends_with("-ask") && keys[1].ends_with("-tell"), "{keys:?}");
}

#[tokio::test]
async fn a_service_that_asks_for_patience_gets_it() {
    let (shop, sink) = (shop("patience").await, Sink::start().await);
    sink.answer_next(Answer::status(429).retry_after("2"));
    let call =
        json!([{"name": "call", "http": {"url": sink.url("/")}, "retry": {"backoff": "1ms", "maxBackoff": "1ms"}}]);
    shop.rule("patience", rule(call)).await;
    shop.event("web.1", "web", "BackOff").await;
    assert_eq!(ended(&shop, "patience").await.0, "Succeeded");
    let requests = sink.requests();
    assert_eq!(keys(&requests).len(), 2);
    assert_eq!(keys(&requests)[0], keys(&requests)[1]);
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_request_without_an_answer_is_not_sent_again_where_the_rule_says_so() {
    let (shop, sink) = (shop("unknown").await, Sink::start().await);
    sink.answer(Answer::status(200).after(Duration::from_secs(600)));
    let call = json!([{"name": "call", "retry": {"attemptTimeout": "300ms"}, "http": {"url": sink.url("/pay"), "onUnknown": "Fail"}}]);
    shop.rule("unknown", rule(call)).await;
    shop.event("web.1", "web", "BackOff").await;
    let (outcome, message) = ended(&shop, "unknown").await;
    assert_eq!(outcome, "Failed");
    assert!(message.contains("no answer within 0.3 s; whether it was received is not known"), "{message}");
    assert_eq!(sink.requests().len(), 1);
}

#[tokio::test]
async fn a_request_that_a_crash_interrupted_has_the_same_key_or_is_not_repeated() {
    let site = Site::start().await;
    let (shop, retry, fail) = (site.namespace("crash").await, Sink::start().await, Sink::start().await);
    let operator = site.setup.start_ready().await;
    for (name, sink, on_unknown) in [("retry", &retry, "Retry"), ("fail", &fail, "Fail")] {
        sink.answer_next(Answer::status(200).after(Duration::from_secs(600)));
        let http = json!({"url": sink.url("/"), "onUnknown": on_unknown, "body": "${firing.id}"});
        shop.rule(name, rule(json!([{"name": "call", "retry": {"attemptTimeout": "5m"}, "http": http}]))).await;
    }
    shop.event("web.1", "web", "BackOff").await;
    retry.await_requests(1).await;
    fail.await_requests(1).await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    assert_eq!(ended(&shop, "retry").await.0, "Succeeded");
    let requests = retry.requests();
    assert_eq!(keys(&requests).len(), 2);
    assert_eq!((keys(&requests)[0], requests[0].text()), (keys(&requests)[1], requests[1].text()));
    let (outcome, message) = ended(&shop, "fail").await;
    assert_eq!(outcome, "Failed");
    assert!(message.contains("it was interrupted; whether it was received is not known"), "{message}");
    assert_eq!(fail.requests().len(), 1);
}

#[tokio::test]
async fn a_token_is_read_with_the_rights_of_the_rules_account_and_shown_nowhere() {
    let (shop, sink) = (shop("token").await, Sink::start().await);
    sink.answer(Answer::status(200).body("you sent canary-42"));
    let secret = json!({"stringData": {"token": "canary-42\n"}});
    shop.create("v1", "Secret", "api", secret).await;
    let call =
        json!([{"name": "call", "http": {"url": sink.url("/"), "authSecretRef": {"name": "api", "key": "token"}}}]);
    shop.create(GROUP, "EventRule", "token", json!({"spec": rule(call)})).await;
    let lacks = |status: &Value| condition(status, "Authorized")["message"].to_string().contains("get secrets api");
    let status = shop.rule_status("token", "a missing right", lacks).await;
    let told = condition(&status, "Authorized")["message"].as_str().unwrap_or_default().to_owned();
    let (_, lines) = told.split_once("grant it with: ").expect("the lines that grant it");
    for line in lines.split("&&") {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let output = site().await.plane.kubectl(&words).await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    shop.rule_status("token", "the right", |status| condition(status, "Authorized")["status"] == "True").await;
    shop.event("web.1", "web", "BackOff").await;
    assert_eq!(ended(&shop, "token").await.0, "Succeeded");
    assert_eq!(sink.requests()[0].header("authorization"), Some("Bearer canary-42"));
    let status = shop.rule_status("token", "its status", |_| true).await;
    let events = shop.api("v1", "Event").list(&Default::default()).await.expect("list Events").items;
    assert!(!format!("{status} {events:?}").contains("canary"), "{status}");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_with_its_place_and_observing_sends_nothing() {
    let (shop, sink) = (shop("wrong").await, Sink::start().await);
    let object = |http: Value| {
        let spec = rule(json!([{"name": "call", "http": http}]));
        json!({"apiVersion": GROUP, "kind": "EventRule", "metadata": {"name": "tried", "namespace": "default"}, "spec": spec})
    };
    for (http, field) in [
        (json!({"url": "file:///etc/passwd"}), "spec.actions[0].http.url"),
        (json!({"url": "http://h/", "method": "TRACE"}), "spec.actions[0].http.method"),
        (json!({"url": "http://h/", "headers": [{"name": "X"}]}), "exactly one of value and valueSecretRef"),
    ] {
        let output = site().await.plane.try_apply(&object(http.clone()).to_string()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(field), "{http}: {said}");
    }
    let http = json!({"url": "http://user:pass@h/", "expectExpression": "response.status = 200",
        "headers": [{"name": "Authorization", "value": "x"}]});
    shop.create(GROUP, "EventRule", "wrong", json!({"spec": rule(json!([{"name": "call", "http": http}]))})).await;
    let invalid = |status: &Value| condition(status, "Ready")["reason"] == "InvalidSpec";
    let status = shop.rule_status("wrong", "its faults", invalid).await;
    let told = condition(&status, "Ready")["message"].to_string();
    for part in ["http.url:1:1: ", "http.headers[0].name:1:1: ", "http.expectExpression:1:17: "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let http = json!({"url": sink.url("/restart?token=x"), "body": {"a": [1, null, "${event.type}"]}});
    let mut spec = rule(json!([{"name": "call", "http": http}]));
    spec["mode"] = "Observe".into();
    let apply = Patch::Merge(json!({"spec": spec}));
    shop.api(GROUP, "EventRule").patch("wrong", &PatchParams::default(), &apply).await.expect("mend the rule");
    shop.rule_ready("wrong").await;
    shop.event("web.1", "web", "BackOff").await;
    let told = ended(&shop, "wrong").await;
    assert_eq!(told, ("Observed".to_owned(), format!("would POST {}", sink.url("/restart"))));
    assert!(sink.requests().is_empty());
}

/// The message of an Event whose probe failed: quotes, line breaks, and what looks like code to a shell, a template or a chat.
const ODD: &str = "Readiness probe failed: Get \"http://10.0.0.9:8080/ready?x={{ .Values.y }}\":\n\tdial tcp: C:\\tmp $(id) `whoami` </script> <!channel> *bold*\n";

async fn odd_event(shop: &Shop) {
    let involved = json!({"apiVersion": "v1", "kind": "Pod", "name": "web-0", "namespace": shop.name});
    let event = json!({"metadata": {"name": "web-0.1", "namespace": shop.name}, "involvedObject": involved, "reason": "BackOff",
        "message": ODD, "type": "Warning", "count": 3, "source": {"component": "kubelet"}});
    shop.create("v1", "Event", "web-0.1", event).await;
}

#[tokio::test]
async fn quotes_line_breaks_and_what_looks_like_code_arrive_as_they_are() {
    let (shop, sink) = (shop("texts").await, Sink::start().await);
    let body = json!({"text": "${event.data.message}", "n": "${event.data.count}", "all": "${event}"});
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/tools:1",
        "args": ["--msg=${event.data.message}"]}]});
    let actions = json!([
        {"name": "call", "http": {"url": sink.url("/?q=${event.data.message}"), "body": body}},
        {"name": "run", "job": {"template": {"spec": {"template": {"spec": pod}}}}},
    ]);
    shop.rule("texts", rule(actions)).await;
    let header = json!([{"name": "X-Message", "value": "${event.data.message}"}]);
    shop.rule("header", rule(json!([{"name": "call", "http": {"url": sink.url("/never"), "headers": header}}]))).await;
    odd_event(&shop).await;
    let (outcome, message) = ended(&shop, "texts").await;
    assert_eq!(outcome, "Succeeded", "{message}");
    let [request] = sink.requests().try_into().expect("one request: a line break gets into no header");
    let sent = request.json();
    assert_eq!((&sent["text"], &sent["n"], &sent["all"]["data"]["message"]), (&json!(ODD), &json!(3), &json!(ODD)));
    let encoded: String = ODD
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    assert_eq!(request.path, format!("/?q={encoded}"));
    let job = shop.api("batch/v1", "Job").list(&Default::default()).await.expect("list Jobs").items.remove(0);
    // Kubernetes itself makes `$` of `$$`: so it expands nothing of the message.
    let argument = format!("--msg={}", ODD.replace('$', "$$"));
    assert_eq!(job.data["spec"]["template"]["spec"]["containers"][0]["args"], json!([argument]));
    let (outcome, message) = ended(&shop, "header").await;
    assert_eq!(outcome, "Failed");
    assert!(message.contains("x-message") && message.contains("line break"), "{message}");
}

#[tokio::test]
async fn a_token_that_was_replaced_is_used_at_once_and_one_that_is_missing_is_told_by_name() {
    let (shop, sink) = (shop("replaced").await, Sink::start().await);
    let role =
        json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["api"], "verbs": ["get"]}]});
    shop.create("rbac.authorization.k8s.io/v1", "Role", "reader", role).await;
    let binding = json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "signalbox-rules", "namespace": shop.name}]});
    shop.create("rbac.authorization.k8s.io/v1", "RoleBinding", "reader", binding).await;
    let secrets = shop.api("v1", "Secret");
    let token = |value: &str| json!({"stringData": {"token": value}});
    shop.create("v1", "Secret", "api", token("one\n")).await;
    let call =
        json!([{"name": "call", "http": {"url": sink.url("/"), "authSecretRef": {"name": "api", "key": "token"}}}]);
    shop.rule("replaced", rule(call)).await;
    let sent = || {
        let requests = sink.requests();
        requests
            .iter()
            .map(|request| request.header("authorization").unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let succeeded = async |many: u64| {
        shop.rule_status("replaced", &format!("{many} succeeded"), |status| status["counts"]["succeeded"] == many).await
    };
    shop.event("a.1", "a", "BackOff").await;
    succeeded(1).await;
    // Replaced in its place, and deleted and made anew.
    secrets.patch("api", &PatchParams::default(), &Patch::Merge(token("two"))).await.expect("replace the token");
    sink.answer_next(Answer::status(401));
    shop.event("b.1", "b", "BackOff").await;
    succeeded(2).await;
    secrets.delete("api", &Default::default()).await.expect("delete the Secret");
    shop.create("v1", "Secret", "api", token("three")).await;
    sink.answer_next(Answer::status(401));
    shop.event("c.1", "c", "BackOff").await;
    succeeded(3).await;
    assert_eq!(sent(), ["Bearer one", "Bearer one", "Bearer two", "Bearer two", "Bearer three"]);
    // The key is not there any more, which a refused token makes it look for.
    secrets
        .patch("api", &PatchParams::default(), &Patch::Merge(json!({"data": {"token": null, "other": "Zm91cg=="}})))
        .await
        .expect("rename the key");
    sink.answer(Answer::status(401));
    shop.event("d.1", "d", "BackOff").await;
    shop.rule_status("replaced", "1 failed", |status| status["counts"]["failed"] == 1).await;
    shop.event("e.1", "e", "BackOff").await;
    let status = shop.rule_status("replaced", "2 failed", |status| status["counts"]["failed"] == 2).await;
    let told = status["lastError"]["message"].as_str().unwrap_or_default();
    assert!(told.contains(&format!("Secret {}/api has no value under the key token", shop.name)), "{status:#}");
    assert!(!status.to_string().contains("three") && !status.to_string().contains("four"), "{status:#}");
}
