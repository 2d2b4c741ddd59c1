//! `timeout`: how long a step may take in all.

use super::*;
use crate::record::{FailureReason, Outcome};

fn failing() -> Play {
    Play::Fail(FailureKind::Retryable { after: None })
}

fn last(stage: &Stage) -> Outcome {
    let records = stage.bus.records.lock();
    let outcome = records.iter().rev().find_map(|record| match record {
        Record::Outcome(outcome) => Some(outcome.clone()),
        _ => None,
    });
    outcome.expect("an outcome")
}

fn deadline(stage: &Stage) -> Option<i64> {
    let records = stage.bus.records.lock();
    records.iter().find_map(|record| if let Record::Intent(intent) = record { intent.deadline } else { None })
}

#[tokio::test(start_paused = true)]
async fn repetitions_end_with_the_step_s_time_and_the_outcome_says_so() {
    let stage = Stage::new(&[("a", &[failing()])]);
    let before = Instant::now();
    let retry = json!({"limit": 100, "backoff": "4s", "maxBackoff": "4s"});
    stage.start(firing("r", "g", "f", &[action("a", json!({"timeout": "10s", "retry": retry}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Failed);
    assert!(before.elapsed() <= Duration::from_secs(10), "{:?}", before.elapsed());
    let Outcome { outcome, reason, message, .. } = last(&stage);
    assert_eq!((outcome, reason), (ActionOutcome::Failed, Some(FailureReason::TimedOut)));
    assert_eq!(message, "not done within its timeout of 10s: it failed");
    assert!(stage.told().iter().filter(|told| told.starts_with("execute")).count() >= 3);
}

#[tokio::test(start_paused = true)]
async fn one_attempt_has_no_longer_than_is_left() {
    let stage = Stage::new(&[("a", &[Play::Hang])]);
    let before = Instant::now();
    let retry = json!({"attemptTimeout": "6s", "backoff": "1s", "maxBackoff": "1s"});
    stage.start(firing("r", "g", "f", &[action("a", json!({"timeout": "10s", "retry": retry}))]));
    stage.ended(1).await;
    assert_eq!(before.elapsed().as_secs(), 10);
    assert_eq!(stage.told().iter().filter(|told| told.starts_with("execute")).count(), 2);
    assert!(last(&stage).message.starts_with("not done within its timeout of 10s: no answer within "));
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_to_the_recorded_end_and_not_beyond_it() {
    let stage = Stage::new(&[("a", &[Play::Hang])]);
    let timed = action("a", json!({"timeout": "10s"}));
    stage.start(firing("r", "g", "f", std::slice::from_ref(&timed)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.runner.drain(Duration::ZERO).await;
    let deadline = deadline(&stage).expect("a deadline in the intent");
    // Ten seconds after the time that the clock of tests shows.
    assert_eq!(deadline, 11_000_000);

    for (recorded, seconds, attempts) in [(deadline - 7_000_000, 3, 1), (deadline - 10_000_001, 0, 0)] {
        let next = Stage::new(&[("a", &[Play::Hang])]);
        let mut open = firing("r", "g", "f", std::slice::from_ref(&timed));
        let step = Step { intent: Some((0, json!({"text": "f"}))), deadline: Some(recorded), ..Step::default() };
        open.steps.insert("a".into(), step);
        let before = Instant::now();
        next.resume([open]);
        next.ended(1).await;
        assert_eq!(before.elapsed().as_secs(), seconds);
        assert_eq!(next.told().iter().filter(|told| told.starts_with("execute a Again")).count(), attempts);
        assert_eq!(last(&next).reason, Some(FailureReason::TimedOut));
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_gets_no_turn_with_its_target_ends_in_time() {
    let stage = Stage::new(&[("holds", &[Play::After(Duration::from_secs(25))])]);
    stage.start(firing("r", "g1", "f1", &[action_on("web", "holds")]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut waits = action_on("web", "waits");
    waits["timeout"] = json!("5s");
    stage.start(firing("r", "g2", "f2", &[waits]));
    stage.ended(1).await;
    let Outcome { action, message, .. } = last(&stage);
    assert_eq!(action, "waits");
    assert_eq!(message, "not done within its timeout of 5s: another step was changing its target all the time");
}

#[tokio::test(start_paused = true)]
async fn why_a_step_failed_is_recorded() {
    for (play, more, reason) in [
        (Play::Fail(FailureKind::Final), json!({}), FailureReason::Refused),
        (failing(), json!({"retry": {"limit": 1}}), FailureReason::RetriesExhausted),
        (Play::Succeed, json!({"ifExpression": "event.data.absent > 3"}), FailureReason::InvalidExpression),
        (
            Play::Succeed,
            json!({"notify": {"sinkRef": {"name": "s"}, "text": "${event.data.absent}"}}),
            FailureReason::InvalidExpression,
        ),
    ] {
        let stage = Stage::new(&[("a", &[play])]);
        stage.start(firing("r", "g", "f", &[action("a", more)]));
        stage.ended(1).await;
        assert_eq!(last(&stage).reason, Some(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn an_action_that_was_done_stops_nothing_though_an_earlier_one_failed() {
    let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Final)])]);
    let actions = [action("a", json!({"onError": "Continue"})), action("b", json!({})), action("c", json!({}))];
    stage.start(firing("r", "g", "f", &actions));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!((ended.outcome, ended.failed_at.as_deref()), (FiringOutcome::Failed, Some("actions[a]")));
    assert!(stage.told().contains(&"done c".to_owned()), "{:?}", stage.told());
}

#[tokio::test(start_paused = true)]
async fn while_all_rules_are_stopped_a_step_loses_nothing_of_its_time() {
    let stage = Stage::new(&[("a", &[failing(), Play::Succeed])]);
    let retry = json!({"limit": 5, "backoff": "4s", "maxBackoff": "4s"});
    let timed = action("a", json!({"timeout": "10s", "retry": retry}));
    stage.start(firing("r", "g", "f", std::slice::from_ref(&timed)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    stage.runner.hold(Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    stage.runner.release();
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);

    // Nor when the process is another one meanwhile, and the switch was set before it.
    let stage = Stage::made(&Fake::new(|_| (500, json!({}))), &[], Limit::none(), Authority::sole());
    let mut open = firing("r", "g", "f", &[timed]);
    // An hour before the time that the clock of tests shows, with five seconds left when the switch was set.
    let recorded = Some(1_000_000 - 3_600_000_000 + 5_000_000);
    open.steps
        .insert("a".into(), Step { intent: Some((0, json!({"text": "f"}))), deadline: recorded, ..Step::default() });
    stage.runner.hold(Duration::from_secs(3600));
    stage.resume([open]);
    let stage = stage.begun();
    tokio::time::sleep(Duration::from_secs(60)).await;
    stage.runner.release();
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded, "{:?}", last(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_over_counts_once_in_what_is_recorded_and_in_what_is_read() {
    // The ledger has put it off already.
    let stage = Stage::new(&[("a", &[Play::Hang])]);
    stage.runner.hold(Duration::from_secs(3600));
    stage.runner.release();
    let timed = action("a", json!({"timeout": "10s"}));
    let mut open = firing("r", "g", "f", std::slice::from_ref(&timed));
    let recorded = Some(1_000_000 + 5_000_000);
    open.steps
        .insert("a".into(), Step { intent: Some((0, json!({"text": "f"}))), deadline: recorded, ..Step::default() });
    let before = Instant::now();
    stage.resume([open]);
    stage.ended(1).await;
    assert_eq!(before.elapsed().as_secs(), 5);

    // What is recorded after it tells the end that was put off.
    let conflict = Play::Fail(FailureKind::Conflict);
    let stage = Stage::new(&[("a", &[conflict.clone(), conflict.clone(), conflict, Play::Hang])]);
    stage.start(firing("r", "g", "f", &[timed]));
    tokio::time::sleep(Duration::from_millis(1)).await;
    stage.runner.hold(Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    stage.runner.release();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let records = stage.bus.records.lock();
    let deadlines: Vec<_> = records
        .iter()
        .filter_map(|record| if let Record::Intent(intent) = record { intent.deadline } else { None })
        .collect();
    let [first @ .., last] = deadlines.as_slice() else { panic!("no intent") };
    assert_eq!(first, [11_000_000; 3]);
    assert!((0..100_000).contains(&(last - 11_000_000 - 3_600_000_000)), "{deadlines:?}");
}
