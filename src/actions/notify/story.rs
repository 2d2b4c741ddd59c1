//! What a notification says whose rule gives no text: what happened, where, how often, since when, and what was done. Pure: what is to be read of the
//! cluster was read before.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::{
    actions::Context,
    api::NotifyField,
    event::{
        TYPE_KUBERNETES_EVENT, TYPE_RESOURCE_CREATED, TYPE_RESOURCE_DELETED, TYPE_RESOURCE_UPDATED, TYPE_SCHEDULE,
    },
    text::cut,
};

/// Characters of what the event says.
const MESSAGE: usize = 2_000;
/// Characters of one line of a log, of an Event, and of what was done.
const LINE: usize = 300;
/// Lines of each.
pub(super) const LINES: usize = 10;
/// Characters of data that have no shape that is known.
const DATA: usize = 600;

/// What was seen of the object in the cluster, as far as the rule's account may see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// The controller at the top of it.
    pub(super) owner: Option<String>,
    /// The node that it is on.
    pub(super) node: Option<String>,
    /// Of a Pod, the end of the log of a container.
    pub(super) log: Option<Log>,
    /// What Events say of it, the oldest first.
    pub(super) events: Vec<String>,
}

/// The end of a log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Log {
    pub(super) container: String,
    /// Whether it is that of the container before its last restart.
    pub(super) before: bool,
    pub(super) text: String,
}

/// A text and facts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Story {
    pub(super) text: String,
    pub(super) fields: Vec<NotifyField>,
}

/// The story of a firing.
pub(super) fn story(cx: &Context, seen: &Seen) -> Story {
    let mut parts = vec![without_secrets(&cut(&happened(cx), MESSAGE))];
    let done = cx.said.iter().filter(|said| !said.is_empty());
    let done: Vec<String> = done.take(LINES).map(|said| format!("• {}", line(said))).collect();
    section(&mut parts, "What was done:", &done);
    if let Some(Log { container, before, text }) = &seen.log {
        let before = if *before { ", before its last restart" } else { "" };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let lines: Vec<String> = lines[lines.len().saturating_sub(LINES)..].iter().map(|one| line(one)).collect();
        section(&mut parts, &format!("End of the log of container {container}{before}:"), &lines);
    }
    let events: Vec<String> =
        seen.events[seen.events.len().saturating_sub(LINES)..].iter().map(|event| line(event)).collect();
    section(&mut parts, "What Events say of it:", &events);
    Story { text: parts.join("\n\n"), fields: facts(cx, seen) }
}

fn section(parts: &mut Vec<String>, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        parts.push(format!("{title}\n{}", lines.join("\n")));
    }
}

fn line(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() || *c == '\t').collect();
    cut(&without_secrets(&text), LINE)
}

fn happened(cx: &Context) -> String {
    let event = &cx.event;
    let text = |pointer: &str| event.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let what = event.subject.as_deref().unwrap_or("It");
    let happened = match event.type_.as_str() {
        TYPE_KUBERNETES_EVENT => [text("/reason"), text("/message").trim_end()].join(": "),
        TYPE_RESOURCE_CREATED => format!("{what} was created."),
        TYPE_RESOURCE_UPDATED => format!("{what} was changed."),
        TYPE_RESOURCE_DELETED => format!("{what} was deleted."),
        TYPE_SCHEDULE => format!("The time has come: {}", event.id),
        other => match &event.data {
            Value::Null => other.to_owned(),
            Value::String(text) => format!("{other}: {}", cut(text, DATA)),
            data => format!("{other}: {}", cut(&data.to_string(), DATA)),
        },
    };
    if cx.resolves { format!("It is over. The last that was heard: {happened}") } else { happened }
}

fn facts(cx: &Context, seen: &Seen) -> Vec<NotifyField> {
    let event = &cx.event;
    let of_event = || event.data.get("count").filter(|_| event.type_ == TYPE_KUBERNETES_EVENT)?.as_u64();
    let first = event.data.get("firstTime").and_then(Value::as_str).filter(|_| event.type_ == TYPE_KUBERNETES_EVENT);
    let often = cx.count.or_else(of_event).filter(|count| *count > 1).map(|count| format!("{count} times"));
    let since = first.map(str::to_owned).or_else(|| event.time.map(|time| time.to_string()));
    let group = (Some(cx.group.as_str()) != event.subject.as_deref() && !cx.group.is_empty()).then(|| cx.group.clone());
    [
        ("Object", event.subject.clone()),
        ("Owner", seen.owner.clone().filter(|owner| !is_subject(owner, event.subject.as_deref()))),
        ("Group", group),
        ("Node", seen.node.clone()),
        ("Seen", often),
        ("Since", since),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(NotifyField { name: name.to_owned(), value: cut(&value?, LINE) }))
    .collect()
}

/// Whether `Pod shop/web-1` is `shop/Pod/web-1`.
fn is_subject(named: &str, subject: Option<&str>) -> bool {
    let as_subject = named.split_once(' ').map(|(kind, name)| match name.split_once('/') {
        Some((namespace, name)) => format!("{namespace}/{kind}/{name}"),
        None => format!("{kind}/{name}"),
    });
    as_subject.as_deref() == subject
}

/// The text without what looks like a credential. Logs and Events are read by more people than may read Secrets.
fn without_secrets(text: &str) -> String {
    static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r#"(?i)([\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|credential|authorization)[\w.-]*["']?\s*[=:]\s*(?:bearer\s+|basic\s+)?)("[^"]*"|'[^']*'|[^\s,;&"']+)"#,
        )
        .ok()
    });
    static BARE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)(://)[^/\s:@]+:[^/\s@]+@|(\bbearer\s+)[\w.~+/=-]{8,}|()\beyJ[\w-]{10,}\.[\w-]{4,}(?:\.[\w-]*)?|()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|()\b(?:xox[abpr]-|gh[pousr]_|glpat-)[\w-]{10,}").ok()
    });
    let (Some(named), Some(bare)) = (&*NAMED, &*BARE) else { return String::new() };
    let text = named.replace_all(text, "${1}[redacted]");
    let hidden = |found: &Captures<'_>| {
        let kept = (1..found.len()).find_map(|group| found.get(group)).map_or("", |kept| kept.as_str());
        let at = if kept == "://" { "@" } else { "" };
        format!("{kept}[redacted]{at}")
    };
    bare.replace_all(&text, hidden).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{actions::testing::context, event::Event, kubernetes::fake::Fake};

    fn cx(event: Event) -> Context {
        Context { event: Arc::new(event), ..context(&Fake::new(|_| (404, json!({})))) }
    }

    fn back_off() -> Event {
        let data = json!({"reason": "BackOff", "message": "Back-off restarting failed container\n", "count": 7, "firstTime": "2026-11-25T09:50:00Z"});
        let mut event = Event::new("1", "/api/v1/events", TYPE_KUBERNETES_EVENT, data);
        event.subject = Some("shop/Pod/web-1".into());
        event
    }

    fn told(story: &Story) -> String {
        let fields: Vec<String> = story.fields.iter().map(|field| format!("{}={}", field.name, field.value)).collect();
        format!("{}\n\n{}", story.text, fields.join("\n"))
    }

    #[tokio::test]
    async fn it_says_what_happened_where_how_often_since_when_and_what_was_done() {
        let seen = Seen {
            owner: Some("Deployment shop/web".into()),
            node: Some("n1".into()),
            log: Some(Log { container: "web".into(), before: true, text: "starting\n\npanic: no database\n".into() }),
            events: vec!["2026-11-25T10:00:00Z Warning BackOff (7 times): Back-off".into()],
        };
        let said: Vec<String> = vec!["scaled Deployment shop/web from 2 to 3".into(), String::new()];
        let story = story(&Context { said: said.into(), ..cx(back_off()) }, &seen);
        assert_eq!(
            told(&story),
            "BackOff: Back-off restarting failed container\n\n\
             What was done:\n• scaled Deployment shop/web from 2 to 3\n\n\
             End of the log of container web, before its last restart:\nstarting\npanic: no database\n\n\
             What Events say of it:\n2026-11-25T10:00:00Z Warning BackOff (7 times): Back-off\n\n\
             Object=shop/Pod/web-1\nOwner=Deployment shop/web\nNode=n1\nSeen=7 times\nSince=2026-11-25T09:50:00Z"
        );
    }

    #[tokio::test]
    async fn what_is_not_known_is_left_out() {
        let story = story(&cx(Event::new("1", "/x", "com.acme.paid", json!({"sum": 3}))), &Seen::default());
        assert_eq!(told(&story), "com.acme.paid: {\"sum\":3}\n\nGroup=shop/Pod/web-1");
        let over = Context { resolves: true, ..cx(back_off()) };
        assert!(self::story(&over, &Seen::default()).text.starts_with("It is over. The last that was heard: BackOff"));
    }

    #[tokio::test]
    async fn it_is_bounded_whatever_is_said() {
        let mut event = back_off();
        event.data["message"] = "ü".repeat(100_000).into();
        let long = "x".repeat(10_000);
        let seen = Seen {
            owner: Some(long.clone()),
            node: Some(long.clone()),
            log: Some(Log { container: "web".into(), before: false, text: format!("{long}\n").repeat(100) }),
            events: vec![long.clone(); 100],
        };
        let story = story(&Context { said: vec![long; 100].into(), ..cx(event) }, &seen);
        assert!(told(&story).chars().count() < 14_000, "{}", told(&story).chars().count());
    }

    #[test]
    fn what_looks_like_a_credential_is_not_told() {
        for text in [
            "password=canary-77 x",
            "DB_PASSWORD: 'canary-77'",
            "{\"apiKey\": \"canary-77\"}",
            "Authorization: Bearer canary-77",
            "sent Bearer canary-77canary-77",
            "postgres://user:canary-77@db/x",
            "client_secret=canary-77&b=1",
            "eyJcanary77abcdef.eyJcanary.canary",
            "AWS AKIACANARY7777777777",
            "xoxb-canary-77-123456",
        ] {
            let told = without_secrets(text);
            assert!(!told.to_lowercase().contains("canary") && told.contains("[redacted]"), "{told}");
        }
        for text in ["the token was refused", "no such host db:5432", "passwords do not match", "a: b"] {
            assert_eq!(without_secrets(text), text);
        }
    }
}
