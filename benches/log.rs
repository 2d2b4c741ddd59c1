//! What a record costs until it is on stable storage, beside the floor that write and fdatasync on the same disk set.
//!
//! One producer: record, then wait until durable, one after another. Many producers: the same, 64 at once, in records per second.
//! Prints microseconds and their ratio to the floor. `cargo bench --bench log [-- FOLDER]`; the folder chooses the disk.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox::{
    bus::{
        Bus,
        embedded::{Embedded, Settings},
    },
    record::{Record, RuleUid, SourceRef},
};

/// Enough for a 99th percentile of 20 values.
const COUNT: usize = 2_000;
const PRODUCERS: usize = 64;
/// About an event of a crashing pod.
const BYTES: usize = 1_000;

fn record() -> Record {
    Record::Deaf(SourceRef { rule: RuleUid("x".repeat(BYTES).into()), generation: 1, source: String::new() })
}

fn floor(folder: &Path) -> Vec<Duration> {
    let file = File::create(folder.join("floor")).expect("create a file");
    let bytes = vec![7; BYTES + 100];
    let write = |n: usize| {
        let begin = Instant::now();
        file.write_all_at(&bytes, (n * bytes.len()) as u64).expect("write");
        file.sync_data().expect("sync");
        begin.elapsed()
    };
    (0..COUNT).map(write).collect()
}

async fn produce(bus: Arc<Embedded>, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        let head = bus.record(record()).expect("record");
        bus.durable(head.position).await.expect("durable");
        times.push(begin.elapsed());
    }
    times
}

fn tell(name: &str, mut times: Vec<Duration>) -> f64 {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
    println!("{name}: p50 {:.0} µs, p90 {:.0} µs, p99 {:.0} µs", at(50), at(90), at(99));
    at(50)
}

#[tokio::main]
async fn main() {
    let parent =
        std::env::args().skip(1).find(|arg| !arg.starts_with("--")).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent).expect("make a folder");
    for _ in 0..3 {
        let floor = tell("write and fdatasync", floor(folder.path()));
        let bus = Embedded::open(&folder.path().join("log"), Settings::default()).expect("open");
        let one = tokio::spawn(produce(Arc::clone(&bus), COUNT)).await.expect("produce");
        let one = tell("record and durable", one);
        println!("  {:.2} of the floor", one / floor);
        let (begin, before) = (Instant::now(), bus.stats().syncs);
        let all: Vec<_> = (0..PRODUCERS).map(|_| tokio::spawn(produce(Arc::clone(&bus), COUNT / 10))).collect();
        for one in all {
            one.await.expect("produce");
        }
        let (count, syncs) = (PRODUCERS * COUNT / 10, bus.stats().syncs - before);
        let rate = count as f64 / begin.elapsed().as_secs_f64();
        println!("{PRODUCERS} producers: {rate:.0} records/s, {:.1} records a sync", count as f64 / syncs as f64);
        bus.close().await.expect("close");
    }
}
