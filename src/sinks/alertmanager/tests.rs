use super::*;
use crate::{
    api::NotifyField,
    sinks::{
        Retry, build,
        testing::{Service, http, notification, sink, tell},
    },
};

fn spec(url: &str, more: &str) -> String {
    format!(r#"{{"alertmanager": {{"url": "{url}"{more}}}}}"#)
}

async fn deliver(service: &Service, more: &str, notification: &Notification) -> Result<Delivered, SinkError> {
    let sink = build(&sink(&spec(&service.url, more))).expect("a sink");
    tell(&sink, notification, &Secrets::default(), &http()).await
}

#[tokio::test]
async fn a_notification_is_an_alert() {
    let service = Service::new(&[(200, "")]).await;
    let more = r#", "labels": [{"name": "cluster", "value": "east"}], "generatorUrl": "https://example.com/board""#;
    let fields = vec![NotifyField { name: "Node".into(), value: "n1".into() }];
    let taken = deliver(&service, more, &Notification { fields, ..notification() }).await.expect("taken");
    assert_eq!(taken, Delivered { status: 200, note: None });
    assert_eq!(service.paths(), ["/hook/api/v2/alerts"]);
    assert_eq!(
        service.bodies()[0],
        json!([{
            "labels": {"alertname": "web-crashloop", "namespace": "shop", "severity": "warning", "subject": "shop/Pod/web-1", "cluster": "east"},
            "annotations": {"summary": "web keeps crashing", "description": "Back-off\nNode: n1", "firing": "0123456789abcdef0123"},
            "startsAt": "2026-11-25T10:00:00Z",
            "generatorURL": "https://example.com/board",
        }])
    );
}

#[tokio::test]
async fn firings_for_the_same_subject_have_the_same_labels() {
    let service = Service::new(&[(200, "")]).await;
    let later = Notification { firing: crate::record::FiringId("f2".into()), text: "again".into(), ..notification() };
    for notification in [notification(), later] {
        deliver(&service, "", &notification).await.expect("taken");
    }
    let bodies = service.bodies();
    assert_eq!(bodies[0][0]["labels"], bodies[1][0]["labels"]);
    assert_ne!(bodies[0][0]["annotations"], bodies[1][0]["annotations"]);
}

#[tokio::test]
async fn an_acknowledgement_is_no_alert() {
    let service = Service::new(&[(200, "")]).await;
    let taken = Notification { operation: NotifyOperation::Acknowledge, ..notification() };
    let delivered = deliver(&service, "", &taken).await.expect("taken");
    assert!(delivered.note.is_some_and(|note| note.contains("knows no acknowledgement")));
    assert!(service.requests().is_empty());
}

#[tokio::test]
async fn an_end_ends_the_alert_whatever_its_severity_and_fires_none() {
    let service = Service::new(&[(200, "")]).await;
    let begun = Notification { severity: Severity::Critical, ..notification() };
    let end = Notification { operation: NotifyOperation::Resolve, severity: Severity::Info, ..notification() };
    let before = Timestamp::now();
    for notification in [begun, end] {
        deliver(&service, "", &notification).await.expect("taken");
    }
    let bodies = service.bodies();
    let ends = bodies[1].as_array().expect("alerts");
    let labels: Vec<&Value> = ends.iter().map(|alert| &alert["labels"]).collect();
    assert_eq!((labels.len(), labels.contains(&&bodies[0][0]["labels"])), (4, true), "{labels:?}");
    for alert in ends {
        let at: Timestamp = alert["endsAt"].as_str().expect("an end").parse().expect("a time");
        assert!((before..=Timestamp::now()).contains(&at), "{alert}");
        assert_eq!(alert.get("startsAt"), None);
    }
    assert_eq!(bodies[0][0].get("endsAt"), None);
}

#[test]
fn labels_that_make_an_alert_what_it_is_are_not_for_the_sink_to_set() {
    for name in OWN {
        let spec = spec("http://h/", &format!(r#", "labels": [{{"name": "{name}", "value": "x"}}]"#));
        let error = build(&sink(&spec)).err().expect("refused");
        assert!(error.to_string().contains(&format!("alertmanager.labels[{name}]")), "{error}");
    }
}

#[tokio::test]
async fn what_may_get_better_is_retried_and_a_credential_is_not_shown() {
    for (status, retry) in [(503, Retry::After(None)), (400, Retry::Never), (401, Retry::FreshSecrets)] {
        let service = Service::new(&[(status, "no canary-1")]).await;
        let key = SecretKeyRef { name: "am".into(), key: "token".into() };
        let more = r#", "headers": [{"name": "Authorization", "valueSecretRef": {"name": "am", "key": "token"}}]"#;
        let sink = build(&sink(&spec(&service.url, more))).expect("a sink");
        assert_eq!(sink.secrets(), std::slice::from_ref(&key));
        let mut secrets = Secrets::default();
        secrets.insert(key, b"canary-1");
        let error = tell(&sink, &notification(), &secrets, &http()).await.expect_err("refused");
        assert_eq!(error.retry, retry, "{status}");
        assert!(!error.message.contains("canary"), "{error}");
        assert_eq!(service.requests()[0].0["authorization"], "canary-1");
    }
}

#[tokio::test]
async fn an_address_of_this_host_is_refused_unless_it_was_allowed() {
    let service = Service::new(&[(200, "")]).await;
    let guarded = crate::net::Http::new(crate::net::Guard::new(vec![], vec![]));
    let sink = build(&sink(&spec(&service.url, ""))).expect("a sink");
    let error = tell(&sink, &notification(), &Secrets::default(), &guarded).await.expect_err("refused");
    assert_eq!(error.retry, Retry::Never, "{error}");
    assert!(service.requests().is_empty());
}
