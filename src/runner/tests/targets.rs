//! Targets that several firings want.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_target_is_changed_by_one_step_at_a_time_whatever_the_rule() {
    let stage = Stage::new(&[("one", &[Play::After(Duration::from_secs(5))])]);
    stage.start(firing("r", "g", "f1", &[action_on("web", "one")]));
    stage.start(firing("other", "h", "f2", &[action_on("web", "two")]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Also while the outcome waits for room on the disk.
    stage.bus.troubles.lock().extend([BusError::Full, BusError::Full]);
    stage.ended(2).await;
    let steps = ["render", "intent", "execute", "outcome"];
    let told: Vec<_> =
        stage.told().into_iter().filter(|told| steps.iter().any(|step| told.starts_with(step))).collect();
    assert_eq!(
        told,
        [
            "render one",
            "intent one 0",
            "execute one First f1",
            "outcome one Succeeded",
            "render two",
            "intent two 0",
            "execute two First f2",
            "outcome two Succeeded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn steps_on_other_targets_do_not_wait() {
    let slow: &[Play] = &[Play::After(Duration::from_secs(5))];
    let stage = Stage::new(&[("one", slow), ("two", slow)]);
    let before = Instant::now();
    stage.start(firing("r", "g", "f1", &[action_on("web", "one")]));
    stage.start(firing("r", "h", "f2", &[action_on("api", "two")]));
    stage.ended(2).await;
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_began_comes_before_all_that_want_its_target() {
    let stage = Stage::new(&[("begun", &[Play::After(Duration::from_secs(5))])]);
    let mut begun = firing("r", "last", "fb", &[action_on("web", "begun")]);
    begun.firing.input = Position(99);
    let request = json!({"text": "as recorded", "target": "web"});
    begun.steps.insert("begun".into(), Step { intent: Some((0, request)), ..Step::default() });
    // More than there are places: they must not take the place of the one that they wait for.
    let waiting = FIRINGS_PER_RULE + 4;
    let wait = |n: usize| firing("r", &format!("g{n}"), &format!("f{n}"), &[action_on("web", "waiting")]);
    stage.resume((0..waiting).map(wait).chain([begun]));
    assert!(stage.runner.0.targets.try_hold("web".into()).is_none(), "held before anything can be started");
    stage.start(firing("new", "g", "fn", &[action_on("web", "new")]));
    let ended = tokio::time::timeout(Duration::from_secs(60), stage.ended(waiting + 2)).await;
    assert!(ended.is_ok(), "they wait for each other: {:?}", stage.told());
    let told = stage.told();
    let place = |what: &str| told.iter().position(|told| told == what).expect(what);
    assert!(told.contains(&"execute begun Again as recorded".to_owned()), "{told:?}");
    let first = told.iter().position(|told| told.starts_with("render")).expect("a rendering");
    assert!(place("outcome begun Succeeded") < first, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn at_the_stop_nobody_gets_a_turn_with_a_target_any_more() {
    for play in [Play::After(Duration::from_secs(5)), Play::Fail(FailureKind::Retryable { after: None })] {
        let stage = Stage::new(&[("one", &[play])]);
        stage.start(firing("r", "g", "f1", &[action_on("web", "one")]));
        stage.start(firing("r", "h", "f2", &[action_on("web", "two")]));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(stage.runner.drain(Duration::from_secs(20)).await);
        let told = stage.told();
        assert!(told.contains(&"execute one First f1".to_owned()), "{told:?}");
        assert!(!told.iter().any(|told| told.ends_with("two") || told.starts_with("intent two")), "{told:?}");
    }
}
