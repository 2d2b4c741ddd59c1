//! What is done, and left, when the Lease is this process's and when it is not.

use super::*;

const TERM: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_without_the_lease() {
    let authority = Authority::shut();
    let stage = Stage::authorised(&[], Limit::none(), authority.clone());
    stage.start(firing("r", "g", "f1", &[action("one", json!({}))]));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(stage.told(), [""; 0], "not even rendered");
    authority.grant(Instant::now(), TERM);
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_given_up_with_the_lease_and_gone_on_with_under_the_next() {
    let authority = Authority::shut();
    authority.grant(Instant::now(), TERM);
    let slow = [Play::After(2 * TERM), Play::Succeed];
    let stage = Stage::authorised(&[("one", &slow)], Limit::none(), authority.clone());
    stage.start(firing("r", "g", "f1", &[action("one", json!({})), action("two", json!({}))]));
    tokio::time::sleep(10 * TERM).await;
    assert_eq!(stage.told(), ["render one", "intent one 0", "durable", "execute one First f1"]);
    authority.grant(Instant::now(), TERM);
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    let attempts: Vec<_> = stage.told().into_iter().filter(|told| told.starts_with("execute")).collect();
    assert_eq!(attempts, ["execute one First f1", "execute one Again f1", "execute two First f1"]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_the_middle_disturbs_nothing() {
    let authority = Authority::shut();
    authority.grant(Instant::now(), TERM);
    let stage = Stage::authorised(&[("one", &[Play::After(2 * TERM)])], Limit::none(), authority.clone());
    stage.start(firing("r", "g", "f1", &[action("one", json!({}))]));
    for _ in 0..4 {
        tokio::time::sleep(TERM / 2).await;
        authority.grant(Instant::now(), TERM);
    }
    stage.ended(1).await;
    let attempts = stage.told().into_iter().filter(|told| told.starts_with("execute")).count();
    assert_eq!(attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_lease() {
    let stage = Stage::authorised(&[], Limit::none(), Authority::shut());
    stage.start(firing("r", "g", "f1", &[action("one", json!({}))]));
    assert!(stage.runner.drain(Duration::from_secs(25)).await);
    assert_eq!(stage.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn while_all_rules_are_stopped_nothing_new_is_begun_and_what_is_under_way_ends() {
    let slow = [Play::After(Duration::from_secs(5))];
    let stage = Stage::new(&[("one", &slow)]);
    stage.start(firing("r", "g", "f1", &[action("one", json!({})), action("two", json!({}))]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.runner.hold(Duration::ZERO);
    stage.start(firing("r", "h", "f2", &[action("two", json!({}))]));
    tokio::time::sleep(Duration::from_secs(600)).await;
    let told = stage.told();
    assert!(told.contains(&"done one".to_owned()), "{told:?}");
    assert!(!told.iter().any(|told| told.starts_with("execute two")), "{told:?}");
    stage.runner.release();
    let ended = stage.ended(2).await;
    assert!(ended.iter().all(|ended| ended.outcome == FiringOutcome::Succeeded), "{ended:?}");

    stage.runner.hold(Duration::ZERO);
    stage.start(firing("r", "g", "f3", &[action("two", json!({}))]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stage.runner.drain(Duration::from_secs(1)).await, "a stop of the process waits for no release");
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_for_long_is_broken_off_by_the_stop_and_gone_on_with_after_it() {
    let stage = Stage::new(&[("drain", &[Play::After(Duration::from_secs(60)), Play::Succeed])]);
    stage.start(firing("r", "g", "f1", &[action("drain", json!({}))]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.runner.hold(Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let begun = ["render drain", "intent drain 0", "durable", "execute drain First f1"];
    assert_eq!(stage.told(), begun, "neither done nor begun again");
    stage.runner.release();
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    assert_eq!(stage.told()[begun.len()..][..2], ["execute drain Again f1", "done drain"]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_for_long_ends_with_its_rule_also_while_all_rules_are_stopped() {
    for stopped in [false, true] {
        let stage = Stage::new(&[("drain", &[Play::After(Duration::from_secs(60))])]);
        stage.start(firing("r", "g", "f1", &[action("drain", json!({}))]));
        tokio::time::sleep(Duration::from_secs(1)).await;
        if stopped {
            stage.runner.hold(Duration::ZERO);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stage.runner.remove(&RuleUid("r".into()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.runner.release();
        let ended = stage.ended(1).await.remove(0);
        assert!(ended.message.contains("the rule was deleted"), "{ended:?}");
        let told = stage.told();
        assert_eq!(told.iter().filter(|told| told.starts_with("execute")).count(), 1, "{told:?}");
        assert!(!told.contains(&"done drain".to_owned()), "{told:?}");
    }
}
