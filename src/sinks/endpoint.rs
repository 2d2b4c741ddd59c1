//! An HTTP endpoint that users name: its address, its headers, and a POST to it. Shared by the sinks that are such an endpoint; and a POST to any other.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{Delivered, REQUEST_TIMEOUT, Secrets, SinkError};
use crate::{
    api::{Header, SecretKeyRef},
    net::{self, Call, HOPS, Http, IDEMPOTENCY_KEY, Response, TRACEPARENT},
    record::FiringId,
    telemetry::traces::traceparent,
};

/// The endpoint.
pub(super) struct Endpoint {
    /// The field of the spec, for messages.
    kind: &'static str,
    url: Text,
    headers: Vec<(HeaderName, Text)>,
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

impl Endpoint {
    /// The endpoint of a spec: its address, and the headers of every request. Nothing when it has no address.
    pub(super) fn new(
        kind: &'static str,
        (url, secret): (Option<&String>, Option<&SecretKeyRef>),
        given: &[Header],
        faults: &mut Vec<String>,
    ) -> Option<Self> {
        let url = Text::new(url, secret);
        if url.is_none() {
            faults.push(format!("{kind}: exactly one of url and urlSecretRef must be set"));
        }
        let mut headers = Vec::new();
        for Header { name, value, value_secret_ref } in given {
            let text = Text::new(value.as_ref(), value_secret_ref.as_ref());
            if text.is_none() {
                faults.push(format!("{kind}.headers[{name}]: exactly one of value and valueSecretRef must be set"));
            }
            if value.as_ref().is_some_and(|value| HeaderValue::from_str(value).is_err()) {
                faults.push(format!("{kind}.headers[{name}]: the value has a line break or a control character"));
            }
            headers.extend(header_name(kind, name, faults).zip(text));
        }
        Some(Self { kind, url: url?, headers })
    }

    /// The Secrets of the address and of the headers.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let headers = self.headers.iter().map(|(_, value)| value);
        std::iter::once(&self.url).chain(headers).filter_map(Text::secret)
    }

    /// The headers of a request: `id` is the same for every repetition of it, `hops` steps of rules led to it.
    pub(super) fn headers(&self, (id, hops): (&str, u64), secrets: &Secrets) -> Result<HeaderMap, SinkError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            let mut header = HeaderValue::from_bytes(value.get(secrets)?).map_err(|_| {
                SinkError::never(format!("the value of header {name} has a line break or a control character"))
            })?;
            header.set_sensitive(value.secret().is_some());
            headers.insert(name.clone(), header);
        }
        let key =
            HeaderValue::from_str(id).map_err(|_| SinkError::never("the notification's key is no header value"))?;
        headers.insert(IDEMPOTENCY_KEY, key);
        headers.insert(HOPS, HeaderValue::from(hops));
        // Of a step it is the firing and the action; what is sent by hand, or told of several, is part of no trace.
        let step = id.split_once('-').filter(|(firing, _)| FiringId::is(firing));
        let parent = step.map(|(firing, action)| traceparent(&FiringId(firing.into()), action));
        if let Some(parent) = parent.and_then(|parent| HeaderValue::from_str(&parent).ok()) {
            headers.entry(TRACEPARENT).or_insert(parent);
        }
        Ok(headers)
    }

    /// Sends the request; `path` is what comes after the address.
    pub(super) async fn post(
        &self,
        http: &Http,
        secrets: &Secrets,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Delivered, SinkError> {
        let address = std::str::from_utf8(self.url.get(secrets)?)
            .map_err(|_| SinkError::never(format!("the {}'s address is not text", self.kind)))?;
        let url = match path {
            "" => address.to_owned(),
            path => format!("{}{path}", address.trim_end_matches('/')),
        };
        let hidden = format!("the {}", self.kind);
        let name = if self.url.secret().is_some() { &hidden } else { &url };
        let (method, timeout) = (Method::POST, REQUEST_TIMEOUT);
        let response = http.call(Call { method, url: &url, name, headers, body, timeout }).await?;
        if response.status.is_success() {
            Ok(Delivered { status: response.status.as_u16(), note: None })
        } else {
            Err(SinkError::answered(name, &response, secrets))
        }
    }
}

/// Posts JSON to an address that is not the user's to choose, or that is a secret as a whole; errors call it `name`.
pub(super) async fn post_json(http: &Http, name: &str, url: &str, body: Vec<u8>) -> Result<Response, SinkError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (method, timeout) = (Method::POST, REQUEST_TIMEOUT);
    Ok(http.call(Call { method, url, name, headers, body, timeout }).await?)
}

/// The header's name, unless it is none or one that is not for users to set.
pub(super) fn header_name(kind: &str, name: &str, faults: &mut Vec<String>) -> Option<HeaderName> {
    net::header_name(name).map_err(|fault| faults.push(format!("{kind}: {fault}"))).ok()
}
