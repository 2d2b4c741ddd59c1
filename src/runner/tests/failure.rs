//! `failureActions`: what is done when a firing has failed.

use super::*;
use crate::record::FailureReason;

const TELLS: &str = "${failure.action}, ${failure.reason}: ${failure.message}";

/// A firing that does this, and that when it fails.
fn failing(actions: &[Value], after: &[Value]) -> OpenFiring {
    let mut open = firing("r", "g", "f", actions);
    let spec = Arc::make_mut(&mut open.spec);
    spec.failure_actions = serde_json::from_value(json!(after)).expect("actions");
    open
}

fn tell(name: &str) -> Value {
    action(name, json!({"notify": {"sinkRef": {"name": "s"}, "text": TELLS}}))
}

fn executed(stage: &Stage) -> Vec<String> {
    stage.told().into_iter().filter(|told| told.starts_with("execute")).collect()
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_known_to_failure_actions_and_the_firing_has_failed_all_the_same() {
    let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Final)])]);
    stage.start(failing(&[action("a", json!({})), action("b", json!({}))], &[tell("tell")]));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(executed(&stage), ["execute a First f", "execute tell First a, Refused: it failed"]);
    assert_eq!((ended.outcome, ended.failed_at.as_deref()), (FiringOutcome::Failed, Some("actions[a]")));
    assert_eq!(ended.message, "it failed");
}

#[tokio::test(start_paused = true)]
async fn they_are_not_done_when_all_was_done_or_the_rule_is_gone() {
    let stage = Stage::new(&[]);
    stage.start(failing(&[action("a", json!({}))], &[tell("tell")]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    assert_eq!(executed(&stage), ["execute a First f"]);

    let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Retryable { after: None })])]);
    let patient = json!({"retry": {"backoff": "10m", "maxBackoff": "10m"}});
    stage.start(failing(&[action("a", patient)], &[tell("tell")]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.runner.remove(&RuleUid("r".into()));
    stage.ended(1).await;
    assert_eq!(executed(&stage), ["execute a First f"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_told_and_has_no_failure_actions_of_its_own() {
    let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Final)]), ("tell", &[Play::Fail(FailureKind::Final)])]);
    let after = [tell("tell"), tell("never")];
    stage.start(failing(&[action("a", json!({}))], &after));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(ended.message, "it failed; failureActions[tell]: it failed");
    assert_eq!(ended.failed_at.as_deref(), Some("actions[a]"));
    assert_eq!(executed(&stage).len(), 2, "{:?}", executed(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_them_does_nothing_again_and_nothing_less() {
    let stage = Stage::new(&[]);
    let mut open = failing(&[action("a", json!({}))], &[tell("done"), tell("begun"), tell("next")]);
    let failed = Step {
        outcome: Some(ActionOutcome::Failed),
        reason: Some(FailureReason::TimedOut),
        message: "too late".into(),
        ..Step::default()
    };
    let done = Step { outcome: Some(ActionOutcome::Succeeded), ..Step::default() };
    let begun = Step { intent: Some((0, json!({"text": "as recorded"}))), ..Step::default() };
    open.steps.extend([("a".to_owned(), failed), ("done".to_owned(), done), ("begun".to_owned(), begun)]);
    stage.resume([open]);
    assert_eq!(stage.ended(1).await[0].message, "too late");
    assert_eq!(executed(&stage), ["execute begun Again as recorded", "execute next First a, TimedOut: too late"]);
}
