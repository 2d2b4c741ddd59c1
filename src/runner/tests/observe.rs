//! Rules that only look.

use super::*;

/// A firing of a rule in `mode: Observe`.
fn observing(actions: &[Value]) -> OpenFiring {
    let mut open = firing("r", "g", "f1", actions);
    let mut spec = EventRuleSpec::clone(&open.spec);
    spec.mode = api::RuleMode::Observe;
    open.spec = Arc::new(spec);
    open
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_observes_carries_nothing_out_and_tells_what_it_would_do() {
    let stage = Stage::new(&[]);
    let later = action("settling", json!({"ifExpression": "actions.one.n == 7"}));
    stage.start(observing(&[action("one", json!({})), later]));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!((ended.outcome, &*ended.message), (FiringOutcome::Observed, "would do one; would do settling"));
    let told = stage.told();
    assert!(told.contains(&"observe settling".to_owned()), "{told:?}");
    assert!(!told.iter().any(|told| told.starts_with("execute") || told.starts_with("settle ")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_would_fail_fails_and_a_conflict_looks_again_however_often() {
    let conflict = Play::Fail(FailureKind::Conflict);
    let again = Play::Fail(FailureKind::Retryable { after: None });
    let plays = [again, conflict.clone(), conflict, Play::Succeed, Play::Succeed];
    let stage = Stage::new(&[("moving", &plays), ("broken", &[Play::Fail(FailureKind::Final), Play::Succeed])]);
    stage.start(observing(&[action("moving", json!({})), action("broken", json!({}))]));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!((ended.outcome, ended.failed_at.as_deref()), (FiringOutcome::Failed, Some("actions[broken]")));
    let outcomes: Vec<_> = stage.outcomes().into_iter().map(|(name, outcome, _)| (name, outcome)).collect();
    let expected = [("moving".to_owned(), ActionOutcome::Observed), ("broken".to_owned(), ActionOutcome::Failed)];
    assert_eq!(outcomes, expected);
}
