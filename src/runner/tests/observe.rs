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

/// What was carried out and what was observed, by firing.
fn ended_so(stage: &Stage, ended: &[crate::record::Finished]) -> Vec<(String, FiringOutcome)> {
    let observed = stage.bus.records.lock().iter().filter(|record| matches!(record, Record::Observe(_))).count();
    let dry = ended.iter().filter(|one| one.outcome == FiringOutcome::Observed).count();
    assert_eq!(observed, dry, "it is on record what is observed");
    ended.iter().map(|one| (one.firing.to_string(), one.outcome)).collect()
}

#[tokio::test(start_paused = true)]
async fn while_a_breaker_is_tripped_firings_are_observed_but_for_one_on_trial_and_what_has_begun() {
    use std::collections::BTreeSet;
    let stage = Stage::new(&[("slow", &[Play::After(Duration::from_secs(5))])]);
    let open = |id: &str, action_: &str| firing("r", id, id, &[action(action_, json!({}))]);
    let rule = open("a", "one").firing.rule.uid;
    stage.runner.gate(rule.clone(), Gate::Shut(BTreeSet::from([FiringId("hand".into())])));
    let mut begun = open("begun", "one");
    begun.steps.insert("one".to_owned(), Step { intent: Some((0, json!({}))), ..Step::default() });
    stage.resume([begun]);
    stage.start(open("shut", "one"));
    stage.start(open("hand", "one"));
    let mut first = ended_so(&stage, &stage.ended(3).await);
    first.sort_by(|a, b| a.0.cmp(&b.0));
    let as_told = |id: &str, outcome| (id.to_owned(), outcome);
    let (done, dry) = (FiringOutcome::Succeeded, FiringOutcome::Observed);
    assert_eq!(first, [as_told("begun", done), as_told("hand", done), as_told("shut", dry)]);

    stage.runner.gate(rule.clone(), Gate::Trial(BTreeSet::new()));
    stage.start(open("trial", "slow"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.start(open("other", "one"));
    let then = ended_so(&stage, &stage.ended(5).await);
    assert_eq!(then[3..], [as_told("other", dry), as_told("trial", done)]);
    stage.runner.gate(rule, Gate::Open);
    stage.start(open("last", "one"));
    assert_eq!(ended_so(&stage, &stage.ended(6).await)[5], as_told("last", done));
}

#[tokio::test(start_paused = true)]
async fn what_is_observed_stays_so_after_a_restart() {
    let stage = Stage::new(&[]);
    let mut open = firing("r", "g", "f1", &[action("one", json!({})), action("two", json!({}))]);
    let known = Brief::of(&open);
    let mut ledger = crate::record::Ledger::default();
    ledger.begin(open.clone());
    ledger.observe(&open.firing.id);
    open = Arc::unwrap_or_clone(ledger.get(&open.firing.id).expect("open"));
    open.steps.insert("one".to_owned(), Step { intent: Some((0, json!({}))), ..Step::default() });
    assert_eq!(Brief::of(&open).rule, known.rule);
    stage.resume([open]);
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Observed);
    assert!(!stage.told().iter().any(|told| told.starts_with("execute")), "{:?}", stage.told());
}
