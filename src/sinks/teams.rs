//! `teams`: a webhook of a Workflow of Microsoft Teams, with an Adaptive Card.
//!
//! <https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>: messages of at most 28 KB, four requests a
//! second, 429 beyond. A mention needs an entity beside the text, so a text pings nobody.

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    Delivered, Notification, Notifier, REQUEST_TIMEOUT, Reach, Retry, Secrets, SinkError,
    fit::{Writing, one_line},
};
use crate::{
    api::{self, NotifyOperation, SecretKeyRef, Severity},
    net::Call,
};

/// Bytes of a message: 28 KB, with some room for how they are counted.
const MESSAGE: usize = 27_000;
/// Characters of a title, of one fact, and of the text; the last is cut further where the message is too large all the same.
const TITLE: usize = 256;
const FACT: usize = 500;
const TEXT: usize = 8_000;
/// What errors call the address.
const NAME: &str = "Teams";
/// Text blocks know links and emphasis: what would be a link stays what it is.
const MARKDOWN: Writing = Writing {
    escape: |c| match c {
        '\\' => Some("\\\\"),
        '[' => Some("\\["),
        _ => None,
    },
    size: |_| 1,
};

/// The sink.
pub(super) struct Teams {
    url: SecretKeyRef,
}

impl Teams {
    pub(super) fn new(spec: &api::Teams) -> Self {
        Self { url: spec.url_secret_ref.clone() }
    }
}

impl Notifier for Teams {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        vec![self.url.clone()]
    }

    fn is_for_people(&self) -> bool {
        true
    }

    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let url = secrets.text(&self.url)?;
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let (method, timeout, body) = (Method::POST, REQUEST_TIMEOUT, message(notification));
            let response = reach.http.call(Call { method, url, name: NAME, headers, body, timeout }).await?;
            if response.status.is_success() {
                return Ok(Delivered { status: response.status.as_u16(), note: None });
            }
            let error = SinkError::answered(NAME, &response, secrets);
            // A Workflow that was made anew has another address, which is in the Secret.
            let gone = [StatusCode::NOT_FOUND, StatusCode::GONE].contains(&response.status);
            Err(if gone { SinkError { retry: Retry::FreshSecrets, ..error } } else { error })
        })
    }
}

/// The message, cut until it is small enough.
fn message(notification: &Notification) -> Vec<u8> {
    let mut most = TEXT;
    loop {
        let body = card(notification, most).to_string().into_bytes();
        if body.len() <= MESSAGE || most < 100 {
            return body;
        }
        most /= 2;
    }
}

fn card(notification: &Notification, most: usize) -> Value {
    let Notification { severity, text, fields, event, rule, operation, .. } = notification;
    let colour = match (operation, severity) {
        (NotifyOperation::Resolve, _) => "Good",
        (_, Severity::Info) => "Accent",
        (_, Severity::Warning) => "Warning",
        (_, Severity::Error | Severity::Critical) => "Attention",
    };
    let mut body = vec![json!({
        "type": "TextBlock", "text": MARKDOWN.fit(&notification.headline(), TITLE),
        "size": "Large", "weight": "Bolder", "color": colour, "wrap": true,
    })];
    if !text.trim().is_empty() {
        // One line break is none in a text block.
        let text = MARKDOWN.fit(text.trim_end(), most).replace('\n', "\n\n");
        body.push(json!({"type": "TextBlock", "text": text, "wrap": true}));
    }
    let facts: Vec<Value> = fields
        .iter()
        .map(|field| {
            let most = FACT.min(most);
            json!({"title": MARKDOWN.fit(&one_line(&field.name), most), "value": MARKDOWN.fit(&field.value, most)})
        })
        .collect();
    if !facts.is_empty() {
        body.push(json!({"type": "FactSet", "facts": facts}));
    }
    let origin = [Some(format!("{severity:?}")), Some(rule.to_string()), event.subject.clone()];
    let origin = origin.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    body.push(json!({"type": "TextBlock", "text": MARKDOWN.fit(&origin, FACT), "isSubtle": true, "size": "Small", "wrap": true}));
    json!({"type": "message", "attachments": [{
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": null,
        "content": {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": body,
        },
    }]})
}

#[cfg(test)]
mod tests;
