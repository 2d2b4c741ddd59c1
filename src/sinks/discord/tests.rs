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
    secrets.insert(SecretKeyRef { name: "d".into(), key: "url".into() }, service.url.as_bytes());
    let sink = build(&sink(r#"{"discord": {"urlSecretRef": {"name": "d", "key": "url"}}}"#)).expect("a sink");
    tell(&sink, notification, &secrets, &http()).await
}

/// Checks what Discord's documentation says of an embed.
fn is_valid(message: &Value) {
    let mut total = 0;
    let mut within = |text: &Value, most: usize| {
        let text = text.as_str().expect("a text");
        let length = text.encode_utf16().count();
        assert!((1..=most).contains(&length) && !text.trim_matches(' ').is_empty(), "{length} of {most}: {text}");
        total += length;
    };
    let embed = &message["embeds"][0];
    within(&embed["title"], 256);
    if let Some(description) = embed.get("description") {
        within(description, 4096);
    }
    within(&embed["footer"]["text"], 2048);
    let fields = embed["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(fields.len() <= 25);
    for field in fields {
        within(&field["name"], 256);
        within(&field["value"], 1024);
    }
    assert!(total <= 6000, "{total}");
    assert_eq!(message["allowed_mentions"], json!({"parse": []}));
}

#[tokio::test]
async fn a_notification_arrives_in_an_embed_and_mentions_nobody() {
    let service = Service::new(&[(204, "")]).await;
    let fields = vec![NotifyField { name: "node".into(), value: String::new() }];
    let text = "@everyone <@42> [x](http://evil)".to_owned();
    let taken = deliver(&service, &Notification { text, fields, ..notification() }).await.expect("taken");
    assert_eq!(taken, Delivered { status: 204, note: None });
    let message = &service.bodies()[0];
    is_valid(message);
    let embed = &message["embeds"][0];
    assert_eq!(embed["title"], "web keeps crashing");
    assert_eq!(embed["description"], "@everyone \\<@42> \\[x](http://evil)");
    assert_eq!((&embed["fields"][0]["name"], &embed["timestamp"]), (&json!("node"), &json!("2026-11-25T10:00:00Z")));
    assert_eq!(embed["footer"]["text"], "Warning · shop/web-crashloop · shop/Pod/web-1");
}

#[tokio::test]
async fn a_message_of_any_length_is_within_all_limits() {
    let service = Service::new(&[(204, "")]).await;
    for text in ["ü", "\u{1f468}", "[", "<"] {
        let fields = (0..20).map(|_| NotifyField { name: text.repeat(128), value: text.repeat(4096) }).collect();
        let long = Notification { title: text.repeat(4096), text: text.repeat(16_000), fields, ..notification() };
        deliver(&service, &long).await.expect("taken");
    }
    service.bodies().iter().for_each(is_valid);
}

#[tokio::test]
async fn a_webhook_that_is_gone_may_have_a_new_address() {
    let service = Service::new(&[(404, r#"{"message": "Unknown Webhook", "code": 10015}"#)]).await;
    let error = deliver(&service, &notification()).await.expect_err("gone");
    assert_eq!(error.retry, Retry::FreshSecrets);
    assert!(error.message.contains("Unknown Webhook"), "{error}");
}

#[tokio::test]
async fn a_text_that_has_escapes_itself_makes_no_link() {
    let service = Service::new(&[(204, "")]).await;
    let text = r"\[log in](https://evil) C:\temp".to_owned();
    deliver(&service, &Notification { text, ..notification() }).await.expect("taken");
    assert_eq!(service.bodies()[0]["embeds"][0]["description"], r"\\\[log in](https://evil) C:\\temp");
}

#[tokio::test]
async fn a_link_is_whole_beside_any_number_of_facts() {
    let service = Service::new(&[(204, "")]).await;
    let link = format!("https://h/{}", "x".repeat(1000));
    let long = NotifyField { name: "f".repeat(128), value: "v".repeat(4096) };
    let fields =
        (0..24).map(|_| long.clone()).chain([NotifyField { name: "Link".into(), value: link.clone() }]).collect();
    let long = Notification { text: "t".repeat(16_000), title: "t".repeat(4096), fields, ..notification() };
    deliver(&service, &long).await.expect("taken");
    let bodies = service.bodies();
    is_valid(&bodies[0]);
    assert_eq!(bodies[0]["embeds"][0]["fields"][24]["value"], link);
}
