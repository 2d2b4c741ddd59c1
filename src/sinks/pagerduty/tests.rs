use super::*;
use crate::{
    api::Severity,
    sinks::{
        build,
        testing::{Service, http, notification, sink, tell},
    },
};

const TAKEN: &str = r#"{"status": "success", "message": "Event processed", "dedup_key": "k"}"#;

async fn deliver(service: &Service, notification: &Notification) -> Result<Delivered, SinkError> {
    let spec = format!(
        r#"{{"pagerduty": {{"routingKeySecretRef": {{"name": "pd", "key": "key"}}, "url": "{}"}}}}"#,
        service.url
    );
    let mut secrets = Secrets::default();
    secrets.insert(SecretKeyRef { name: "pd".into(), key: "key".into() }, b"canary-key\n");
    tell(&build(&sink(&spec)).expect("a sink"), notification, &secrets, &http()).await
}

/// What PagerDuty's documentation says of an event, checked as it checks.
fn is_valid(event: &Value) -> bool {
    let text = |pointer: &str, most: usize| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty() && text.chars().count() <= most)
    };
    let known = ["routing_key", "event_action", "dedup_key", "payload", "images", "links", "client", "client_url"];
    let action = event["event_action"].as_str().unwrap_or_default();
    event.as_object().is_some_and(|event| event.keys().all(|key| known.contains(&key.as_str())))
        && text("/routing_key", 255)
        && text("/dedup_key", 255)
        && match action {
            "trigger" => {
                let severity = event.pointer("/payload/severity").and_then(Value::as_str).unwrap_or_default();
                text("/payload/summary", 1024)
                    && text("/payload/source", 10_000)
                    && ["critical", "error", "warning", "info"].contains(&severity)
                    && event.to_string().len() <= 512 * 1000
            }
            "acknowledge" | "resolve" => true,
            _ => false,
        }
}

#[tokio::test]
async fn an_incident_is_opened_acknowledged_and_closed_by_one_key() {
    let service = Service::new(&[(202, TAKEN)]).await;
    use NotifyOperation::{Acknowledge, Resolve, Trigger};
    for operation in [Trigger, Trigger, Acknowledge, Resolve] {
        let taken = deliver(&service, &Notification { operation, ..notification() }).await.expect("taken");
        assert_eq!(taken, Delivered { status: 202, note: None });
    }
    let events = service.bodies();
    assert!(events.iter().all(is_valid), "{events:?}");
    let actions: Vec<_> = events.iter().map(|event| event["event_action"].as_str().unwrap_or_default()).collect();
    assert_eq!(actions, ["trigger", "trigger", "acknowledge", "resolve"]);
    assert!(events.iter().all(|event| event["dedup_key"] == "rule-uid/shop/Pod/web-1"));
    let payload = &events[0]["payload"];
    assert_eq!((&payload["summary"], &payload["severity"]), (&json!("web keeps crashing"), &json!("warning")));
    assert_eq!((&payload["source"], &payload["component"]), (&json!("shop/Pod/web-1"), &json!("web-crashloop")));
    assert_eq!(payload["timestamp"], "2026-11-25T10:00:00Z");
}

#[tokio::test]
async fn a_long_summary_is_cut_by_characters_and_details_that_are_too_large_become_a_note() {
    let service = Service::new(&[(202, TAKEN)]).await;
    let title = "ß".repeat(1100);
    deliver(&service, &Notification { title, severity: Severity::Critical, ..notification() }).await.expect("taken");
    let mut event = (*notification().event).clone();
    event.data = json!({"log": "x".repeat(600_000)});
    let taken = deliver(&service, &Notification { event: event.into(), ..notification() }).await.expect("taken");
    assert!(taken.note.expect("a note").contains("were left out: PagerDuty takes 512 KB"));
    let events = service.bodies();
    assert!(events.iter().all(is_valid), "{}", events[0]);
    let summary = events[0]["payload"]["summary"].as_str().expect("a summary");
    assert!(summary.starts_with("ßß") && summary.contains("… (truncated, "), "{summary}");
    assert_eq!(events[1]["payload"]["custom_details"]["text"], "Back-off");
}

#[tokio::test]
async fn what_pagerduty_refuses_is_final_and_told_and_a_refused_key_is_read_anew() {
    let invalid = r#"{"status":"invalid event","message":"Event object is invalid","errors":["Length of 'routing_key' is incorrect"]}"#;
    for (answer, retry) in [("{\"errors\":[\"'summary' is missing\"]}", Retry::Never), (invalid, Retry::FreshSecrets)] {
        let service = Service::new(&[(400, answer)]).await;
        let error = deliver(&service, &notification()).await.expect_err("refused");
        assert_eq!(error.retry, retry, "{error}");
        assert!(error.message.starts_with("PagerDuty answered 400 Bad Request: {"), "{error}");
        assert_eq!(service.requests().len(), 1);
    }
}
