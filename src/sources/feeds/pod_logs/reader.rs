//! Reads the log of a container: asks for it, takes the lines that match, and remembers up to where it came.

use std::time::Duration;

use futures::{AsyncBufReadExt as _, TryFutureExt as _};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Client, Resource as _,
    api::LogParams,
    core::{Request, Status},
};
use parking_lot::Mutex;
use tokio::{
    sync::SemaphorePermit,
    task::coop::consume_budget,
    time::{Instant, timeout},
};

use super::{
    super::{feed::Feed, link::Down},
    Memory,
    lines::{Cursor, Decoder, Line, Place, time},
    notes::Notes,
    pattern::{Pattern, Writer, hash, id},
    table::{Ended, Job, Mark},
};
use crate::{
    api::PodLogsSource,
    event::{TYPE_POD_LOG, message::Message},
    telemetry::Rejection,
    text::line,
};

/// How long the first bytes of a log may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first line's time is among the first bytes.
const FIRST: i64 = 40;

/// What all readings of a source have.
pub(super) struct Reader<'a> {
    pub(super) feed: &'a Feed,
    pub(super) spec: &'a PodLogsSource,
    pub(super) pattern: &'a Pattern,
    pub(super) notes: &'a Mutex<Notes>,
    /// The source's account.
    pub(super) client: Client,
    /// Requests about Pods of the namespace.
    pub(super) pods: Request,
}

/// How a reading went.
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) ended: Ended,
    /// Lines came.
    pub(super) progress: bool,
    /// Nothing more can be read of any container: why.
    pub(super) down: Option<Trouble>,
}

/// Why a log is not read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The account may not.
    Denied(String),
    /// There is none.
    NotThere(String),
    /// Anything else of this one.
    Broken(String),
    /// The source cannot go on.
    Down(Down),
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// Of the life before, up to its end.
    Previous,
    /// Of the last life, up to its end.
    Rest,
    /// Of the life that goes on, as it is written.
    Follow,
}

/// Where a reading is.
struct Reading<'j> {
    job: &'j Job,
    cursor: Cursor,
    /// Up to where lines were looked at when it began.
    place: Option<Place>,
    previous: bool,
    progress: bool,
}

/// A line that is an event.
struct Found {
    id: String,
    at: Timestamp,
    body: Vec<u8>,
}

/// Lines that count for the limit. Dropped before they are taken, they count no more: they are read again.
struct Admitted<'a> {
    memory: &'a Memory,
    lines: &'a [Found],
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.lines.iter().for_each(|one| self.memory.put_back(one.at));
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        feed: &'a Feed,
        spec: &'a PodLogsSource,
        pattern: &'a Pattern,
        notes: &'a Mutex<Notes>,
    ) -> Reader<'a> {
        let pods = Request::new(Pod::url_path(&(), Some(&feed.namespace)));
        Self { feed, spec, pattern, notes, client: feed.cluster.as_account(&feed.account), pods }
    }

    fn memory(&self) -> &'a Memory {
        self.feed.shared.pod_logs()
    }

    /// Reads a log until it ends, breaks or is stopped.
    ///
    /// # Cancel safety
    /// Dropped, it goes on after the lines that were taken, or those come again and are known.
    pub(super) async fn read(&self, job: Job, place: SemaphorePermit<'_>) -> Finished {
        let before = self.memory().mark(&job.key).and_then(|mark| mark.place);
        let mut reading =
            Reading { job: &job, cursor: Cursor::after(before), place: before, previous: false, progress: false };
        let ended = job.stop.run_until_cancelled(self.both(&mut reading)).await;
        drop(place);
        let (previous, progress) = (reading.previous, reading.progress);
        let (ended, down) = match ended {
            Some(Ok(())) => (Ended::End, None),
            None => (Ended::Fault { previous }, None),
            Some(Err(trouble)) => {
                if let Trouble::NotThere(why) | Trouble::Broken(why) = &trouble {
                    tracing::debug!(source = %self.feed.name, namespace = %self.feed.namespace, pod = %job.pod, container = %job.key.1, %why, "a log is not read");
                }
                let down = matches!(trouble, Trouble::Denied(_) | Trouble::Down(_)).then_some(trouble);
                (Ended::Fault { previous }, down)
            }
        };
        Finished { job, ended, progress, down }
    }

    /// The life before, if it is to be read, and the last one.
    async fn both(&self, reading: &mut Reading<'_>) -> Result<(), Trouble> {
        let job = reading.job;
        if job.lost {
            self.lost(job, "it has restarted more than once while its log was not read");
        }
        if let Some(place) = reading.place.filter(|_| job.gap && self.is_of_the_place(job))
            && self.first(job).await?.is_some_and(|first| first > place.at)
        {
            self.lost(job, "its log was rotated while it was not read");
        }
        if job.previous {
            reading.previous = true;
            match self.copy(Which::Previous, reading).await {
                Err(Trouble::NotThere(why)) => self.lost(job, &why),
                other => other?,
            }
            reading.previous = false;
        }
        self.copy(if job.ended { Which::Rest } else { Which::Follow }, reading).await
    }

    /// Whether the first log that is read is the one of the place where the reading before has ended.
    fn is_of_the_place(&self, job: &Job) -> bool {
        job.was.is_some_and(|(life, _)| life + u32::from(job.previous) == job.life)
    }

    /// When the first line was written that the kubelet still has.
    async fn first(&self, job: &Job) -> Result<Option<Timestamp>, Trouble> {
        let params = LogParams { limit_bytes: Some(FIRST), previous: job.previous, ..params(job) };
        let request = self.pods.logs(&job.pod, &params).map_err(broken)?;
        let asking = self.client.request_text(request).map_err(trouble);
        let text = match timeout(PATIENCE, asking).await {
            Ok(Err(Trouble::NotThere(_))) => return Ok(None),
            Ok(text) => text?,
            Err(_) => return Err(Trouble::Broken("the API server did not answer in time".to_owned())),
        };
        Ok(text.split([' ', '\n']).next().and_then(|stamp| time(stamp.as_bytes())))
    }

    /// Takes the lines of a log until it ends.
    async fn copy(&self, which: Which, reading: &mut Reading<'_>) -> Result<(), Trouble> {
        let job = reading.job;
        let since = reading.cursor.place().or(reading.place).map(|place| place.at).or(job.since);
        let (follow, previous) = (which == Which::Follow, which == Which::Previous);
        // The API has whole seconds; kube would round to the nearest, which may be after it.
        let since_time = since.and_then(|since| Timestamp::from_second(since.as_second()).ok());
        let params = LogParams { follow, previous, since_time, ..params(job) };
        let request = self.pods.logs(&job.pod, &params).map_err(broken)?;
        // Of a log that is followed even the head comes with the first line only: there is no time in which it must.
        let body = self.client.request_stream(request).await.map_err(trouble)?;
        let mut body = std::pin::pin!(body);
        let mut decoder = Decoder::new(usize::try_from(self.spec.max_line_bytes).unwrap_or(usize::MAX));
        loop {
            let mut found = Vec::new();
            let bytes = body.fill_buf().await.map_err(broken)?;
            let count = bytes.len();
            let mut each = |line: Line<'_>| found.extend(self.look(line, reading));
            if count == 0 {
                // What has no end may go on, as long as who writes it does.
                if which != Which::Follow {
                    decoder.end(&mut each);
                }
            } else {
                decoder.push(bytes, &mut each);
            }
            self.take(&found, reading).await?;
            if count == 0 {
                return Ok(());
            }
            body.as_mut().consume_unpin(count);
            consume_budget().await;
        }
    }

    /// The event that a line is, if it is one.
    fn look(&self, line: Line<'_>, reading: &mut Reading<'_>) -> Option<Found> {
        let Line { stamp, text, truncated } = line;
        if stamp.is_empty() {
            let words = String::from_utf8_lossy(text);
            if !words.trim().is_empty() {
                self.feed.rejected(Rejection::Malformed);
                self.lost(reading.job, &format!("instead of a line it was said: {words}"));
            }
            return None;
        }
        reading.progress = true;
        let new = reading.cursor.pass(stamp);
        // What is UTF-8, as nearly all is, stays where it is.
        let text = &*String::from_utf8_lossy(text);
        if !self.pattern.matches(text) {
            return None;
        }
        let Some(at) = time(stamp) else {
            self.feed.rejected(Rejection::Malformed);
            return None;
        };
        let (job, hash) = (reading.job, hash(text));
        let nth = reading.cursor.nth(hash);
        let early = reading.place.is_none() && job.since.is_some_and(|since| at < since);
        if !new || early {
            return None;
        }
        if !self.memory().admits(at) {
            self.feed.rejected(Rejection::RateLimited);
            self.notes.lock().limited(Instant::now());
            return None;
        }
        let (uid, container) = &job.key;
        let writer = Writer { namespace: &self.feed.namespace, pod: &job.pod, uid, container };
        let body = self.pattern.data(&writer, text, truncated).to_string().into_bytes();
        Some(Found { id: id(&writer, at, hash, nth), at, body })
    }

    /// Takes lines, and remembers up to where they were looked at.
    async fn take(&self, found: &[Found], reading: &Reading<'_>) -> Result<(), Trouble> {
        let job = reading.job;
        if !found.is_empty() {
            let mut admitted = Admitted { memory: self.memory(), lines: found };
            let message = |one| message(one, job, self.feed);
            let messages: Vec<Message<'_>> = found.iter().map(message).collect();
            self.feed.take(&messages).await.map_err(Trouble::Down)?;
            admitted.lines = &[];
        }
        let opened = if reading.previous { job.was } else { Some((job.life, false)) };
        if let Some(place) = reading.cursor.place() {
            self.memory().set(&job.key, Mark { place: Some(place), opened });
        }
        Ok(())
    }

    /// Lines may be lost.
    fn lost(&self, job: &Job, why: &str) {
        let container = format!("{}/{}", job.pod, job.key.1);
        tracing::warn!(source = %self.feed.name, namespace = %self.feed.namespace, %container, %why, "lines of a container may be lost");
        self.notes.lock().lost(&container, &line(why), Instant::now());
    }
}

fn params(job: &Job) -> LogParams {
    LogParams { container: Some(job.key.1.clone()), timestamps: true, ..LogParams::default() }
}

fn message<'m>(found: &'m Found, job: &Job, feed: &Feed) -> Message<'m> {
    Message {
        id: Some(found.id.clone()),
        source: feed.source(),
        type_: TYPE_POD_LOG,
        subject: Some(format!("{}/Pod/{}", feed.namespace, job.pod)),
        time: Some(found.at),
        content_type: Some("application/json"),
        body: &found.body,
        ..Message::default()
    }
}

fn broken(error: impl std::fmt::Display) -> Trouble {
    Trouble::Broken(error.to_string())
}

/// What is wrong, by what has to be done about it.
pub(super) fn trouble(error: kube::Error) -> Trouble {
    match &error {
        kube::Error::Api(status) => {
            let Status { code, message, .. } = &**status;
            match code {
                401 | 403 => Trouble::Denied(message.clone()),
                400 | 404 => Trouble::NotThere(message.clone()),
                _ => Trouble::Broken(format!("the API server answers {code}: {message}")),
            }
        }
        _ => Trouble::Broken(error.to_string()),
    }
}
