//! A process that is killed, and any order of steps against a model.

use super::*;

const CHILD: &str = "SIGNALBOX_TEST_LOG";

/// Not a test of its own: what the next test runs in another process.
#[test]
fn child_that_appends_until_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let settings = Settings { segment_bytes: 4096, ..Settings::default() };
        let bus = Embedded::open(Path::new(&dir), settings).expect("open");
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

#[test]
fn what_was_confirmed_survives_kill_9() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut confirmed = 0;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "bus::embedded::tests::crash::child_that_appends_until_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("spawn");
        let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().expect("stdout")));
        let mut said = BTreeMap::from([("durable", 0_u64), ("committed", 0)]);
        let mut hear = |line: String| {
            for (word, position) in &mut said {
                if let Some(rest) = line.strip_prefix(word) {
                    *position = rest.trim().parse().expect("a position");
                }
            }
            said["durable"]
        };
        while hear(lines.next().expect("the child lives").expect("line")) < confirmed + 100 * round {}
        child.kill().expect("kill");
        child.wait().expect("wait");
        for line in lines.map_while(Result::ok) {
            hear(line);
        }

        let bus = open(&dir);
        let recovery = bus.recover().expect("recover");
        assert!(recovery.damage.is_empty(), "{:?}", recovery.damage);
        assert!(recovery.applied.0 >= said["committed"]);
        let last = bus.stats().appended.0;
        assert!(last >= said["durable"], "confirmed {}, found {last}", said["durable"]);
        assert_eq!(positions(&recovery.tail), (recovery.applied.0 + 1..=last).collect::<Vec<_>>());
        confirmed = last;
        bus.shared.close();
        drop(bus);
        while matches!(Volume::open(Arc::new(Disk), dir.path()), Err(BusError::Locked { .. })) {
            std::thread::yield_now();
        }
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
