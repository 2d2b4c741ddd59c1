//! What people send to EventSinks by hand.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
};
use serde_json::json;

use super::{Answer, LateRules, Refusal, ready, reply};
use crate::{
    actions::{ByHand, NotTaken, send_by_hand},
    event::cloud_events,
};

/// Bytes of a body: a text of 16 KiB in JSON, and an event of 64 KiB, fit.
pub(super) const MOST: usize = 128 << 10;
/// How long one may take: two requests to a service may take 20 s each, and who asks waits for 30.
const PATIENCE: Duration = Duration::from_secs(25);

/// Sends what the body is: a CloudEvent by its content type, else a notification.
pub(super) async fn deliver(
    State(rules): State<LateRules>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let rules = ready(&rules)?;
    let visitor = rules.visitors.account(&headers).await?;
    if visitor.namespace != namespace {
        let how = format!(
            "the token is of ServiceAccount {}/{}, and what is sent to EventSink {namespace}/{name} is sent by an account of namespace {namespace}",
            visitor.namespace, visitor.name
        );
        return Err(Refusal(StatusCode::FORBIDDEN, how));
    }
    let what = read(&headers, &body)?;
    let busy = || {
        Refusal(StatusCode::TOO_MANY_REQUESTS, "too much is being sent by hand: try again in some seconds".to_owned())
    };
    let _one = rules.sending.take(&namespace).ok_or_else(busy)?;
    let sent = tokio::time::timeout(PATIENCE, send_by_hand(&rules.services, &visitor, &name, what)).await;
    let late = || {
        let why =
            format!("EventSink {name} gave no answer within {} s: whether it took it is not known", PATIENCE.as_secs());
        Refusal(StatusCode::GATEWAY_TIMEOUT, why)
    };
    let taken = sent.map_err(|_| late())??;
    let body = json!({
        "sink": format!("{namespace}/{name}"),
        "kind": taken.kind,
        "status": taken.delivered.status,
        "note": taken.delivered.note,
    });
    Ok(reply(StatusCode::OK, &body))
}

impl From<NotTaken> for Refusal {
    fn from(error: NotTaken) -> Self {
        let status = match error {
            NotTaken::Forbidden { .. } => StatusCode::FORBIDDEN,
            NotTaken::Unknown(..) => StatusCode::NOT_FOUND,
            NotTaken::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotTaken::Limited { .. } => StatusCode::TOO_MANY_REQUESTS,
            NotTaken::Failed { .. } => StatusCode::BAD_GATEWAY,
        };
        Self(status, error.to_string())
    }
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<ByHand, Refusal> {
    let odd = |why: String| Refusal(StatusCode::BAD_REQUEST, why);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/cloudevents+json") {
        return serde_json::from_slice(body)
            .map(ByHand::Notice)
            .map_err(|error| odd(format!("the notification: {error}")));
    }
    let mut events = cloud_events::decode(headers, body).map_err(|error| odd(format!("the event: {error}")))?;
    let event = events.pop().ok_or_else(|| odd("there is no event".to_owned()))?;
    Ok(ByHand::Event(Box::new(event)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &'static str, body: &str) -> Result<ByHand, String> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().expect("a value"))]);
        read(&headers, body.as_bytes()).map_err(|Refusal(_, why)| why)
    }

    #[test]
    fn a_body_is_a_notification_or_an_event() {
        let notice = of("application/json", r#"{"title": "a", "text": "b", "operation": "Resolve"}"#);
        assert!(matches!(notice, Ok(ByHand::Notice(notice)) if notice.text == "b"));
        let event = r#"{"specversion": "1.0", "id": "1", "source": "/s", "type": "com.acme.paid", "data": {"a": 1}}"#;
        assert!(
            matches!(of("application/cloudevents+json", event), Ok(ByHand::Event(event)) if event.type_ == "com.acme.paid")
        );
        assert!(of("application/cloudevents+json", r#"{"id": "1"}"#).expect_err("odd").contains("the event: "));
        let odd = of("application/json", r#"{"title": "a", "text": "b", "sinkRef": {}}"#).expect_err("odd");
        assert!(odd.contains("unknown field `sinkRef`"), "{odd}");
    }
}
