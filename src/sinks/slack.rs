//! `slack`: an incoming webhook of Slack, in Block Kit.
//!
//! Limits: <https://docs.slack.dev/reference/block-kit/blocks>. They count characters after escaping; a message beyond one is refused
//! as a whole, and it would be the longest and worst that never arrive.

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Delivered, Notification, Notifier, REQUEST_TIMEOUT, Reach, Retry, Secrets, SinkError};
use crate::{
    api::{self, SecretKeyRef, Severity},
    net::{Call, Http, Response},
};

/// Characters of a header block.
const HEADER: usize = 150;
/// Characters of a section's text.
const SECTION: usize = 3000;
/// Characters of one field of a section.
const FIELD: usize = 2000;
/// Fields of a section.
const FIELDS: usize = 10;
/// Characters of the plain text that is sent when Slack refuses the blocks.
const PLAIN: usize = 600;
/// What errors call the address.
const NAME: &str = "Slack";

/// The sink.
pub(super) struct Slack {
    url: SecretKeyRef,
}

impl Slack {
    pub(super) fn new(spec: &api::Slack) -> Self {
        Self { url: spec.url_secret_ref.clone() }
    }
}

impl Notifier for Slack {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        vec![self.url.clone()]
    }

    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let url = secrets.text(&self.url)?;
            let response = post(reach.http, url, &message(notification)).await?;
            match response.status {
                status if status.is_success() => Ok(Delivered { status: status.as_u16(), note: None }),
                StatusCode::BAD_REQUEST => {
                    let refused = error(&response, secrets);
                    let again = post(reach.http, url, &plain(notification)).await?;
                    if !again.status.is_success() {
                        return Err(refused);
                    }
                    let note = Some(format!("{refused}; sent as plain text instead"));
                    Ok(Delivered { status: again.status.as_u16(), note })
                }
                _ => Err(error(&response, secrets)),
            }
        })
    }
}

async fn post(http: &Http, url: &str, message: &Value) -> Result<Response, SinkError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = message.to_string().into_bytes();
    let (method, timeout) = (Method::POST, REQUEST_TIMEOUT);
    Ok(http.call(Call { method, url, name: NAME, headers, body, timeout }).await?)
}

fn error(response: &Response, secrets: &Secrets) -> SinkError {
    let error = SinkError::answered(NAME, response, secrets);
    // A webhook that was replaced answers 404 `no_service`: its new address is in the Secret.
    if response.status == StatusCode::NOT_FOUND { SinkError { retry: Retry::FreshSecrets, ..error } } else { error }
}

/// The message in blocks: title, text, fields in tens, and a line that says where it comes from. At most 5 of the 50 blocks allowed.
fn message(notification: &Notification) -> Value {
    let mut blocks =
        vec![json!({"type": "header", "text": {"type": "plain_text", "text": fit(&title(notification), HEADER)}})];
    if !notification.text.trim().is_empty() {
        blocks.push(json!({"type": "section", "text": markup(fit(notification.text.trim_end(), SECTION))}));
    }
    for fields in notification.fields.chunks(FIELDS) {
        let fields: Vec<Value> = fields
            .iter()
            .map(|field| {
                let name = format!("*{}*\n", fit(&one_line(&field.name), FIELD / 4));
                let value = fit(&field.value, FIELD - name.chars().count());
                markup(name + &value)
            })
            .collect();
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    let origin = [
        Some(severity(notification.severity)),
        Some(notification.rule.to_string()),
        notification.event.subject.clone(),
    ];
    let origin = origin.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    blocks.push(json!({"type": "context", "elements": [markup(fit(&origin, FIELD))]}));
    json!({"text": fit(&title(notification), SECTION), "blocks": blocks})
}

/// The message as short plain text, for when the blocks were refused.
fn plain(notification: &Notification) -> Value {
    let text = format!("{}\n{}", title(notification), notification.text.trim_end());
    json!({"text": fit(&text, PLAIN)})
}

/// `verbatim`: without it Slack makes links of addresses and mentions of `@here` in the text.
fn markup(text: String) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

fn title(notification: &Notification) -> String {
    match one_line(&notification.title) {
        title if title.is_empty() => notification.rule.to_string(),
        title => title,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn severity(severity: Severity) -> String {
    match severity {
        Severity::Info => "Info",
        Severity::Warning => "Warning",
        Severity::Error => "Error",
        Severity::Critical => "Critical",
    }
    .to_owned()
}

/// The text, escaped (`&`, `<` and `>`: so it can neither mention anybody nor make a link), in at most `most` characters. What does not fit
/// is left out and said: `… (truncated, 2396 more)`, in characters of the text.
fn fit(text: &str, most: usize) -> String {
    let cost = |c: char| escape(c).map_or(1, str::len);
    if text.chars().map(cost).sum::<usize>() <= most {
        return escaped(text);
    }
    let total = text.chars().count();
    // The number of characters left out has at most as many digits as the number of all.
    let room = most.saturating_sub(said(total).chars().count());
    let mut used = 0;
    let kept = text
        .chars()
        .take_while(|&c| {
            used += cost(c);
            used <= room
        })
        .count();
    let kept = unbroken(text, kept);
    let end = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
    escaped(&text[..end]) + &said(total - kept)
}

fn said(more: usize) -> String {
    format!("… (truncated, {more} more)")
}

/// The cut moved back so that it is not within one visible character (a family of emoji, a letter and its accent). Not all of Unicode's
/// rules: those that are met in messages.
fn unbroken(text: &str, cut: usize) -> usize {
    let joins = |c: &char| matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{300}'..='\u{36f}');
    let chars: Vec<char> = text.chars().take(cut + 1).collect();
    // The longest families have 11 characters; more than 16 joined ones are somebody's joke.
    (cut.saturating_sub(16)..=cut)
        .rev()
        .find(|&at| {
            let before = at.checked_sub(1).and_then(|at| chars.get(at));
            !chars.get(at).is_some_and(joins) && before != Some(&'\u{200d}')
        })
        .unwrap_or(cut)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match escape(c) {
            Some(entity) => out.push_str(entity),
            None => out.push(c),
        }
    }
    out
}

fn escape(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
