//! `webhook`: a POST with JSON to any HTTP endpoint.

use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    BuildError, Delivered, Notification, Notifier, Reach, Secrets, SinkError,
    endpoint::{Endpoint, header_name},
};
use crate::{
    api::{self, SecretKeyRef},
    rule::cel::{Mode, Names, Scope, Template},
};

/// The sink.
pub(super) struct Webhook {
    endpoint: Endpoint,
    body: Option<Template>,
    signing: Option<(HeaderName, SecretKeyRef)>,
}

impl Webhook {
    pub(super) fn new(spec: &api::Webhook) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let address = (spec.url.as_ref(), spec.url_secret_ref.as_ref());
        let endpoint = Endpoint::new("webhook", address, &spec.headers, &mut faults);
        let body = spec.body.as_ref().and_then(|body| compile(body, &mut faults));
        let signing = spec.signing.as_ref().and_then(|signing| {
            Some((header_name("webhook", &signing.header, &mut faults)?, signing.secret_ref.clone()))
        });
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(Self { endpoint, body, signing }),
            _ => Err(BuildError(faults)),
        }
    }

    fn request(&self, notification: &Notification, secrets: &Secrets) -> Result<(HeaderMap, Vec<u8>), SinkError> {
        let body = match &self.body {
            Some(template) => fill(template, notification)?,
            None => notification.document(),
        };
        let body = body.to_string().into_bytes();
        let mut headers = self.endpoint.headers((&notification.id, notification.hops), secrets)?;
        if let Some((name, key)) = &self.signing {
            headers.insert(name.clone(), signature(secrets.get(key)?.bytes(), &body)?);
        }
        Ok((headers, body))
    }
}

impl Notifier for Webhook {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        self.endpoint.secrets().chain(self.signing.iter().map(|(_, key)| key)).cloned().collect()
    }

    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let (headers, body) = self.request(notification, secrets)?;
            self.endpoint.post(reach.http, secrets, "", headers, body).await
        })
    }
}

/// `sha256=` and the hexadecimal HMAC-SHA256 of the body's bytes, as GitHub signs.
fn signature(key: &[u8], body: &[u8]) -> Result<HeaderValue, SinkError> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).map_err(|_| SinkError::never("the signing key cannot be used"))?;
    mac.update(body);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("sha256={digest}")).map_err(|_| SinkError::never("the signature is no header value"))
}

/// The sink's own body: JSON, so what is filled in can only ever be a value in it.
fn compile(body: &Value, faults: &mut Vec<String>) -> Option<Template> {
    let names = Names::of(&["notification", "event", "rule", "firing"]).with_extensions();
    match Template::compile(body, Mode::Typed, &names, "webhook.body") {
        Ok(template) => Some(template),
        Err(found) => {
            faults.extend(found.iter().map(ToString::to_string));
            None
        }
    }
}

fn fill(template: &Template, notification: &Notification) -> Result<Value, SinkError> {
    let Notification { severity, title, text, fields, event, rule, firing, .. } = notification;
    let notification = json!({"severity": severity, "title": title, "text": text, "fields": fields});
    // `now` is not one of the names.
    let scope = Scope::new(event, "", rule, Timestamp::UNIX_EPOCH).with_firing(firing);
    let scope = scope.with_value("notification", &notification);
    template.fill(&scope).map_err(|error| SinkError::never(error.to_string()))
}

#[cfg(test)]
mod tests;
