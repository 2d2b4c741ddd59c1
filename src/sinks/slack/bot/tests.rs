use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap as Headers, StatusCode},
    response::{IntoResponse, Response as Answer},
    routing::post,
};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;
use crate::{
    api::NotifyOperation::{Acknowledge, Resolve, Trigger},
    sinks::{
        Connections, Parcel, Sink, Threads, build,
        testing::{http, notification, sink},
    },
};

/// A Slack of one channel, that checks requests as its documentation says.
#[derive(Default)]
struct Channel {
    /// All messages: `ts`, `thread_ts`, `text`, `blocks`, `metadata`.
    messages: Vec<Value>,
    calls: Vec<String>,
    /// What the next call of a method answers instead; with status 0 it is done, and the answer does not come.
    odd: HashMap<String, (u16, &'static str)>,
}

/// Messages that are given at once.
const PAGE: usize = 2;

type Shared = Arc<Mutex<Channel>>;

impl Channel {
    /// Fewer than asked for, which is allowed: <https://docs.slack.dev/reference/methods/conversations.replies>.
    fn page(&self, mut messages: Vec<Value>, cursor: Option<&String>) -> Value {
        let from = cursor.map_or(0, |cursor| cursor.parse().expect("a cursor that was given"));
        let next = from + PAGE;
        let cursor = if next < messages.len() { next.to_string() } else { String::new() };
        let messages: Vec<Value> = messages.drain(from..).take(PAGE).collect();
        json!({"ok": true, "messages": messages, "response_metadata": {"next_cursor": cursor}})
    }

    fn call(&mut self, method: &str, headers: &Headers, body: &Bytes) -> Value {
        self.calls.push(method.to_owned());
        let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if sent("authorization") != "Bearer xoxb-canary" {
            return json!({"ok": false, "error": "invalid_auth"});
        }
        let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        let reads = method.starts_with("conversations.");
        let wanted = if reads { "application/x-www-form-urlencoded" } else { "application/json; charset=utf-8" };
        assert_eq!(sent("content-type"), wanted);
        let message: Value = if reads { Value::Null } else { serde_json::from_slice(body).expect("JSON") };
        let channel = if reads { form["channel"].as_str() } else { message["channel"].as_str().unwrap_or_default() };
        if channel != "C0123" {
            return json!({"ok": false, "error": "channel_not_found"});
        }
        match method {
            "conversations.history" | "conversations.replies" => {
                assert_eq!(form["include_all_metadata"], "true");
                let thread = form.get("ts");
                let of = |message: &&Value| match thread {
                    None => message["thread_ts"].is_null(),
                    Some(ts) => message["thread_ts"] == **ts || message["ts"] == **ts,
                };
                let mut messages: Vec<Value> = self.messages.iter().filter(of).cloned().collect();
                // A thread comes with its earliest first, a channel with its newest.
                if thread.is_none() {
                    messages.reverse();
                }
                self.page(messages, form.get("cursor"))
            }
            "chat.postMessage" => {
                check(&message);
                let ts = format!("17.{:04}", self.messages.len());
                let mut kept = message.clone();
                kept["ts"] = ts.clone().into();
                self.messages.push(kept);
                json!({"ok": true, "channel": "C0123", "ts": ts})
            }
            "chat.update" => {
                check(&message);
                let Some(kept) = self.messages.iter_mut().find(|kept| kept["ts"] == message["ts"]) else {
                    return json!({"ok": false, "error": "message_not_found"});
                };
                for field in ["text", "blocks", "metadata"] {
                    kept[field] = message[field].clone();
                }
                json!({"ok": true, "ts": message["ts"]})
            }
            other => json!({"ok": false, "error": format!("unknown_method {other}")}),
        }
    }
}

/// <https://docs.slack.dev/reference/block-kit/blocks>
fn check(message: &Value) {
    assert!(message["text"].as_str().is_some_and(|text| !text.is_empty()));
    let blocks = message["blocks"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(blocks.len() <= 50);
    for block in blocks {
        let most = if block["type"] == "header" { 150 } else { 3000 };
        let text = block["text"]["text"].as_str().unwrap_or("x");
        assert!((1..=most).contains(&text.chars().count()), "{block}");
        assert!(!text.replace("&lt;", "").contains('<'), "{text}");
    }
    assert_eq!(message["metadata"]["event_type"], METADATA);
}

async fn serve(State(shared): State<Shared>, Path(method): Path<String>, headers: Headers, body: Bytes) -> Answer {
    let mut channel = shared.lock();
    match channel.odd.remove(&method) {
        Some((0, _)) => {
            channel.call(&method, &headers, &body);
            StatusCode::BAD_GATEWAY.into_response()
        }
        Some((status, word)) => {
            channel.calls.push(method);
            let answer = json!({"ok": false, "error": word}).to_string();
            (StatusCode::from_u16(status).expect("a status"), [("retry-after", "7")], answer).into_response()
        }
        None => channel.call(&method, &headers, &body).to_string().into_response(),
    }
}

struct Site {
    shared: Shared,
    sink: Sink,
    secrets: Secrets,
    threads: Threads,
}

impl Site {
    async fn new() -> Self {
        let shared = Shared::default();
        let router = Router::new().route("/api/{method}", post(serve)).with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let api = format!("http://{}/api", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let spec = format!(
            r#"{{"slack": {{"tokenSecretRef": {{"name": "s", "key": "token"}}, "channel": "C0123", "apiUrl": "{api}"}}}}"#
        );
        let mut secrets = Secrets::default();
        secrets.insert(SecretKeyRef { name: "s".into(), key: "token".into() }, b"xoxb-canary\n");
        Self { shared, sink: build(&sink(&spec)).expect("a sink"), secrets, threads: Threads::default() }
    }

    async fn tell(&self, notification: Notification) -> Result<Delivered, SinkError> {
        let (http, connections) = (http(), Connections::default());
        let reach = Reach { http: &http, connections: &connections, threads: &self.threads };
        self.sink.deliver(&Parcel::Notification(Box::new(notification)), &self.secrets, reach).await
    }

    /// As after a restart.
    fn restart(&mut self) {
        self.threads = Threads::default();
    }

    fn odd(&self, method: &str, status: u16, word: &'static str) {
        self.shared.lock().odd.insert(method.into(), (status, word));
    }

    /// The thread and the title of every message.
    fn messages(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.shared.lock().messages.iter().map(|one| (text(&one["thread_ts"]), text(&one["text"]))).collect()
    }
}

fn of(operation: NotifyOperation, id: &str) -> Notification {
    Notification { operation, id: id.into(), ..notification() }
}

fn pair(thread: &str, text: &str) -> (String, String) {
    (thread.into(), text.into())
}

#[tokio::test]
async fn an_incident_has_one_thread_and_its_end_is_told_there_and_above() {
    let mut site = Site::new().await;
    site.tell(of(Trigger, "1-tell")).await.expect("told");
    site.tell(of(Trigger, "2-tell")).await.expect("told");
    // The operator is started anew in between.
    site.restart();
    site.tell(of(Acknowledge, "3-tell")).await.expect("told");
    site.restart();
    site.tell(of(Resolve, "4-tell")).await.expect("told");
    let title = "web keeps crashing";
    assert_eq!(
        site.messages(),
        [
            pair("", &format!("Resolved: {title}")),
            pair("17.0000", title),
            pair("17.0000", &format!("Acknowledged: {title}")),
            pair("17.0000", &format!("Resolved: {title}")),
        ]
    );
    let first = site.shared.lock().messages[0].clone();
    assert_eq!(first["blocks"][0]["text"]["text"], format!("Resolved: {title}"));
    assert_eq!(first["blocks"][1]["text"]["text"], "Back-off", "what it was about is still there");
    // The next time it is another incident, also for a process that finds the first one in the channel.
    site.restart();
    site.tell(of(Trigger, "5-tell")).await.expect("told");
    assert_eq!(site.messages()[4].0, "");
}

#[tokio::test]
async fn other_incidents_have_other_threads() {
    let site = Site::new().await;
    for incident in ["a", "b", "a"] {
        site.tell(Notification { incident: incident.into(), ..of(Trigger, incident) }).await.expect("told");
    }
    assert_eq!(site.messages().iter().map(|(thread, _)| thread.as_str()).collect::<Vec<_>>(), ["", "", "17.0000"]);
    let reads = site.shared.lock().calls.iter().filter(|call| *call == "conversations.history").count();
    assert_eq!(reads, 1, "a channel is read once");
}

#[tokio::test]
async fn what_was_sent_without_an_answer_is_not_sent_twice() {
    let mut site = Site::new().await;
    for (operation, id) in [(Trigger, "1-tell"), (Trigger, "2-tell"), (Resolve, "3-tell")] {
        site.odd("chat.postMessage", 0, "");
        let error = site.tell(of(operation, id)).await.expect_err("no answer");
        assert_eq!(error.retry, Retry::After(None));
        site.restart();
        site.tell(Notification { again: true, ..of(operation, id) }).await.expect("told");
    }
    assert_eq!(site.messages().len(), 3);
    // What did not arrive is sent again.
    site.odd("chat.postMessage", 503, "");
    site.tell(of(Trigger, "4-tell")).await.expect_err("refused");
    site.tell(Notification { again: true, ..of(Trigger, "4-tell") }).await.expect("told");
    assert_eq!(site.messages().len(), 4);
}

#[tokio::test]
async fn what_slack_says_decides_whether_it_is_repeated() {
    let site = Site::new().await;
    site.tell(of(Trigger, "0-tell")).await.expect("the channel is read");
    for (status, word, retry) in [
        (200, "ratelimited", Retry::After(None)),
        (429, "ratelimited", Retry::After(Some(std::time::Duration::from_secs(7)))),
        (200, "internal_error", Retry::After(None)),
        (200, "token_revoked", Retry::FreshSecrets),
        (200, "not_in_channel", Retry::Never),
        (200, "msg_too_long", Retry::Never),
    ] {
        site.odd("chat.postMessage", status, word);
        let error = site.tell(of(Trigger, "1-tell")).await.expect_err(word);
        assert_eq!(error.retry, retry, "{error}");
    }
    site.odd("chat.postMessage", 200, "not_in_channel");
    let error = site.tell(of(Trigger, "1-tell")).await.expect_err("refused");
    assert_eq!(error.message, "Slack answered chat.postMessage with not_in_channel: invite the bot to the channel");
}

#[tokio::test]
async fn blocks_that_slack_refuses_are_sent_as_plain_text() {
    let site = Site::new().await;
    site.odd("chat.postMessage", 200, "invalid_blocks");
    let taken = site.tell(of(Trigger, "1-tell")).await.expect("told");
    assert!(taken.note.expect("a note").contains("invalid_blocks; sent as plain text instead"));
    assert_eq!(site.messages(), [pair("", "web keeps crashing\nBack-off")]);
}

#[tokio::test]
async fn without_the_right_to_read_threads_live_as_long_as_the_process_and_that_is_said() {
    let mut site = Site::new().await;
    site.odd("conversations.history", 200, "missing_scope");
    let taken = site.tell(of(Trigger, "1-tell")).await.expect("told");
    assert!(
        taken.note.expect("a note").contains("threads cannot be found again: Slack answered conversations.history")
    );
    site.tell(of(Trigger, "2-tell")).await.expect("told");
    site.restart();
    site.odd("conversations.history", 200, "missing_scope");
    site.tell(of(Resolve, "3-tell")).await.expect("told");
    assert_eq!(site.messages().iter().map(|(thread, _)| thread.as_str()).collect::<Vec<_>>(), ["", "17.0000", ""]);
}

#[tokio::test]
async fn a_first_message_that_somebody_deleted_hinders_nothing() {
    let site = Site::new().await;
    site.tell(of(Trigger, "1-tell")).await.expect("told");
    site.shared.lock().messages[0]["ts"] = "gone".into();
    site.tell(of(Resolve, "2-tell")).await.expect("told");
    assert_eq!(site.messages().len(), 2);
}

#[tokio::test]
async fn texts_of_any_length_with_marks_of_all_kinds_are_taken() {
    let site = Site::new().await;
    for text in ["&".repeat(2990), "<!channel> <@U123>".repeat(300), "ü".repeat(16_000)] {
        let long = Notification { title: text.clone(), text, ..of(Trigger, "1-tell") };
        site.tell(long).await.expect("told");
    }
    site.tell(of(Resolve, "2-tell")).await.expect("told");
}

#[tokio::test]
async fn what_was_sent_is_found_on_whatever_page_it_is() {
    let mut site = Site::new().await;
    site.tell(of(Trigger, "1-tell")).await.expect("told");
    for n in 2..7 {
        site.tell(of(Trigger, &format!("{n}-tell"))).await.expect("told");
    }
    for incident in ["b", "c", "d"] {
        site.tell(Notification { incident: incident.into(), ..of(Trigger, incident) }).await.expect("told");
    }
    let told = site.messages();
    for id in ["1-tell", "6-tell"] {
        site.tell(Notification { again: true, ..of(Trigger, id) }).await.expect("there");
    }
    site.restart();
    site.tell(Notification { again: true, ..of(Trigger, "6-tell") }).await.expect("there");
    assert_eq!(site.messages(), told);
}

#[tokio::test]
async fn what_is_read_again_changes_no_thread_but_its_own() {
    let site = Site::new().await;
    site.tell(of(Trigger, "1-tell")).await.expect("told");
    // As it is while another is about to close its thread, and has not yet: the channel still shows it as open.
    let other = Notification { incident: "other".into(), ..of(Trigger, "2-tell") };
    site.tell(other.clone()).await.expect("told");
    let open = site.shared.lock().messages[1].clone();
    site.tell(Notification { operation: Resolve, id: "3-tell".into(), ..other.clone() }).await.expect("told");
    site.shared.lock().messages[1] = open;
    site.tell(Notification { again: true, ..of(Trigger, "1-tell") }).await.expect("told");
    site.tell(Notification { id: "4-tell".into(), ..other }).await.expect("told");
    assert_eq!(site.messages().last().map(|(thread, _)| thread.as_str()), Some(""), "another incident");
}

#[tokio::test]
async fn those_that_come_first_at_once_read_the_channel_once() {
    let mut site = Site::new().await;
    site.tell(of(Trigger, "1-tell")).await.expect("told");
    site.restart();
    let all = (2..8).map(|n| site.tell(of(Trigger, &format!("{n}-tell"))));
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    let reads = site.shared.lock().calls.iter().filter(|call| *call == "conversations.history").count();
    assert_eq!(reads, 2, "once for each process");
    assert!(site.messages()[1..].iter().all(|(thread, _)| thread == "17.0000"), "{:?}", site.messages());
}

#[tokio::test]
async fn a_reply_that_cannot_be_looked_for_now_is_not_sent_again() {
    let site = Site::new().await;
    site.tell(of(Trigger, "1-tell")).await.expect("told");
    site.tell(of(Trigger, "2-tell")).await.expect("told");
    let again = Notification { again: true, ..of(Trigger, "2-tell") };
    site.odd("conversations.replies", 200, "ratelimited");
    assert_eq!(site.tell(again.clone()).await.expect_err("not known").retry, Retry::After(None));
    site.tell(again).await.expect("there");
    assert_eq!(site.messages().len(), 2);
}
