//! `webhook`: a POST with JSON to any HTTP endpoint.

use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{BuildError, Delivered, Notification, REQUEST_TIMEOUT, Secrets, Sink, SinkError};
use crate::{
    api::{self, SecretKeyRef},
    net::{Http, Post},
    rule::cel::{Mode, Names, Scope, Template},
};

/// The same for every repetition of a notification: a receiver that remembers it takes the notification once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How many requests of Signalbox led to this one: 1, since no event comes from a request yet.
const HOPS: HeaderName = HeaderName::from_static("signalbox-hops");
/// What the client itself sets, and what would change where the request ends.
const RESERVED: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    IDEMPOTENCY_KEY,
    HOPS,
];
/// What errors call the address when it is a secret.
const NAME: &str = "the webhook";

/// The sink.
pub(super) struct Webhook {
    url: Text,
    headers: Vec<(HeaderName, Text)>,
    body: Option<Template>,
    signing: Option<(HeaderName, SecretKeyRef)>,
}

/// A text of the spec or of a Secret.
enum Text {
    Given(String),
    Secret(SecretKeyRef),
}

impl Text {
    fn new(value: Option<&String>, secret: Option<&SecretKeyRef>) -> Option<Self> {
        match (value, secret) {
            (Some(value), None) => Some(Self::Given(value.clone())),
            (None, Some(secret)) => Some(Self::Secret(secret.clone())),
            _ => None,
        }
    }

    fn get<'a>(&'a self, secrets: &'a Secrets) -> Result<&'a [u8], SinkError> {
        match self {
            Self::Given(text) => Ok(text.as_bytes()),
            Self::Secret(key) => Ok(secrets.get(key)?.bytes()),
        }
    }

    fn secret(&self) -> Option<&SecretKeyRef> {
        match self {
            Self::Given(_) => None,
            Self::Secret(key) => Some(key),
        }
    }
}

impl Webhook {
    pub(super) fn new(spec: &api::Webhook) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let url = Text::new(spec.url.as_ref(), spec.url_secret_ref.as_ref());
        if url.is_none() {
            faults.push("webhook: exactly one of url and urlSecretRef must be set".to_owned());
        }
        let body = spec.body.as_ref().and_then(|body| compile(body, &mut faults));
        let mut headers = Vec::new();
        for given in &spec.headers {
            let name = header_name(&given.name, &mut faults);
            let value = Text::new(given.value.as_ref(), given.value_secret_ref.as_ref());
            if value.is_none() {
                faults.push(format!(
                    "webhook.headers[{}]: exactly one of value and valueSecretRef must be set",
                    given.name
                ));
            }
            if given.value.as_ref().is_some_and(|value| HeaderValue::from_str(value).is_err()) {
                faults.push(format!(
                    "webhook.headers[{}]: the value has a line break or a control character",
                    given.name
                ));
            }
            headers.extend(name.zip(value));
        }
        let signing = spec
            .signing
            .as_ref()
            .and_then(|signing| Some((header_name(&signing.header, &mut faults)?, signing.secret_ref.clone())));
        match url {
            Some(url) if faults.is_empty() => Ok(Self { url, headers, body, signing }),
            _ => Err(BuildError(faults)),
        }
    }

    fn request(&self, notification: &Notification, secrets: &Secrets) -> Result<(HeaderMap, Vec<u8>), SinkError> {
        let body = match &self.body {
            Some(template) => fill(template, notification)?,
            None => document(notification),
        };
        let body = body.to_string().into_bytes();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            let mut header = HeaderValue::from_bytes(value.get(secrets)?).map_err(|_| {
                SinkError::never(format!("the value of header {name} has a line break or a control character"))
            })?;
            header.set_sensitive(value.secret().is_some());
            headers.insert(name.clone(), header);
        }
        let key = HeaderValue::from_str(&notification.dedup_key)
            .map_err(|_| SinkError::never("the notification's key is no header value"))?;
        headers.insert(IDEMPOTENCY_KEY, key);
        headers.insert(HOPS, HeaderValue::from_static("1"));
        if let Some((name, key)) = &self.signing {
            headers.insert(name.clone(), signature(secrets.get(key)?.bytes(), &body)?);
        }
        Ok((headers, body))
    }
}

impl Sink for Webhook {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        let headers = self.headers.iter().map(|(_, value)| value);
        let texts = std::iter::once(&self.url).chain(headers).filter_map(Text::secret);
        texts.chain(self.signing.iter().map(|(_, key)| key)).cloned().collect()
    }

    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        http: &'a Http,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let url = std::str::from_utf8(self.url.get(secrets)?)
                .map_err(|_| SinkError::never("the webhook's address is not text"))?;
            let name = if self.url.secret().is_some() { NAME } else { url };
            let (headers, body) = self.request(notification, secrets)?;
            let response = http.post(Post { url, name, headers, body, timeout: REQUEST_TIMEOUT }).await?;
            if response.status.is_success() {
                Ok(Delivered { status: response.status.as_u16(), note: None })
            } else {
                Err(SinkError::answered(name, &response, secrets))
            }
        })
    }
}

fn header_name(name: &str, faults: &mut Vec<String>) -> Option<HeaderName> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) if RESERVED.contains(&name) => {
            faults.push(format!("webhook: header {name} is set by signalbox itself"))
        }
        Ok(name) => return Some(name),
        Err(_) => faults.push(format!("webhook: {name:?} is not the name of a header")),
    }
    None
}

/// `sha256=` and the hexadecimal HMAC-SHA256 of the body's bytes, as GitHub signs.
fn signature(key: &[u8], body: &[u8]) -> Result<HeaderValue, SinkError> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).map_err(|_| SinkError::never("the signing key cannot be used"))?;
    mac.update(body);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("sha256={digest}")).map_err(|_| SinkError::never("the signature is no header value"))
}

/// What is sent when the sink has no `body` of its own.
fn document(notification: &Notification) -> Value {
    let Notification { severity, title, text, fields, event, rule, firing, .. } = notification;
    json!({
        "severity": severity,
        "title": title,
        "text": text,
        "fields": fields,
        "rule": {"namespace": rule.namespace, "name": rule.name, "uid": rule.uid},
        "firing": {"id": firing},
        "event": &**event,
    })
}

/// The sink's own body: JSON, so what is filled in can only ever be a value in it.
fn compile(body: &Value, faults: &mut Vec<String>) -> Option<Template> {
    let names = Names::of(&["notification", "event", "rule", "firing"]);
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
