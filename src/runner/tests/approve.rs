//! Steps that wait for a person.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::kubernetes::{
    fake::Seen,
    policy::tests::{binding, policy},
};

fn asks() -> Value {
    json!({"name": "sure", "approve": {"timeout": "1h"}})
}

/// A cluster whose policy checks approvals, or an older one that does not.
fn answer(checks: bool, seen: &Seen) -> (u16, Value) {
    let mut policy = policy();
    if !checks {
        policy["spec"]["validations"].as_array_mut().expect("a list").remove(1);
    }
    match seen.path.contains("admissionregistration") {
        true if seen.path.contains("bindings/") => (200, binding()),
        true => (200, policy),
        false => testing::common(seen).unwrap_or((404, json!({}))),
    }
}

fn stage(checks: bool) -> Stage {
    Stage::on(&Fake::new(move |seen| answer(checks, seen)), &[], Limit::none())
}

fn say(stage: &Stage, said: &str) {
    stage.runner.0.services.cluster.approvals().set("r", Some(said));
}

async fn for_seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn asked(stage: &Stage) -> Option<(u32, Value)> {
    stage.bus.records.lock().iter().rev().find_map(|record| match record {
        Record::Intent(intent) if intent.action == "sure" => Some((intent.rendering, intent.request.clone())),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_it_is_done_when_somebody_has_approved_and_his_name_is_a_result() {
    let stage = stage(true);
    let later = action("tell", json!({"notify": {"sinkRef": {"name": "s"}, "text": "${actions.sure.by}"}}));
    stage.start(firing("r", "g", "f", &[asks(), later]));
    for_seconds(600).await;
    assert_eq!(asked(&stage).map(|(_, request)| request), Some(json!({"approveUntil": 3_601_000_000_i64})));
    assert_eq!(stage.outcomes(), [], "it waits");
    for other in ["approve f-other jane", "approve g-sure jane", "approve f-sure", "approve"] {
        say(&stage, other);
        for_seconds(1).await;
        assert_eq!(stage.outcomes(), [], "{other}");
    }
    say(&stage, "approve f-sure Jane van Dam");
    stage.ended(1).await;
    assert_eq!(stage.outcomes()[0], ("sure".into(), ActionOutcome::Succeeded, "approved by Jane van Dam".into()));
    assert!(stage.told().contains(&"execute tell First Jane van Dam".to_owned()), "{:?}", stage.told());
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_or_not_approved_in_time_fails_and_nothing_after_it_is_done() {
    for (said, message) in [
        (Some("deny f-sure jane"), "denied by jane"),
        (None, "not approved within 1h: kubectl signalbox approve r f -n shop was waited for"),
    ] {
        let stage = stage(true);
        stage.start(firing("r", "g", "f", &[asks(), action("tell", json!({}))]));
        said.into_iter().for_each(|said| say(&stage, said));
        let ended = stage.ended(1).await.remove(0);
        assert_eq!((ended.outcome, ended.failed_at.as_deref()), (FiringOutcome::Failed, Some("actions[sure]")));
        assert_eq!(ended.message, message);
        assert_eq!(stage.outcomes().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_checks_who_approves_nothing_is_approved() {
    let open = stage(false);
    open.start(firing("r", "g", "f", &[asks()]));
    let message = open.ended(1).await.remove(0).message;
    for part in
        ["nobody checks who approves", "no validation has the expression for approvals", "admissionPolicy.enabled"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(asked(&open), None, "it did not begin to wait");

    // The policy went while it waited.
    let checked = Arc::new(AtomicBool::new(true));
    let now = checked.clone();
    let fake = Fake::new(move |seen| answer(now.load(Ordering::SeqCst), seen));
    let stage = Stage::on(&fake, &[], Limit::none());
    stage.start(firing("r", "g", "f", &[asks()]));
    for_seconds(60).await;
    checked.store(false, Ordering::SeqCst);
    say(&stage, "approve f-sure jane");
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(ended.outcome, FiringOutcome::Failed);
    assert!(ended.message.contains("nobody checks who approves"), "{}", ended.message);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_waiting_to_the_same_end() {
    let stage = stage(true);
    let open = firing("r", "g", "f", &[asks()]);
    stage.start(open.clone());
    for_seconds(60).await;
    let intent = asked(&stage);
    assert!(stage.runner.drain(Duration::from_secs(1)).await, "who only waits ends at once");
    assert_eq!(stage.outcomes(), []);
    let resumed = |until: i64| {
        let mut resumed = open.clone();
        let intent = intent.clone().map(|(rendering, _)| (rendering, json!({"approveUntil": until})));
        resumed.steps.insert("sure".into(), Step { intent, ..Step::default() });
        resumed
    };
    let next = self::stage(true);
    next.resume([resumed(3_601_000_000)]);
    say(&next, "approve f-sure jane");
    next.ended(1).await;
    assert_eq!((next.outcomes()[0].2.as_str(), asked(&next)), ("approved by jane", None));
    let late = self::stage(true);
    let began = Instant::now();
    // Half a minute is left of the hour.
    late.resume([resumed(31_000_000)]);
    late.ended(1).await;
    assert!(late.outcomes()[0].2.starts_with("not approved within 1h"), "{:?}", late.outcomes());
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_person_holds_no_place_and_a_deleted_rule_ends_it() {
    let stage = stage(true);
    let many = FIRINGS_PER_RULE * 2;
    for number in 0..many {
        stage.start(firing("r", &format!("g{number}"), &format!("f{number}"), &[asks()]));
    }
    stage.start(firing("r", "last", "fl", &[action("tell", json!({}))]));
    for_seconds(5).await;
    assert_eq!(stage.outcomes().iter().map(|outcome| outcome.0.as_str()).collect::<Vec<_>>(), ["tell"]);
    stage.runner.remove(&RuleUid("r".into()));
    stage.ended(many + 1).await;
    assert!(stage.outcomes()[1..].iter().all(|outcome| outcome.2.contains("the rule was deleted")));
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_observes_waits_for_nobody() {
    let stage = stage(false);
    let mut open = firing("r", "g", "f", &[asks()]);
    let mut spec = (*open.spec).clone();
    spec.mode = api::RuleMode::Observe;
    open.spec = Arc::new(spec);
    stage.start(open);
    let ended = stage.ended(1).await.remove(0);
    assert_eq!((ended.outcome, ended.message.as_str()), (FiringOutcome::Observed, "would wait for an approval"));
}
