//! `prometheus`: what a query gives, at whole multiples of an interval.
//!
//! When it begins it asks once, to tell whether that works, and takes nothing of the answer: what counts is the next multiple, so that no process takes what
//! another one has taken. A failure ends the run, and the one that follows waits for the next multiple again.

use std::{convert::Infallible, time::Duration};

use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use k8s_openapi::jiff::Timestamp;
use tokio::time::sleep;

use super::{feed::Feed, link::Down};
use crate::{
    api::{PrometheusSource, Series},
    event::{
        message::Message,
        prometheus::{self, Answer, Fault, TYPE},
    },
    net::{Call, Http, HttpErrorKind, address},
    telemetry::Rejection,
};

/// How much of an answer is read: a thousand series of 4 kB each.
const MAX_ANSWER: usize = 4 << 20;
/// How long an answer may take, at most the interval.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the schema cannot tell.
pub(super) fn faults(spec: &PrometheusSource) -> Vec<String> {
    let mut faults = Vec::new();
    let good = address(&spec.url).map(|uri| uri.query().is_none());
    match good {
        Ok(true) => {}
        Ok(false) => {
            faults.push("prometheus.url: leave out what begins with ?: the query is a field of its own".to_owned())
        }
        Err(why) => faults.push(format!("prometheus.url: {why}")),
    }
    if spec.query.trim().is_empty() {
        faults.push("prometheus.query: must not be empty".to_owned());
    }
    let interval = spec.interval.get();
    if !PrometheusSource::INTERVAL.contains(&interval) || interval.subsec_nanos() != 0 {
        faults.push("prometheus.interval: must be whole seconds from 5s to 1h".to_owned());
    }
    if spec.auth.as_ref().is_some_and(|auth| auth.token_secret_ref.is_some() == auth.login.is_some()) {
        faults.push("prometheus.auth: exactly one of tokenSecretRef and login must be set".to_owned());
    }
    if let Some(tls) = &spec.tls {
        if !spec.url.starts_with("https://") {
            faults.push("prometheus.tls: is for addresses that begin with https://".to_owned());
        }
        tls.faults("prometheus.tls", &mut faults);
    }
    faults
}

/// Asks until it fails.
pub(super) async fn run(spec: &PrometheusSource, feed: &Feed) -> Result<Infallible, Down> {
    let server = Server::new(spec, feed)?;
    let mut told = None;
    tell(spec, feed, &server.ask().await?, &mut told)?;
    loop {
        let tick = wait(spec, feed).await;
        let answer = server.ask().await?;
        tell(spec, feed, &answer, &mut told)?;
        take(spec, feed, &answer, tick).await?;
    }
}

/// Waits for the next multiple of the interval.
async fn wait(spec: &PrometheusSource, feed: &Feed) -> Timestamp {
    let interval = i64::try_from(spec.interval.get().as_micros()).unwrap_or(i64::MAX);
    let now = || i64::try_from(feed.accept.now()).unwrap_or_default();
    let tick = (now() / interval + 1) * interval;
    // A clock that is set back makes it longer, but by an interval at most: the next multiple is another one then.
    let left = u64::try_from(tick - now()).unwrap_or(0);
    sleep(Duration::from_micros(left)).await;
    Timestamp::from_microsecond(tick).unwrap_or_else(|_| feed.accept.clock().now().timestamp())
}

/// Says in status what came, when that has changed. How many series there are is no part of it: that may be another number each time.
fn tell(spec: &PrometheusSource, feed: &Feed, answer: &Answer, told: &mut Option<(bool, String)>) -> Result<(), Down> {
    let Answer { samples, no_numbers, warnings } = answer;
    let series = samples.len() + no_numbers;
    if spec.series == Series::One && series > 1 {
        let why = format!("the query gives {series} series, and series is One: aggregate them, or set series to Each");
        return Err(Down::refused(why));
    }
    let mut words = match (samples.len(), no_numbers) {
        (0, 0) => "no data: the query gives no series; no sample is taken, and nothing is taken for 0".to_owned(),
        (0, _) => "no data: of the series none is a number (NaN or infinite); no sample is taken".to_owned(),
        (_, 0) => format!("{}: the query gives samples", spec.url),
        (_, _) => format!("{}: the query gives samples, and series that are no number (NaN or infinite)", spec.url),
    };
    if let Some(first) = warnings.first() {
        words = format!("{words}; the server warns that it may be incomplete: {first}");
    }
    let now = (samples.is_empty(), words);
    if told.as_ref() != Some(&now) {
        if now.0 {
            feed.no_data(&now.1)
        } else {
            feed.connected(&now.1)
        }
        *told = Some(now);
    }
    Ok(())
}

/// Makes an event of each sample.
async fn take(spec: &PrometheusSource, feed: &Feed, answer: &Answer, tick: Timestamp) -> Result<(), Down> {
    (0..answer.no_numbers).for_each(|_| feed.rejected(Rejection::Malformed));
    let bodies: Vec<Vec<u8>> = answer
        .samples
        .iter()
        .map(|sample| sample.data(&spec.query, &answer.warnings).to_string().into_bytes())
        .collect();
    let subject = format!("{}/EventSource/{}", feed.namespace, feed.name);
    let messages: Vec<Message<'_>> = std::iter::zip(&answer.samples, &bodies)
        .map(|(sample, body)| Message {
            // No id: a thousand series each few seconds would push the ids of others out of what is remembered.
            id: None,
            source: feed.source(),
            type_: TYPE,
            subject: Some(sample.series().unwrap_or_else(|| subject.clone())),
            time: Some(tick),
            content_type: Some("application/json"),
            body,
            ..Message::default()
        })
        .collect();
    feed.take(&messages).await.map(|_| ())
}

/// The server that is asked.
struct Server {
    http: Http,
    url: String,
    name: String,
    headers: HeaderMap,
    body: Vec<u8>,
    timeout: Duration,
}

impl Server {
    fn new(spec: &PrometheusSource, feed: &Feed) -> Result<Self, Down> {
        let uri = address(&spec.url).map_err(Down::refused)?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = feed.tls(&spec.tls.clone().unwrap_or_default(), &host)?;
        let http = feed.http(tls);
        let timeout = PATIENCE.min(spec.interval.get());
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        if let Some(authorization) = authorization(spec, feed)? {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("query", &spec.query).append_pair("timeout", &format!("{}s", timeout.as_secs()));
        let url = format!("{}/api/v1/query", spec.url.trim_end_matches('/'));
        Ok(Self { http, url, name: spec.url.clone(), headers, body: body.finish().into_bytes(), timeout })
    }

    async fn ask(&self) -> Result<Answer, Down> {
        let call = Call {
            method: Method::POST,
            url: &self.url,
            name: &self.name,
            headers: self.headers.clone(),
            body: self.body.clone(),
            timeout: self.timeout,
        };
        let response = self.http.call_for(call, MAX_ANSWER).await.map_err(|error| match error.kind {
            HttpErrorKind::Address(_) | HttpErrorKind::Refused(_) => Down::refused(error.to_string()),
            _ => Down::unreachable(error.to_string()),
        })?;
        let status = response.status;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let said = format!("{} answers {status}: {}", self.name, response.words());
            return Err(Down::unauthenticated(said));
        }
        if response.cut {
            let why = "the answer has more than 4 MiB: let the query give fewer series";
            return Err(Down::refused(format!("{}: {why}", self.name)));
        }
        match prometheus::decode(&response.body) {
            Ok(answer) if status.is_success() => Ok(answer),
            Ok(_) | Err(Fault::Odd(_)) if !status.is_success() => {
                Err(Down::unreachable(format!("{} answers {status}: {}", self.name, response.words())))
            }
            Ok(answer) => Ok(answer),
            Err(fault) => Err(Down::refused(format!("{}: {fault}", self.name))),
        }
    }
}

fn authorization(spec: &PrometheusSource, feed: &Feed) -> Result<Option<HeaderValue>, Down> {
    let Some(auth) = &spec.auth else { return Ok(None) };
    let text = match (&auth.token_secret_ref, &auth.login) {
        (Some(key), _) => format!("Bearer {}", feed.secret(key)?),
        (None, Some(login)) => {
            let pair = format!("{}:{}", login.username, feed.secret(&login.password_secret_ref)?);
            format!("Basic {}", BASE64.encode(pair.as_bytes()))
        }
        (None, None) => return Ok(None),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        Down::unauthenticated(
            "prometheus.auth: the Secret's value has characters that no header carries: put it there in one line",
        )
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}
