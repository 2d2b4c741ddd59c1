use serde_json::json;

use super::*;
use crate::sinks::{
    Notification, Retry, build,
    testing::{Service, http, notification, sink, tell},
};

fn spec(url: &str, more: &str) -> String {
    format!(r#"{{"cloudEvents": {{"url": "{url}"{more}}}}}"#)
}

async fn deliver(service: &Service, more: &str, notification: &Notification) -> Result<Delivered, SinkError> {
    let sink = build(&sink(&spec(&service.url, more))).expect("a sink");
    tell(&sink, notification, &Secrets::default(), &http()).await
}

#[tokio::test]
async fn by_default_the_body_is_the_whole_event() {
    let service = Service::new(&[(202, "")]).await;
    let taken = deliver(&service, "", &notification()).await.expect("taken");
    assert_eq!(taken.status, 202);
    let (headers, _) = &service.requests()[0];
    assert_eq!(headers["content-type"], "application/cloudevents+json; charset=utf-8");
    assert_eq!(headers["idempotency-key"], "0123456789abcdef0123-tell");
    let event = &service.bodies()[0];
    assert_eq!(
        *event,
        json!({
            "specversion": "1.0",
            "id": "0123456789abcdef0123-tell",
            "source": "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventrules/web-crashloop",
            "type": "dev.signalbox.notification",
            "signalboxhops": "3",
            "subject": "shop/Pod/web-1",
            "time": "2026-11-25T10:00:00Z",
            "datacontenttype": "application/json",
            "data": notification().document(),
        })
    );
    assert_eq!((&event["data"]["severity"], &event["data"]["event"]["id"]), (&json!("Warning"), &json!("uid-1/3")));
}

#[tokio::test]
async fn in_binary_mode_attributes_are_headers_and_the_body_is_the_data() {
    let service = Service::new(&[(200, "")]).await;
    let mut notification = notification();
    let mut event = (*notification.event).clone();
    event.subject = Some("Grüße \"50%\"\r\nX-Evil: 1".into());
    notification.event = event.into();
    deliver(&service, r#", "mode": "Binary""#, &notification).await.expect("taken");
    let (headers, _) = &service.requests()[0];
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "0123456789abcdef0123-tell"),
        ("ce-type", "dev.signalbox.notification"),
        ("ce-signalboxhops", "3"),
        ("signalbox-hops", "3"),
        ("ce-time", "2026-11-25T10:00:00Z"),
        ("ce-subject", "Gr%C3%BC%C3%9Fe%20%2250%25%22%0D%0AX-Evil:%201"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(!headers.contains_key("x-evil"));
    assert_eq!(service.bodies()[0], notification.document());
}

#[test]
fn headers_that_look_like_attributes_are_refused() {
    for name in ["ce-id", "CE-Type", "Content-Type", "Host"] {
        let spec = spec("http://h/", &format!(r#", "headers": [{{"name": "{name}", "value": "x"}}]"#));
        assert!(build(&sink(&spec)).is_err(), "{name}");
    }
}

#[tokio::test]
async fn what_may_get_better_is_retried_and_the_rest_is_not() {
    for (status, retry) in [(503, Retry::After(None)), (403, Retry::FreshSecrets), (415, Retry::Never)] {
        let service = Service::new(&[(status, "no")]).await;
        let error = deliver(&service, "", &notification()).await.expect_err("refused");
        assert_eq!(error.retry, retry, "{status}");
    }
}
