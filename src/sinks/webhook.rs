//! `webhook`: a POST with JSON to any HTTP endpoint.

use data_encoding::BASE64;
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
    api::{self, SecretKeyRef, SigningScheme},
    rule::cel::{Mode, Names, Scope, Template},
};

/// The header of a signature of the body.
const HEADER: &str = "X-Signalbox-Signature-256";
/// Those of Standard Webhooks.
const STANDARD: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// The sink.
pub(super) struct Webhook {
    endpoint: Endpoint,
    body: Option<Template>,
    signing: Option<(Scheme, SecretKeyRef)>,
}

/// How a request is signed.
enum Scheme {
    /// This header has the HMAC of the body.
    Body(HeaderName),
    StandardWebhooks,
}

impl Webhook {
    pub(super) fn new(spec: &api::Webhook) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let address = (spec.url.as_ref(), spec.url_secret_ref.as_ref());
        let endpoint = Endpoint::new("webhook", address, &spec.headers, &mut faults);
        let body = spec.body.as_ref().and_then(|body| compile(body, &mut faults));
        let signing = spec.signing.as_ref().and_then(|signing| {
            let scheme = match (signing.scheme, signing.header.as_deref()) {
                (SigningScheme::Body, header) => {
                    Scheme::Body(header_name("webhook", header.unwrap_or(HEADER), &mut faults)?)
                }
                (SigningScheme::StandardWebhooks, None) => Scheme::StandardWebhooks,
                (SigningScheme::StandardWebhooks, Some(_)) => {
                    faults.push(
                        "webhook.signing.header is for scheme Body: Standard Webhooks says what the headers are"
                            .to_owned(),
                    );
                    return None;
                }
            };
            Some((scheme, signing.secret_ref.clone()))
        });
        for header in spec.headers.iter().filter(|_| matches!(signing, Some((Scheme::StandardWebhooks, _)))) {
            if STANDARD.contains(&&*header.name.to_ascii_lowercase()) {
                faults.push(format!("webhook.headers[{}]: signing sets this header", header.name));
            }
        }
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(Self { endpoint, body, signing }),
            _ => Err(BuildError(faults)),
        }
    }

    fn request(
        &self,
        notification: &Notification,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<(HeaderMap, Vec<u8>), SinkError> {
        let body = match &self.body {
            Some(template) => fill(template, notification)?,
            None => notification.document(),
        };
        let body = body.to_string().into_bytes();
        let mut headers = self.endpoint.headers((&notification.id, notification.hops), secrets)?;
        match &self.signing {
            None => {}
            Some((Scheme::Body(name), key)) => {
                headers.insert(name.clone(), signature(secrets.get(key)?.bytes(), &body)?);
            }
            Some((Scheme::StandardWebhooks, key)) => {
                let signed = standard(secrets.get(key)?.bytes(), (&notification.id, now.as_second()), &body);
                let signed =
                    signed.map_err(|why| SinkError::never(format!("key {} of Secret {} {why}", key.key, key.name)))?;
                headers.extend(signed);
            }
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
            let (headers, body) = self.request(notification, secrets, Timestamp::now())?;
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

/// The headers of Standard Webhooks: the signature is over id, time and body, joined by dots.
fn standard(key: &[u8], (id, time): (&str, i64), body: &[u8]) -> Result<[(HeaderName, HeaderValue); 3], &'static str> {
    let key = BASE64.decode(key.strip_prefix(b"whsec_").unwrap_or(key)).ok().filter(|key| !key.is_empty());
    let key = key.ok_or("is not a key in Base64, with padding, with or without whsec_ before it")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| "cannot be used as a key")?;
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    let signature = format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()));
    let [id_name, time_name, signature_name] = STANDARD.map(HeaderName::from_static);
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| "makes no header value");
    Ok([(id_name, value(id)?), (time_name, HeaderValue::from(time)), (signature_name, value(&signature)?)])
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
    let Notification { severity, title, text, fields, event, rule, firing, operation, incident, .. } = notification;
    let notification = json!({"operation": operation, "dedupKey": incident, "severity": severity, "title": title, "text": text, "fields": fields});
    // `now` is not one of the names.
    let scope = Scope::new(event, "", rule, Timestamp::UNIX_EPOCH).with_firing(firing);
    let scope = scope.with_value("notification", &notification);
    template.fill(&scope).map_err(|error| SinkError::never(error.to_string()))
}

#[cfg(test)]
mod tests;
