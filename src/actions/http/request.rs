//! The request as it is recorded, and what is sent of it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    actions::{Context, Failure, recording, text},
    api::{self, Header, HttpMethod, SecretKeyRef, Tls},
    net::{self, HOPS, Http, IDEMPOTENCY_KEY, TRACEPARENT},
    sinks::{SecretValue, Secrets, SinkError},
    telemetry::traces::traceparent,
};

/// The longest address; servers commonly take 8 KiB for it and all headers.
const MAX_URL: usize = 8 * 1024;

/// What is recorded before the request is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    method: HttpMethod,
    pub(super) url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<Header>,
    /// A text, or what is sent as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_secret_ref: Option<SecretKeyRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<Tls>,
}

impl Request {
    /// The request of `filled`, the JSON of `spec` with its texts filled in.
    pub(super) fn new(spec: &api::Http, filled: &Value) -> Result<Self, Failure> {
        let url = text::of(filled.get("url"), "url")?;
        check(&url).map_err(|why| Failure::last(format!("url: {why}")))?;
        if spec.tls.is_some() && !url.starts_with("https://") {
            return Err(Failure::last("url: tls is for addresses that begin with https://"));
        }
        let filled_headers = filled.get("headers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut headers = spec.headers.clone();
        for (header, filled) in headers.iter_mut().zip(filled_headers) {
            if header.value.is_some() {
                header.value = Some(text::of(filled.get("value"), &format!("headers[{}]", header.name))?);
            }
            given(header)?;
        }
        let body = match (&spec.body, filled.get("body")) {
            (None, _) => None,
            (Some(_), None | Some(Value::Null)) => return Err(Failure::last("body is null")),
            (Some(_), Some(body)) => Some(body.clone()),
        };
        let (auth_secret_ref, tls) = (spec.auth_secret_ref.clone(), spec.tls.clone());
        Ok(Self { method: spec.method, url, headers, body, auth_secret_ref, tls })
    }

    pub(super) fn read(recorded: &Value) -> Result<Self, Failure> {
        recording::read(recorded)
    }

    /// `POST https://example.com/hooks`, for messages: a query may hold what not everybody is to see.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.url.split(['?', '#']).next().unwrap_or_default())
    }

    pub(super) fn method(&self) -> Method {
        match self.method {
            HttpMethod::Post => Method::POST,
            HttpMethod::Get => Method::GET,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Patch => Method::PATCH,
            HttpMethod::Delete => Method::DELETE,
            HttpMethod::Head => Method::HEAD,
        }
    }

    pub(super) fn secrets(&self) -> Vec<SecretKeyRef> {
        let headers = self.headers.iter().filter_map(|header| header.value_secret_ref.as_ref());
        headers.chain(&self.auth_secret_ref).chain(self.tls.iter().flat_map(Tls::secrets)).cloned().collect()
    }

    /// What sends it: the client that all share, or one that speaks TLS as the rule says.
    pub(super) fn client(&self, cx: &Context, secrets: &Secrets) -> Result<Http, Failure> {
        let http = &cx.services.http;
        let Some(tls) = &self.tls else { return Ok(http.clone()) };
        let uri = net::address(&self.url).map_err(|why| Failure::last(format!("url: {why}")))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let config = net::tls_of(tls, host, &http.roots(), |key| secrets.get(key).map(SecretValue::bytes));
        Ok(http.with_tls(config.map_err(|error: SinkError| Failure::last(format!("tls: {}", error.message)))?))
    }

    pub(super) fn body(&self) -> Vec<u8> {
        match &self.body {
            None => Vec::new(),
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(body) => body.to_string().into_bytes(),
        }
    }

    pub(super) fn headers(&self, cx: &Context, secrets: &Secrets) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        match &self.body {
            None => {}
            Some(Value::String(_)) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            }
            Some(_) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
        }
        for one in &self.headers {
            let (name, value) = match (given(one)?, &one.value_secret_ref) {
                (Given { name, value: Some(value) }, _) => (name, value),
                (Given { name, value: None }, Some(key)) => {
                    let secret = secrets.get(key).map_err(|error| Failure::last(error.message))?;
                    let value = sensitive(&name, secret.bytes())?;
                    (name, value)
                }
                (Given { name, .. }, None) => return Err(Failure::last(format!("header {name} has no value"))),
            };
            headers.insert(name, value);
        }
        if let Some(key) = &self.auth_secret_ref {
            let token = secrets.text(key).map_err(|error| Failure::last(error.message))?;
            let value = if token.contains(' ') { token.to_owned() } else { format!("Bearer {token}") };
            headers.insert(header::AUTHORIZATION, sensitive(&header::AUTHORIZATION, value.as_bytes())?);
        }
        let key = HeaderValue::from_str(&cx.key()).map_err(|_| Failure::last("the step's key is no header value"))?;
        headers.insert(IDEMPOTENCY_KEY, key);
        headers.insert(HOPS, HeaderValue::from(cx.hops.saturating_add(1)));
        if let Ok(parent) = HeaderValue::from_str(&traceparent(&cx.firing, &cx.action)) {
            headers.entry(TRACEPARENT).or_insert(parent);
        }
        Ok(headers)
    }
}

/// A header whose name may be set and whose value, where it is no Secret's, is one.
struct Given {
    name: HeaderName,
    value: Option<HeaderValue>,
}

fn given(header: &Header) -> Result<Given, Failure> {
    let name = net::header_name(&header.name).map_err(|fault| Failure::last(fault.to_string()))?;
    let value = header.value.as_ref().map(|value| value_of(&name, value.as_bytes())).transpose()?;
    Ok(Given { name, value })
}

fn value_of(name: &HeaderName, value: &[u8]) -> Result<HeaderValue, Failure> {
    HeaderValue::from_bytes(value)
        .map_err(|_| Failure::last(format!("the value of header {name} has a line break or a control character")))
}

fn sensitive(name: &HeaderName, value: &[u8]) -> Result<HeaderValue, Failure> {
    let mut value = value_of(name, value)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether the address is one that is taken. What is filled in could otherwise leave its place by `..`, which servers resolve.
fn check(url: &str) -> Result<(), &'static str> {
    if url.len() > MAX_URL {
        return Err("the address is longer than 8 KiB");
    }
    let uri = net::address(url)?;
    if uri.path().split('/').any(|segment| segment == "." || segment == "..") {
        return Err("the address has a part that is . or ..");
    }
    Ok(())
}
