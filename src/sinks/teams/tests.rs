use super::*;
use crate::{
    api::{NotifyField, SecretKeyRef},
    sinks::{
        Delivered, Retry, Secrets, SinkError, build,
        testing::{Service, http, notification, sink, tell},
    },
};

async fn deliver(service: &Service, notification: &Notification) -> Result<Delivered, SinkError> {
    let mut secrets = Secrets::default();
    secrets.insert(SecretKeyRef { name: "teams".into(), key: "url".into() }, service.url.as_bytes());
    let sink = build(&sink(r#"{"teams": {"urlSecretRef": {"name": "teams", "key": "url"}}}"#)).expect("a sink");
    tell(&sink, notification, &secrets, &http()).await
}

/// The Adaptive Card of a message, if it is one that a Workflow takes.
fn card_of(message: &Value) -> &Value {
    let attachment = &message["attachments"][0];
    assert_eq!((&message["type"], message["attachments"].as_array().map(Vec::len)), (&json!("message"), Some(1)));
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    let card = &attachment["content"];
    assert_eq!((&card["type"], &card["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
    for element in card["body"].as_array().expect("a body") {
        match element["type"].as_str() {
            Some("TextBlock") => assert!(element["text"].as_str().is_some_and(|text| !text.is_empty()), "{element}"),
            Some("FactSet") => assert!(element["facts"].as_array().is_some_and(|facts| !facts.is_empty()), "{element}"),
            other => unreachable!("{other:?}"),
        }
    }
    card
}

#[tokio::test]
async fn a_notification_arrives_as_a_card() {
    let service = Service::new(&[(202, "")]).await;
    let fields = vec![NotifyField { name: "node".into(), value: "n1".into() }];
    let text = "first\nsee [here](http://evil)".to_owned();
    let taken = deliver(&service, &Notification { text, fields, ..notification() }).await.expect("taken");
    assert_eq!(taken, Delivered { status: 202, note: None });
    let bodies = service.bodies();
    let body = &card_of(&bodies[0])["body"];
    assert_eq!((&body[0]["text"], &body[0]["color"]), (&json!("web keeps crashing"), &json!("Warning")));
    assert_eq!(body[1]["text"], "first\n\nsee \\[here](http://evil)");
    assert_eq!(body[2]["facts"], json!([{"title": "node", "value": "n1"}]));
    assert_eq!(body[3]["text"], "Warning · shop/web-crashloop · shop/Pod/web-1");
}

#[tokio::test]
async fn a_message_of_any_length_is_small_enough_and_says_what_is_left_out() {
    let service = Service::new(&[(202, "")]).await;
    let fields = (0..20).map(|n| NotifyField { name: format!("f{n}"), value: "\u{1f468}".repeat(4096) }).collect();
    let long = Notification { text: "ü\"".repeat(50_000), title: "t".repeat(4096), fields, ..notification() };
    deliver(&service, &long).await.expect("taken");
    let (_, body) = service.requests().remove(0);
    assert!(body.len() <= 28_000, "{}", body.len());
    assert!(card_of(&service.bodies()[0])["body"][1]["text"].as_str().expect("a text").contains("… (truncated, "));
}

#[tokio::test]
async fn an_end_is_told_as_one_and_a_workflow_that_is_gone_may_have_a_new_address() {
    let service = Service::new(&[(202, ""), (404, "gone")]).await;
    let end = Notification { operation: NotifyOperation::Resolve, ..notification() };
    deliver(&service, &end).await.expect("taken");
    let bodies = service.bodies();
    let title = &card_of(&bodies[0])["body"][0];
    assert_eq!((&title["text"], &title["color"]), (&json!("Resolved: web keeps crashing"), &json!("Good")));
    assert_eq!(deliver(&service, &end).await.expect_err("gone").retry, Retry::FreshSecrets);
}

#[tokio::test]
async fn a_text_that_has_escapes_itself_makes_no_link() {
    let service = Service::new(&[(204, "")]).await;
    let text = r"\[log in](https://evil) C:\temp".to_owned();
    deliver(&service, &Notification { text, ..notification() }).await.expect("taken");
    assert_eq!(card_of(&service.bodies()[0])["body"][1]["text"], r"\\\[log in](https://evil) C:\\temp");
}
