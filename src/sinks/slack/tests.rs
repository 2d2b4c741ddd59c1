use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    api::{NotifyField, SecretKeyRef},
    sinks::{
        Delivered, Retry, Secrets, SinkError, build,
        testing::{Service, http, notification, sink, tell},
    },
};

const SPEC: &str = r#"{"slack": {"urlSecretRef": {"name": "slack", "key": "url"}}}"#;

fn secrets(url: &str) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.insert(SecretKeyRef { name: "slack".into(), key: "url".into() }, url.as_bytes());
    secrets
}

async fn deliver(service: &Service, notification: &Notification) -> Result<Delivered, SinkError> {
    let sink = build(&sink(SPEC)).expect("a sink");
    tell(&sink, notification, &secrets(&format!("{}\n", service.url)), &http()).await
}

fn section(text: &str) -> String {
    let message = message(&Notification { text: text.into(), ..notification() });
    message.pointer("/blocks/1/text/text").and_then(Value::as_str).expect("a section").to_owned()
}

#[tokio::test]
async fn a_notification_arrives_in_blocks() {
    let service = Service::new(&[(200, "ok")]).await;
    let fields = (0..12).map(|n| NotifyField { name: format!("f{n}"), value: "1 < 2".into() }).collect();
    let taken = deliver(&service, &Notification { fields, ..notification() }).await.expect("taken");
    assert_eq!(taken, Delivered { status: 200, note: None });
    let body = &service.bodies()[0];
    let kinds: Vec<_> = body["blocks"].as_array().expect("blocks").iter().map(|block| block["type"].clone()).collect();
    assert_eq!(kinds, ["header", "section", "section", "section", "context"]);
    assert_eq!(body["text"], "web keeps crashing");
    assert_eq!(body["blocks"][2]["fields"][0]["text"], "*f0*\n1 &lt; 2");
    assert_eq!(body["blocks"][3]["fields"].as_array().map(Vec::len), Some(2));
    assert_eq!(body["blocks"][4]["elements"][0]["text"], "Warning · shop/web-crashloop · shop/Pod/web-1");
}

#[tokio::test]
async fn a_message_that_slack_refuses_is_sent_as_plain_text() {
    let service = Service::new(&[(400, "invalid_blocks"), (200, "ok")]).await;
    let taken = deliver(&service, &notification()).await.expect("taken");
    assert_eq!(
        taken.note.as_deref(),
        Some("Slack answered 400 Bad Request: invalid_blocks; sent as plain text instead")
    );
    assert_eq!(service.bodies()[1], json!({"text": "web keeps crashing\nBack-off"}));
}

#[tokio::test]
async fn a_message_that_slack_refuses_twice_fails_with_slacks_words() {
    let service = Service::new(&[(400, "invalid_blocks")]).await;
    let error = deliver(&service, &notification()).await.expect_err("refused");
    assert_eq!(error, SinkError::never("Slack answered 400 Bad Request: invalid_blocks"));
    assert_eq!(service.bodies().len(), 2);
}

#[tokio::test]
async fn what_may_get_better_is_retried_and_the_rest_is_not() {
    for (status, retry) in [
        (429, Retry::After(Some(Duration::from_secs(30)))),
        (500, Retry::After(None)),
        (503, Retry::After(None)),
        (403, Retry::FreshSecrets),
        (404, Retry::FreshSecrets),
        (410, Retry::Never),
    ] {
        let service = Service::new(&[(status, "words")]).await;
        assert_eq!(deliver(&service, &notification()).await.expect_err("refused").retry, retry, "{status}");
    }
}

#[tokio::test]
async fn the_address_is_in_no_error() {
    let sink = build(&sink(SPEC)).expect("a sink");
    for url in ["http://127.0.0.1:1/canary", "http://169.254.169.254/canary", "canary", "http://u:canary@h/"] {
        let error = tell(&sink, &notification(), &secrets(url), &http()).await.expect_err(url);
        assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
    }
}

#[test]
fn text_counts_after_escaping_and_the_cut_is_said() {
    let text = section(&"&".repeat(2990));
    assert!(text.chars().count() <= SECTION, "{}", text.chars().count());
    assert!(text.starts_with("&amp;&amp;"));
    let kept = text.matches("&amp;").count();
    assert!(text.ends_with(&format!("&amp;… (truncated, {} more)", 2990 - kept)), "{}", &text[text.len() - 60..]);
    assert!(kept >= 590, "room is used: {kept}");
}

#[test]
fn characters_count_and_not_bytes() {
    assert_eq!(section(&"ü".repeat(3000)), "ü".repeat(3000));
    let text = section(&"ü".repeat(3500));
    assert!(text.chars().count() <= SECTION && text.chars().count() > 2990);
    assert!(text.contains("ü… (truncated, "));
}

#[test]
fn a_family_of_emoji_is_kept_whole_or_left_out() {
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}";
    for lead in 2950..3000 {
        let text = section(&format!("{}{family}{}", "x".repeat(lead), "y".repeat(100)));
        let (kept, _) = text.split_once('…').expect("cut");
        let rest = kept.trim_start_matches('x');
        assert!(rest.is_empty() || rest.starts_with(family), "{rest:?}");
    }
}

#[test]
fn the_texts_of_events_ping_nobody() {
    let text = section("<!channel> <@U123> *x* _y_ @here");
    assert_eq!(text, "&lt;!channel&gt; &lt;@U123&gt; *x* _y_ @here");
    let message = message(&notification());
    assert_eq!(message["blocks"][1]["text"]["verbatim"], true);
}

#[test]
fn a_link_leads_where_it_says() {
    let shown = |name: &str, value: &str| {
        let fields = vec![NotifyField { name: name.into(), value: value.into() }];
        let message = message(&Notification { fields, ..notification() });
        message["blocks"][2]["fields"][0]["text"].as_str().expect("a field").to_owned()
    };
    assert_eq!(shown("Link", "https://h/?a=1&b=2"), "*Link*\n<https://h/?a=1&amp;b=2>");
    assert_eq!(shown("Link", "https://h/|safe"), "*Link*\nhttps://h/|safe");
    assert_eq!(shown("Link", "javascript:x"), "*Link*\njavascript:x");
    assert_eq!(shown("node", "https://h/"), "*node*\nhttps://h/");
}

#[test]
fn a_title_is_one_line_and_never_empty() {
    let header = |title: &str| {
        let message = message(&Notification { title: title.into(), ..notification() });
        message["blocks"][0]["text"]["text"].as_str().expect("a title").to_owned()
    };
    assert_eq!(header("a\nb"), "a b");
    assert_eq!(header(" \n"), "shop/web-crashloop");
    assert!(header(&"<".repeat(400)).chars().count() <= HEADER);
}

proptest! {
    #[test]
    fn whatever_the_text_it_fits_and_no_entity_is_broken(text in "[&<>a-z\u{e4}\u{1f468}\u{200d}\u{301} \n]{0,400}", most in 60usize..300) {
        let fitted = fit(&text, most);
        prop_assert!(fitted.chars().count() <= most);
        prop_assert!(!fitted.contains('<') && !fitted.contains('>'));
        let bare = fitted.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
        prop_assert!(!bare.contains('&'), "{}", fitted);
    }
}
