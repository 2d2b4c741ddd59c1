//! Firings that failed for good: kept, bounded, and gone with their rule.

use super::*;
use crate::{
    record::{Control, DeadLetter, Replay},
    shard::Place,
};

/// The letter, from where it is.
pub(super) async fn read(shard: &Loop, id: &FiringId) -> Option<DeadLetter> {
    match shard.state.letters.find(id)?.1 {
        Place::Here(letter) => Some(DeadLetter::clone(&letter)),
        Place::InView => {
            let row = shard.bus.row(Table::DeadLetters, id.0.as_bytes().to_vec()).await.expect("read the view")?;
            Some(serde_json::from_slice(&row).expect("a letter"))
        }
    }
}

/// Runs the oldest letter again; gives how many there were to be run.
pub(super) async fn replay_oldest(shard: &mut Loop, twice: bool) -> usize {
    shard.turn().await;
    let Some(id) = shard.state.letters.of_rule(&uid()).last().cloned() else { return 0 };
    let open = Box::new(read(shard, &id).await.expect("the letter").open);
    for _ in 0..=usize::from(twice) {
        shard.append(Record::Replay(Replay { of: id.clone(), open: open.clone(), unjudged: None })).await;
    }
    1
}

/// A shard whose rule has fired once and failed.
async fn failed(dir: &Path, rule: [Record; 3]) -> (Loop, FiringId) {
    let mut shard = Loop::open(dir);
    for record in rule.into_iter().chain([event(1, 0)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    let id = shard.oldest().expect("it fired").firing.id.clone();
    for record in [shard.write(0), shard.finish_oldest(FiringOutcome::Failed)] {
        shard.bus.record(record.expect("it is open")).expect("record");
    }
    shard.turn().await;
    (shard, id)
}

fn kept(shard: &Loop) -> (usize, serde_json::Value) {
    (shard.state.letters.len(), shard.seen().0["counts"]["deadLettered"].clone())
}

#[tokio::test]
async fn what_failed_for_good_is_kept_with_its_steps_and_read_back_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut shard, id) = failed(dir.path(), put(2)).await;
    let letter = read(&shard, &id).await.expect("it is kept at once");
    assert_eq!((letter.finished.outcome, letter.open.steps.len()), (FiringOutcome::Failed, 1));
    assert_eq!(letter.open.event.subject.as_deref(), Some("shop/Pod/p0"));
    assert_eq!(kept(&shard), (1, json!(1)));

    shard.checkpoint().await;
    assert_eq!(read(&shard, &id).await.as_ref(), Some(&letter), "while it may be on its way to the view");
    shard.checkpoint().await;
    assert_eq!(shard.state.letters.find(&id).expect("kept").1, Place::InView, "memory holds no letter for long");
    drop(shard);
    let shard = Loop::open(dir.path());
    assert_eq!(read(&shard, &id).await, Some(letter));
    assert_eq!(kept(&shard), (1, json!(1)));
}

#[tokio::test]
async fn what_was_only_observed_or_did_not_fail_is_not_kept() {
    let observe = || {
        let [Record::RulePut(mut put), first, second] = put(2) else { panic!("no rule") };
        Arc::make_mut(&mut put.spec).mode = crate::api::RuleMode::Observe;
        [Record::RulePut(put), first, second]
    };
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(kept(&failed(dir.path(), observe()).await.0), (0, json!(0)));

    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    for record in put(2).into_iter().chain([event(1, 0), event(2, 1)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    for outcome in [FiringOutcome::Succeeded, FiringOutcome::Expired] {
        shard.bus.record(shard.finish_oldest(outcome).expect("open")).expect("record");
        shard.turn().await;
    }
    assert_eq!(kept(&shard), (0, json!(0)));
}

#[tokio::test]
async fn the_letters_of_a_rule_go_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut shard, id) = failed(dir.path(), put(2)).await;
    shard.append(event(2, 1)).await;
    shard.checkpoint().await;
    shard.append(Record::RuleRemove(uid())).await;
    shard.turn().await;
    assert!(shard.state.letters.is_empty());
    // What was under way ends after its rule.
    shard.bus.record(shard.finish_oldest(FiringOutcome::Failed).expect("open")).expect("record");
    shard.turn().await;
    assert!(shard.state.letters.is_empty(), "a rule that is gone gets no letters");
    shard.checkpoint().await;
    let row = shard.bus.row(Table::DeadLetters, id.0.as_bytes().to_vec()).await.expect("read the view");
    assert_eq!(row, None);
    drop(shard);
    assert!(Loop::open(dir.path()).state.letters.is_empty());
}

#[tokio::test]
async fn letters_that_a_version_without_letters_left_behind_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut shard, id) = failed(dir.path(), put(2)).await;
    shard.checkpoint().await;
    let gone = vec![(Table::Rules, UID.as_bytes().to_vec(), None)];
    shard.bus.commit(gone, shard.state.position()).await.expect("commit");
    drop(shard);
    let mut shard = Loop::open(dir.path());
    assert!(shard.state.letters.is_empty());
    shard.checkpoint().await;
    let row = shard.bus.row(Table::DeadLetters, id.0.as_bytes().to_vec()).await.expect("read the view");
    assert_eq!(row, None);
}

#[tokio::test]
async fn a_letter_is_run_again_once_with_the_rule_as_it_is_now() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut shard, id) = failed(dir.path(), put(2)).await;
    for record in put(4) {
        shard.append(record).await;
    }
    assert_eq!(replay_oldest(&mut shard, true).await, 1);
    shard.turn().await;
    assert_eq!(kept(&shard), (0, json!(0)));
    let open = shard.all();
    assert_eq!(open.len(), 1, "the second time there is nothing to be run");
    let OpenFiring { firing, spec, event, .. } = &open[0];
    assert_ne!(firing.id, id);
    assert_eq!((firing.generation, event.subject.as_deref()), (4, Some("shop/Pod/p0")));
    assert_eq!(spec.actions[0].scale.as_ref().and_then(|scale| scale.to), Some(4));
    let told = shard.seen().0;
    assert_eq!((&told["counts"]["fired"], &told["counts"]["matched"]), (&json!(2), &json!(1)), "no event matched anew");
    assert_eq!(told["recent"], json!([[&firing.id, "Running"], [&id, "Failed"]]));

    drop(shard);
    let mut shard = Loop::open(dir.path());
    assert_eq!(shard.all(), open, "it goes on after a crash");
    shard.bus.record(shard.finish_oldest(FiringOutcome::Failed).expect("open")).expect("record");
    shard.turn().await;
    assert_eq!(kept(&shard), (1, json!(1)), "what fails again is kept again");
}

#[tokio::test]
async fn a_letter_of_a_rule_that_is_gone_is_not_run_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut shard, _) = failed(dir.path(), put(2)).await;
    let open = Box::new(read(&shard, &shard.seen().2[0]).await.expect("the letter").open);
    shard.append(Record::RuleRemove(uid())).await;
    shard.append(Record::Replay(Replay { of: open.firing.id.clone(), open, unjudged: None })).await;
    shard.turn().await;
    assert!(shard.state.ledger.is_empty() && shard.state.letters.is_empty());
}

/// A shard whose rule panicked when it was to judge an event.
async fn poisoned(dir: &Path) -> Loop {
    let mut shard = Loop::open(dir);
    for record in put(2) {
        shard.append(record).await;
    }
    shard.turn().await;
    shard.append(event(1, 0)).await;
    // The filter is asked before the rule is.
    crate::poison::bait::lay(1);
    shard.turn().await;
    shard
}

#[tokio::test]
async fn an_event_that_a_rule_panics_over_is_kept_over_restarts_and_judged_again_by_the_rule_as_it_is_then() {
    let dir = tempfile::tempdir().expect("a folder");
    let shard = poisoned(dir.path()).await;
    assert_eq!((shard.all().len(), kept(&shard)), (0, (1, json!(1))));
    let id = shard.state.letters.of_rule(&uid()).next().cloned().expect("a letter");
    drop(shard);
    let mut shard = Loop::open(dir.path());
    shard.checkpoint().await;
    let letter = read(&shard, &id).await.expect("it is kept");
    assert_eq!(letter.finished.failed_at.as_deref(), Some("judging"));
    assert!(letter.finished.message.contains("please report it: poison"), "{}", letter.finished.message);
    assert_eq!(letter.open.event.subject.as_deref(), Some("shop/Pod/p0"));

    for record in put(4) {
        shard.append(record).await;
    }
    let replay = Replay { of: id.clone(), open: Box::new(letter.open), unjudged: letter.unjudged };
    for _ in 0..2 {
        shard.append(Record::Replay(replay.clone())).await;
    }
    shard.turn().await;
    let open = shard.all();
    assert_eq!(open.len(), 1, "the second time there is nothing to be judged");
    assert_eq!((open[0].firing.generation, kept(&shard)), (4, (0, json!(0))));
    drop(shard);
    assert_eq!(Loop::open(dir.path()).all(), open, "and after a crash it is the same firing");
}

#[tokio::test]
async fn an_event_that_brings_the_panic_out_once_more_is_kept_once_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = poisoned(dir.path()).await;
    let id = shard.state.letters.of_rule(&uid()).next().cloned().expect("a letter");
    let letter = read(&shard, &id).await.expect("it is kept");
    let replay = Replay { of: id.clone(), open: Box::new(letter.open), unjudged: letter.unjudged };
    shard.append(Record::Replay(replay)).await;
    crate::poison::bait::lay(0);
    shard.turn().await;
    assert_eq!((shard.all().len(), kept(&shard)), (0, (1, json!(1))));
    assert_ne!(shard.state.letters.of_rule(&uid()).next(), Some(&id));
}

#[tokio::test]
async fn an_event_that_could_not_be_judged_stays_kept_while_all_rules_are_stopped() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = poisoned(dir.path()).await;
    let id = shard.state.letters.of_rule(&uid()).next().cloned().expect("a letter");
    let letter = read(&shard, &id).await.expect("it is kept");
    let replay = Replay { of: id.clone(), open: Box::new(letter.open), unjudged: letter.unjudged };
    let stop = Control::Stop { by: "ConfigMap a/b".into(), why: "a drill".into() };
    for record in [Record::Control(stop), Record::Replay(replay.clone())] {
        shard.append(record).await;
    }
    shard.turn().await;
    assert_eq!((shard.all().len(), kept(&shard)), (0, (1, json!(1))));
    drop(shard);
    let mut shard = Loop::open(dir.path());
    assert_eq!(kept(&shard), (1, json!(1)), "after a restart too");
    let released = [Record::Control(Control::Release), Record::Replay(replay)];
    for record in put(8).into_iter().chain(released) {
        shard.append(record).await;
    }
    shard.turn().await;
    assert_eq!((shard.all().len(), kept(&shard)), (1, (0, json!(0))));
}

#[tokio::test]
async fn an_event_that_could_not_be_judged_stays_kept_while_its_rule_is_suspended() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = poisoned(dir.path()).await;
    let id = shard.state.letters.of_rule(&uid()).next().cloned().expect("a letter");
    let letter = read(&shard, &id).await.expect("it is kept");
    let replay = Replay { of: id.clone(), open: Box::new(letter.open), unjudged: letter.unjudged };
    let [Record::RulePut(mut suspended), ..] = put(4) else { panic!("no rule") };
    Arc::make_mut(&mut suspended.spec).suspend = true;
    for record in [Record::RulePut(suspended), Record::Replay(replay.clone())] {
        shard.append(record).await;
    }
    shard.turn().await;
    assert_eq!((shard.all().len(), kept(&shard)), (0, (1, json!(1))));
    for record in put(8).into_iter().chain([Record::Replay(replay)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    assert_eq!((shard.all().len(), kept(&shard)), (1, (0, json!(0))));
}
