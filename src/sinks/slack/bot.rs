//! `slack` with a bot's token: one thread for each incident.
//!
//! Slack answers errors with status 200: <https://docs.slack.dev/reference/methods/chat.postMessage>. A message carries the incident and the notification as
//! metadata (<https://docs.slack.dev/messaging/message-metadata>), by which both are found again: threads after a restart, and what an attempt has sent whose
//! answer was not seen.

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{HEADER, NAME, SECTION, blocks, message, plain};
use crate::{
    api::{NotifyOperation, SecretKeyRef},
    net::Call,
    sinks::{
        Delivered, Key, Notification, Notifier, REQUEST_TIMEOUT, Reach, Retry, Secrets, SinkError, threads::Thread,
    },
};

/// The type of the metadata.
const METADATA: &str = "signalbox_notification";
/// Messages of a channel, or replies of a thread, that are asked for at once, and how often.
const LOOKED: usize = 200;
const PAGES: usize = 10;
/// Bytes that are read of them: 200 messages of 10 KiB.
const MOST: usize = 2 << 20;

/// The sink.
pub(super) struct Bot {
    pub(super) token: SecretKeyRef,
    pub(super) channel: String,
    pub(super) api: String,
}

impl Notifier for Bot {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        vec![self.token.clone()]
    }

    fn keeps_incidents(&self) -> bool {
        true
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
            let token = secrets.text(&self.token)?;
            Talk { bot: self, token, secrets, reach, notification }.tell().await
        })
    }
}

/// One notification on its way.
struct Talk<'a> {
    bot: &'a Bot,
    token: &'a str,
    secrets: &'a Secrets,
    reach: Reach<'a>,
    notification: &'a Notification,
}

impl Talk<'_> {
    async fn tell(&self) -> Result<Delivered, SinkError> {
        let mut notes = Vec::new();
        let mut is_there = self.is_in_channel(&mut notes).await?;
        let incident = self.incident(&self.notification.incident);
        let thread = self.reach.threads.get(incident);
        if let (Some(thread), true, false) = (&thread, self.notification.again, is_there) {
            is_there = self.is_reply(thread).await?;
        }
        let resolves = self.notification.operation == NotifyOperation::Resolve;
        if !is_there {
            self.post(thread.as_ref(), &mut notes).await?;
        }
        // Last, and with the notification's id: what is closed by it was told before.
        if let (Some(thread), true) = (&thread, resolves) {
            self.close(thread).await?;
        }
        if resolves {
            self.reach.threads.remove(incident);
        }
        Ok(Delivered { status: 200, note: (!notes.is_empty()).then(|| notes.join("; ")) })
    }

    /// Posts the message: into the thread, or as the first of one.
    async fn post(&self, thread: Option<&Thread>, notes: &mut Vec<String>) -> Result<(), SinkError> {
        let full = message(self.notification);
        let posted = match self.call("chat.postMessage", &self.addressed(full.clone(), thread)).await {
            Err(refused)
                if refused.message.contains("invalid_blocks") || refused.message.contains("msg_blocks_too_long") =>
            {
                let posted = self.call("chat.postMessage", &self.addressed(plain(self.notification), thread)).await;
                let posted = posted.map_err(|_| refused.clone())?;
                notes.push(format!("{refused}; sent as plain text instead"));
                posted
            }
            posted => posted?,
        };
        let id = posted["ts"].as_str().unwrap_or_default().to_owned();
        if thread.is_none() && !id.is_empty() && self.notification.operation != NotifyOperation::Resolve {
            let content = full["blocks"].clone();
            self.reach.threads.put(self.incident(&self.notification.incident), Thread { id, content });
        }
        Ok(())
    }

    fn addressed(&self, mut message: Value, thread: Option<&Thread>) -> Value {
        message["channel"] = self.bot.channel.clone().into();
        message["unfurl_links"] = false.into();
        message["unfurl_media"] = false.into();
        message["metadata"] = self.metadata();
        if let Some(thread) = thread {
            message["thread_ts"] = thread.id.clone().into();
        }
        message
    }

    fn metadata(&self) -> Value {
        let Notification { incident, operation, id, .. } = self.notification;
        let open = *operation != NotifyOperation::Resolve;
        json!({"event_type": METADATA, "event_payload": {"incident": incident, "id": id, "open": open}})
    }

    /// Has the first message of the thread say that it is over. One that somebody has deleted needs not.
    async fn close(&self, thread: &Thread) -> Result<(), SinkError> {
        let title = super::escaped_line(&self.notification.headline(), SECTION);
        let content = closed(&thread.content, &super::escaped_line(&self.notification.headline(), HEADER));
        let update = json!({
            "channel": self.bot.channel, "ts": thread.id, "text": title, "blocks": content, "metadata": self.metadata(),
        });
        match self.call("chat.update", &update).await {
            Err(error)
                if !["message_not_found", "cant_update_message"].iter().any(|word| error.message.contains(word)) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Whether this notification is among the messages of the channel, if it may be. Who asks first takes in the threads of all incidents that are open, before
    /// anything is sent: what is read then is older than whatever this process does.
    async fn is_in_channel(&self, notes: &mut Vec<String>) -> Result<bool, SinkError> {
        let threads = self.reach.threads;
        let (read, mut first) = (threads.read(self.channel()), None);
        let reading = async {
            first = Some(self.take_in(notes).await?);
            Ok::<_, SinkError>(())
        };
        read.get_or_try_init(|| reading).await?;
        match first {
            Some(is_there) => return Ok(is_there),
            None if !self.notification.again => return Ok(false),
            None => {}
        }
        let mut own = None;
        self.history(notes, |message| {
            own = self.is_this(message).then(|| self.thread(message));
            own.is_some()
        })
        .await?;
        if let Some(Some((incident, Some(thread)))) = &own
            && threads.get(*incident).is_none()
        {
            threads.put(*incident, thread.clone());
        }
        Ok(own.is_some())
    }

    /// Takes in the threads of incidents that are open; gives whether this notification is among the messages.
    async fn take_in(&self, notes: &mut Vec<String>) -> Result<bool, SinkError> {
        let (mut found, mut is_there) = (Vec::new(), false);
        self.history(notes, |message| {
            is_there |= self.is_this(message);
            found.extend(self.thread(message));
            false
        })
        .await?;
        // The newest comes first, and is the one that counts.
        for (incident, thread) in found.into_iter().rev() {
            match thread {
                Some(thread) => self.reach.threads.put(incident, thread),
                None => self.reach.threads.remove(incident),
            }
        }
        Ok(is_there)
    }

    /// The incident of a first message of ours, and its thread if it is open.
    fn thread(&self, message: &Value) -> Option<(Key, Option<Thread>)> {
        let payload = &message["metadata"]["event_payload"];
        let (incident, id) = (payload["incident"].as_str()?, message["ts"].as_str()?);
        let open = payload["open"] == true;
        let thread = open.then(|| Thread { id: id.to_owned(), content: message["blocks"].clone() });
        Some((self.incident(incident), thread))
    }

    fn is_this(&self, message: &Value) -> bool {
        message["metadata"]["event_payload"]["id"] == *self.notification.id
    }

    async fn is_reply(&self, thread: &Thread) -> Result<bool, SinkError> {
        match self.read("conversations.replies", &[("ts", &thread.id)], |message| self.is_this(message)).await {
            // The thread is gone, or may not be read.
            Err(error) if error.retry == Retry::Never => Ok(false),
            read => read,
        }
    }

    /// Looks through the messages of the channel, the newest first. Without the right to read, threads are known as long as the process lives.
    async fn history(&self, notes: &mut Vec<String>, look: impl FnMut(&Value) -> bool + Send) -> Result<(), SinkError> {
        match self.read("conversations.history", &[], look).await {
            Err(error) if error.retry == Retry::Never => {
                notes.push(format!("threads cannot be found again: {error}"));
                Ok(())
            }
            read => read.map(|_| ()),
        }
    }

    /// Looks through messages of ours, page by page, until one is it; gives whether one was.
    async fn read(
        &self,
        method: &str,
        more: &[(&str, &str)],
        mut look: impl FnMut(&Value) -> bool + Send,
    ) -> Result<bool, SinkError> {
        let mut cursor = String::new();
        for _ in 0..PAGES {
            let body = self.question(more, &cursor);
            let answer = self.send(method, "application/x-www-form-urlencoded", body).await?;
            let messages = answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
            if messages.iter().filter(|message| message["metadata"]["event_type"] == METADATA).any(&mut look) {
                return Ok(true);
            }
            cursor = answer["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        Ok(false)
    }

    fn question(&self, more: &[(&str, &str)], cursor: &str) -> Vec<u8> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("channel", &self.bot.channel).append_pair("limit", &LOOKED.to_string());
        form.append_pair("include_all_metadata", "true").extend_pairs(more);
        if !cursor.is_empty() {
            form.append_pair("cursor", cursor);
        }
        form.finish().into_bytes()
    }

    async fn call(&self, method: &str, body: &Value) -> Result<Value, SinkError> {
        self.send(method, "application/json; charset=utf-8", body.to_string().into_bytes()).await
    }

    async fn send(&self, method: &str, content_type: &'static str, body: Vec<u8>) -> Result<Value, SinkError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let mut token = HeaderValue::from_str(&format!("Bearer {}", self.token))
            .map_err(|_| SinkError::never("the token has a line break or a control character"))?;
        token.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, token);
        let url = format!("{}/{method}", self.bot.api.trim_end_matches('/'));
        let call = Call { method: Method::POST, url: &url, name: NAME, headers, body, timeout: REQUEST_TIMEOUT };
        let response = self.reach.http.call_for(call, MOST).await?;
        if !response.status.is_success() {
            return Err(SinkError::answered(NAME, &response, self.secrets));
        }
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if answer["ok"] == true {
            return Ok(answer);
        }
        let word = answer["error"].as_str().unwrap_or("an answer that is none of Slack's");
        let word: String = word.chars().filter(|c| !c.is_control()).take(100).collect();
        let message = self.secrets.redact(&format!("{NAME} answered {method} with {word}{}", remedy(&word)));
        Err(SinkError { retry: retry(&word), message })
    }

    fn channel(&self) -> Key {
        self.key("")
    }

    fn incident(&self, incident: &str) -> Key {
        self.key(incident)
    }

    fn key(&self, incident: &str) -> Key {
        Key::of("slack", [&self.bot.api, &self.bot.channel, self.token, incident].map(str::as_bytes))
    }
}

/// The content under another title.
fn closed(content: &Value, title: &str) -> Value {
    let header = blocks::header(title);
    match content.as_array() {
        Some(blocks) if blocks.first().is_some_and(|first| first["type"] == "header") => {
            std::iter::once(header).chain(blocks[1..].iter().cloned()).collect()
        }
        Some(blocks) => std::iter::once(header).chain(blocks.iter().take(40).cloned()).collect(),
        None => json!([header]),
    }
}

/// <https://docs.slack.dev/reference/methods/chat.postMessage#errors>
fn retry(word: &str) -> Retry {
    match word {
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => Retry::FreshSecrets,
        "ratelimited"
        | "rate_limited"
        | "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout" => Retry::After(None),
        _ => Retry::Never,
    }
}

fn remedy(word: &str) -> &'static str {
    match word {
        "not_in_channel" => ": invite the bot to the channel",
        "channel_not_found" => ": slack.channel must be the ID of a channel that the bot can see",
        "missing_scope" => ": give the bot the scopes that `kubectl explain eventsink.spec.slack.tokenSecretRef` names",
        "is_archived" => ": the channel is archived",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
