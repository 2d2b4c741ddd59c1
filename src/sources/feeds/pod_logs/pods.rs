//! The Pods that a selector matches: a list, and what becomes of them.

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use kube::{
    Client,
    api::{ListParams, WatchParams},
    core::{Request, Selector, WatchEvent},
};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::{
    reader::{Trouble, trouble},
    table::Pod,
};
use crate::sources::watch::Backoff;

/// Pods of one page of a list.
const PAGE: u32 = 250;
/// How long a page may take, and the head of a watch.
const PATIENCE: Duration = Duration::from_secs(20);
/// Failures one after the other after which it is no use to go on.
const FAILURES: u32 = 4;

/// What is new.
pub(super) enum Change {
    /// These are all.
    Listed(Vec<Pod>),
    Seen(Pod),
    Gone(Pod),
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Option<Vec<Pod>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

/// A list of Pods, and what becomes of them: again and again, whenever that is not known any more.
struct Watching {
    client: Client,
    pods: Request,
    selector: Selector,
    /// Where the watch goes on; without it, all are listed.
    version: Option<String>,
    watch: Option<BoxStream<'static, kube::Result<WatchEvent<Pod>>>>,
    backoff: Backoff,
    failures: u32,
}

/// What becomes of the Pods; the first is a list. After an error it goes on with a list.
pub(super) fn changes(
    client: Client,
    pods: Request,
    selector: Selector,
) -> impl Stream<Item = Result<Change, Trouble>> + Send {
    let (version, watch, backoff) = (None, None, Backoff::default());
    let watching = Watching { client, pods, selector, version, watch, backoff, failures: 0 };
    stream::unfold(watching, |mut watching| async move {
        let change = watching.next().await;
        Some((change, watching))
    })
}

impl Watching {
    async fn next(&mut self) -> Result<Change, Trouble> {
        loop {
            let tried = self.step().await;
            match tried {
                Ok(Some(change)) => {
                    self.failures = 0;
                    return Ok(change);
                }
                Ok(None) => {}
                Err(trouble @ (Trouble::Denied(_) | Trouble::Down(_))) => return Err(trouble),
                Err(trouble) => {
                    (self.watch, self.version, self.failures) = (None, None, self.failures + 1);
                    if self.failures >= FAILURES {
                        return Err(trouble);
                    }
                    sleep(self.backoff.next()).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Change>, Trouble> {
        let Some(version) = &self.version else {
            let (version, pods) = self.list().await?;
            self.version = Some(version);
            return Ok(Some(Change::Listed(pods)));
        };
        let Some(watch) = &mut self.watch else {
            let params = WatchParams::default().labels_from(&self.selector);
            let request = self.pods.watch(&params, version).map_err(|error| Trouble::Broken(error.to_string()))?;
            let watch = within(self.client.request_events::<Pod>(request)).await?;
            self.watch = Some(watch.boxed());
            return Ok(None);
        };
        match watch.next().await {
            None => self.watch = None,
            Some(Err(error)) => return Err(trouble(error)),
            Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => {
                self.reached(&pod);
                return Ok(Some(Change::Seen(pod)));
            }
            Some(Ok(WatchEvent::Deleted(pod))) => {
                self.reached(&pod);
                return Ok(Some(Change::Gone(pod)));
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                self.backoff.reset();
                self.version = Some(bookmark.metadata.resource_version);
            }
            // The version is too old, mostly: all are listed.
            Some(Ok(WatchEvent::Error(status))) if status.code == 410 => (self.watch, self.version) = (None, None),
            Some(Ok(WatchEvent::Error(status))) => return Err(trouble(kube::Error::Api(status))),
        }
        Ok(None)
    }

    fn reached(&mut self, pod: &Pod) {
        self.backoff.reset();
        if let Some(version) = pod.version() {
            self.version = Some(version.to_owned());
        }
    }

    async fn list(&mut self) -> Result<(String, Vec<Pod>), Trouble> {
        let (mut pods, mut next) = (Vec::new(), String::new());
        loop {
            let mut params = ListParams::default().labels_from(&self.selector).limit(PAGE);
            if !next.is_empty() {
                params = params.continue_token(&next);
            }
            let request = self.pods.list(&params).map_err(|error| Trouble::Broken(error.to_string()))?;
            let page: Page = within(self.client.request(request)).await?;
            pods.extend(page.items.unwrap_or_default());
            next = page.metadata.next;
            if next.is_empty() {
                return Ok((page.metadata.resource_version, pods));
            }
        }
    }
}

async fn within<T>(asking: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    let answer = timeout(PATIENCE, asking).await;
    answer.map_err(|_| Trouble::Broken("the API server did not answer in time".to_owned()))?.map_err(trouble)
}
