use std::time::Duration;

use super::*;
use crate::sinks::{
    Retry, build,
    testing::{Service, http, notification, sink, tell},
};

fn key(name: &str, key: &str) -> SecretKeyRef {
    SecretKeyRef { name: name.into(), key: key.into() }
}

fn spec(service: &Service, more: &str) -> String {
    format!(r#"{{"webhook": {{"url": "{}"{more}}}}}"#, service.url)
}

#[tokio::test]
async fn the_document_and_its_headers_arrive() {
    let service = Service::new(&[(202, "")]).await;
    let sink = build(&sink(&spec(&service, r#","headers": [{"name": "X-Team", "value": "shop"}]"#))).expect("a sink");
    let text = "a \"quoted\"\nmessage with {{ .Values.y }} and ${event.id}\n";
    let notification = Notification { text: text.into(), ..notification() };
    let taken = tell(&sink, &notification, &Secrets::default(), &http()).await.expect("taken");
    assert_eq!(taken.status, 202);
    let (headers, body) = service.requests().remove(0);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["idempotency-key"], "0123456789abcdef0123-tell");
    assert_eq!(headers["traceparent"], "00-1fb1ae81ce81bc8663fb91ae4d98abb7-9054cfbd78dea430-01");
    assert_eq!(headers["signalbox-hops"], "3");
    assert_eq!(headers["x-team"], "shop");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["text"], text);
    assert_eq!(body["severity"], "Warning");
    assert_eq!(body["rule"], json!({"namespace": "shop", "name": "web-crashloop", "uid": "rule-uid"}));
    assert_eq!(body["firing"]["id"], "0123456789abcdef0123");
    assert_eq!(body["event"]["subject"], "shop/Pod/web-1");
}

#[tokio::test]
async fn the_signature_is_over_the_bytes_that_are_sent() {
    let service = Service::new(&[(200, "")]).await;
    let sink =
        build(&sink(&spec(&service, r#","signing": {"secretRef": {"name": "hook", "key": "hmac"}}"#))).expect("a sink");
    assert_eq!(sink.secrets(), [key("hook", "hmac")]);
    let mut secrets = Secrets::default();
    secrets.insert(key("hook", "hmac"), b"It's a Secret to Everybody\n");
    tell(&sink, &notification(), &secrets, &http()).await.expect("taken");
    let (headers, body) = service.requests().remove(0);
    assert_eq!(
        headers["x-signalbox-signature-256"],
        signature(b"It's a Secret to Everybody", &body).expect("a signature")
    );
}

#[test]
fn the_signature_is_the_one_that_github_documents() {
    let given = signature(b"It's a Secret to Everybody", b"Hello, World!").expect("a signature");
    assert_eq!(given, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
}

#[tokio::test]
async fn a_line_break_in_a_header_is_refused_wherever_it_comes_from() {
    let service = Service::new(&[(200, "")]).await;
    let given = sink(&spec(&service, r#","headers": [{"name": "X-A", "value": "a\r\nX-B: b"}]"#));
    assert!(build(&given).err().expect("refused").to_string().contains("X-A"));

    let spec = spec(
        &service,
        r#","headers": [{"name": "Authorization", "valueSecretRef": {"name": "hook", "key": "token"}}]"#,
    );
    let mut secrets = Secrets::default();
    secrets.insert(key("hook", "token"), b"canary\r\nX-B: b");
    let error =
        tell(&build(&sink(&spec)).expect("a sink"), &notification(), &secrets, &http()).await.expect_err("refused");
    assert_eq!(error.retry, Retry::Never);
    assert!(!error.message.contains("canary"));
    assert!(service.requests().is_empty());
}

#[test]
fn headers_that_the_client_sets_are_refused() {
    for name in ["Host", "content-length", "Transfer-Encoding", "Idempotency-Key", "a b"] {
        let spec = format!(r#"{{"webhook": {{"url": "http://h/", "headers": [{{"name": "{name}", "value": "x"}}]}}}}"#);
        assert!(build(&sink(&spec)).is_err(), "{name}");
    }
}

#[tokio::test]
async fn what_may_get_better_is_retried_and_the_rest_is_not() {
    for (status, retry) in [
        (408, Retry::After(None)),
        (429, Retry::After(Some(Duration::from_secs(30)))),
        (502, Retry::After(None)),
        (400, Retry::Never),
        (401, Retry::FreshSecrets),
        (422, Retry::Never),
        (307, Retry::Never),
    ] {
        let service = Service::new(&[(status, "no")]).await;
        let sink = build(&sink(&spec(&service, ""))).expect("a sink");
        let error = tell(&sink, &notification(), &Secrets::default(), &http()).await.expect_err("refused");
        assert_eq!(error.retry, retry, "{status}");
        assert_eq!(service.requests().len(), 1);
    }
}

#[tokio::test]
async fn nothing_secret_is_in_errors_even_if_the_service_repeats_it() {
    let service = Service::new(&[(400, "bad token canary-1\n at line 3")]).await;
    let spec = r#"{"webhook": {"urlSecretRef": {"name": "hook", "key": "url"},
        "headers": [{"name": "Authorization", "valueSecretRef": {"name": "hook", "key": "token"}}]}}"#;
    let sink = build(&sink(spec)).expect("a sink");
    assert_eq!(sink.secrets(), [key("hook", "url"), key("hook", "token")]);
    let mut secrets = Secrets::default();
    secrets.insert(key("hook", "url"), service.url.as_bytes());
    secrets.insert(key("hook", "token"), b"canary-1");
    let error = tell(&sink, &notification(), &secrets, &http()).await.expect_err("refused");
    assert_eq!(error.message, "the webhook answered 400 Bad Request: bad token [redacted] at line 3");
    let error = tell(&sink, &notification(), &Secrets::default(), &http()).await.expect_err("no secrets");
    assert_eq!(error.message, "key token of Secret hook was not read");
}

#[tokio::test]
async fn a_body_of_the_sinks_own_is_json_whatever_is_filled_in() {
    let service = Service::new(&[(200, "")]).await;
    let body = r#","body": {"text": "${notification.text}", "all": "${event}", "n": "${event.data.count}",
        "from": "${rule.namespace}/${rule.name} ${firing.id}", "level": {"name": "${notification.severity}"}}"#;
    let sink = build(&sink(&spec(&service, body))).expect("a sink");
    let text = "Failed to pull \"img\"\n{{ .Values.y }} ${event.id}\n";
    let mut notification = Notification { text: text.into(), ..notification() };
    let mut event = (*notification.event).clone();
    event.data["count"] = json!(1793603780123456789_i64);
    notification.event = event.into();
    tell(&sink, &notification, &Secrets::default(), &http()).await.expect("taken");
    let sent = service.bodies().remove(0);
    assert_eq!(sent["text"], text);
    assert_eq!(sent["n"].as_i64(), Some(1793603780123456789));
    assert_eq!(sent["all"]["subject"], "shop/Pod/web-1");
    assert_eq!(sent["from"], "shop/web-crashloop 0123456789abcdef0123");
    assert_eq!(sent["level"]["name"], "Warning");
}

#[tokio::test]
async fn a_body_that_cannot_be_filled_in_is_not_sent() {
    let service = Service::new(&[(200, "")]).await;
    let sink = build(&sink(&spec(&service, r#","body": {"n": "${event.data.absent}"}"#))).expect("a sink");
    let error = tell(&sink, &notification(), &Secrets::default(), &http()).await.expect_err("no such field");
    assert_eq!(error.retry, Retry::Never);
    assert!(error.message.starts_with("webhook.body.n: "), "{error}");
    assert!(service.requests().is_empty());
}

#[test]
fn a_body_that_uses_unknown_names_is_refused() {
    let given = sink(r#"{"webhook": {"url": "http://h/", "body": {"x": "${variables.y} ${nothing}"}}}"#);
    assert!(build(&given).err().expect("refused").to_string().contains("webhook.body.x"));
}

#[test]
fn a_signature_of_standard_webhooks_is_the_one_of_its_reference() {
    // https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/python/tests/test_webhooks.py
    let key = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let id = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
    let [id, time, signature] = standard(key, id, br#"{"test": 2432232314}"#).expect("signed").map(|(_, value)| value);
    assert_eq!((id, time), ("msg_p5jXN8AQM9LWM0D4loKWxJek".parse().expect("a value"), 1_614_265_330_i64.into()));
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn a_request_signed_by_standard_webhooks_has_its_id_whenever_it_is_repeated() {
    let service = Service::new(&[(200, "")]).await;
    let signing = r#","signing": {"scheme": "StandardWebhooks", "secretRef": {"name": "hook", "key": "hmac"}}"#;
    let sink = build(&sink(&spec(&service, signing))).expect("a sink");
    let mut secrets = Secrets::default();
    secrets.insert(key("hook", "hmac"), b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    for _ in 0..2 {
        tell(&sink, &notification(), &secrets, &http()).await.expect("taken");
    }
    for (headers, body) in service.requests() {
        assert_eq!(headers["webhook-id"], "0123456789abcdef0123-tell");
        let time = headers["webhook-timestamp"].to_str().expect("text").parse().expect("a number");
        let [.., (_, signature)] =
            standard(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", ("0123456789abcdef0123-tell", time), &body).expect("signed");
        assert_eq!(headers["webhook-signature"], signature);
    }
    secrets.insert(key("hook", "hmac"), b"canary!");
    let error = tell(&sink, &notification(), &secrets, &http()).await.expect_err("no key");
    assert_eq!(
        error.message,
        "key hmac of Secret hook is not a key in Base64, with padding, with or without whsec_ before it"
    );
}

#[test]
fn headers_of_a_signature_are_not_set_twice() {
    for more in [
        r#","headers": [{"name": "Webhook-Id", "value": "x"}], "signing": {"scheme": "StandardWebhooks", "secretRef": {"name": "a", "key": "b"}}"#,
        r#","signing": {"scheme": "StandardWebhooks", "header": "X-Sig", "secretRef": {"name": "a", "key": "b"}}"#,
    ] {
        let spec = format!(r#"{{"webhook": {{"url": "http://h/"{more}}}}}"#);
        build(&sink(&spec)).err().expect("refused");
    }
}

#[tokio::test]
async fn a_body_of_the_sinks_own_can_tell_what_begins_from_what_ends() {
    let service = Service::new(&[(200, "")]).await;
    let body = r#","body": {"what": "${notification.operation}", "key": "${notification.dedupKey}"}"#;
    let sink = build(&sink(&spec(&service, body))).expect("a sink");
    let end = Notification { operation: crate::api::NotifyOperation::Resolve, ..notification() };
    tell(&sink, &end, &Secrets::default(), &http()).await.expect("taken");
    assert_eq!(service.bodies()[0], json!({"what": "Resolve", "key": "rule-uid/shop/Pod/web-1"}));
}
