//! `podLogs`: lines that containers write, as the log API gives them.
//!
//! One task follows the Pods that are selected and reads the logs of their containers, as the source's account. Nobody acknowledges lines: up to where those
//! of a container were looked at is remembered as long as this process lives, and after a restart the last minutes are read again. A line has an id that
//! is the same whenever it is read, so that it is one event.

mod lines;
mod notes;
mod pattern;
mod pods;
mod rate;
mod reader;
mod table;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::LabelSelector,
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, core::Selector};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    feed::Feed,
    link::{Down, DownReason},
};
use crate::{
    api::{EventSource, EventSourceKind, EventSourceSpec, PodLogsSource},
    kubernetes::{Cluster, MissingRight, Right, merged},
    record::Account,
    text,
};
use notes::{Notes, Now, Words};
use pattern::Pattern;
use pods::{Change, changes};
use rate::Rate;
use reader::{Reader, Trouble};
use table::{Key, Mark, Marks, Sight, Table};

/// Containers of one source whose logs are read at once. Each is a connection to the API server, about 30 KiB, and a line.
const READINGS: usize = 100;
/// The same of all sources together: 30 MiB.
pub(super) const ALL_READINGS: usize = 500;
/// How far lines are read again after a restart. With the greatest `rateLimit` they are fewer than the ids that are remembered of a source.
const LOOK_BACK: Duration = Duration::from_mins(5);
/// How often it is looked what is to be done.
const TICK: Duration = Duration::from_secs(1);
/// How often the rights are asked for again: a log that is open stays so for whoever may not open it any more.
const RIGHTS: Duration = Duration::from_mins(1);

// === What it needs ===

/// What the schema cannot tell.
pub(super) fn faults(spec: &PodLogsSource) -> Vec<String> {
    let mut faults = Vec::new();
    if let Err(error) = Selector::try_from(spec.selector.clone()) {
        faults.push(format!("podLogs.selector: {error}"));
    }
    if let Err(why) = Pattern::new(&spec.pattern) {
        faults.push(format!("podLogs.pattern: {why}"));
    }
    let limit = spec.rate_limit;
    if !(1..=PodLogsSource::MAX_EVENTS).contains(&limit.events) || !PodLogsSource::PER.contains(&limit.per.get()) {
        faults.push("podLogs.rateLimit: must be 1 to 500 events, per 1s to 24h".to_owned());
    }
    if !PodLogsSource::LINE_BYTES.contains(&spec.max_line_bytes) {
        faults.push("podLogs.maxLineBytes: must be 256 to 65536".to_owned());
    }
    faults
}

/// The rights that the account of an EventSource needs, beside those on Secrets.
pub fn rights(spec: &EventSourceSpec, namespace: &str) -> Vec<Right> {
    if !matches!(spec.kind(), Some(EventSourceKind::PodLogs(_))) {
        return Vec::new();
    }
    let right = |verb: &str| Right::new(verb, "", "pods").within(Some(namespace));
    vec![right("list"), right("watch"), right("get").on("log")]
}

/// Which of them it lacks.
///
/// # Errors
/// When the API server could not be asked.
pub async fn missing_rights(
    cluster: &Cluster,
    account: &Account,
    spec: &EventSourceSpec,
) -> Result<Vec<MissingRight>, kube::Error> {
    let mut missing = Vec::new();
    for right in rights(spec, &account.namespace) {
        if !cluster.may(account, &right).await? {
            missing.push(right.missing_for(account));
        }
    }
    Ok(merged(missing))
}

// === What is remembered ===

/// What is remembered of an EventSource as long as the process lives and a rule listens to it.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Kept>);

/// Labels of Pods, and names of containers.
type Selection = (LabelSelector, Vec<String>);

#[derive(Debug, Default)]
struct Kept {
    /// From when on lines are looked at, of containers of which none was.
    from: Option<Timestamp>,
    /// What is selected, and from when on lines are looked at of containers that are selected since.
    selected: Option<(Selection, Timestamp)>,
    marks: Marks,
    rate: Option<Rate>,
}

impl Memory {
    /// Nobody listens: what is written meanwhile is nobody's.
    pub(super) fn forget(&self) {
        *self.0.lock() = Kept::default();
    }

    /// A run begins: gives from when on lines are looked at, which is what the first one has said, and the same of what an edit has selected, which is
    /// what the first one after it has said.
    fn begin(&self, spec: &PodLogsSource, from: Timestamp) -> (Timestamp, Timestamp) {
        let mut kept = self.0.lock();
        kept.rate.get_or_insert_with(|| Rate::new(spec.rate_limit)).set(spec.rate_limit);
        let selection = (spec.selector.clone(), spec.containers.clone());
        let since = match &kept.selected {
            Some((known, since)) if *known == selection => *since,
            _ => from,
        };
        kept.selected = Some((selection, since));
        (*kept.from.get_or_insert(from), since)
    }

    fn admits(&self, at: Timestamp) -> bool {
        self.0.lock().rate.as_mut().is_none_or(|rate| rate.admits(at))
    }

    fn put_back(&self, at: Timestamp) {
        self.0.lock().rate.iter_mut().for_each(|rate| rate.put_back(at));
    }

    fn mark(&self, key: &Key) -> Option<Mark> {
        self.0.lock().marks.get(key).cloned()
    }

    fn set(&self, key: &Key, mark: Mark) {
        self.0.lock().marks.insert(key.clone(), mark);
    }
}

// === Its way ===

/// Follows the logs until it cannot any more.
///
/// # Cancel safety
/// Dropped, all connections end; what was not taken is read again.
pub(super) async fn run(spec: &PodLogsSource, feed: &Feed) -> Result<Infallible, Down> {
    let pattern = Pattern::new(&spec.pattern).map_err(|why| Down::refused(format!("podLogs.pattern: {why}")))?;
    let selector = Selector::try_from(spec.selector.clone());
    let selector = selector.map_err(|error| Down::refused(format!("podLogs.selector: {error}")))?;
    permitted(feed).await?;
    let (from, selected) = feed.shared.pod_logs().begin(spec, beginning(feed).await?);
    let notes = Mutex::new(Notes::default());
    let reader = Reader::new(feed, spec, &pattern, &notes);
    let mut table = Table::new(from, &spec.containers).selected(selected);
    let mut changes = std::pin::pin!(changes(reader.client.clone(), reader.pods.clone(), selector));
    let (mut readings, mut first) = (FuturesUnordered::new(), true);
    let (mut tick, mut rights_at) = (interval(TICK), Instant::now() + RIGHTS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            change = changes.next() => {
                let change = match change {
                    Some(Ok(change)) => change,
                    Some(Err(trouble)) => return Err(down(feed, trouble).await),
                    None => return Err(Down::unreachable("the watch of Pods has ended")),
                };
                for container in know(change, &mut table, first, feed) {
                    notes.lock().lost(&container, "its Pod is gone, and its log was not read to its end", Instant::now());
                }
                first = false;
            }
            Some(reader::Finished { job, ended, progress, down: trouble }) = readings.next() => {
                if let Some(trouble) = trouble {
                    return Err(down(feed, trouble).await);
                }
                let mut kept = feed.shared.pod_logs().0.lock();
                table.ended(&job, ended, progress, &mut kept.marks, Instant::now());
            }
            _ = tick.tick() => if rights_at <= Instant::now() {
                rights_at = Instant::now() + RIGHTS;
                permitted(feed).await?;
            },
        }
        // Nothing is said of Pods that were not asked for yet.
        if first {
            continue;
        }
        let room = (READINGS - readings.len()).min(feed.net.readings.available_permits());
        let (jobs, more) = table.due(room, Instant::now());
        let mut full = more;
        for job in jobs {
            // There was room a moment ago; another source may have been faster.
            match feed.net.readings.try_acquire() {
                Ok(place) => readings.push(reader.read(job, place)),
                Err(_) => {
                    full = true;
                    table.put_back(&job);
                }
            }
        }
        let state = Now { pods: table.pods(), reading: readings.len(), more: full };
        match notes.lock().words(state, spec.rate_limit, Instant::now()) {
            Words::All(words) => feed.connected(words),
            Words::Incomplete(words) => feed.incomplete(words),
        }
    }
}

/// Takes in what has become of Pods; gives the containers that are gone and were not read.
fn know(change: Change, table: &mut Table, first: bool, feed: &Feed) -> Vec<String> {
    let (now, mut kept) = (Instant::now(), feed.shared.pod_logs().0.lock());
    let sight = if first { Sight::First } else { Sight::Later(feed.accept.clock().now().timestamp()) };
    match change {
        Change::Listed(pods) => table.listed(&pods, sight, &mut kept.marks, now),
        Change::Seen(pod) => {
            table.seen(&pod, sight, &kept.marks, now);
            Vec::new()
        }
        Change::Gone(pod) => table.gone(pod.uid(), &mut kept.marks, now),
    }
}

/// Whether the account has the rights.
async fn permitted(feed: &Feed) -> Result<(), Down> {
    match lacking(feed).await {
        Ok(missing) if missing.is_empty() => Ok(()),
        Ok(missing) => Err(forbidden(&missing)),
        Err(error) => Err(Down::unreachable(format!("ask for the rights of the account: {error}"))),
    }
}

async fn lacking(feed: &Feed) -> Result<Vec<MissingRight>, kube::Error> {
    missing_rights(&feed.cluster, &feed.account, &feed.spec).await
}

/// It is told whole: with the lines that grant what is missing.
fn forbidden(missing: &[MissingRight]) -> Down {
    Down { reason: DownReason::Forbidden, message: text::join(missing) }
}

/// Why it cannot go on.
async fn down(feed: &Feed, trouble: Trouble) -> Down {
    match trouble {
        Trouble::Down(down) => down,
        Trouble::NotThere(why) | Trouble::Broken(why) => Down::unreachable(format!("the logs of Pods: {why}")),
        // The right may have been taken away since it was last asked for.
        Trouble::Denied(why) => match lacking(feed).await {
            Ok(missing) if !missing.is_empty() => forbidden(&missing),
            _ => Down::new(DownReason::Forbidden, format!("the API server refuses: {why}")),
        },
    }
}

/// From when on lines are looked at where nothing is known of a container: as far back as an operator may have been away, but not before the EventSource was
/// there, nor before a rule listened if that is known.
async fn beginning(feed: &Feed) -> Result<Timestamp, Down> {
    let sources: Api<EventSource> = Api::namespaced(feed.cluster.own().clone(), &feed.namespace);
    let asked = |error: kube::Error| Down::unreachable(format!("ask for the EventSource: {error}"));
    let created = sources.get(&feed.name).await.map_err(asked)?.metadata.creation_timestamp.map(|created| created.0);
    let back = feed.shared.listened().map_or(LOOK_BACK, |since| since.elapsed().min(LOOK_BACK));
    let now = feed.accept.clock().now().timestamp();
    let from = SignedDuration::try_from(back).ok().and_then(|back| now.checked_sub(back).ok()).unwrap_or(now);
    Ok(created.map_or(from, |created| from.max(created)))
}
