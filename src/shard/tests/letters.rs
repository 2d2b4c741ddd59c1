//! Firings that failed for good: kept, bounded, and gone with their rule.

use super::*;
use crate::{
    record::{DeadLetter, Table},
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
