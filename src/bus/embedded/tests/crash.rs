//! A process that is killed, and any order of steps against a model.

use super::*;

const CHILD: &str = "SIGNALBOX_TEST_LOG";
/// The operation on files that the process aborts at.
const DIES: &str = "SIGNALBOX_TEST_DIES";

/// Not a test of its own: what the next test runs in another process.
#[test]
fn child_that_appends_until_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let settings = Settings { segment_bytes: 4096, retention_bytes: 8192, ..Settings::default() };
        let faults = Faults::default();
        let dies = std::env::var(DIES).map_or(0, |text| text.parse().expect("a number"));
        faults.dies_after.store(dies, Ordering::Relaxed);
        let bus = faulty_in(Path::new(&dir), &faults, settings);
        let mut reader = bus.reader().expect("reader");
        loop {
            let heads: Vec<_> = (0..3).map(|n| bus.record(note(&n.to_string())).expect("record")).collect();
            bus.durable(heads[2].position).await.expect("durable");
            println!("durable {}", heads[2].position);
            reader.advance(heads[2].position);
            if heads[2].position.0 % 60 == 0 {
                bus.commit(vec![row("at", Some(&heads[0].position.to_string()))], heads[0].position)
                    .await
                    .expect("commit");
                println!("committed {}", heads[0].position);
            }
        }
    });
}

/// The process, and its words.
fn child(dir: &TempDir, dies: u64) -> (std::process::Child, io::Lines<io::BufReader<std::process::ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "bus::embedded::tests::crash::child_that_appends_until_killed", "--nocapture"])
        .env(CHILD, dir.path())
        .env(DIES, dies.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("spawn");
    let lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().expect("stdout")));
    (child, lines)
}

/// What a process has said is safe.
#[derive(Default)]
struct Said {
    durable: u64,
    committed: u64,
}

impl Said {
    fn hear(&mut self, line: &str) -> u64 {
        let position = |word: &str| line.strip_prefix(word).map(|rest| rest.trim().parse().expect("a position"));
        self.durable = position("durable").unwrap_or(self.durable);
        self.committed = position("committed").unwrap_or(self.committed);
        self.durable
    }

    /// Opens what it has left, checks it, and lets go of it. Gives the last position.
    fn check(&self, dir: &TempDir) -> u64 {
        let bus = open(dir);
        let recovery = bus.recover().expect("recover");
        assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
        assert!(recovery.applied.0 >= self.committed);
        let last = bus.stats().appended.0;
        assert!(last >= self.durable, "confirmed {}, found {last}", self.durable);
        assert_eq!(positions(&recovery.tail), (recovery.applied.0 + 1..=last).collect::<Vec<_>>());
        bus.shared.close();
        drop(bus);
        while matches!(Volume::open(Arc::new(Disk), dir.path()), Err(BusError::Locked { .. })) {
            std::thread::yield_now();
        }
        last
    }
}

#[test]
fn what_was_confirmed_survives_kill_9() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut confirmed = 0;
    for round in 1..=3 {
        let ((mut child, mut lines), mut said) = (child(&dir, 0), Said::default());
        while said.hear(&lines.next().expect("the child lives").expect("line")) < confirmed + 100 * round {}
        child.kill().expect("kill");
        child.wait().expect("wait");
        for line in lines.map_while(Result::ok) {
            said.hear(&line);
        }
        confirmed = said.check(&dir);
    }
}

#[test]
fn what_was_confirmed_survives_an_abort_at_any_operation_on_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    // The first of a new log, one by one; later ones as primes fall on them: rolls, commits and retention come every few dozen.
    for dies in (1..=24).step_by(3).chain([41, 83, 127, 167, 211, 257, 307, 353]) {
        let ((mut child, lines), mut said) = (child(&dir, dies), Said::default());
        for line in lines.map_while(Result::ok) {
            said.hear(&line);
        }
        let ended = child.wait().expect("wait");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGABRT), "at {dies}");
        said.check(&dir);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Commit(u8),
    Reopen,
    Tear(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u8).prop_map(Step::Append),
        2 => any::<u8>().prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => (1..40_u8).prop_map(Step::Tear),
    ]
}

/// Goes through the steps with a log of small segments; the model is the list of texts and the rows.
async fn follow(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("tempdir");
    let settings = Settings { retention_bytes: 1000, segment_bytes: 300, ..Settings::default() };
    let mut bus = Embedded::open(dir.path(), settings.clone()).expect("open");
    let (mut model, mut rows, mut applied) = (Vec::<String>::new(), BTreeMap::<String, String>::new(), 0);
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append(count) => {
                for _ in 0..count {
                    model.push(format!("{number}/{}", model.len()));
                    let head = bus.record(note(&model[model.len() - 1])).expect("record");
                    assert_eq!(head.position.0, model.len() as u64);
                }
                bus.durable(Position(model.len() as u64)).await.expect("durable");
            }
            Step::Commit(pick) => {
                applied += (model.len() as u64 - applied) * u64::from(pick) / 255;
                let key = (pick % 3).to_string();
                let value = (pick % 4 > 0).then(|| number.to_string());
                bus.commit(vec![row(&key, value.as_deref())], Position(applied)).await.expect("commit");
                match value {
                    Some(value) => drop(rows.insert(key, value)),
                    None => drop(rows.remove(&key)),
                }
            }
            Step::Reopen | Step::Tear(_) => {
                bus.close().await.expect("close");
                if let Step::Tear(garbage) = step {
                    let (_, path) =
                        segment::list(&Disk, &dir.path().join("segments")).expect("list").pop().expect("one");
                    let file = OpenOptions::new().append(true).open(path).expect("open");
                    io::Write::write_all(&mut &file, &vec![garbage; garbage.into()]).expect("write");
                }
                bus = Embedded::open(dir.path(), settings.clone()).expect("open");
                let recovery = bus.recover().expect("recover");
                assert_eq!((recovery.applied.0, recovery.damage), (applied, vec![]));
                assert_eq!(texts(&recovery.tail), model[applied as usize..]);
                let found: BTreeMap<_, _> = recovery
                    .rows
                    .into_iter()
                    .map(|(_, key, value)| {
                        (String::from_utf8(key).expect("key"), String::from_utf8(value).expect("value"))
                    })
                    .collect();
                assert_eq!(found, rows);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_appends_commits_and_restarts_agrees_with_the_model(mut steps in proptest::collection::vec(step(), 1..25)) {
        steps.insert(0, Step::Append(1));
        steps.push(Step::Reopen);
        tokio::runtime::Runtime::new().expect("runtime").block_on(follow(steps));
    }
}
