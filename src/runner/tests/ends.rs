//! Restarts, the stop, and a log that fails.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_resumed_action_is_carried_out_again_and_never_rendered_again() {
    let stage = Stage::new(&[]);
    let mut open = firing(
        "r",
        "g",
        "f",
        &[action("a", json!({})), action("b", json!({"ifExpression": "false"})), action("c", json!({}))],
    );
    let step = Step {
        intent: Some((0, json!({"text": "a"}))),
        outcome: Some(ActionOutcome::Succeeded),
        message: "did a".into(),
        ..Step::default()
    };
    open.steps.insert("a".into(), step);
    let request = json!({"text": "as recorded"});
    open.steps.insert("b".into(), Step { intent: Some((4, request)), ..Step::default() });
    stage.resume([open]);
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(ended.message, "did a; did b; did c");
    assert_eq!(
        stage.told(),
        [
            "durable",
            "execute b Again as recorded",
            "done b",
            "outcome b Succeeded",
            "render c",
            "intent c 0",
            "durable",
            "execute c First f",
            "done c",
            "outcome c Succeeded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn settling_comes_after_the_outcome_is_durable_also_after_a_restart() {
    let stage = Stage::new(&[]);
    stage.start(firing("r", "g", "f", &[action("settling", json!({}))]));
    stage.ended(1).await;
    let told = stage.told();
    assert_eq!(told[told.len() - 3..], ["outcome settling Succeeded", "durable", "settle {\"n\":7}"]);

    let stage = Stage::new(&[]);
    let mut open = firing("r", "g", "f", &[action("settling", json!({}))]);
    let step = Step {
        intent: Some((0, json!({}))),
        outcome: Some(ActionOutcome::Succeeded),
        result: json!({"n": 8}),
        ..Step::default()
    };
    open.steps.insert("settling".into(), step);
    stage.resume([open]);
    stage.ended(1).await;
    assert_eq!(stage.told(), ["durable", "settle {\"n\":8}"]);
}

#[tokio::test(start_paused = true)]
async fn draining_lets_attempts_end_and_begins_none() {
    let stage = Stage::new(&[("slow", &[Play::After(Duration::from_secs(5))])]);
    let both = [action("slow", json!({})), action("next", json!({}))];
    stage.start(firing("r", "g", "f1", &both));
    stage.start(firing("r", "g", "f2", &both));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stage.runner.drain(Duration::from_secs(20)).await);
    stage.start(firing("r", "g", "f3", &both));
    assert_eq!(
        stage.told(),
        ["render slow", "intent slow 0", "durable", "execute slow First f1", "done slow", "outcome slow Succeeded"]
    );
}

#[tokio::test(start_paused = true)]
async fn draining_ends_with_its_time() {
    let stage = Stage::new(&[("hang", &[Play::Hang])]);
    stage.start(firing("r", "g", "f", &[action("hang", json!({"retry": {"attemptTimeout": "1h"}}))]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    assert!(!stage.runner.drain(Duration::from_secs(20)).await);
    assert_eq!(before.elapsed().as_secs(), 20);
    assert!(stage.outcomes().is_empty(), "the next process goes on with it");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_ends_everything() {
    let stage = Stage::new(&[]);
    stage.bus.troubles.lock().push(BusError::Storage("no".into()));
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert!(matches!(stage.runner.failed().await, BusError::Storage(_)));
    assert!(!stage.told().iter().any(|told| told.starts_with("execute")));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for_and_a_request_too_large_fails() {
    let stage = Stage::new(&[]);
    stage.bus.troubles.lock().extend([BusError::Full, BusError::Full]);
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);

    let stage = Stage::new(&[]);
    stage.bus.troubles.lock().push(BusError::TooLarge(9));
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert!(stage.ended(1).await[0].message.contains("record of 9 bytes is larger"));
}

#[tokio::test(start_paused = true)]
async fn a_firing_that_comes_too_late_to_begin_does_nothing_and_one_that_has_begun_is_finished() {
    let stage = Stage::new(&[]);
    let deadline = |seconds: u64, open: &mut OpenFiring| {
        let spec = Arc::make_mut(&mut open.spec);
        spec.starting_deadline = Some(api::Duration::from_secs(seconds));
        // The stage's clock stands one second after the event.
        open.firing.stamp = Stamp::default();
    };
    let mut late = firing("r", "g", "late", &[action("a", json!({}))]);
    deadline(0, &mut late);
    stage.start(late.clone());
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(ended.outcome, FiringOutcome::Expired);
    assert_eq!(
        ended.message,
        "not carried out: it could begin only 1 s after its event, later than startingDeadline allows"
    );
    assert_eq!(stage.told(), Vec::<String>::new());

    let mut begun = late;
    begun.firing.id = FiringId("begun".into());
    begun.steps.insert("a".into(), Step { intent: Some((0, json!({"text": "as recorded"}))), ..Step::default() });
    stage.start(begun);
    let mut soon = firing("r", "other", "soon", &[action("a", json!({}))]);
    deadline(1, &mut soon);
    stage.start(soon);
    // Decided now, for a time that was two seconds before.
    let mut planned = firing("r", "third", "planned", &[action("a", json!({}))]);
    deadline(1, &mut planned);
    planned.firing.planned = Some(-1_000_000);
    let stage_of_due = Stage::new(&[]);
    stage_of_due.start(planned);
    let ended = stage_of_due.ended(1).await.remove(0);
    assert!(ended.message.contains("only 2 s after the time that it was planned for"), "{}", ended.message);
    let outcomes: Vec<_> = stage.ended(3).await[1..].iter().map(|ended| ended.outcome).collect();
    assert_eq!(outcomes, [FiringOutcome::Succeeded; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_deleted_begins_nothing_more_and_what_it_was_at_comes_to_its_end() {
    let again = [Play::Fail(FailureKind::Retryable { after: None })];
    let plays = [
        ("slow", &[Play::After(Duration::from_secs(15))][..]),
        ("again", &again[..]),
        ("other", &[Play::Fail(FailureKind::Retryable { after: None }), Play::Succeed][..]),
    ];
    let stage = Stage::new(&plays);
    let patient = json!({"retry": {"backoff": "10m", "maxBackoff": "10m"}});
    stage.start(firing("r", "at-work", "f1", &[action("slow", json!({})), action("later", json!({}))]));
    stage.start(firing("r", "retries", "f2", &[action("again", patient.clone())]));
    stage.start(firing("r", "retries", "f3", &[action("queued", json!({}))]));
    stage.start(firing("s", "g", "f4", &[action("other", patient)]));
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.runner.remove(&RuleUid("r".into()));
    let ended = stage.ended(4).await;
    let told = |id: &str| ended.iter().find(|one| *one.firing.0 == *id).map(|one| (one.outcome, one.message.as_str()));
    let deleted = "ended before all was done: the rule was deleted";
    assert_eq!(told("f1"), Some((FiringOutcome::Expired, deleted)));
    assert_eq!(told("f2"), Some((FiringOutcome::Failed, deleted)));
    assert_eq!(told("f3"), Some((FiringOutcome::Expired, deleted)));
    assert_eq!(told("f4").map(|(outcome, _)| outcome), Some(FiringOutcome::Succeeded));
    let outcomes = stage.outcomes();
    assert_eq!(
        outcomes.iter().filter(|(_, outcome, _)| *outcome == ActionOutcome::Succeeded).count(),
        2,
        "slow and other"
    );
    assert_eq!(stage.told().iter().filter(|told| told.starts_with("execute")).count(), 4, "{:?}", stage.told());
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_began_for_a_rule_that_is_gone_is_ended() {
    let stage = Stage::new(&[]);
    stage.runner.end([stage.put(firing("r", "g", "f1", &[action("a", json!({}))]))]);
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Expired);
    assert_eq!(stage.outcomes(), []);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_carried_out_before_it_may_be() {
    let stage = Stage::made(&Fake::new(|_| (500, json!({}))), &[], Limit::none(), Authority::sole());
    stage.resume([firing("r", "g", "f1", &[action("a", json!({}))])]);
    stage.start(firing("s", "g", "f2", &[action("b", json!({}))]));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.told(), Vec::<String>::new());
    stage.runner.begin();
    assert_eq!(stage.ended(2).await.len(), 2);
    // A process that stops before it has begun does not wait for anything.
    let stopped = Stage::made(&Fake::new(|_| (500, json!({}))), &[], Limit::none(), Authority::sole());
    stopped.start(firing("r", "g", "f1", &[action("a", json!({}))]));
    assert!(stopped.runner.drain(Duration::from_secs(1)).await);
}
