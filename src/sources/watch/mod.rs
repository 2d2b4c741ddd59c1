//! The watch layer: one list and watch of a resource in a scope that never misses and never repeats.
//!
//! It works on raw JSON and keeps uid, version, count and name of each object only. A first list is what exists, never a change; later
//! lists are compared with what is remembered. It knows no rule: whom a change may concern is asked of the interest.

mod backoff;
mod emit;
mod learned;
mod list;
mod memory;
mod notice;
mod request;

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::BusError,
    event::{Seen, WatchKey},
    poison,
    rule::Followed,
    telemetry::Metrics,
};
pub(super) use backoff::Backoff;
use backoff::{Pace, random};
pub(super) use emit::Emitter;
pub(super) use learned::Learned;
pub use memory::{Memory, Observed, Sight};
pub use notice::EVENT_TTL;
pub(super) use notice::Notice;
use request::Lines;
pub(super) use request::{Api, Failure};

/// A watch is closed by the server after 20 to 25 s, so that many do not come back at once: until then one that hangs cannot be told from one in which
/// nothing happens. With [`HANGING`] it recovers within 30 s. It costs one request every 22 s and watch, over a connection that is open.
const SERVER_SECONDS: (u64, u64) = (20, 5);
/// A watch that the server did not close so long after it should have is taken as hanging.
const HANGING: Duration = Duration::from_secs(5);
/// A bookmark comes two seconds before the server closes a watch: where they came before and nothing at all came for five times 25 s, a list is taken.
const QUIET: Duration = Duration::from_secs(130);
/// Other watches in which nothing at all came for so long are not gone on with: a list is taken. An API server takes a watch from a version that it
/// has not reached, as after a restore of etcd, and keeps silent until it has.
const SILENT: Duration = Duration::from_secs(300);
/// A watch that is open so long works, also when nothing happens.
const WORKS_AFTER: Duration = Duration::from_secs(5);
/// A watch that is down so long is told of.
const TOLD_AFTER: Duration = Duration::from_secs(60);
/// Watches that ended without anything before a new list is taken: an expired watch can look like an empty one.
const FUTILE: u32 = 2;
/// How long what is only remembered may still be written when the watch is stopped.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// How a watch is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its first list of this process is being taken.
    Starting,
    /// Everything is seen.
    Listening,
    /// It has been down for more than a minute.
    Failed(String),
    /// The operator itself may not list or watch.
    Forbidden(String),
    /// The API server does not serve the kind.
    KindNotFound(String),
}

/// Tells the supervisor how the watch is doing, with the number of its start.
pub(super) type Phases = mpsc::Sender<(WatchKey, u64, Phase)>;

/// One watch.
pub(super) struct Watch {
    key: WatchKey,
    start: u64,
    api: Api,
    emitter: Emitter,
    memory: Memory,
    followed: Arc<[Followed]>,
    learned: Learned,
    /// A value is followed that was not when the last list was taken.
    relearn: bool,
    phases: Phases,
    metrics: Arc<Metrics>,
    phase: Phase,
    pace: Pace,
    backoff: Backoff,
    down_since: Option<Instant>,
    /// The API server sends bookmarks in this watch.
    bookmarks: bool,
    /// When the API server was last known to tell everything.
    heard: Instant,
    /// When the last line or list came.
    last: Instant,
    /// How long before the start of the process nobody listened.
    away: Duration,
    /// The API server has been behind for so long that its versions may have gone back for good.
    doubt: bool,
    notice: Notice,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    type_: String,
    object: Value,
}

/// How a stream ended.
struct Ended {
    /// The version to go on from.
    version: u64,
    /// Whether anything came.
    data: bool,
    lasted: Duration,
    /// Nothing: the server closed it.
    failure: Option<Failure>,
}

impl Watch {
    /// A watch that begins with what the log remembers of it.
    pub(super) fn new(
        key: WatchKey,
        start: u64,
        api: Api,
        emitter: Emitter,
        memory: HashMap<String, Seen>,
        phases: Phases,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            memory: Memory::new(key.clone(), memory),
            followed: emitter.followed(),
            learned: Learned::default(),
            relearn: false,
            key,
            start,
            api,
            emitter,
            phases,
            metrics,
            phase: Phase::Starting,
            pace: Pace::default(),
            backoff: Backoff::default(),
            down_since: None,
            bookmarks: false,
            heard: Instant::now(),
            last: Instant::now(),
            away: Duration::ZERO,
            doubt: false,
            notice: Notice::default(),
        }
    }

    /// Nobody listened for so long before the process was started.
    #[must_use]
    pub(super) fn with_away(self, away: Duration) -> Self {
        Self { away, ..self }
    }

    /// What may have been missed.
    pub(super) fn notice(&self) -> Notice {
        self.notice.clone()
    }

    /// The values that the watch knows of every object.
    pub(super) fn learned(&self) -> Learned {
        self.learned.clone()
    }

    /// Watches until it is stopped.
    ///
    /// # Errors
    /// When the log takes nothing any more; everything else is tried again.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), BusError> {
        let ended = stop.run_until_cancelled(self.work()).await;
        if let Some(result) = ended {
            return result;
        }
        // What is lost here is compared with the list of the next start.
        match tokio::time::timeout(LAST_WRITE, self.emitter.flush()).await {
            Ok(Err(BusError::Closed)) | Err(_) => Ok(()),
            Ok(result) => result,
        }
    }

    async fn work(&mut self) -> Result<(), BusError> {
        let mut resume: Option<u64> = None;
        let mut futile = 0;
        loop {
            self.pace.admit().await;
            let failure = match resume {
                None => match self.list().await? {
                    Ok(version) => {
                        (resume, futile) = (Some(version), 0);
                        self.works().await;
                        continue;
                    }
                    Err(failure) => Some(failure),
                },
                Some(version) => {
                    let ended = self.stream(version).await?;
                    if std::mem::take(&mut self.relearn) {
                        resume = None;
                        continue;
                    }
                    let lost = matches!(ended.failure, Some(Failure::Expired | Failure::Behind));
                    let worked = !lost && (ended.data || ended.lasted >= WORKS_AFTER);
                    if worked {
                        // However it ended: a connection that breaks now and then is no reason to wait long, or to list again.
                        self.backoff.reset();
                    }
                    futile = if worked { 0 } else { futile + 1 };
                    let silent = self.last.elapsed() >= if self.bookmarks { QUIET } else { SILENT };
                    resume = (!lost && !silent && futile < FUTILE).then_some(ended.version);
                    if worked && ended.failure.is_none() {
                        continue;
                    }
                    ended.failure
                }
            };
            self.fails(failure).await;
            tokio::time::sleep(self.backoff.next()).await;
        }
    }

    /// Follows what comes after the version, until the stream ends one way or another.
    async fn stream(&mut self, version: u64) -> Result<Ended, BusError> {
        let opened = Instant::now();
        let mut ended = Ended { version, data: false, lasted: Duration::ZERO, failure: None };
        let (least, more) = SERVER_SECONDS;
        let seconds = least + (random() * more as f64) as u64;
        let mut lines = match self.api.open(version, seconds).await {
            Ok(lines) => lines,
            Err(failure) => return Ok(Ended { failure: Some(failure), ..ended }),
        };
        let end = opened + Duration::from_secs(seconds) + HANGING;
        loop {
            match self.next_line(&mut lines, opened, end).await? {
                Ok(Some(line)) => {
                    self.last = Instant::now();
                    ended.failure = self.line(&line, &mut ended).await?;
                }
                Ok(None) => {
                    // Whatever was to come has come.
                    self.heard = Instant::now();
                    break;
                }
                Err(failure) => ended.failure = Some(failure),
            }
            if ended.failure.is_some() {
                break;
            }
        }
        ended.lasted = opened.elapsed();
        Ok(ended)
    }

    /// Waits for a line; meanwhile writes what is due, and notes that the watch works.
    async fn next_line(
        &mut self,
        lines: &mut Lines,
        opened: Instant,
        end: Instant,
    ) -> Result<Result<Option<Vec<u8>>, Failure>, BusError> {
        loop {
            let down = self.down_since.is_some();
            let flush_at = self.emitter.flush_at();
            tokio::select! {
                biased;
                () = self.emitter.rules_changed() => {
                    self.follow();
                    self.relearn = !self.learned.covers(&self.followed);
                    if self.relearn {
                        return Ok(Ok(None));
                    }
                }
                line = lines.next() => return Ok(line),
                () = tokio::time::sleep_until(flush_at.unwrap_or(end)), if flush_at.is_some() => self.emitter.flush().await?,
                () = tokio::time::sleep_until(opened + WORKS_AFTER), if down => {
                    match self.api.reached(self.memory.position()).await {
                        Ok(()) => self.works().await,
                        Err(failure) => return Ok(Err(failure)),
                    }
                }
                () = tokio::time::sleep_until(end) => {
                    return Ok(Err(Failure::Other("the watch hangs: nothing came in time, not even its end".to_owned())));
                }
            }
        }
    }

    /// Takes one line. Gives the failure that the server told of in it.
    async fn line(&mut self, line: &[u8], ended: &mut Ended) -> Result<Option<Failure>, BusError> {
        let line: Line = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => {
                self.unreadable(&error);
                ended.data = true;
                return Ok(None);
            }
        };
        if line.type_ == "ERROR" {
            let code = line.object.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
            return Ok(Some(request::failure(code.unwrap_or(500), &line.object)));
        }
        (ended.data, self.heard) = (true, Instant::now());
        if self.down_since.is_some() {
            self.works().await;
        }
        let version = line.object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let version = version.and_then(|version| version.parse().ok());
        match line.type_.as_str() {
            "ADDED" | "MODIFIED" => self.take(line.object, Sight::Changed).await?,
            "DELETED" => self.take(line.object, Sight::Deleted).await?,
            "BOOKMARK" => self.bookmarks = true,
            _ => {}
        }
        if let Some(version) = version {
            ended.version = ended.version.max(version);
            self.memory.advance(version);
        }
        Ok(None)
    }

    async fn take(&mut self, object: Value, sight: Sight) -> Result<(), BusError> {
        let (source, now) = (self.api.source(), Timestamp::now());
        let observed = poison::caught(|| self.memory.observe(object, sight, source, now, &self.followed));
        match observed {
            Ok(Ok(Some(observed))) => return self.emitter.observed(observed).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => self.unreadable(&error),
            Err(poisoned) => self.unreadable(&poisoned),
        }
        Ok(())
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) {
        self.metrics.object_unreadable();
        tracing::warn!(watch = %self.key, %error, "object left out: it cannot be read");
    }

    async fn works(&mut self) {
        self.down_since = None;
        self.tell(Phase::Listening).await;
    }

    async fn fails(&mut self, failure: Option<Failure>) {
        let now = Instant::now();
        let since = *self.down_since.get_or_insert(now);
        let failure = failure.unwrap_or_else(|| Failure::Other("the API server closes the watch at once".to_owned()));
        tracing::debug!(watch = %self.key, %failure, "watch will be tried again");
        let long = now - since >= TOLD_AFTER;
        match failure {
            Failure::Forbidden(message) => self.tell(Phase::Forbidden(message)).await,
            Failure::NotFound(message) => self.tell(Phase::KindNotFound(message)).await,
            failure if long => {
                // Next time etcd itself is asked.
                self.doubt = failure == Failure::Behind;
                self.tell(Phase::Failed(format!("watch {}: {failure}", self.key))).await;
            }
            _ => {}
        }
    }

    async fn tell(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase.clone();
            // Nobody listens any more: then the watch is being stopped.
            let _ = self.phases.send((self.key.clone(), self.start, phase)).await;
        }
    }
}

#[cfg(test)]
mod tests;
