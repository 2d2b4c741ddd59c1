//! What a person sends to an EventSink without a rule: a notification or an event, to see whether it arrives.
//!
//! Nobody gets to use what he cannot read: whoever asks needs `get` on the EventSink, as a rule's account does, and on every Secret that it names.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{Context, Failure, FailureKind, Services, sink};
use crate::{
    api::{NotifyField, NotifyOperation, Severity},
    event::{Event, rule_event},
    kubernetes::{MissingRight, Right},
    record::{Account, RuleRef, RuleUid},
    sinks::{Delivered, Notification, Parcel, Publication, incident},
};

/// The rule that notifications name as theirs.
const NAME: &str = "sent-by-hand";
/// The type of the event that notifications are about.
const TYPE: &str = "dev.signalbox.test";
/// How the `source` of what rules publish begins.
const OF_RULES: &str = "/apis/signalbox.dev/";
/// Bytes, as in the action `notify`.
const TITLE: usize = 4096;
const TEXT: usize = 16 << 10;
const KEY: usize = 1024;

/// What is sent.
#[derive(Clone, Debug)]
pub enum ByHand {
    /// To people.
    Notice(Notice),
    /// To where events are taken.
    Event(Box<Event>),
}

/// A notification of a person.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notice {
    /// How urgent it is.
    #[serde(default)]
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// The message.
    pub text: String,
    /// What it means for its incident.
    #[serde(default)]
    pub operation: NotifyOperation,
    /// Which incident that is; default: one for each sink.
    #[serde(default)]
    pub dedup_key: Option<String>,
}

/// It was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The field of the sink's spec that says what it is.
    pub kind: &'static str,
    /// What the sink said.
    pub delivered: Delivered,
}

/// It was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Whoever asks may not use the sink, or not read what it uses.
    #[error("send to EventSink {sink}: {right}")]
    Forbidden {
        /// The sink.
        sink: String,
        /// What is missing.
        right: Box<MissingRight>,
    },
    /// There is no such sink.
    #[error("there is no EventSink {0} in namespace {1}: kubectl get eventsinks -n {1}")]
    Unknown(String, String),
    /// The sink cannot be used, or does not take this.
    #[error("{0}")]
    Unfit(String),
    /// It has been sent all that it takes for now.
    #[error("{what}; try again in {} s", .after.as_secs_f64().ceil())]
    Limited {
        /// Which limit it is.
        what: String,
        /// How long it lasts.
        after: Duration,
    },
    /// It was sent, or something it takes could not be read.
    #[error("EventSink {sink} did not take it: {why}; {advice}")]
    Failed {
        /// The sink.
        sink: String,
        /// What went wrong.
        why: String,
        /// What to do.
        advice: String,
    },
}

/// Sends it, once, in the name of an account of the sink's namespace.
///
/// # Errors
/// Say what to do.
///
/// # Cancel safety
/// Dropped before it is ready, it may or may not have been taken.
pub async fn send(services: &Arc<Services>, who: &Account, name: &str, what: ByHand) -> Result<Taken, NotTaken> {
    let cx = context(services, who, name);
    permitted(&cx, name, sink::right(&who.namespace, name)).await?;
    let entry = services.sinks.get(&who.namespace, name);
    let entry = entry.ok_or_else(|| NotTaken::Unknown(name.to_owned(), who.namespace.clone()))?;
    let parcel = parcel(&cx, name, what)?;
    let sink = sink::check(&entry, name, &parcel).map_err(|failure| NotTaken::Unfit(failure.message))?;
    for key in sink.secrets() {
        let right = Right::new("get", "", "secrets").within(Some(&who.namespace)).named(&key.name);
        permitted(&cx, name, right).await?;
    }
    tracing::info!(sink = %format_args!("{}/{name}", who.namespace), account = %who, "something is sent by hand");
    match sink::deliver_once(&cx, &entry, sink, name, parcel).await {
        Ok(delivered) => Ok(Taken { kind: entry.kind, delivered }),
        Err(failure) => Err(not_taken(who, name, failure)),
    }
}

async fn permitted(cx: &Context, sink: &str, right: Right) -> Result<(), NotTaken> {
    let sink = sink.to_owned();
    match cx.services.cluster.may(&cx.account, &right).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotTaken::Forbidden { sink, right: Box::new(right.missing_for(&cx.account)) }),
        Err(error) => {
            let why = format!("find out who may use it: {error}");
            Err(NotTaken::Failed { sink, why, advice: "try again".to_owned() })
        }
    }
}

fn not_taken(who: &Account, name: &str, Failure { kind, message: why }: Failure) -> NotTaken {
    let sink = name.to_owned();
    let advice = match kind {
        FailureKind::Turn(after) => return NotTaken::Limited { what: why, after },
        FailureKind::Retryable { after } => {
            let when = after.map_or_else(|| "later".to_owned(), |after| format!("in {} s", after.as_secs_f64().ceil()));
            format!("that may pass, so rules try again by themselves: try again {when}")
        }
        _ => {
            format!("rules fail at it in the same way: mend it with kubectl edit eventsink {name} -n {}", who.namespace)
        }
    };
    NotTaken::Failed { sink, why, advice }
}

fn parcel(cx: &Context, name: &str, what: ByHand) -> Result<Parcel, NotTaken> {
    let notice = match what {
        ByHand::Notice(notice) => notice,
        ByHand::Event(event) => {
            rule_event::emittable(&event.type_).map_err(|why| NotTaken::Unfit(format!("type {why}")))?;
            if event.source.starts_with(OF_RULES) {
                let why = format!("source must not begin with {OF_RULES}: by that it is known what rules publish");
                return Err(NotTaken::Unfit(why));
            }
            return Ok(Parcel::Publication(Box::new(Publication { event: *event, topic: None, key: None, hops: 1 })));
        }
    };
    let Notice { severity, title, text, operation, dedup_key } = notice;
    let named = dedup_key.unwrap_or_else(|| format!("{NAME}/{}/{name}", cx.rule.namespace));
    for (field, text, most) in [("title", &title, TITLE), ("text", &text, TEXT), ("dedupKey", &named, KEY)] {
        if text.len() > most {
            return Err(NotTaken::Unfit(format!("{field} has {} bytes; {most} are allowed", text.len())));
        }
    }
    Ok(Parcel::Notification(Box::new(Notification {
        severity,
        title,
        text,
        fields: vec![NotifyField { name: "sent by".to_owned(), value: cx.account.to_string() }],
        event: Arc::clone(&cx.event),
        rule: cx.rule.clone(),
        firing: cx.firing.clone(),
        hops: 1,
        id: cx.key(),
        operation,
        incident: incident::named(&named),
        again: false,
    })))
}

/// As of a rule's step.
fn context(services: &Arc<Services>, who: &Account, name: &str) -> Context {
    let now = services.clock.now();
    let id = format!("{NAME}-{}", now.wall);
    let source = format!("/apis/signalbox.dev/v1alpha1/namespaces/{}/eventsinks/{name}", who.namespace);
    let subject = Some(format!("{}/EventSink/{name}", who.namespace));
    let time = Some(now.timestamp());
    let rule = RuleRef { uid: RuleUid(NAME.into()), namespace: who.namespace.clone(), name: NAME.to_owned() };
    let event = Event { subject, time, ..Event::new(id.as_str(), source, TYPE, Value::Null) };
    Context::alone(services, (rule, who.clone()), (&id, "send"), event)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        actions::testing::{common, services},
        kubernetes::fake::Fake,
        sinks::{
            Turn,
            testing::{Service, notification, sink as spec},
        },
    };

    fn notice(text: &str) -> ByHand {
        ByHand::Notice(serde_json::from_value(json!({"title": "a test", "text": text})).expect("a notice"))
    }

    fn who() -> Account {
        Account { namespace: "shop".into(), name: "ops".into() }
    }

    /// An API server that grants everything but what is asked about this resource.
    fn without(resource: &'static str) -> Fake {
        Fake::new(move |seen| {
            let (status, mut answer) = common(seen).unwrap_or((404, json!({"kind": "Status", "code": 404})));
            if seen.body["spec"]["resourceAttributes"]["resource"] == resource {
                answer["status"]["allowed"] = false.into();
            }
            (status, answer)
        })
    }

    #[tokio::test]
    async fn who_may_not_read_the_secrets_of_a_sink_cannot_use_them() {
        let slack = spec(r#"{"slack": {"urlSecretRef": {"name": "slack", "key": "url"}}}"#);
        for (resource, remedy) in [
            ("secrets", "--resource=secrets --resource-name=slack"),
            ("eventsinks", "--resource=eventsinks.signalbox.dev"),
        ] {
            let fake = without(resource);
            let services = services(&fake);
            services.sinks.set("shop", "oncall", 1, &slack).expect("a sink");
            let refused = send(&services, &who(), "oncall", notice("t")).await.expect_err("refused");
            assert!(matches!(&refused, NotTaken::Forbidden { .. }), "{refused}");
            assert!(refused.to_string().contains(remedy), "{refused}");
            let read = fake.requests().into_iter().any(|seen| seen.path.contains("/secrets/"));
            assert!(!read, "no Secret is read for somebody who may not");
        }
    }

    #[tokio::test]
    async fn what_a_sink_answers_is_told_and_counted_in_its_status() {
        let service = Service::new(&[(200, "ok"), (404, "no such hook"), (503, "busy")]).await;
        let fake = without("nothing");
        let services = services(&fake);
        let url = format!(r#"{{"webhook": {{"url": "{}"}}}}"#, service.url);
        services.sinks.set("shop", "oncall", 1, &spec(&url)).expect("a sink");
        let taken = send(&services, &who(), "oncall", notice("t")).await.expect("taken");
        assert_eq!((taken.kind, taken.delivered.status), ("webhook", 200));
        let body = service.bodies().remove(0);
        assert_eq!((&body["title"], &body["fields"][0]["name"]), (&json!("a test"), &json!("sent by")));
        assert_eq!(body["dedupKey"], "sent-by-hand/shop/oncall");
        for part in ["404 Not Found: no such hook", "kubectl edit eventsink oncall -n shop"] {
            let refused = match part.starts_with("404") {
                true => send(&services, &who(), "oncall", notice("t")).await.expect_err("refused").to_string(),
                false => not_taken(&who(), "oncall", Failure::last("x")).to_string(),
            };
            assert!(refused.contains(part), "{refused}");
        }
        let refused = send(&services, &who(), "oncall", notice("t")).await.expect_err("refused").to_string();
        assert!(refused.contains("busy") && refused.contains("try again"), "{refused}");
        let deliveries = services.sinks.get("shop", "oncall").expect("there").deliveries();
        assert_eq!(deliveries.delivered, 1);
        assert!(deliveries.last_error.is_some_and(|error| error.contains("busy")));
    }

    #[tokio::test]
    async fn what_is_beyond_the_limit_of_a_sink_is_refused_and_takes_no_turn_of_the_rules() {
        let service = Service::new(&[(200, "ok")]).await;
        let fake = without("nothing");
        let services = services(&fake);
        let limited =
            format!(r#"{{"rateLimit": {{"notifications": 1, "per": "1h"}}, "webhook": {{"url": "{}"}}}}"#, service.url);
        services.sinks.set("shop", "oncall", 1, &spec(&limited)).expect("a sink");
        send(&services, &who(), "oncall", notice("t")).await.expect("taken");
        let hour = Duration::from_secs(3_600);
        for _ in 0..3 {
            let refused = send(&services, &who(), "oncall", notice("t")).await.expect_err("refused");
            assert!(matches!(&refused, NotTaken::Limited { after, .. } if *after <= hour), "{refused}");
            assert!(refused.to_string().contains("1 within 1h at most; try again in"), "{refused}");
        }
        assert_eq!(service.requests().len(), 1);
        let entry = services.sinks.get("shop", "oncall").expect("there");
        let (limit, of_rule) = (entry.limit.as_ref().expect("a limit"), Parcel::Notification(Box::new(notification())));
        let turn = entry.limiter.turn(limit, &of_rule, false, tokio::time::Instant::now());
        assert!(matches!(turn, Turn::Wait(wait) if wait <= hour), "{turn:?}");
    }

    #[tokio::test]
    async fn what_is_too_long_or_not_for_this_sink_is_refused_before_it_is_sent() {
        let service = Service::new(&[(200, "ok")]).await;
        let fake = without("nothing");
        let services = services(&fake);
        let url = format!(r#"{{"webhook": {{"url": "{}"}}}}"#, service.url);
        services.sinks.set("shop", "oncall", 1, &spec(&url)).expect("a sink");
        let event = |type_: &str| ByHand::Event(Box::new(Event::new("1", "/s", type_, json!({}))));
        let of_rule = Event::new("1", rule_event::event_source("shop", "web"), "com.acme.paid", json!({}));
        for (what, words) in [
            (notice(&"x".repeat(TEXT + 1)), "16384 are allowed"),
            (event("com.acme.paid"), "takes notifications and no events"),
            (event("dev.signalbox.rule.fired"), "must not begin with dev.signalbox."),
            (ByHand::Event(Box::new(of_rule)), "source must not begin with /apis/signalbox.dev/"),
        ] {
            let refused = send(&services, &who(), "oncall", what).await.expect_err("refused");
            assert!(matches!(&refused, NotTaken::Unfit(why) if why.contains(words)), "{words}: {refused}");
        }
        let gone = send(&services, &who(), "gone", notice("t")).await.expect_err("refused");
        assert!(matches!(gone, NotTaken::Unknown(..)));
        assert!(service.requests().is_empty());
    }
}
