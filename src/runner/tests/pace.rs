//! A rule that runs away.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_group_that_fires_too_fast_is_slowed_down_in_order_and_recovers_by_itself() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let slowed = move |rule: &RuleRef, slow: Option<Slow>| {
        telling.lock().push((rule.name.clone(), slow.map(|slow| (slow.group, slow.limit, slow.wait.as_secs()))));
    };
    let stage = Stage::limited(&[], Limit { firings_per_minute: 10, slowed: Box::new(slowed), ..Limit::none() });
    let before = Instant::now();
    for n in 0..25 {
        stage.start(firing("r", "wild", &format!("w{n:02}"), &[action("one", json!({}))]));
    }
    for n in 0..5 {
        stage.start(firing("r", "calm", &format!("c{n}"), &[action("one", json!({}))]));
    }
    let ids = |ended: &[crate::record::Finished], of: &str| -> Vec<String> {
        ended.iter().map(|ended| ended.firing.0.to_string()).filter(|id| id.starts_with(of)).collect()
    };
    let first = stage.ended(15).await;
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!((ids(&first, "w").len(), ids(&first, "c").len()), (10, 5), "another group of the rule is not held up");
    assert_eq!(*told.lock(), [("r".to_owned(), Some(("wild".to_owned(), 10, 60)))]);

    let all = stage.ended(30).await;
    assert_eq!(before.elapsed().as_secs(), 120, "10 in each minute");
    let wild = ids(&all, "w");
    assert_eq!((wild.len(), wild.is_sorted()), (25, true), "none is dropped and none overtakes: {wild:?}");
    tokio::task::yield_now().await;
    assert_eq!(told.lock().last(), Some(&("r".to_owned(), None)), "it has recovered");

    stage.start(firing("r", "wild", "w99", &[action("one", json!({}))]));
    stage.ended(31).await;
    assert_eq!(before.elapsed().as_secs(), 120, "at its pace it waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_no_group_that_rests_and_what_was_begun_is_finished_at_once() {
    let stage = Stage::limited(&[], Limit { firings_per_minute: 1, ..Limit::none() });
    for n in 0..3 {
        stage.start(firing("r", "g", &format!("f{n}"), &[action("one", json!({}))]));
    }
    stage.ended(1).await;
    assert!(stage.runner.drain(Duration::from_secs(1)).await, "nothing is under way");

    let next = Stage::limited(&[], Limit { firings_per_minute: 1, ..Limit::none() });
    let begun = |id: &str| {
        let mut open = firing("r", "g", id, &[action("one", json!({}))]);
        open.steps.insert("one".to_owned(), Step { intent: Some((0, json!({}))), ..Step::default() });
        open
    };
    let before = Instant::now();
    next.resume([begun("f0"), begun("f1")]);
    next.ended(2).await;
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_rests_ends_at_once_when_its_rule_is_gone() {
    let stage = Stage::limited(&[], Limit { firings_per_minute: 1, ..Limit::none() });
    for n in 0..3 {
        stage.start(firing("r", "g", &format!("f{n}"), &[action("one", json!({}))]));
    }
    stage.ended(1).await;
    let before = Instant::now();
    stage.runner.remove(&RuleUid("r".into()));
    stage.ended(3).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}
