use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::{
    actions::{
        FailureKind,
        testing::{action, common, context},
    },
    kubernetes::fake::{Fake, failure as status},
    sinks::testing::{Service, sink as spec_of},
};

/// A Secret `slack` whose value can be changed; empty: there is none.
fn serve(secret: &Arc<Mutex<String>>) -> Fake {
    let secret = secret.clone();
    Fake::new(move |seen| {
        if seen.path == "/api/v1/namespaces/shop/secrets/slack" {
            let value = secret.lock().clone();
            // `stringData` would be write-only; the API server answers in base64.
            return if value.is_empty() {
                status(404, "NotFound", "no")
            } else {
                (
                    200,
                    json!({"metadata": {"name": "slack"}, "data": {"url": k8s_openapi::ByteString(value.into_bytes())}}),
                )
            };
        }
        if seen.path.contains("/serviceaccounts/") {
            return (200, json!({"metadata": {"name": "x", "labels": {"signalbox.dev/usable-by-rules": "true"}}}));
        }
        common(seen).unwrap_or_else(|| status(404, "NotFound", "not found"))
    })
}

const SLACK: &str =
    r#"{"slack": {"urlSecretRef": {"name": "slack", "key": "url"}}, "serviceAccountName": "sink-account"}"#;

fn spec() -> Value {
    json!({"name": "act", "notify": {"sinkRef": {"name": "oncall"}, "severity": "Error", "text": "Back-off"}})
}

async fn run(cx: &Context) -> Result<Done, Failure> {
    let act = action(spec());
    let request = act.render(cx, &json!({"text": "Back-off"})).await?;
    act.execute(cx, &request, Attempt::First, Permit::for_test()).await
}

#[tokio::test]
async fn a_notification_is_rendered_and_sent_with_the_sinks_own_rights() {
    let service = Service::new(&[(200, "ok")]).await;
    let fake = serve(&Arc::new(Mutex::new(format!("{}\n", service.url))));
    let cx = context(&fake);
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(SLACK)).expect("a sink");
    let request = action(spec()).render(&cx, &json!({"text": "Back-off"})).await.expect("a request");
    assert_eq!(
        request,
        json!({"sink": "oncall", "severity": "Error", "title": "web-crashloop: shop/Pod/web-1", "text": "Back-off"})
    );
    let done = run(&cx).await.expect("sent");
    assert_eq!((done.message.as_str(), done.result), ("notified EventSink oncall", json!({"status": 200})));
    assert_eq!(service.bodies()[0]["text"], "web-crashloop: shop/Pod/web-1");
    let reads: Vec<_> = fake.requests().into_iter().filter(|seen| seen.path.contains("/secrets/")).collect();
    assert_eq!(reads[0].user.as_deref(), Some("system:serviceaccount:shop:sink-account"));
    let asked =
        fake.requests().into_iter().find(|seen| seen.path.ends_with("/subjectaccessreviews")).expect("a review");
    assert_eq!(asked.body["spec"]["resourceAttributes"]["name"], "oncall");
    assert_eq!(cx.services.sinks.get("shop", "oncall").expect("there").deliveries().delivered, 1);
}

#[tokio::test]
async fn what_only_ends_incidents_is_sent_to_no_sink_that_keeps_none() {
    let service = Service::new(&[(200, "ok")]).await;
    let fake = serve(&Arc::new(Mutex::new(service.url.clone())));
    let mut cx = context(&fake);
    cx.closes = true;
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(SLACK)).expect("a sink");
    let done = run(&cx).await.expect("nothing to do");
    assert_eq!(done.outcome, ActionOutcome::Unchanged, "{}", done.message);
    assert!(service.bodies().is_empty());
}

#[tokio::test]
async fn a_sink_that_is_not_there_is_final() {
    let cx = context(&serve(&Arc::default()));
    let failure = run(&cx).await.expect_err("no sink");
    assert_eq!(
        failure,
        Failure::last(
            "there is no EventSink oncall in namespace shop: make it, or name one of kubectl get esk -n shop"
        )
    );
}

#[tokio::test]
async fn an_account_that_may_not_get_the_sink_is_told_how_to() {
    let fake = Fake::new(|seen| {
        let mut review = seen.body.clone();
        review["status"] = json!({"allowed": false});
        (201, review)
    });
    let cx = context(&fake);
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(SLACK)).expect("a sink");
    let failure = run(&cx).await.expect_err("denied");
    assert_eq!(failure.kind, FailureKind::Final);
    assert!(
        failure.message.contains("ServiceAccount shop/shop-ops may not get eventsinks.signalbox.dev oncall"),
        "{failure}"
    );
}

#[tokio::test]
async fn refused_credentials_are_read_anew_once() {
    let service = Service::new(&[(403, "invalid_token"), (200, "ok")]).await;
    let secret = Arc::new(Mutex::new(service.url.clone()));
    let fake = serve(&secret);
    let cx = context(&fake);
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(SLACK)).expect("a sink");
    // The first delivery reads and keeps the old address; then it is replaced.
    let entry = cx.services.sinks.get("shop", "oncall").expect("there");
    sink::read(&cx, &entry, entry.sink.as_ref().expect("a sink"), "oncall").await.expect("secrets");
    *secret.lock() = format!("{}?new", service.url);
    run(&cx).await.expect("sent with the new address");
    assert_eq!(service.requests().len(), 2);
    assert_eq!(entry.deliveries().last_error, None);
}

#[tokio::test]
async fn refused_credentials_that_have_not_changed_are_final() {
    let service = Service::new(&[(403, "invalid_token")]).await;
    let cx = context(&serve(&Arc::new(Mutex::new(service.url.clone()))));
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(SLACK)).expect("a sink");
    let failure = run(&cx).await.expect_err("refused");
    let told =
        "Slack answered 403 Forbidden: invalid_token; put what it accepts there: kubectl edit secret slack -n shop";
    assert_eq!(failure, Failure::last(told));
    assert_eq!(service.requests().len(), 1);
    action(spec()).gave_up(&cx, &failure);
    let deliveries = cx.services.sinks.get("shop", "oncall").expect("there").deliveries();
    assert_eq!((deliveries.failed, deliveries.last_error.as_deref()), (1, Some(told)));
}

#[tokio::test]
async fn a_secret_that_is_missing_for_a_moment_is_waited_for() {
    let cx = context(&serve(&Arc::default()));
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(SLACK)).expect("a sink");
    let failure = run(&cx).await.expect_err("no secret");
    assert_eq!(failure.kind, FailureKind::Retryable { after: None });
    assert_eq!(
        failure.message,
        "EventSink oncall: Secret shop/slack does not exist; make it, or mend the sink: kubectl edit eventsink oncall -n shop"
    );
}

#[tokio::test]
async fn a_fact_that_is_null_is_an_error() {
    let cx = context(&serve(&Arc::default()));
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(SLACK)).expect("a sink");
    let filled = json!({"text": "x", "fields": [{"name": "node", "value": null}]});
    let failure = action(spec()).render(&cx, &filled).await.expect_err("null");
    assert_eq!(failure, Failure::last("fields[node].value is null"));
}

#[tokio::test]
async fn a_rule_that_gives_no_text_tells_what_its_account_may_see() {
    let service = Service::new(&[(200, "ok")]).await;
    let secret = service.url.clone();
    let fake = Fake::new(move |seen| match seen.path.as_str() {
        "/api/v1/namespaces/shop/secrets/slack" => (
            200,
            json!({"metadata": {"name": "slack"}, "data": {"url": k8s_openapi::ByteString(secret.clone().into_bytes())}}),
        ),
        "/api/v1/namespaces/shop/pods/web-1" => (
            200,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web-1", "namespace": "shop", "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u", "controller": true}]},
                "spec": {"nodeName": "n1", "containers": [{"name": "web"}]},
                "status": {"containerStatuses": [{"name": "web", "image": "i", "imageID": "i", "ready": false, "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            }),
        ),
        "/api/v1/namespaces/shop/pods/web-1/log" => (200, json!("starting with password=canary-77")),
        "/api/v1/namespaces/shop/events" => (
            200,
            json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": [
            {"metadata": {"name": "e"}, "involvedObject": {}, "type": "Warning", "reason": "Unhealthy", "count": 4,
                "lastTimestamp": "2026-11-25T09:59:00Z", "message": "Readiness probe failed\n"},
            {"metadata": {"name": "o"}, "involvedObject": {}, "reportingComponent": "signalbox.dev/operator",
                "lastTimestamp": "2026-11-25T09:59:00Z", "message": "ours"}]}),
        ),
        "/apis/apps/v1/namespaces/shop/deployments/web" => (
            200,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}}),
        ),
        path if path.contains("/serviceaccounts/") => {
            (200, json!({"metadata": {"name": "x", "labels": {"signalbox.dev/usable-by-rules": "true"}}}))
        }
        _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not found")),
    });
    let mut cx = context(&fake);
    let mut event = (*cx.event).clone();
    event.data = json!({"reason": "BackOff", "message": "Back-off", "count": 7,
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-1", "fieldPath": "spec.containers{web}"}});
    (cx.event, cx.said) = (Arc::new(event), Arc::new(["scaled Deployment shop/web from 2 to 3".to_owned()]));
    let sink = r#"{"slack": {"urlSecretRef": {"name": "slack", "key": "url"}}, "serviceAccountName": "sink-account",
        "link": "https://grafana.example.com/d/pods?var-ns=${rule.namespace}&pod=${event.data.regarding.name}"}"#;
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(sink)).expect("a sink");
    let act = action(json!({"name": "act", "notify": {"sinkRef": {"name": "oncall"}}}));
    let request = act.render(&cx, &json!({})).await.expect("a request");
    let text = request["text"].as_str().expect("a text");
    for part in [
        "BackOff: Back-off",
        "• scaled Deployment shop/web from 2 to 3",
        "container web, before its last restart:",
        "password=[redacted]",
        "2026-11-25T09:59:00Z Warning Unhealthy (4 times): Readiness probe failed",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("ours") && !text.contains("canary"), "{text}");
    assert_eq!(request["fields"][1], json!({"name": "Owner", "value": "Deployment shop/web"}));
    let reads: Vec<_> =
        fake.requests().into_iter().filter(|seen| seen.path.starts_with("/api/v1/namespaces/shop/pods")).collect();
    assert!(reads.iter().all(|seen| seen.user.as_deref() == Some("system:serviceaccount:shop:shop-ops")));
    act.execute(&cx, &request, Attempt::First, Permit::for_test()).await.expect("sent");
    let sent = service.bodies()[0].to_string();
    assert!(sent.contains("https://grafana.example.com/d/pods?var-ns=shop&amp;pod=web-1"), "{sent}");
}

#[tokio::test]
async fn a_rule_that_gives_no_text_tells_what_it_knows_where_its_account_may_see_nothing() {
    let cx = context(&serve(&Arc::default()));
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(SLACK)).expect("a sink");
    let act = action(json!({"name": "act", "notify": {"sinkRef": {"name": "oncall"}}}));
    let request = act.render(&cx, &json!({})).await.expect("a request");
    assert!(request["text"].as_str().is_some_and(|text| text.ends_with("Back-off \"web\" $(PASSWORD)")), "{request}");
    // A text that is empty is what the rule wants.
    let request = action(json!({"name": "act", "notify": {"sinkRef": {"name": "oncall"}, "text": ""}}));
    let request = request.render(&cx, &json!({"text": ""})).await.expect("a request");
    assert_eq!((&request["text"], request.get("fields")), (&json!(""), None));
}

#[tokio::test]
async fn what_is_beyond_a_sinks_limit_is_told_as_one_and_counts_once() {
    let service = Service::new(&[(200, "ok")]).await;
    let fake = serve(&Arc::new(Mutex::new(service.url.clone())));
    let cx = context(&fake);
    let limited = SLACK.replacen('{', r#"{"rateLimit": {"notifications": 1, "per": "1s"}, "#, 1);
    cx.services.sinks.set("shop", "oncall", 1, &spec_of(&limited)).expect("a sink");
    run(&cx).await.expect("the first");
    let steps: Vec<Context> = ["b", "c"]
        .map(|action| Context { action: action.into(), services: cx.services.clone(), ..context(&fake) })
        .into();
    for step in &steps {
        let waits = run(step).await.expect_err("waits");
        let FailureKind::Turn(after) = waits.kind else { unreachable!("{waits}") };
        assert!(after <= std::time::Duration::from_secs(1));
        assert!(waits.message.contains("EventSink oncall is sent 1 within 1s at most"), "{waits}");
    }
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    tokio::time::resume();
    for step in &steps {
        let done = run(step).await.expect("told");
        assert!(done.message.contains("as one with others, 2 in all"), "{}", done.message);
    }
    let bodies = service.bodies();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[1]["text"], "2 notifications, told as one: the sink's rateLimit was reached");
    assert_eq!(cx.services.sinks.get("shop", "oncall").expect("there").deliveries().delivered, 2);
}
