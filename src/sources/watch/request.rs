//! Lists and watches over raw JSON: one object that cannot be read never hides the others.

use std::{fmt, time::Duration};

use http::Request;
use http_body_util::{BodyExt as _, Limited};
use kube::{Client, client::Body, core::ApiResource};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{sources::lookups::path, text::percent_encoded};

/// Objects of one page of a list: 250 of 20 kB are 5 MB for a moment, twice while they are parted.
const PAGE: u32 = 250;
/// How long a page may take. A list that hangs is tried again within the 30 s in which a watch has to recover.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the head of a watch's answer may take: the API server sends it at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest line: etcd takes 1.5 MiB an object by default, at most 8 MiB are usual; JSON escapes add some.
const LINE: usize = 16 << 20;
/// The longest page: [`PAGE`] objects of 256 KiB on average.
const PAGE_BYTES: usize = 64 << 20;
/// An error's body is a Status object of a few hundred bytes.
const ERROR_BYTES: usize = 64 << 10;

/// Why a request failed, by what has to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sources) enum Failure {
    /// The version is too old: take a new list.
    Expired,
    /// The list is older than what is known, or what is known is newer than anything the server has.
    Behind,
    /// The operator may not do it.
    Forbidden(String),
    /// The API server does not serve the kind (any more).
    NotFound(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("the version to go on from is too old"),
            Self::Behind => f.write_str("the API server is behind the version that was seen before"),
            Self::Forbidden(message) | Self::NotFound(message) | Self::Other(message) => f.write_str(message),
        }
    }
}

/// A kind in a scope at the API server, as the operator itself sees it.
#[derive(Clone)]
pub(in crate::sources) struct Api {
    client: Client,
    path: String,
    source: String,
}

/// A page of a list.
pub(in crate::sources) struct Page {
    /// The version of the whole list.
    pub(in crate::sources) version: u64,
    /// Token of the next page.
    pub(in crate::sources) next: Option<String>,
    /// The objects, unread.
    pub(in crate::sources) items: Vec<Box<RawValue>>,
}

impl Api {
    pub(in crate::sources) fn new(client: Client, api: &ApiResource, namespace: Option<&str>) -> Self {
        Self { client, path: path(api, namespace), source: path(api, None) }
    }

    /// The `source` of the events: the path for the whole cluster.
    pub(in crate::sources) fn source(&self) -> &str {
        &self.source
    }

    /// The first page, not older than the version, or the page that the token names.
    pub(in crate::sources) async fn page(&self, token: Option<&str>, not_older: Option<u64>) -> Result<Page, Failure> {
        let mut query = format!("limit={PAGE}");
        match (token, not_older) {
            (Some(token), _) => query.push_str(&format!("&continue={}", percent_encoded(token))),
            (None, Some(version)) => {
                query.push_str(&format!("&resourceVersion={version}&resourceVersionMatch=NotOlderThan"))
            }
            (None, None) => {}
        }
        let whole = async {
            let body = self.get(&query).await?;
            let bytes = Limited::new(body, PAGE_BYTES)
                .collect()
                .await
                .map_err(|error| other("read a list", &error))?
                .to_bytes();
            serde_json::from_slice::<RawPage>(&bytes).map_err(|error| other("read a list", &error))
        };
        let page = within(PAGE_TIMEOUT, whole).await?;
        let version = page.metadata.resource_version.as_deref().unwrap_or_default();
        let version = version
            .parse()
            .map_err(|_| Failure::Other(format!("read a list: its version {version:?} is not a number")))?;
        let next = page.metadata.next.filter(|token| !token.is_empty());
        Ok(Page { version, next, items: page.items.unwrap_or_default() })
    }

    /// Whether the API server has reached the version: it opens a watch from any.
    pub(super) async fn reached(&self, version: Option<u64>) -> Result<(), Failure> {
        let Some(version) = version else { return Ok(()) };
        let query = format!("limit=1&resourceVersion={version}&resourceVersionMatch=NotOlderThan");
        within(PAGE_TIMEOUT, async { self.get(&query).await.map(drop) }).await
    }

    /// Opens a watch of what comes after the version; the server closes it after `seconds`.
    pub(super) async fn open(&self, version: u64, seconds: u64) -> Result<Lines, Failure> {
        let query = format!("watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}");
        let body = within(HEAD_TIMEOUT, self.get(&query)).await?;
        Ok(Lines { body, buffer: Vec::new(), scanned: 0 })
    }

    async fn get(&self, query: &str) -> Result<Body, Failure> {
        let request = Request::get(format!("{}?{query}", self.path)).body(Body::empty());
        let request = request.map_err(|error| other("make a request", &error))?;
        let response = self.client.send(request).await.map_err(|error| other("ask the API server", &error))?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let bytes = Limited::new(body, ERROR_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let status = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Err(failure(head.status.as_u16(), &status))
    }
}

#[derive(Deserialize)]
struct RawPage {
    metadata: ListMetadata,
    items: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// What is read of an item of a list before it is decoded whole.
#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(default)]
    pub(super) metadata: ItemMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ItemMetadata {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
}

impl ItemMetadata {
    pub(super) fn version(&self) -> Option<u64> {
        self.resource_version.as_ref()?.parse().ok()
    }

    /// `namespace/name`, or `name`.
    pub(super) fn qualified_name(&self) -> Option<Box<str>> {
        let name = self.name.as_deref()?;
        Some(self.namespace.as_ref().map_or_else(|| name.into(), |namespace| format!("{namespace}/{name}").into()))
    }
}

/// The lines of a watch.
pub(super) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// How much of the buffer has no end of line.
    scanned: usize,
}

impl Lines {
    /// The next line, or nothing when the server has closed the watch.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(end) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.scanned + end).collect();
                self.scanned = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.scanned > LINE {
                return Err(Failure::Other(format!("read a watch: a line is longer than {LINE} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(other("read a watch", &error)),
                None => {
                    // A line that was cut off comes again when the watch is resumed.
                    let rest = std::mem::take(&mut self.buffer);
                    self.scanned = 0;
                    let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&rest).is_ok();
                    return Ok(whole.then_some(rest));
                }
            }
        }
    }
}

/// A failure by the code and body that the server sent, as an answer or inside a watch.
pub(super) fn failure(code: u16, status: &Value) -> Failure {
    let text = |place: &str| status.pointer(place).and_then(Value::as_str).unwrap_or_default();
    let message = match text("/message") {
        "" => format!("the API server answered {code}"),
        message => format!("the API server answered {code}: {message}"),
    };
    let too_large = message.contains("Too large resource version")
        || status.pointer("/details/causes").and_then(Value::as_array).is_some_and(|causes| {
            causes.iter().any(|cause| cause.get("reason").and_then(Value::as_str) == Some("ResourceVersionTooLarge"))
        });
    match code {
        410 => Failure::Expired,
        403 => Failure::Forbidden(message),
        404 => Failure::NotFound(message),
        _ if too_large => Failure::Behind,
        _ if matches!(text("/reason"), "Expired" | "Gone") => Failure::Expired,
        _ => Failure::Other(message),
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(time, work).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Other(format!("the API server did not answer within {} s", time.as_secs()))),
    }
}

fn other(what: &str, error: &dyn fmt::Display) -> Failure {
    Failure::Other(format!("{what}: {error}"))
}
