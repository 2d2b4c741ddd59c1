//! `discord`: a webhook of a Discord channel, with an embed.
//!
//! Limits: <https://discord.com/developers/docs/resources/message#embed-object-embed-limits>; a message beyond one is refused as a whole. They are counted
//! here in UTF-16, which is never less than what Discord counts.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Notification,
    fit::{Writing, one_line},
    hook::Manner,
    link,
};
use crate::api::{NotifyField, NotifyOperation, Severity};

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

/// How Discord is told.
pub(super) static MANNER: Manner = Manner { name: "Discord", message, plain: None, gone: &[StatusCode::NOT_FOUND] };

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
