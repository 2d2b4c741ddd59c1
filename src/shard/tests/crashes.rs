//! Crashes at any place: the state after a recovery is the state that was.

use proptest::prelude::*;

use super::*;

/// What happens to a log, in an order that proptest makes up.
#[derive(Clone, Debug)]
enum Step {
    /// An event about one of three pods.
    Event(u8),
    /// A change of one of three pods, to which the rule listens as well.
    Change(u8),
    /// The oldest open firing is about to write one of three pods.
    Write(u8),
    /// The write of the oldest open firing is answered: its change is the last one or the next one.
    Answer(bool),
    /// A new version of the rule; odd ones with a cooldown; some count, gather or wait.
    Edit,
    /// The oldest open firing ends.
    Finish,
    /// The oldest open firing fails for good.
    Fail,
    /// The oldest dead letter is run again; by two who do not know of each other.
    Replay(bool),
    /// The shard takes in what was appended.
    Turn,
    /// The view is written.
    Checkpoint,
    /// The process ends without a word and starts again.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..3).prop_map(Step::Event),
        4 => (0u8..3).prop_map(Step::Change),
        3 => (0u8..3).prop_map(Step::Write),
        2 => any::<bool>().prop_map(Step::Answer),
        1 => Just(Step::Edit),
        2 => Just(Step::Finish),
        2 => Just(Step::Fail),
        2 => any::<bool>().prop_map(Step::Replay),
        4 => Just(Step::Turn),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    let (mut events, mut generation, mut replays) = (0, 1, 0);
    let mut fired = BTreeMap::<FiringId, u64>::new();
    for record in put(generation) {
        shard.append(record).await;
    }
    shard.turn().await;
    for step in steps {
        match step {
            Step::Event(pod) => {
                events += 1;
                shard.append(event(events, pod)).await;
            }
            Step::Change(pod) => {
                events += 1;
                shard.append(change(events, pod)).await;
            }
            Step::Write(pod) => {
                // A firing that has ended writes no more.
                shard.turn().await;
                if let Some(record) = shard.write(pod) {
                    shard.bus.record(record).expect("record");
                }
            }
            Step::Answer(next) => {
                shard.turn().await;
                if let Some(record) = shard.answer(events + u64::from(next)) {
                    shard.bus.record(record).expect("record");
                }
            }
            Step::Edit => {
                generation += 1;
                for record in put(generation) {
                    shard.append(record).await;
                }
            }
            Step::Finish | Step::Fail => {
                // It ends once.
                shard.turn().await;
                let failed = matches!(step, Step::Fail);
                let outcome = if failed { FiringOutcome::Failed } else { FiringOutcome::Succeeded };
                if let Some(record) = shard.finish_oldest(outcome) {
                    shard.bus.record(record).expect("record");
                }
            }
            Step::Replay(twice) => replays += letters::replay_oldest(&mut shard, twice).await,
            Step::Turn => shard.turn().await,
            Step::Checkpoint => shard.checkpoint().await,
            Step::Crash => {
                // What was judged before the end must be judged the same after it; so look when all is judged.
                // Judgements that a turn records lie behind what it takes in, and may make more due.
                while shard.state.position() < shard.bus.stats().appended {
                    shard.turn().await;
                }
                let before = shard.seen();
                drop(shard);
                shard = Loop::open(dir.path());
                assert_eq!(shard.seen(), before, "the state after a crash is the state before it");
            }
        }
    }
    shard.turn().await;
    while let Some(record) = shard.finish_oldest(FiringOutcome::Succeeded) {
        shard.bus.record(record).expect("record");
        shard.turn().await;
    }
    let seen = shard.seen();
    assert_eq!(seen.0["counts"]["deadLettered"], seen.2.len());
    for letter in &seen.2 {
        assert_eq!(letters::read(&shard, letter).await.expect("the letter").open.firing.id, *letter);
    }
    drop(shard);

    // Every event has been judged exactly once, whatever happened.
    std::fs::remove_file(dir.path().join("view.redb")).expect("remove the view");
    let bus = open(dir.path());
    for entry in bus.recover().expect("read the log").tail {
        if let Record::Judgement(judgement) = &*entry.record {
            for decision in &judgement.decisions {
                if let Decision::Fired(firing) = decision {
                    *fired.entry(firing.id.clone()).or_default() += 1;
                }
            }
        }
    }
    assert!(fired.values().all(|times| *times == 1), "a firing was decided twice");
    assert_eq!(seen.0["counts"]["fired"], fired.len() + replays);
    let ended = |how: &str| seen.0["counts"][how].as_u64().expect("a count");
    assert_eq!(ended("fired"), ended("succeeded") + ended("failed"));
    assert_eq!(seen.0["counts"]["seen"], events);
    assert_eq!(seen.0["counts"]["matched"], events);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_whatever_order_a_crash_changes_nothing(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(run(steps));
    }
}
