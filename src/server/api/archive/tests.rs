//! Reading the archive takes its turn: whoever asks for much takes little from everybody else.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use futures::future::join_all;

use super::*;
use crate::{bus::BusError, record::Account};

/// What a piece takes to be read.
const TAKES: Duration = Duration::from_millis(10);

/// An archive of so many pieces without anything in them.
struct Slow {
    pieces: usize,
    /// How many are read at the moment, and at most were.
    read: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Archive for Slow {
    fn next(&mut self, _: u64) -> Result<Option<Vec<Entry>>, BusError> {
        let (now, most) = &*self.read;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(TAKES);
        now.fetch_sub(1, Ordering::SeqCst);
        let left = self.pieces.checked_sub(1);
        self.pieces = left.unwrap_or(0);
        Ok(left.map(|_| Vec::new()))
    }

    fn begins(&self) -> Option<i64> {
        Some(1)
    }

    fn lost(&self) -> u64 {
        0
    }
}

/// Reads to the end; gives the last line.
async fn read(slots: &Slots, pieces: usize, read: &Arc<(AtomicUsize, AtomicUsize)>) -> String {
    let account = Account { namespace: "shop".into(), name: "ops".into() };
    let mut reading = Reading {
        archive: Some(Box::new(Slow { pieces, read: Arc::clone(read) })),
        sight: Arc::new(Sight::nothing(account)),
        slot: slots.take(LONGEST).expect("a slot"),
        since: 0,
        told: Told::default(),
        begun: false,
        rest: Duration::ZERO,
        until: Instant::now() + LONGEST,
    };
    let mut lines = Vec::new();
    while let Some(archive) = reading.archive.take() {
        lines = reading.piece(archive).await.expect("it is read");
    }
    String::from_utf8(lines).expect("text")
}

#[tokio::test]
async fn a_reader_rests_after_each_piece_as_long_as_that_took() {
    let began = Instant::now();
    let last = read(&Slots::default(), 9, &Arc::default()).await;
    assert!(last.contains(r#""cut":null"#), "{last}");
    // Ten reads, for there is an end to be found, and nine rests between them.
    assert!(began.elapsed() >= TAKES * 19, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_who_read_one_reads_at_a_time() {
    let (slots, at_once) = (Slots::default(), Arc::default());
    let ended = join_all((0..4).map(|_| read(&slots, 4, &at_once))).await;
    assert_eq!(ended.len(), 4);
    assert_eq!(at_once.1.load(Ordering::SeqCst), 1);
}
