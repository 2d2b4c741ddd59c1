//! The only writer of status.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Resource as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    StatusQueue,
    board::{Board, Subject, Write},
};
use crate::{
    kubernetes::Bucket,
    telemetry::{Metrics, StatusWrite},
};

/// Who the API server notes as the writer of the status' fields.
const FIELD_MANAGER: &str = "signalbox";
/// Writes a second, and at once, of all objects: a fifth of what the API server's fairness gives one client when it is busy.
const RATE: (f64, f64) = (20.0, 50.0);
/// Writes under way at the same time.
const CONCURRENCY: usize = 8;
/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes what the queue knows.
pub struct Writer {
    queue: StatusQueue,
    client: Client,
    metrics: Arc<Metrics>,
    budget: Bucket,
}

impl Writer {
    /// There must be one per queue.
    pub fn new(queue: StatusQueue, client: Client, metrics: Arc<Metrics>) -> Self {
        Self { queue, client, metrics, budget: Bucket::new(RATE.0, RATE.1) }
    }

    /// Writes until `shutdown`, then once more all that is worth a write, for at most 5 s.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let queue = self.queue.clone();
        let (rules, sinks, sources) = (&queue.0.rules, &queue.0.sinks, &queue.0.sources);
        loop {
            let due = [rules.next_due(), sinks.next_due(), sources.next_due()].into_iter().flatten().min();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = rules.changed.notified() => {}
                () = sinks.changed.notified() => {}
                () = sources.changed.notified() => {}
                () = until(due) => {
                    let wrote = self.pass(rules).await + self.pass(sinks).await + self.pass(sources).await;
                    if wrote == 0 && due.is_some_and(|due| due <= Instant::now()) {
                        // Out of budget: one token's time.
                        tokio::time::sleep(Duration::from_secs_f64(1.0 / RATE.0)).await;
                    }
                }
            }
        }
        let last = async {
            self.write_all(rules, take_all(rules)).await;
            self.write_all(sinks, take_all(sinks)).await;
            self.write_all(sources, take_all(sources)).await;
        };
        if tokio::time::timeout(PATIENCE, last).await.is_err() {
            tracing::warn!("some statuses were left unwritten");
        }
    }

    /// Writes what is due, as far as the budget goes; gives how many.
    async fn pass<S: Subject>(&mut self, board: &Board<S>) -> usize {
        let (now, wall) = (Instant::now(), Timestamp::now());
        let mut writes = Vec::new();
        while self.budget.has(now)
            && let Some(write) = board.take(Some(now), wall)
        {
            self.budget.take(now);
            writes.push(write);
        }
        let count = writes.len();
        self.write_all(board, writes).await;
        count
    }

    async fn write_all<S: Subject>(&self, board: &Board<S>, writes: Vec<Write<S>>) {
        stream::iter(writes).for_each_concurrent(CONCURRENCY, |write| self.write(board, write)).await;
    }

    async fn write<S: Subject>(&self, board: &Board<S>, write: Write<S>) {
        let (namespace, name, uid) = write.subject.names();
        let answer = tokio::time::timeout(PATIENCE, patch::<S>(&self.client, &write)).await;
        let kind = S::Kind::kind(&());
        match answer {
            Ok(Ok(_)) => {
                self.metrics.status_written(StatusWrite::Written);
                board.wrote(write);
            }
            Ok(Err(error)) if is_gone(&error) => {
                self.metrics.status_written(StatusWrite::Gone);
                tracing::debug!(%kind, namespace, name, "the object is gone, its status is not written");
                board.remove(uid);
            }
            Ok(Err(error)) => {
                self.metrics.status_written(StatusWrite::Failed);
                tracing::warn!(%kind, namespace, name, %error, "a status could not be written, it will be repeated");
                board.failed(&write);
            }
            Err(_) => {
                self.metrics.status_written(StatusWrite::Failed);
                tracing::warn!(%kind, namespace, name, "a status was not written in time, it will be repeated");
                board.failed(&write);
            }
        }
    }
}

/// Replaces the whole status, if the object is still the one with this uid.
///
/// A JSON patch, and not server-side apply: on the status subresource the API server ignores the uid that an applied object names, and the status of a
/// deleted rule would be written to one of the same name that came after it.
async fn patch<S: Subject>(client: &Client, write: &Write<S>) -> Result<(), kube::Error> {
    let (namespace, name, uid) = write.subject.names();
    let objects = S::Kind::url_path(&(), Some(namespace));
    let steps = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": write.status},
    ]);
    let request = http::Request::patch(format!("{objects}/{name}/status?fieldManager={FIELD_MANAGER}"))
        .header(http::header::CONTENT_TYPE, "application/json-patch+json")
        .body(steps.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request_text(request).await.map(drop)
}

/// Whether the object is not there any more: none of this name, or another one. A test that fails is answered by 422 without any words about the
/// object; a status that does not fit the schema names the object and the fields.
fn is_gone(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let names_something =
        status.details.as_ref().is_some_and(|details| !details.name.is_empty() || !details.causes.is_empty());
    status.is_not_found() || (status.is_invalid() && !names_something)
}

fn take_all<S: Subject>(board: &Board<S>) -> Vec<Write<S>> {
    std::iter::from_fn(|| board.take(None, Timestamp::now())).collect()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
