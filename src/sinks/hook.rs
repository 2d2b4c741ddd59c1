//! The webhook of a channel: its address is the secret, and what is posted to it is the message. Shared by the sinks that are one; how a message is
//! written is theirs.

use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::Value;

use super::{Delivered, Notification, Notifier, Reach, Retry, Secrets, SinkError, endpoint::post_json};
use crate::{api::SecretKeyRef, net::Response};

/// What is particular to a service.
pub(super) struct Manner {
    /// What errors call the address.
    pub(super) name: &'static str,
    /// A notification as its message.
    pub(super) message: fn(&Notification) -> Value,
    /// What is sent when the service refuses that message as wrong (400), if there is such.
    pub(super) plain: Option<fn(&Notification) -> Value>,
    /// How it answers at the address of a webhook that was made anew: the new address is in the Secret.
    pub(super) gone: &'static [StatusCode],
}

/// The sink.
pub(super) struct Hook {
    manner: &'static Manner,
    url: SecretKeyRef,
}

impl Hook {
    pub(super) fn new(manner: &'static Manner, url: &SecretKeyRef) -> Self {
        Self { manner, url: url.clone() }
    }

    fn refused(&self, response: &Response, secrets: &Secrets) -> SinkError {
        let error = SinkError::answered(self.manner.name, response, secrets);
        let is_gone = self.manner.gone.contains(&response.status);
        if is_gone { SinkError { retry: Retry::FreshSecrets, ..error } } else { error }
    }
}

impl Notifier for Hook {
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
            let (manner, url) = (self.manner, secrets.text(&self.url)?);
            let body = |message: fn(&Notification) -> Value| message(notification).to_string().into_bytes();
            let response = post_json(reach.http, manner.name, url, body(manner.message)).await?;
            if response.status.is_success() {
                return Ok(Delivered { status: response.status.as_u16(), note: None });
            }
            let refused = self.refused(&response, secrets);
            let plain = manner.plain.filter(|_| response.status == StatusCode::BAD_REQUEST);
            let Some(plain) = plain else { return Err(refused) };
            let again = post_json(reach.http, manner.name, url, body(plain)).await?;
            if !again.status.is_success() {
                return Err(refused);
            }
            let note = Some(format!("{refused}; sent as plain text instead"));
            Ok(Delivered { status: again.status.as_u16(), note })
        })
    }
}
