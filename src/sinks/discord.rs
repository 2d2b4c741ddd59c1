//! `discord`: a webhook of a Discord channel, with an embed.
//!
//! Limits: <https://discord.com/developers/docs/resources/message#embed-object-embed-limits>; a message beyond one is refused as a whole. They are counted
//! here in UTF-16, which is never less than what Discord counts.

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    Delivered, Notification, Notifier, REQUEST_TIMEOUT, Reach, Retry, Secrets, SinkError,
    fit::{Writing, one_line},
    link,
};
use crate::{
    api::{self, NotifyField, NotifyOperation, SecretKeyRef, Severity},
    net::{Call, Response},
};

/// Of a title.
const TITLE: usize = 256;
/// Of a description, with room for all the rest: an embed may have 6,000 in all.
const DESCRIPTION: usize = 3_000;
/// Of all fields together, and of one field's value.
const FIELDS: usize = 2_000;
const VALUE: usize = 1_024;
/// Fields of an embed; there are no more with a link.
const MOST_FIELDS: usize = 25;
/// Of the line that says where it comes from.
const FOOTER: usize = 500;
/// What errors call the address.
const NAME: &str = "Discord";
/// A link with another text than its address, and what could be a mention, stay what they are.
const MARKDOWN: Writing = Writing {
    escape: |c| match c {
        '\\' => Some("\\\\"),
        '[' => Some("\\["),
        '<' => Some("\\<"),
        _ => None,
    },
    size: char::len_utf16,
};

/// The sink.
pub(super) struct Discord {
    url: SecretKeyRef,
}

impl Discord {
    pub(super) fn new(spec: &api::Discord) -> Self {
        Self { url: spec.url_secret_ref.clone() }
    }
}

impl Notifier for Discord {
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
            let (method, timeout, body) =
                (Method::POST, REQUEST_TIMEOUT, message(notification).to_string().into_bytes());
            let response = reach.http.call(Call { method, url, name: NAME, headers, body, timeout }).await?;
            if response.status.is_success() {
                return Ok(Delivered { status: response.status.as_u16(), note: None });
            }
            Err(error(&response, secrets))
        })
    }
}

fn error(response: &Response, secrets: &Secrets) -> SinkError {
    let error = SinkError::answered(NAME, response, secrets);
    // A webhook that was made anew has another address, which is in the Secret.
    if response.status == StatusCode::NOT_FOUND { SinkError { retry: Retry::FreshSecrets, ..error } } else { error }
}

fn message(notification: &Notification) -> Value {
    let Notification { severity, text, event, rule, operation, .. } = notification;
    let origin = [Some(format!("{severity:?}")), Some(rule.to_string()), event.subject.clone()];
    let origin = origin.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    let colour = match (operation, severity) {
        (NotifyOperation::Resolve, _) => 0x2e_b8_86,
        (_, Severity::Info) => 0x36_9c_e0,
        (_, Severity::Warning) => 0xe8_a3_17,
        (_, Severity::Error) => 0xd9_3f_3f,
        (_, Severity::Critical) => 0x8b_00_00,
    };
    let mut embed = json!({
        "title": MARKDOWN.fit(&notification.headline(), TITLE),
        "color": colour,
        "footer": {"text": MARKDOWN.fit(&origin, FOOTER)},
    });
    let (facts, link) = link::part(&notification.fields);
    let link = link.map(|link| field(link, TITLE, VALUE));
    // A link that is cut leads nowhere: it takes the text's room.
    let taken: usize = link.iter().map(|link| size(&link["name"]) + size(&link["value"])).sum();
    if !text.trim().is_empty() {
        embed["description"] = MARKDOWN.fit(text.trim_end(), DESCRIPTION - taken).into();
    }
    if let Some(time) = event.time {
        embed["timestamp"] = time.to_string().into();
    }
    let fields: Vec<Value> = fields(facts).into_iter().chain(link).take(MOST_FIELDS).collect();
    if !fields.is_empty() {
        embed["fields"] = fields.into();
    }
    // Nobody is mentioned, whatever the texts say.
    json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
}

/// Each gets its share of the room.
fn fields(fields: &[NotifyField]) -> Vec<Value> {
    let share = FIELDS / fields.len().max(1);
    fields.iter().map(|one| field(one, (share / 3).min(TITLE), (share - share / 3).min(VALUE))).collect()
}

/// A name or a value must not be empty.
fn field(field: &NotifyField, name: usize, value: usize) -> Value {
    let shown = |text: &str, most: usize| match MARKDOWN.fit(text, most) {
        text if text.trim().is_empty() => "\u{200b}".to_owned(),
        text => text,
    };
    let name = shown(&one_line(&field.name), name);
    json!({"name": name, "value": shown(&field.value, value), "inline": field.value.len() < 40})
}

fn size(text: &Value) -> usize {
    text.as_str().unwrap_or_default().encode_utf16().count()
}

#[cfg(test)]
mod tests;
