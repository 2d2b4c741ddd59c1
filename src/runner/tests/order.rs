//! Which firing runs when.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_action_is_rendered_recorded_made_durable_and_only_then_carried_out() {
    let stage = Stage::new(&[]);
    stage.start(firing(
        "r",
        "g",
        "f1",
        &[action("one", json!({})), action("two", json!({"ifExpression": "actions.one.n == 7"}))],
    ));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(
        (ended.outcome, ended.message.as_str(), ended.failed_at),
        (FiringOutcome::Succeeded, "did one; did two", None)
    );
    assert_eq!(
        stage.told(),
        [
            "render one",
            "intent one 0",
            "durable",
            "execute one First f1",
            "done one",
            "outcome one Succeeded",
            "render two",
            "intent two 0",
            "durable",
            "execute two First f1",
            "done two",
            "outcome two Succeeded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn firings_of_one_group_run_in_order_and_of_others_side_by_side() {
    let stage = Stage::new(&[("slow", &[Play::After(Duration::from_secs(5))])]);
    let before = Instant::now();
    for (group, id) in [("g", "f1"), ("g", "f2"), ("g", "f3"), ("h", "f4")] {
        stage.start(firing("r", group, id, &[action("slow", json!({}))]));
    }
    let ended = stage.ended(4).await;
    let order: Vec<_> = ended.iter().map(|ended| ended.firing.0.to_string()).filter(|id| id != "f4").collect();
    assert_eq!(order, ["f1", "f2", "f3"]);
    assert_eq!(before.elapsed().as_secs(), 15, "f4 did not wait for them");
    let begun: Vec<_> = stage.told().into_iter().filter(|told| told.starts_with("execute")).collect();
    assert_eq!(begun[0], "execute slow First f1");
    assert!(begun[1].ends_with("f4"), "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_holds_up_its_own_rule_only() {
    let stage = Stage::new(&[("hang", &[Play::Hang])]);
    for n in 0..40 {
        stage.start(firing("stuck", &format!("g{n}"), &format!("s{n}"), &[action("hang", json!({}))]));
    }
    stage.start(firing("well", "g", "f", &[action("fine", json!({}))]));
    let ended = stage.ended(1).await;
    assert_eq!(&*ended[0].firing.0, "f");
    let hanging = stage.told().iter().filter(|told| told.starts_with("execute hang")).count();
    assert_eq!((hanging, stage.runner.waiting()), (FIRINGS_PER_RULE, 40 - FIRINGS_PER_RULE));
}

#[tokio::test(start_paused = true)]
async fn what_is_started_while_others_run_is_not_lost() {
    let stage = Stage::new(&[("a", &[Play::After(Duration::from_millis(3))])]);
    for n in 0..200 {
        stage.start(firing("r", &format!("g{}", n % 7), &format!("f{n}"), &[action("a", json!({}))]));
        if n % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert_eq!(stage.ended(200).await.len(), 200);
    assert_eq!(stage.runner.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn firings_of_one_group_run_side_by_side_where_the_rule_allows_it() {
    let stage = Stage::limited(
        &[("slow", &[Play::After(Duration::from_secs(5))])],
        Limit { firings_per_minute: 30, ..Limit::none() },
    );
    let before = Instant::now();
    let allow = |id: &str| {
        let mut open = firing("r", "g", id, &[action("slow", json!({}))]);
        Arc::make_mut(&mut open.spec).concurrency_policy = api::ConcurrencyPolicy::Allow;
        open
    };
    for number in 0..20 {
        stage.start(allow(&format!("f{number}")));
    }
    stage.ended(20).await;
    assert_eq!(before.elapsed().as_secs(), 10, "16 of a rule at a time");
    for number in 20..40 {
        stage.start(allow(&format!("f{number}")));
    }
    stage.ended(40).await;
    assert!(before.elapsed().as_secs() >= 60, "together they are one group, whose pace is limited");
}

#[tokio::test(start_paused = true)]
async fn firings_of_one_record_are_gone_on_with_in_the_order_in_which_they_were_decided() {
    let stage = Stage::new(&[]);
    let left = ["second", "first"].map(|id| stage.put(firing("r", "g", id, &[action("one", json!({}))])));
    let [(second, later), (first, earlier)] = left;
    stage.runner.resume([(second, Brief { order: 2, ..later }), (first, Brief { order: 1, ..earlier })]);
    let ended = stage.ended(2).await;
    assert_eq!(ended.iter().map(|ended| &*ended.firing.0).collect::<Vec<_>>(), ["first", "second"]);
}

/// A firing that only the view has.
fn start_stored(stage: &Stage, id: &str) -> Vec<u8> {
    let open = firing("r", "g", id, &[action("one", json!({}))]);
    let row = serde_json::to_vec(&open).expect("JSON");
    stage.start(open);
    stage.shelf.stored(&FiringId(id.into()));
    assert!(stage.shelf.is_empty());
    row
}

#[tokio::test(start_paused = true)]
async fn a_firing_that_waited_on_disk_is_read_when_its_turn_comes_and_the_disk_answers() {
    let stage = Stage::new(&[]);
    let row = start_stored(&stage, "f1");
    *stage.bus.rows.lock() = vec![Ok(Some(row)), Err(BusError::Full), Err(BusError::Full)];
    let before = Instant::now();
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    assert_eq!(before.elapsed().as_secs(), 2);
    assert!(stage.told().contains(&"execute one First f1".to_owned()), "{:?}", stage.told());
}

#[tokio::test(start_paused = true)]
async fn a_firing_that_cannot_be_read_has_failed_and_the_next_of_its_group_goes_on() {
    let stage = Stage::new(&[]);
    start_stored(&stage, "f1");
    stage.start(firing("r", "g", "f2", &[action("one", json!({}))]));
    *stage.bus.rows.lock() = vec![Ok(Some(b"{".to_vec()))];
    let ended = stage.ended(2).await;
    let told: Vec<_> = ended.iter().map(|ended| (&*ended.firing.0, ended.outcome)).collect();
    assert_eq!(told, [("f1", FiringOutcome::Failed), ("f2", FiringOutcome::Succeeded)]);
    assert!(ended[0].message.contains("what the view has of firing f1 cannot be read"), "{}", ended[0].message);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_fails_ends_the_process() {
    let stage = Stage::new(&[]);
    start_stored(&stage, "f1");
    *stage.bus.rows.lock() = vec![Err(BusError::Storage("it is broken".into()))];
    assert!(stage.runner.failed().await.to_string().contains("it is broken"));
}

#[tokio::test(start_paused = true)]
async fn a_firing_that_is_slowed_down_waits_on_disk() {
    let stage = Stage::limited(&[], Limit { firings_per_minute: 1, ..Limit::none() });
    stage.start(firing("r", "g", "f1", &[action("one", json!({}))]));
    stage.ended(1).await;
    stage.start(firing("r", "g", "f2", &[action("one", json!({}))]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let f2 = FiringId("f2".into());
    let row = serde_json::to_vec(&*stage.shelf.get(&f2).expect("the view does not have it yet")).expect("JSON");
    stage.shelf.stored(&f2);
    assert!(stage.shelf.get(&f2).is_none());
    *stage.bus.rows.lock() = vec![Ok(Some(row))];
    assert_eq!(stage.ended(2).await[1].outcome, FiringOutcome::Succeeded);
}
