//! Attempts, failures and what comes of them.

use super::*;
use crate::poison::bait;

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_repeated_with_growing_waits_and_the_same_request() {
    let failed = Play::Fail(FailureKind::Retryable { after: None });
    let told_when = Play::Fail(FailureKind::Retryable { after: Some(Duration::from_secs(90)) });
    let stage = Stage::new(&[("a", &[failed.clone(), failed, told_when, Play::Succeed])]);
    let before = Instant::now();
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    let took = before.elapsed().as_secs_f64();
    assert!((91.5..=93.5).contains(&took), "0.5-1 s, 1-2 s, 90 s: {took}");
    let told = stage.told();
    assert_eq!(told.iter().filter(|told| told.starts_with("render")).count(), 1);
    let attempts: Vec<_> = told.iter().filter(|told| told.starts_with("execute")).collect();
    assert_eq!(attempts, ["execute a First f", "execute a Again f", "execute a Again f", "execute a Again f"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_is_no_failure_and_what_comes_after_it_is_a_first_attempt() {
    let waits = Play::Fail(FailureKind::Turn(Duration::from_secs(90)));
    let stage = Stage::new(&[("a", &[waits.clone(), waits, Play::Succeed])]);
    let before = Instant::now();
    stage.start(firing("r", "g", "f", &[action("a", json!({"retry": {"limit": 0}}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    let took = before.elapsed().as_secs_f64();
    assert!((180.0..=181.0).contains(&took), "{took}");
    let attempts: Vec<_> = stage.told().into_iter().filter(|told| told.starts_with("execute")).collect();
    assert_eq!(attempts, ["execute a First f"; 3]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_has_no_place_of_its_rule() {
    let waits = Play::Fail(FailureKind::Turn(Duration::from_secs(3600)));
    let stage = Stage::new(&[("a", &[waits])]);
    for number in 0..40 {
        stage.start(firing("r", &format!("g{number}"), &format!("f{number}"), &[action("a", json!({}))]));
    }
    stage.start(firing("r", "last", "last", &[action("b", json!({}))]));
    let before = Instant::now();
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_an_answer_ends_with_its_timeout_and_is_repeated_as_one_that_may_have_worked() {
    let stage = Stage::new(&[("a", &[Play::Hang, Play::Succeed])]);
    stage.start(firing("r", "g", "f", &[action("a", json!({"retry": {"attemptTimeout": "3s"}}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    assert!(stage.told().contains(&"execute a Again f".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_asks_for_a_fresh_request_unless_an_attempt_may_have_worked() {
    let stage =
        Stage::new(&[("a", &[Play::Fail(FailureKind::Conflict), Play::Fail(FailureKind::Conflict), Play::Succeed])]);
    stage.start(firing("r", "g", "f", &[action("a", json!({"retry": {"limit": 0}}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    let intents: Vec<_> = stage.told().into_iter().filter(|told| told.starts_with("intent")).collect();
    assert_eq!(intents, ["intent a 0", "intent a 1", "intent a 2"]);

    let retryable = Play::Fail(FailureKind::Retryable { after: None });
    let stage = Stage::new(&[("a", &[retryable, Play::Fail(FailureKind::Conflict), Play::Succeed])]);
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    assert_eq!(stage.told().iter().filter(|told| told.starts_with("intent")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn conflicts_without_end_fail() {
    let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Conflict)])]);
    stage.start(firing("r", "g", "f", &[action("a", json!({"retry": {"limit": 2}}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Failed);
    assert_eq!(stage.told().iter().filter(|told| told.starts_with("intent")).count(), 23);
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_stops_the_firing_or_lets_it_go_on() {
    for (on_error, after) in [("Stop", 0), ("Continue", 1)] {
        let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Final)])]);
        stage.start(firing("r", "g", "f", &[action("a", json!({"onError": on_error})), action("b", json!({}))]));
        let ended = stage.ended(1).await.remove(0);
        assert_eq!((ended.outcome, ended.failed_at.as_deref()), (FiringOutcome::Failed, Some("actions[a]")));
        assert_eq!(ended.message, "it failed");
        assert_eq!(stage.told().iter().filter(|told| told.starts_with("execute a")).count(), 1, "not repeated");
        assert_eq!(stage.told().iter().filter(|told| told.starts_with("execute b")).count(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_have_an_end_and_the_next_firing_of_the_group_runs() {
    let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Retryable { after: None })])]);
    stage.start(firing("r", "g", "f1", &[action("a", json!({"retry": {"limit": 2}}))]));
    stage.start(firing("r", "g", "f2", &[action("b", json!({}))]));
    let ended = stage.ended(2).await;
    assert_eq!((ended[0].outcome, ended[0].message.as_str()), (FiringOutcome::Failed, "it failed (after 3 attempts)"));
    assert_eq!(ended[1].outcome, FiringOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_action_and_nothing_else() {
    let stage = Stage::new(&[("a", &[Play::Panic])]);
    stage.start(firing("r", "g", "f1", &[action("a", json!({}))]));
    stage.start(firing("r", "g", "f2", &[action("b", json!({}))]));
    let ended = stage.ended(2).await;
    assert_eq!(ended[0].message, "this is a fault of signalbox, please report it: the actor fell");
    assert_eq!(ended[1].outcome, FiringOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_panics_wherever_it_is_fails_its_firing_and_nothing_else() {
    let stage = Stage::new(&[]);
    for name in ["a", "b"] {
        stage.start(firing("r", "g", name, &[action(name, json!({}))]));
    }
    // Nothing runs before the test waits.
    bait::lay(0);
    let ended = stage.ended(2).await;
    assert_eq!(ended[0].message, "this is a fault of signalbox, please report it: poison");
    assert_eq!((ended[0].outcome, ended[1].outcome), (FiringOutcome::Failed, FiringOutcome::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn conditions_skip_and_their_errors_fail() {
    let stage = Stage::new(&[]);
    let actions = [
        action("a", json!({"ifExpression": "event.data.message == 'other'"})),
        action("b", json!({"ifExpression": "event.data.absent > 3", "onError": "Continue"})),
        action("c", json!({"notify": {"sinkRef": {"name": "s"}, "text": "${event.data.absent}"}})),
    ];
    stage.start(firing("r", "g", "f", &actions));
    stage.ended(1).await;
    let outcomes = stage.outcomes();
    assert_eq!(
        (outcomes[0].1, outcomes[1].1, outcomes[2].1),
        (ActionOutcome::Skipped, ActionOutcome::Failed, ActionOutcome::Failed)
    );
    assert!(outcomes[1].2.starts_with("ifExpression: "), "{outcomes:?}");
    assert!(outcomes[2].2.contains("spec.actions[2].notify.text"), "{outcomes:?}");
    assert!(!stage.told().iter().any(|told| told.starts_with("execute")));
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_name_comes_from_nothing_is_no_target() {
    let stage = Stage::new(&[]);
    let scale =
        json!({"name": "a", "scale": {"to": 1, "target": {"kind": "Deployment", "name": "${event.data.absent}"}}});
    stage.start(firing("r", "g", "f", &[scale]));
    let ended = stage.ended(1).await.remove(0);
    assert!(ended.message.starts_with("no target: "), "{}", ended.message);
}
