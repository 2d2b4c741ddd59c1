//! Kubernetes Events, written to events.k8s.io/v1: what repeats becomes a series, and a flood is cut off and counted.
//!
//! kube's `Recorder` sends a request for every repetition and bounds nothing, so this is our own.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::cache::Bucket;

/// `reportingController` of the Events that the operator writes; sources leave Events with it out.
pub const REPORTING_CONTROLLER: &str = "signalbox.dev/operator";

/// Notes waiting to be written: 50 s of writing at [`RATE`], about 1 MB.
const QUEUE: usize = 1024;
/// Events created or patched a second, and at once; the API server keeps each for an hour, so at most 72,000.
const RATE: (f64, f64) = (20.0, 50.0);
/// The same thing again within this time is one more of a series.
const SERIES: Duration = Duration::from_secs(600);
/// A series is patched at most so often.
const PATCH_EVERY: Duration = Duration::from_secs(5);
/// Series followed at the same time, about 1 KiB each.
const MAX_SERIES: usize = 4096;
/// How long one request, or the last flush, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteType {
    /// Something happened as it should.
    Normal,
    /// Something may need attention.
    Warning,
}

/// Something to tell about an object.
///
/// Notes that differ in `note` only are one series, shown with the note of the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The object it is about.
    pub regarding: ObjectReference,
    /// Type.
    pub type_: NoteType,
    /// Why, as one word: `Fired`.
    pub reason: String,
    /// What was done, as one word: `Fire`.
    pub action: String,
    /// A sentence; longer than 1 KiB it is cut.
    pub note: String,
    /// How often it happened, 1 at least.
    pub times: u32,
    /// The other object. Leave it out where it may be many, or nothing is a series.
    pub related: Option<ObjectReference>,
}

/// Where notes are given; a clone gives to the same writer.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    notes: mpsc::Sender<Note>,
    dropped: Counter,
}

impl EventRecorder {
    /// Hands the note over. Never waits: when too many are waiting it is dropped and counted.
    pub fn record(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.dropped.inc();
        }
    }
}

/// Writes what its [`EventRecorder`]s give.
pub struct EventWriter {
    client: Client,
    instance: String,
    notes: mpsc::Receiver<Note>,
    dropped: Counter,
    series: HashMap<Key, Series>,
    budget: Bucket,
    /// Makes names unique within a nanosecond.
    serial: u32,
}

/// A recorder and its writer. `instance` is the pod's name; `dropped` counts notes that were not written.
pub fn event_channel(client: Client, instance: &str, dropped: Counter) -> (EventRecorder, EventWriter) {
    let (sender, notes) = mpsc::channel(QUEUE);
    let recorder = EventRecorder { notes: sender, dropped: dropped.clone() };
    let writer = EventWriter {
        client,
        instance: cut(instance, 128),
        notes,
        dropped,
        series: HashMap::new(),
        budget: Bucket::new(RATE.0, RATE.1),
        serial: 0,
    };
    (recorder, writer)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    regarding: [Option<String>; 5],
    type_: NoteType,
    reason: String,
    action: String,
    related: Option<[Option<String>; 5]>,
}

struct Series {
    namespace: String,
    name: String,
    count: i32,
    seen: Timestamp,
    /// When it was last seen; old ones begin anew.
    at: Instant,
    written: Instant,
    changed: bool,
}

impl EventWriter {
    /// Writes until `shutdown`, then what is waiting, for at most 5 s.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                note = self.notes.recv() => match note {
                    Some(note) => self.take(note).await,
                    None => break,
                },
                _ = tick.tick() => self.flush(PATCH_EVERY).await,
            }
        }
        let last = async {
            while let Ok(note) = self.notes.try_recv() {
                self.take(note).await;
            }
            self.flush(Duration::ZERO).await;
        };
        if tokio::time::timeout(PATIENCE, last).await.is_err() {
            tracing::warn!("Kubernetes Events were left unwritten");
        }
    }

    async fn take(&mut self, note: Note) {
        let now = Instant::now();
        let times = i32::try_from(note.times).unwrap_or(i32::MAX);
        let key = key(&note);
        if let Some(series) = self.series.get_mut(&key)
            && now.duration_since(series.at) < SERIES
        {
            series.count = series.count.saturating_add(times);
            (series.seen, series.at, series.changed) = (Timestamp::now(), now, true);
            return;
        }
        if !self.budget.take(now) {
            self.dropped.inc();
            return;
        }
        let event = self.event(&note);
        let (namespace, name) =
            (event.metadata.namespace.clone().unwrap_or_default(), event.metadata.name.clone().unwrap_or_default());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match tokio::time::timeout(PATIENCE, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {
                self.make_room();
                let series = Series {
                    namespace,
                    name,
                    count: times,
                    seen: Timestamp::now(),
                    at: now,
                    written: now,
                    changed: times > 1,
                };
                self.series.insert(key, series);
            }
            Ok(Err(error)) => {
                self.dropped.inc();
                tracing::debug!(%error, reason = note.reason, "a Kubernetes Event could not be written");
            }
            Err(_) => {
                self.dropped.inc();
            }
        }
    }

    /// Patches the series that have grown and were not written for `age`, and forgets the old ones.
    async fn flush(&mut self, age: Duration) {
        let now = Instant::now();
        let due: Vec<Key> = self
            .series
            .iter()
            .filter(|(_, series)| series.changed && now.duration_since(series.written) >= age)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            if !self.budget.take(now) {
                break;
            }
            let Some(series) = self.series.get_mut(&key) else { continue };
            series.written = now;
            let grown = EventSeries { count: series.count, last_observed_time: MicroTime(series.seen) };
            let api: Api<Event> = Api::namespaced(self.client.clone(), &series.namespace);
            let (params, patch) = (PatchParams::default(), Patch::Merge(json!({"series": grown})));
            let patched = api.patch(&series.name, &params, &patch);
            match tokio::time::timeout(PATIENCE, patched).await {
                Ok(Ok(_)) => series.changed = false,
                // It has expired: the next one begins a new series.
                Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {
                    self.series.remove(&key);
                }
                Ok(Err(error)) => tracing::debug!(%error, "a series of Kubernetes Events could not be written"),
                Err(_) => {}
            }
        }
        self.series.retain(|_, series| series.changed || now.duration_since(series.at) < SERIES);
    }

    fn make_room(&mut self) {
        if self.series.len() >= MAX_SERIES
            && let Some(oldest) = self.series.iter().min_by_key(|(_, series)| series.at).map(|(key, _)| key.clone())
        {
            self.series.remove(&oldest);
        }
    }

    fn event(&mut self, note: &Note) -> Event {
        let now = Timestamp::now();
        self.serial = self.serial.wrapping_add(1);
        let about = note.regarding.name.as_deref().unwrap_or("object");
        // Names of RBAC objects may hold what names of Events may not.
        let about: String = cut(about, 200)
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .collect();
        Event {
            metadata: ObjectMeta {
                namespace: Some(note.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                name: Some(format!(
                    "{}.{:x}{:x}",
                    about.trim_matches(['.', '-']),
                    now.as_nanosecond(),
                    self.serial & 0xffff
                )),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            action: Some(cut(&note.action, 128)),
            reason: Some(cut(&note.reason, 128)),
            note: Some(cut(&note.note, 1024)),
            type_: Some(format!("{:?}", note.type_)),
            regarding: Some(note.regarding.clone()),
            related: note.related.clone(),
            ..Event::default()
        }
    }
}

fn key(note: &Note) -> Key {
    let names = |object: &ObjectReference| {
        [
            object.api_version.clone(),
            object.kind.clone(),
            object.namespace.clone(),
            object.name.clone(),
            object.uid.clone(),
        ]
    };
    Key {
        regarding: names(&note.regarding),
        type_: note.type_,
        reason: note.reason.clone(),
        action: note.action.clone(),
        related: note.related.as_ref().map(names),
    }
}

/// At most so many bytes of the text, whole characters only.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
