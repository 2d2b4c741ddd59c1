//! Which containers there are, and of which the log is to be read next. Pure: what was seen goes in, what is to be read comes out.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lines::Place;
use crate::sources::watch::Backoff;

/// How long the log of a Pod that is gone may still be read.
const GRACE: Duration = Duration::from_secs(10);
/// A log that ended by itself is looked at again after so long: by then status tells why.
const AGAIN: Duration = Duration::from_secs(1);
/// A Pod that is seen for the first time so long after it was made, longer than a watch may be silent, has got its labels later.
const OLD: SignedDuration = SignedDuration::from_hours(1);

/// `metadata.uid` of the Pod, and the container's name.
pub(super) type Key = (String, String);

// === What the API server tells of a Pod ===

/// A Pod, as far as is needed here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default)]
    creation_timestamp: Option<Time>,
}

impl Pod {
    /// `metadata.uid`
    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// `metadata.resourceVersion`
    pub(super) fn version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    init_container_statuses: Option<Vec<ContainerStatus>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(default)]
    restart_count: u32,
    #[serde(default)]
    state: State,
    #[serde(default)]
    last_state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    running: Option<IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    finished_at: Option<Time>,
}

/// One life of a container: from when it started to when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    /// How often it had restarted.
    number: u32,
    ended: bool,
    /// When this one ended, as far as is known, and when the one before it did.
    finished: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl ContainerStatus {
    /// The last life; nothing of one that has never started. One that waits for its next life has the number of the last one.
    fn life(&self) -> Option<Life> {
        let finished = |state: &State| state.terminated.as_ref().map(|end| end.finished_at.as_ref().map(|at| at.0));
        let (now, last) = (finished(&self.state), finished(&self.last_state));
        let life = |ended, finished, before| Some(Life { number: self.restart_count, ended, finished, before });
        match (&self.state.running, now, last) {
            (Some(_), _, last) => life(false, None, last.flatten()),
            (None, Some(at), last) => life(true, at, last.flatten()),
            (None, None, Some(last)) => life(true, last, None),
            (None, None, None) => None,
        }
    }
}

// === What is known ===

/// What is remembered of a container as long as it is there, whatever becomes of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Up to where its lines were looked at.
    pub(super) place: Option<Place>,
    /// The last life whose log was opened, and whether it was read to its end.
    pub(super) opened: Option<(u32, bool)>,
}

/// What is remembered of containers.
pub(super) type Marks = HashMap<Key, Mark>;

struct Container {
    pod: String,
    /// Lines before are not looked at; nothing for a Pod of which all lines count.
    since: Option<Timestamp>,
    life: Option<Life>,
    opened: Option<(u32, bool)>,
    /// The last reading ended by a fault: lines may have been thrown away since.
    gap: bool,
    reading: Option<CancellationToken>,
    again: Instant,
    backoff: Backoff,
    gone: Option<Instant>,
}

/// A log to be read.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) pod: String,
    /// Only lines from then on count; all, if there is nothing.
    pub(super) since: Option<Timestamp>,
    /// The life before is to be read first.
    pub(super) previous: bool,
    /// The life has ended: its log has an end, and is read up to that. Otherwise it is followed.
    pub(super) ended: bool,
    /// The reading before broke: it is looked whether lines were thrown away.
    pub(super) gap: bool,
    /// A life in between was not read and cannot be any more.
    pub(super) lost: bool,
    /// Ends it.
    pub(super) stop: CancellationToken,
    /// The life whose log is read, after the one before.
    pub(super) life: u32,
    /// What had been opened before.
    pub(super) was: Option<(u32, bool)>,
}

/// How a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The log has ended, or whoever sent it has ended the connection.
    End,
    /// By a fault, or because it was stopped; `previous`: while the life before was read.
    Fault { previous: bool },
}

/// The containers of the Pods that are selected.
pub(super) struct Table {
    /// Where nothing else is known, lines before are not looked at.
    from: Timestamp,
    /// The same of containers of which nothing is remembered: since when they are selected.
    selected: Timestamp,
    /// Names of containers; none: all.
    only: Vec<String>,
    containers: BTreeMap<Key, Container>,
    pods: HashSet<String>,
}

impl Table {
    pub(super) fn new(from: Timestamp, only: &[String]) -> Self {
        Self { from, selected: from, only: only.to_vec(), containers: BTreeMap::new(), pods: HashSet::new() }
    }

    /// The same, where others were selected until then.
    pub(super) fn selected(self, since: Timestamp) -> Self {
        Self { selected: since, ..self }
    }

    /// These are all Pods: gives the containers of those that are gone of which lines may not have been read.
    pub(super) fn listed(&mut self, pods: &[Pod], sight: Sight, marks: &mut Marks, now: Instant) -> Vec<String> {
        let there: HashSet<&str> = pods.iter().map(|pod| pod.metadata.uid.as_str()).collect();
        let gone: Vec<String> = self.pods.iter().filter(|uid| !there.contains(uid.as_str())).cloned().collect();
        let unread = gone.iter().flat_map(|uid| self.gone(uid, marks, now)).collect();
        let asked = |key: &Key| self.only.is_empty() || self.only.contains(&key.1);
        marks.retain(|key, _| there.contains(key.0.as_str()) && asked(key) || self.containers.contains_key(key));
        pods.iter().for_each(|pod| self.seen(pod, sight, marks, now));
        unread
    }

    /// A Pod is there, or has changed.
    pub(super) fn seen(&mut self, pod: &Pod, sight: Sight, marks: &Marks, now: Instant) {
        let Metadata { name, uid, creation_timestamp, .. } = &pod.metadata;
        let comes = self.pods.insert(uid.clone());
        let (first, selected) = (self.from, self.selected);
        let created = creation_timestamp.as_ref().map(|created| created.0);
        // One that gets the labels later tells from then on.
        let is_old = |at: Timestamp| comes && created.is_some_and(|created| created.duration_until(at) > OLD);
        let since = |from: Timestamp| match sight {
            Sight::Later(at) if is_old(at) => Some(at.max(from)),
            _ if created.is_some_and(|created| created >= from) => None,
            Sight::First => Some(from),
            Sight::Later(at) => Some(at.max(from)),
        };
        let status = pod.status.iter();
        let all = status.flat_map(|status| {
            [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses]
        });
        for status in all.flatten().flatten().filter(|one| self.only.is_empty() || self.only.contains(&one.name)) {
            let key = (uid.clone(), status.name.clone());
            let known = self.containers.entry(key).or_insert_with_key(|key| {
                let mark = marks.get(key);
                let since = since(if mark.is_some() { first } else { selected });
                let opened = mark.and_then(|mark| mark.opened);
                let gap = opened.is_some();
                let (pod, backoff) = (name.clone(), Backoff::default());
                Container { pod, since, life: None, opened, gap, reading: None, again: now, backoff, gone: None }
            });
            // It may have left the selection for a moment only.
            known.gone = None;
            let life = status.life();
            if known.life != life {
                (known.life, known.again) = (life, now);
                known.backoff.reset();
            }
        }
    }

    /// A Pod is gone: its containers of which lines may not have been read.
    pub(super) fn gone(&mut self, uid: &str, marks: &mut Marks, now: Instant) -> Vec<String> {
        self.pods.remove(uid);
        let mut unread = Vec::new();
        let of = |key: &Key| key.0 == uid;
        for (key, container) in self.containers.iter_mut().filter(|(key, _)| of(key)) {
            container.gone = Some(now + GRACE);
            let wanted = container.life.is_some_and(|life| container.wants(&life));
            if container.reading.is_none() && wanted && (container.gap || container.opened.is_none()) {
                unread.push(format!("{}/{}", container.pod, key.1));
            }
        }
        self.containers.retain(|key, container| !of(key) || container.reading.is_some());
        marks.retain(|key, _| !of(key) || self.containers.contains_key(key));
        unread
    }

    /// The logs to be read now, as many as there is room for, and whether there are more.
    pub(super) fn due(&mut self, room: usize, now: Instant) -> (Vec<Job>, bool) {
        let mut jobs = Vec::new();
        for (key, container) in &mut self.containers {
            if container.gone.is_some_and(|until| until <= now) {
                container.reading.iter().for_each(CancellationToken::cancel);
            }
            if container.reading.is_some() || container.gone.is_some() || container.again > now {
                continue;
            }
            let Some(life) = container.life.filter(|life| container.wants(life)) else { continue };
            if jobs.len() == room {
                return (jobs, true);
            }
            jobs.push(container.job(key, life));
        }
        (jobs, false)
    }

    /// There was no room for it after all.
    pub(super) fn put_back(&mut self, job: &Job) {
        if let Some(container) = self.containers.get_mut(&job.key) {
            (container.reading, container.opened) = (None, job.was);
        }
    }

    /// A reading has ended. `progress`: lines came of it.
    pub(super) fn ended(&mut self, job: &Job, ended: Ended, progress: bool, marks: &mut Marks, now: Instant) {
        let Some(container) = self.containers.get_mut(&job.key) else { return };
        container.reading = None;
        if container.gone.is_some() {
            self.containers.remove(&job.key);
            marks.remove(&job.key);
            return;
        }
        if progress {
            container.backoff.reset();
        }
        container.gap = ended != Ended::End;
        match ended {
            Ended::End if job.ended => {
                container.opened = Some((job.life, true));
                marks.entry(job.key.clone()).or_default().opened = container.opened;
            }
            // A container that has ended, and status will tell; or whoever sent it has ended the connection.
            Ended::End => container.again = now + AGAIN.max(container.backoff.next()),
            Ended::Fault { previous } => {
                container.again = now + container.backoff.next();
                if previous {
                    container.opened = job.was;
                }
            }
        }
    }

    /// How many Pods there are.
    pub(super) fn pods(&self) -> usize {
        self.pods.len()
    }
}

/// When a Pod is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// In the first list.
    First,
    /// Then, after it.
    Later(Timestamp),
}

impl Container {
    /// Whether the life has lines that were not read.
    fn wants(&self, life: &Life) -> bool {
        match self.opened {
            Some((number, read)) => !(read && number == life.number),
            // What has ended before anybody asked is no news.
            None => match (self.since, life.finished) {
                (Some(since), Some(finished)) => !life.ended || finished >= since,
                _ => true,
            },
        }
    }

    fn job(&mut self, key: &Key, life: Life) -> Job {
        // The first life that was not read.
        let first = match (self.opened, self.since) {
            (Some((number, read)), _) => number + u32::from(read),
            (None, None) => 0,
            (None, Some(since)) if life.before.is_some_and(|ended| ended >= since) => life.number.saturating_sub(1),
            (None, Some(_)) => life.number,
        };
        let was = self.opened.replace((life.number, false));
        let stop = CancellationToken::new();
        self.reading = Some(stop.clone());
        Job {
            key: key.clone(),
            pod: self.pod.clone(),
            since: self.since,
            previous: first < life.number,
            ended: life.ended,
            gap: self.gap,
            lost: first.saturating_add(1) < life.number,
            stop,
            life: life.number,
            was,
        }
    }
}

#[cfg(test)]
mod tests;
