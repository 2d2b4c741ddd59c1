//! The log dies, or its disk fails, at every operation that it does on files in a life with rolled segments, checkpoints and retention.

use std::collections::BTreeSet;

use super::{
    memory::{Crash, Fault, Memory},
    *,
};

/// Writes of a life. Every third is followed by a commit.
const WRITES: u64 = 9;

fn settings() -> Settings {
    Settings { segment_bytes: 300, retention_bytes: 700, full_retry: Duration::from_micros(100), ..Settings::default() }
}

/// What the log has said so far, and what it must hold.
#[derive(Default)]
struct Known {
    /// What was said to be safe, by position.
    safe: BTreeMap<u64, String>,
    /// What was appended on top of it. A later life may give the same positions again.
    tried: BTreeMap<u64, String>,
    committed: u64,
    id: Option<String>,
    epoch: u64,
    lives: u64,
}

impl Known {
    /// Compares what a start was given.
    fn check(&mut self, bus: &Embedded) {
        let recovery = bus.recover().expect("given once");
        for words in &recovery.damage {
            assert!(words.contains("never confirmed"), "{words}");
        }
        let applied = recovery.applied.0;
        assert!(applied >= self.committed, "the view was at {}, and is at {applied}", self.committed);
        let rows: Vec<_> = recovery.rows.iter().map(|(_, _, value)| String::from_utf8_lossy(value)).collect();
        assert_eq!(rows, if applied == 0 { vec![] } else { vec![applied.to_string()] });
        let last = bus.stats().appended.0;
        assert_eq!(positions(&recovery.tail), (applied + 1..=last).collect::<Vec<_>>());
        let confirmed = self.safe.last_key_value().map_or(0, |(position, _)| *position);
        assert!(last >= confirmed, "{confirmed} was safe, and the log ends at {last}");
        for entry in &recovery.tail {
            let known = self.safe.get(&entry.head.position.0).or_else(|| self.tried.get(&entry.head.position.0));
            assert_eq!(Some(&text(entry)), known, "at {}", entry.head.position);
            self.safe.insert(entry.head.position.0, text(entry));
        }
        self.tried.clear();
        self.committed = applied;
        assert!(self.id.as_ref().is_none_or(|id| *id == bus.id.0), "it is the same log");
        self.id = Some(bus.id.0.clone());
        assert!(bus.epoch() > self.epoch, "each life has a later epoch");
        self.epoch = bus.epoch();
    }

    /// One life with so many writes from the opening to the close, or to the first error.
    async fn live(&mut self, memory: &Memory, writes: u64) -> Result<(), BusError> {
        let bus = Embedded::open_on(Arc::new(memory.clone()), Path::new("/data/log"), settings())?;
        self.check(&bus);
        self.lives += 1;
        for write in 1..=writes {
            let mut last = Position(0);
            for one in 0..=write % 2 {
                let words = format!("{}/{write}/{one}", self.lives);
                last = bus.record(note(&words))?.position;
                self.tried.insert(last.0, words);
            }
            bus.durable(last).await?;
            self.safe.append(&mut self.tried);
            if write % 3 == 0 {
                // Not up to the end: the next start has a tail.
                let at = Position(last.0 - 1);
                bus.commit(vec![row("at", Some(&at.to_string()))], at).await?;
                self.committed = at.0;
            }
        }
        bus.close().await
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// What is done in two lives: one on an empty disk, and one on what it leaves.
fn operations() -> Vec<String> {
    let (memory, mut known) = (Memory::default(), Known::default());
    for _ in 0..2 {
        block_on(known.live(&memory, WRITES)).expect("no fault");
    }
    memory.done()
}

/// Says at which operation it was, if what is done panics.
fn at<T>(memory: &Memory, what: impl std::fmt::Debug, done: impl FnOnce() -> T) -> T {
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(done));
    told.unwrap_or_else(|panic| {
        eprintln!("{what:?}, after {:#?}", memory.done());
        std::panic::resume_unwind(panic)
    })
}

/// Two lives, of which one ends by the fault; a crash; then it goes on.
fn dies(fault: Fault, crash: Crash) {
    let (memory, mut known) = (Memory::default(), Known::default());
    memory.strike(fault);
    at(&memory, (fault, crash), || {
        let _ = (0..2).try_for_each(|_| block_on(known.live(&memory, WRITES)));
        // When the log thread has done a little less than in the count, nothing has died.
        let left = memory.after(if memory.is_dead() { crash } else { Crash::Process });
        goes_on(&mut known, &left);
    });
}

/// A life that writes once, and after a loss of power another. What the first has found must be on stable storage, though it has written nothing near it.
fn goes_on(known: &mut Known, memory: &Memory) {
    block_on(known.live(memory, 1)).expect("it opens, and goes on");
    block_on(known.live(&memory.after(Crash::Power), WRITES)).expect("what it went on from is on stable storage");
}

#[test]
fn the_lives_do_all_that_is_done_to_files() {
    let done = operations();
    let kinds: BTreeSet<&str> = done.iter().filter_map(|what| what.split(' ').next()).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["create", "make", "remove", "rename", "resize", "sync", "write"]
    );
    for what in ["remove /data/log/segments/", "rename /data/log/epoch.new", "sync /data/log/view.redb"] {
        assert!(done.iter().any(|done| done.starts_with(what)), "no {what}: {done:#?}");
    }
    println!("{} operations", done.len());
}

#[test]
fn killed_before_any_operation_nothing_confirmed_is_lost() {
    for at in 1..=operations().len() as u64 {
        dies(Fault::Before(at), Crash::Process);
    }
}

#[test]
fn without_power_before_any_operation_nothing_confirmed_is_lost() {
    for at in 1..=operations().len() as u64 {
        dies(Fault::Before(at), Crash::Power);
        dies(Fault::Before(at), Crash::Torn(at));
    }
}

#[test]
fn without_power_within_any_operation_nothing_confirmed_is_lost() {
    for at in 1..=operations().len() as u64 {
        dies(Fault::Within(at), Crash::Process);
        dies(Fault::Within(at), Crash::Torn(at));
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_is_waited_for_and_nothing_is_lost() {
    for from in 1..=operations().len() as u64 {
        let (memory, mut known) = (Memory::default(), Known::default());
        let fault = Fault::Full(from, 12);
        memory.strike(fault);
        at(&memory, fault, || {
            let (mut whole, mut tries) = (0, 0);
            while whole < 2 {
                match block_on(known.live(&memory, WRITES)) {
                    Ok(()) => whole += 1,
                    // A start begins again: the program waits and tries to open it.
                    Err(BusError::Full) => tries += 1,
                    Err(error) => panic!("{error}"),
                }
                assert!(tries < 20, "it goes on when space returns");
            }
            block_on(known.live(&memory.after(Crash::Power), WRITES)).expect("it opens");
        });
    }
}

#[test]
fn after_a_failed_fsync_the_process_ends_and_what_was_confirmed_is_there() {
    let operations = operations();
    let mut ended = 0;
    for (number, what) in operations.iter().enumerate().filter(|(_, what)| what.starts_with("sync ")) {
        let (memory, mut known) = (Memory::default(), Known::default());
        let fault = Fault::Fails(number as u64 + 1);
        memory.strike(fault);
        at(&memory, (fault, what), || {
            ended += u64::from((0..2).try_for_each(|_| block_on(known.live(&memory, WRITES))).is_err());
            goes_on(&mut known, &memory.after(Crash::Process));
        });
    }
    assert!(ended > 20, "{ended} have ended the process");
}

#[test]
fn a_segment_that_cannot_be_removed_now_is_removed_later_and_holds_up_no_other() {
    let (memory, folder) = (Memory::default(), Path::new("/segments"));
    memory.make_folder(folder).expect("a folder");
    let segments = Segments::new(Arc::new(memory.clone()), folder.to_owned(), Vec::new());
    for last in 1..=3 {
        let (path, _) = segments.create(&LogId("0123456789abcdef0123456789abcdef".into()), last).expect("a segment");
        segments.seal(segment::Sealed { last, bytes: 100, path });
    }
    // The first is removed, the second is not.
    memory.strike(Fault::Fails(memory.done().len() as u64 + 2));
    let retain = || segments.retain(3, Duration::ZERO, 0, 0);
    retain().expect_err("the second cannot be removed");
    retain().expect("now it can");
    assert_eq!((segments.bytes(), memory.list(folder).expect("the folder")), (0, vec![]));
}
