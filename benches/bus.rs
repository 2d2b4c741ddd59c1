//! What it costs until an event is on stable storage, with 1, 16 and 256 producers, beside a bare loop of write and fdatasync on the same disk.
//!
//! A producer appends an event of 1 KiB and waits until it is durable, as a webhook does before it answers, again and again. A reader takes the
//! events, as the shard does, but judges none. After that 256 producers offer half of what they could, evenly: what an acknowledgement takes then.
//! The last line is one JSON object.
//!
//! `cargo bench --bench bus [-- FOLDER]`, or `make bench-bus`; the folder chooses the disk.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signalbox::{
    bus::{
        Bus,
        embedded::{Embedded, Settings},
    },
    event::{Event, Origin, Seen, WatchKey},
    record::{EventInput, Lookups, Record},
};

/// Each stage takes so long.
const STAGE: Duration = Duration::from_secs(3);
const BYTES: usize = 1024;
const MANY: usize = 256;

/// An event whose record is 1 KiB of JSON.
fn event(number: u64) -> Record {
    let watch = WatchKey { api_version: "v1".into(), kind: "Event".into(), namespace: Some("shop".into()) };
    let make = |text: String| {
        let id = format!("{number:020}");
        let type_ = "dev.signalbox.kubernetes.event";
        let event = Event {
            subject: Some("shop/Pod/web-1".into()),
            time: Some("2026-11-29T10:00:00Z".parse().expect("a time")),
            ..Event::new(id.clone(), "/api/v1/events", type_, json!({"message": text}))
        };
        let origin = Origin::new(watch.clone(), id.clone(), Some(Seen::new(number, 1, id)));
        Record::Event(Box::new(EventInput { event: event.into(), origin, only: None, lookups: Lookups::default() }))
    };
    let bare = serde_json::to_vec(&make(String::new())).expect("JSON").len();
    make("x".repeat(BYTES.saturating_sub(bare)))
}

/// fdatasyncs a second of a loop that writes 1 KiB and syncs it.
fn floor(folder: &Path) -> f64 {
    let file = File::create(folder.join("floor")).expect("create a file");
    let bytes = vec![7; BYTES];
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < STAGE {
        file.write_all_at(&bytes, u64::from(count) * BYTES as u64).expect("write");
        file.sync_data().expect("sync");
        count += 1;
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

/// What one producer does until the end: how long each acknowledgement took. With a pace it offers one event each so often.
async fn produce(bus: Arc<Embedded>, event: Record, end: Instant, pace: Option<Duration>) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut ticks = pace.map(tokio::time::interval);
    while Instant::now() < end {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let begin = Instant::now();
        let head = bus.append(event.clone()).await.expect("append");
        bus.durable(head.position).await.expect("durable");
        times.push(begin.elapsed());
    }
    times
}

/// One stage, in figures.
async fn stage(bus: &Arc<Embedded>, producers: usize, pace: Option<Duration>) -> Value {
    let (begin, before) = (Instant::now(), bus.stats().syncs);
    let end = begin + STAGE;
    let all: Vec<_> =
        (0..producers).map(|number| tokio::spawn(produce(Arc::clone(bus), event(number as u64), end, pace))).collect();
    let mut times = Vec::new();
    for one in all {
        times.extend(one.await.expect("a producer"));
    }
    let seconds = begin.elapsed().as_secs_f64();
    let syncs = bus.stats().syncs - before;
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    json!({
        "events_per_s": (times.len() as f64 / seconds).round(),
        "ack_p50_ms": rounded(at(50)),
        "ack_p99_ms": rounded(at(99)),
        "fsyncs_per_s": (syncs as f64 / seconds).round(),
    })
}

/// Takes what was appended, as the shard does.
fn read(bus: &Arc<Embedded>) -> tokio::task::JoinHandle<()> {
    let mut reader = bus.reader().expect("the reader");
    tokio::spawn(async move {
        while let Some(entries) = reader.next(256).await {
            let last = entries.last().map(|entry| entry.head.position);
            drop(entries);
            last.into_iter().for_each(|last| reader.advance(last));
        }
    })
}

#[tokio::main]
async fn main() {
    let parent =
        std::env::args().skip(1).find(|arg| !arg.starts_with("--")).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent).expect("make a folder");
    let mut line = json!({"floor_fdatasync_per_s": floor(folder.path()).round()});
    let bus = Embedded::open(&folder.path().join("log"), Settings::default()).expect("open");
    let reading = read(&bus);
    let mut most = 1.0;
    for producers in [1, 16, MANY] {
        let figures = stage(&bus, producers, None).await;
        eprintln!("{producers} producers: {figures}");
        most = figures["events_per_s"].as_f64().unwrap_or(1.0);
        line[format!("producers_{producers}")] = figures;
    }
    let pace = Duration::from_secs_f64(MANY as f64 / (most / 2.0));
    line[format!("producers_{MANY}_half_load")] = stage(&bus, MANY, Some(pace)).await;
    bus.close().await.expect("close");
    reading.await.expect("the reader");
    println!("{line}");
}
