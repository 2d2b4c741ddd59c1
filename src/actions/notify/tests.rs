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
async fn a_sink_that_is_not_there_is_final() {
    let cx = context(&serve(&Arc::default()));
    let failure = run(&cx).await.expect_err("no sink");
    assert_eq!(failure, Failure::last("there is no EventSink oncall in namespace shop"));
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
    assert_eq!(failure, Failure::last("Slack answered 403 Forbidden: invalid_token"));
    assert_eq!(service.requests().len(), 1);
    action(spec()).gave_up(&cx, &failure);
    let deliveries = cx.services.sinks.get("shop", "oncall").expect("there").deliveries();
    assert_eq!(
        (deliveries.failed, deliveries.last_error.as_deref()),
        (1, Some("Slack answered 403 Forbidden: invalid_token"))
    );
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
