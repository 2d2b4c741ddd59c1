//! `teams`: a webhook of a Workflow of Microsoft Teams, with an Adaptive Card.
//!
//! <https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>: messages of at most 28 KB, four requests a
//! second, 429 beyond. A mention needs an entity beside the text, so a text pings nobody.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Notification,
    fit::{Writing, one_line},
    hook::Manner,
};
use crate::api::{NotifyOperation, Severity};

/// Bytes of a message: 28 KB, with some room for how they are counted.
const MESSAGE: usize = 27_000;
/// Characters of a title, of one fact, and of the text; the last is cut further where the message is too large all the same.
const TITLE: usize = 256;
const FACT: usize = 500;
const TEXT: usize = 8_000;
/// Text blocks know links and emphasis: what would be a link stays what it is.
const MARKDOWN: Writing = Writing {
    escape: |c| match c {
        '\\' => Some("\\\\"),
        '[' => Some("\\["),
        _ => None,
    },
    size: |_| 1,
};

/// How Teams is told.
pub(super) static MANNER: Manner =
    Manner { name: "Teams", message, plain: None, gone: &[StatusCode::NOT_FOUND, StatusCode::GONE] };

/// The message, cut until it is small enough.
fn message(notification: &Notification) -> Value {
    let mut most = TEXT;
    loop {
        let message = card(notification, most);
        if message.to_string().len() <= MESSAGE || most < 100 {
            return message;
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
