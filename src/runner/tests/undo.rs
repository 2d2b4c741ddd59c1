//! `onError: Undo` and `restore`: what is taken back, and that a restart does it once.

use super::*;
use crate::record::{Release, Remember, undo_of};

fn undoing() -> Value {
    json!({"onError": "Undo"})
}

/// An action that changes the Deployment of its name.
fn change(name: &'static str) -> (&'static str, Vec<Play>) {
    (name, vec![Play::Change(name), Play::Succeed])
}

fn stage(plays: &[(&str, Vec<Play>)]) -> Stage {
    let plays: Vec<(&str, &[Play])> = plays.iter().map(|(name, plays)| (*name, plays.as_slice())).collect();
    Stage::new(&plays)
}

fn refused() -> Vec<Play> {
    vec![Play::Fail(FailureKind::Final)]
}

fn back(stage: &Stage) -> Vec<String> {
    let is_back = |told: &String| told.starts_with("take back") || told.contains(".undo") || told.contains("back ");
    stage.told().into_iter().filter(is_back).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_is_taken_back_the_last_first_and_what_cannot_be_is_said() {
    let stage = stage(&[change("one"), change("two"), ("fails", refused())]);
    let actions = [
        action("one", json!({})),
        action("tell", json!({})),
        action("nothing", json!({})),
        action("two", json!({})),
        action("fails", undoing()),
        action("never", json!({})),
    ];
    stage.start(firing("r", "g", "f", &actions));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(
        back(&stage),
        [
            "take back two",
            "intent two.undo 0",
            "execute two First back two",
            "outcome two.undo Succeeded",
            "outcome tell.undo Skipped",
            "take back one",
            "intent one.undo 0",
            "execute one First back one",
            "outcome one.undo Succeeded",
        ]
    );
    assert_eq!(ended.message, "it failed; undone: did two; not undone: tell: it cannot be undone; undone: did one");
    assert!(!stage.told().iter().any(|told| told.contains("never")));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_back_unless_the_action_that_failed_says_so() {
    let stage = stage(&[change("one"), ("fails", refused())]);
    stage.start(firing("r", "g", "f", &[action("one", undoing()), action("fails", json!({}))]));
    stage.ended(1).await;
    assert_eq!(back(&stage), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_an_undoing_goes_on_where_it_stopped() {
    let stage = stage(&[]);
    let names = ["one", "two", "three", "fails"];
    let mut open = firing("r", "g", "f", &names.map(|name| action(name, undoing())));
    for name in ["one", "two", "three"] {
        let step = Step {
            intent: Some((0, json!({"text": "f"}))),
            wrote: Some(changed(name)),
            outcome: Some(ActionOutcome::Succeeded),
            ..Step::default()
        };
        open.steps.insert(name.into(), step);
    }
    let failed = Step { outcome: Some(ActionOutcome::Failed), message: "no".into(), ..Step::default() };
    let undone = Step { outcome: Some(ActionOutcome::Succeeded), message: "did".into(), ..Step::default() };
    let begun = Step { intent: Some((0, json!({"text": "as recorded"}))), ..Step::default() };
    open.steps.extend([("fails".into(), failed), (undo_of("three"), undone), (undo_of("two"), begun)]);
    stage.resume([open]);
    let ended = stage.ended(1).await.remove(0);
    let executed: Vec<_> = stage.told().into_iter().filter(|told| told.starts_with("execute")).collect();
    assert_eq!(executed, ["execute two Again as recorded", "execute one First back one"]);
    assert_eq!(ended.message, "no; undone: did; undone: did two; undone: did one");
}

#[tokio::test(start_paused = true)]
async fn failure_actions_come_after_the_undoing() {
    let stage = stage(&[change("one"), ("fails", refused())]);
    let mut open = firing("r", "g", "f", &[action("one", json!({})), action("fails", undoing())]);
    let after = json!([action("tell", json!({}))]);
    Arc::make_mut(&mut open.spec).failure_actions = serde_json::from_value(after).expect("actions");
    stage.start(open);
    stage.ended(1).await;
    let told = stage.told();
    let place = |what: &str| told.iter().position(|told| told == what).expect(what);
    assert!(place("outcome one.undo Succeeded") < place("render tell"), "{told:?}");
}

/// What the log was told to remember, and in which record.
fn remembered(stage: &Stage) -> Vec<(String, Remember)> {
    let records = stage.bus.records.lock();
    let told = |record: &Record| match record {
        Record::Intent(intent) => Some((format!("intent {}", intent.action), (**intent.remember.as_ref()?).clone())),
        Record::Outcome(outcome) => {
            Some((format!("outcome {}", outcome.action), (**outcome.remember.as_ref()?).clone()))
        }
        _ => None,
    };
    records.iter().filter_map(told).collect()
}

fn lent(name: &str, more: Value) -> Value {
    let target = json!({"kind": "Deployment", "name": "s"});
    let mut action = json!({"name": name, "scale": {"target": target, "to": 1, "restore": {"after": "30s"}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        action[key] = value.clone();
    }
    action
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_given_back_is_told_with_the_change_and_taken_back_with_its_undoing() {
    let stage = stage(&[change("one"), ("fails", refused())]);
    stage.start(firing("r", "g", "f", &[lent("one", json!({})), action("fails", undoing())]));
    stage.ended(1).await;
    let told = remembered(&stage);
    let places: Vec<_> = told.iter().map(|(place, one)| (place.as_str(), one.release)).collect();
    assert_eq!(places, [("outcome one", Release::After(30_000_000)), ("outcome one.undo", Release::Undone)]);
    assert_eq!((&told[0].1.change.back, &told[0].1.change.made), (&told[1].1.change.made, &told[1].1.change.back));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_waits_tells_it_when_it_begins_to_wait() {
    let done = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "one", "namespace": "shop", "uid": "one"}});
    let fake = Fake::new(move |seen| match seen.path.as_str() {
        "/apis/apps/v1/namespaces/shop/deployments/one" => (200, done.clone()),
        _ => testing::common(seen).unwrap_or((404, json!({}))),
    });
    let stage = Stage::on(&fake, &[("one", &[Play::Change("one")])], Limit::none());
    let waits = json!({"waitFor": {"expression": "true"}});
    stage.start(firing("r", "g", "f", &[lent("one", waits)]));
    stage.ended(1).await;
    let places: Vec<_> = remembered(&stage).into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["intent one"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_so_though_the_rule_is_gone_or_only_observes() {
    let stage = stage(&[]);
    let mut open = firing("r", "g", "f", &[action("a", json!({}))]);
    Arc::make_mut(&mut open.spec).mode = crate::api::RuleMode::Observe;
    open.firing.kind = crate::api::FiringKind::Restored;
    let change = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "one", "uid": "u", "subresource": "scale",
        "manager": "m", "back": {"replicas": 2}, "made": {"replicas": 4}});
    open.firing.restores = Some(Box::new(serde_json::from_value(change).expect("a change")));
    let (id, brief) = stage.put(open);
    stage.runner.remove(&RuleUid("r".into()));
    stage.runner.start_alone(&id, &brief);
    let ended = stage.ended(1).await.remove(0);
    assert_eq!((ended.outcome, &*ended.message), (FiringOutcome::Succeeded, "given back: did restore"));
    let told = stage.told();
    assert_eq!(told[..2], ["take back one", "intent restore 0"]);
}

#[tokio::test(start_paused = true)]
async fn who_only_waits_has_no_place_of_its_rule_and_ends_with_it() {
    let stage = Stage::new(&[("pause", &[Play::After(Duration::from_secs(3600))])]);
    for number in 0..FIRINGS_PER_RULE + 4 {
        stage.start(firing("r", &format!("g{number}"), &format!("f{number}"), &[action("pause", json!({}))]));
    }
    stage.start(firing("r", "other", "other", &[action("quick", json!({}))]));
    assert_eq!(*stage.ended(1).await[0].firing.0, *"other");
    stage.runner.remove(&RuleUid("r".into()));
    let ended = stage.ended(FIRINGS_PER_RULE + 5).await;
    assert!(ended[1..].iter().all(|one| one.message == "ended before all was done: the rule was deleted"), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn what_got_no_answer_is_remembered_as_what_may_have_been_made_and_what_was_refused_is_not() {
    let silent = || Play::Fail(FailureKind::Retryable { after: None });
    let silent_then_refused = [vec![silent()], refused()].concat();
    for (plays, told) in [(vec![silent()], true), (refused(), false), (silent_then_refused, true)] {
        let stage = stage(&[("unsure", plays)]);
        stage.start(firing("r", "g", "f", &[lent("unsure", json!({"retry": {"limit": 1}}))]));
        assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Failed);
        let unsure: Vec<_> = remembered(&stage).into_iter().map(|(place, one)| (place, one.change.unsure)).collect();
        let expected = if told { vec![("outcome unsure".to_owned(), true)] } else { Vec::new() };
        assert_eq!(unsure, expected);
    }
}

/// A firing that gives the Deployment of this name back, decided before the record at this position.
fn gives_back(name: &str, input: u64) -> OpenFiring {
    let mut open = firing("r", "g", "back", &[action("a", json!({}))]);
    open.firing.kind = crate::api::FiringKind::Restored;
    open.firing.input = Position(input);
    let change = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": name, "subresource": "scale",
        "manager": "m", "back": {"was": "f"}, "made": {"is": "f"}});
    open.firing.restores = Some(Box::new(serde_json::from_value(change).expect("a change")));
    open
}

#[tokio::test(start_paused = true)]
async fn what_another_firing_has_taken_hold_of_since_is_not_given_back() {
    // The firing that takes hold records an intent and an outcome: positions 1 and 2.
    for (input, given) in [(3, true), (2, false), (1, false)] {
        let stage = stage(&[change("one")]);
        stage.start(firing("r", "g", "f", &[lent("one", json!({}))]));
        stage.ended(1).await;
        let (id, brief) = stage.put(gives_back("one", input));
        stage.runner.start_alone(&id, &brief);
        let ended = stage.ended(2).await.remove(1);
        assert_eq!(ended.message.contains("is held again by another firing"), !given, "{input}: {}", ended.message);
        assert_eq!(stage.told().contains(&"take back one".to_owned()), given);
    }
    // What another value is about is no reason, and of an earlier process it is told.
    let stage = stage(&[change("one")]);
    stage.start(firing("r", "g", "f", &[lent("one", json!({}))]));
    stage.ended(1).await;
    let (id, brief) = stage.put(gives_back("two", 1));
    stage.runner.start_alone(&id, &brief);
    assert_eq!(stage.ended(2).await.remove(1).message, "given back: did restore");
    let mut later = gives_back("three", 9);
    later.firing.id = FiringId("later".into());
    let (id, brief) = stage.put(later);
    stage.runner.held_again(id.clone());
    stage.runner.start_alone(&id, &brief);
    assert!(stage.ended(3).await.remove(2).message.contains("is held again"));
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_of_a_rule_that_is_gone_ends_with_an_outcome_and_may_have_been_made() {
    let stage = stage(&[]);
    let mut open = firing("r", "g", "f", &[lent("unsure", json!({})), action("next", json!({}))]);
    open.steps.insert("unsure".into(), Step { intent: Some((0, json!({"text": "f"}))), ..Step::default() });
    let known = stage.put(open);
    stage.runner.end([known]);
    stage.ended(1).await;
    let unsure: Vec<_> = remembered(&stage).into_iter().map(|(place, one)| (place, one.change.unsure)).collect();
    assert_eq!(unsure, [("outcome unsure".to_owned(), true)]);
    assert_eq!(stage.told(), ["outcome unsure Failed"], "nothing is carried out");
}
