//! Sends spans by OTLP over HTTP, in JSON.

use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use prometheus_client::metrics::counter::Counter;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    net::{Call, Guard, Http, Response},
    telemetry::traces::{self, Span},
};

/// How many spans one request carries at most.
const BATCH: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Waits between attempts: spans queue up meanwhile, and are dropped when the queue is full.
const RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// How long the end may be held up.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often it is said that spans are lost.
const COMPLAINT: Duration = Duration::from_secs(60);

/// Sends what comes out of the queue.
pub(super) struct Exporter {
    http: Http,
    url: String,
    headers: HeaderMap,
    instance: String,
    dropped: Counter,
    complained: Option<Instant>,
}

impl Exporter {
    /// Sends to `endpoint`, the base of the URLs; `headers` as `key=value,key=value`.
    pub(super) fn new(endpoint: &Uri, headers: &str, instance: &str, dropped: Counter) -> anyhow::Result<Self> {
        let everywhere = ["0.0.0.0/0", "::/0"].map(|range| range.parse().context("read a range"));
        // Who runs the operator says where its own traces go: no rule has a say in that.
        let guard = Guard::new(everywhere.into_iter().collect::<anyhow::Result<_>>()?, Vec::new());
        let mut all = parse_headers(headers)?;
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let url = format!("{}/v1/traces", endpoint.to_string().trim_end_matches('/'));
        Ok(Self { http: Http::new(guard), url, headers: all, instance: instance.to_owned(), dropped, complained: None })
    }

    /// Sends until the queue ends or `stop`, then what is left.
    pub(super) async fn run(mut self, mut spans: mpsc::Receiver<Span>, stop: CancellationToken) {
        let mut batch = Vec::new();
        while let Some(Some(first)) = stop.run_until_cancelled(spans.recv()).await {
            batch.push(first);
            stop.run_until_cancelled(gather(&mut batch, &mut spans)).await;
            self.send(&batch, &stop).await;
            batch.clear();
        }
        spans.close();
        while batch.len() < traces::QUEUE
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        for part in batch.chunks(BATCH) {
            if tokio::time::timeout(FAREWELL, self.post(part)).await.is_err() {
                break;
            }
        }
    }

    async fn send(&mut self, batch: &[Span], stop: &CancellationToken) {
        let mut waits = RETRIES.iter();
        let fault = loop {
            let fault = match self.post(batch).await {
                Ok(()) => return,
                Err(fault) => fault,
            };
            let Some(wait) = waits.next().filter(|_| fault.again) else { break fault };
            if stop.run_until_cancelled(tokio::time::sleep(*wait)).await.is_none() {
                break fault;
            }
        };
        self.dropped.inc_by(batch.len() as u64);
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            tracing::warn!(url = self.url, spans = batch.len(), error = fault.words, "spans could not be sent");
        }
    }

    async fn post(&self, batch: &[Span]) -> Result<(), Fault> {
        let body = traces::request(batch, &self.instance).to_string().into_bytes();
        let call = Call {
            method: Method::POST,
            url: &self.url,
            name: "the OTLP endpoint",
            headers: self.headers.clone(),
            body,
            timeout: TIMEOUT,
        };
        match self.http.call(call).await {
            Ok(Response { status, .. }) if status.is_success() => Ok(()),
            Ok(Response { status, body, .. }) => {
                let said = String::from_utf8_lossy(&body).chars().take(200).collect::<String>();
                let again = status.as_u16() == 429 || status.is_server_error();
                Err(Fault { words: format!("{status}: {said}"), again })
            }
            Err(error) => Err(Fault { again: error.kind.is_transient(), words: error.to_string() }),
        }
    }
}

/// Why spans were not taken.
struct Fault {
    words: String,
    /// Whether they may be taken later.
    again: bool,
}

async fn gather(batch: &mut Vec<Span>, spans: &mut mpsc::Receiver<Span>) {
    let end = Instant::now() + LINGER;
    while batch.len() < BATCH
        && let Ok(Some(span)) = tokio::time::timeout_at(end, spans.recv()).await
    {
        batch.push(span);
    }
}

/// Reads `key=value,key=value`. An error names the key only: values are secrets.
fn parse_headers(text: &str) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').context("read the OTLP headers: write KEY=VALUE,KEY=VALUE")?;
        let name: HeaderName = key.trim().parse().with_context(|| format!("read the OTLP header {key:?}"))?;
        let value = decoded(value.trim()).and_then(|value| HeaderValue::from_bytes(&value).ok());
        let mut value = value.with_context(|| format!("read the value of the OTLP header {key:?}"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Text in which `%20` is a space.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (first, rest) = text.split_once('%').map_or((text, None), |(first, rest)| (first, Some(rest)));
    let mut bytes = first.as_bytes().to_vec();
    for part in rest.into_iter().flat_map(|rest| rest.split('%')) {
        let (digits, plain) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(plain.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_standard_variable_has_them_and_are_secret() {
        let headers = parse_headers("authorization=Bearer%20a=b, x-tenant=shop").expect("headers");
        assert_eq!(headers["authorization"], "Bearer a=b");
        assert_eq!(headers["x-tenant"], "shop");
        assert!(headers["authorization"].is_sensitive());
        assert!(parse_headers("").expect("none").is_empty());
    }

    #[test]
    fn a_header_that_cannot_be_read_is_named_without_its_value() {
        for text in ["key", "ke y=s3cret", "key=s3cret%2", "key=s3cret%zz", "key=s3cret%0a"] {
            let error = format!("{:#}", parse_headers(text).expect_err(text));
            assert!(error.contains("OTLP header") && !error.contains("s3cret"), "{error}");
        }
    }
}
