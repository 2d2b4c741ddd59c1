//! `slack`: an incoming webhook of Slack, or a bot, in Block Kit.
//!
//! Limits: <https://docs.slack.dev/reference/block-kit/blocks>. They count characters after escaping; a message beyond one is refused
//! as a whole, and it would be the longest and worst that never arrive.

mod bot;

use bot::Bot;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    BuildError, Notification, Notifier,
    fit::{Writing, one_line},
    hook::{Hook, Manner},
};
use crate::api::{self, Severity};

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
/// Where Slack's API is.
const API: &str = "https://slack.com/api";
/// `&`, `<` and `>` are escaped: a text can neither mention anybody nor make a link.
const MARKUP: Writing = Writing { escape, size: |_| 1 };

/// The sink of a spec.
pub(super) fn of(spec: &api::Slack) -> Result<Box<dyn Notifier>, BuildError> {
    match (&spec.url_secret_ref, &spec.token_secret_ref, &spec.channel) {
        (Some(url), None, None) if spec.api_url.is_none() => Ok(Box::new(Hook::new(&MANNER, url))),
        (None, Some(token), Some(channel)) => {
            let api = spec.api_url.clone().unwrap_or_else(|| API.to_owned());
            Ok(Box::new(Bot { token: token.clone(), channel: channel.clone(), api }))
        }
        _ => {
            let fault =
                "slack: either urlSecretRef must be set, or tokenSecretRef and channel, with which apiUrl may be";
            Err(BuildError(vec![fault.to_owned()]))
        }
    }
}

/// How an incoming webhook is told; one that was replaced answers 404 `no_service`.
static MANNER: Manner = Manner { name: NAME, message, plain: Some(plain), gone: &[StatusCode::NOT_FOUND] };

/// The message in blocks: title, text, fields in tens, and a line that says where it comes from. At most 5 of the 50 blocks allowed.
fn message(notification: &Notification) -> Value {
    let mut blocks = vec![blocks::header(&fit(&notification.headline(), HEADER))];
    if !notification.text.trim().is_empty() {
        blocks.push(json!({"type": "section", "text": markup(fit(notification.text.trim_end(), SECTION))}));
    }
    for fields in notification.fields.chunks(FIELDS) {
        let fields: Vec<Value> = fields
            .iter()
            .map(|field| {
                let name = format!("*{}*\n", fit(&one_line(&field.name), FIELD / 4));
                let value = match field.name.as_str() {
                    // Without brackets it is no link. What is shown is where it leads.
                    "Link" if is_address(&field.value) => format!("<{}>", escape_address(&field.value)),
                    _ => fit(&field.value, FIELD - name.chars().count()),
                };
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
    json!({"text": fit(&notification.headline(), SECTION), "blocks": blocks})
}

/// The message as short plain text, for when the blocks were refused.
fn plain(notification: &Notification) -> Value {
    let text = format!("{}\n{}", notification.headline(), notification.text.trim_end());
    json!({"text": fit(&text, PLAIN)})
}

/// `verbatim`: without it Slack makes links of addresses and mentions of `@here` in the text.
fn markup(text: String) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Whether it can stand between brackets as it is.
fn is_address(text: &str) -> bool {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    is_web && text.len() < FIELD / 2 && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>|".contains(&byte))
}

fn escape_address(text: &str) -> String {
    text.replace('&', "&amp;")
}

fn fit(text: &str, most: usize) -> String {
    MARKUP.fit(text, most)
}

/// One line of a title.
fn escaped_line(text: &str, most: usize) -> String {
    fit(&one_line(text), most)
}

mod blocks {
    use serde_json::{Value, json};

    /// The block of a title that is escaped and cut.
    pub(super) fn header(title: &str) -> Value {
        json!({"type": "header", "text": {"type": "plain_text", "text": title}})
    }
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
