//! What a rule writes itself does not make it fire.

use std::collections::BTreeMap;

use super::*;
use crate::record::{Beside, OpenFiring, Step};

/// A rule on updates of Deployments.
fn engine() -> Engine {
    engine_with(json!({"sources": [{"name": "any", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}]}))
}

/// An update of the Deployment that made this version of it.
fn update(name: &str, version: u64) -> EventInput {
    let mut input = change("Update", "Deployment", Some("shop"), name, json!({}));
    Arc::get_mut(&mut input.event).expect("one owner").id = format!("uid-{name}/{version}");
    input.origin.uid = format!("uid-{name}");
    input.origin.seen = Some(Seen::new(version, 0, format!("shop/{name}")));
    input
}

/// The Deployment is gone.
fn deletion(name: &str, version: u64) -> EventInput {
    let mut input = change("Delete", "Deployment", Some("shop"), name, json!({}));
    Arc::get_mut(&mut input.event).expect("one owner").id = format!("uid-{name}/{version}");
    input.origin.uid = format!("uid-{name}");
    input.origin.seen = None;
    input
}

/// A firing's step is about to write the Deployment.
fn begin(engine: &mut Engine, firing: &str, name: &str) {
    let writes = Some(Writes { rule: rule_ref("web").uid, object: format!("shop/Deployment/{name}") });
    let firing = FiringId(firing.into());
    let intent = Intent {
        firing,
        action: "grow".into(),
        rendering: 0,
        request: json!({}),
        writes,
        deadline: None,
        remember: None,
    };
    engine.fold(&head(50, 50), &Record::Intent(intent));
}

/// The step has an outcome: it wrote this version, or its answer is not known. Tells what the events that waited for it come to.
fn end(engine: &mut Engine, firing: &str, name: &str, version: Option<u64>) -> Vec<String> {
    settle(engine, firing, name, version, false)
}

fn settle(engine: &mut Engine, firing: &str, name: &str, version: Option<u64>, found: bool) -> Vec<String> {
    end_with(engine, firing, version.map(|version| effect(name, version, found)))
}

fn effect(name: &str, version: u64, found: bool) -> Effect {
    Effect {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: name.into(),
        uid: format!("uid-{name}"),
        resource_version: Some(version.to_string()),
        found,
        gone: false,
        reason: "ScaledByRule".into(),
    }
}

fn end_with(engine: &mut Engine, firing: &str, effect: Option<Effect>) -> Vec<String> {
    let (firing, outcome) = (FiringId(firing.into()), ActionOutcome::Succeeded);
    let outcome = Outcome {
        firing,
        action: "grow".into(),
        outcome,
        message: String::new(),
        result: Value::Null,
        effect,
        reason: None,
        remember: None,
    };
    fold(engine, &Record::Outcome(outcome))
}

fn fold(engine: &mut Engine, record: &Record) -> Vec<String> {
    let at = head(60, 60);
    engine.fold(&at, record);
    let mut words = Vec::new();
    for released in engine.take_released() {
        let judged = engine.judge_released(&at, &released);
        engine.decide(&released.head(&at), &released.input, &judged.seen, &judged.decisions);
        words.extend(judged.decisions.iter().map(word));
    }
    words
}

/// A firing whose step was about to write the Deployment when the process ended.
fn writing(firing: &str, name: &str) -> OpenFiring {
    let writes = Some(Writes { rule: rule_ref("web").uid, object: format!("shop/Deployment/{name}") });
    let step = Step { intent: Some((0, json!({}))), writes, ..Step::default() };
    let firing = super::firing(firing, "web", "any", 1);
    let (event, spec) = (update(name, 1).event, spec(json!({})));
    OpenFiring { firing, event, events: Vec::new(), spec, steps: BTreeMap::from([("grow".to_owned(), step)]) }
}

const FIRED: &str = "fired shop/Deployment/db by any";

#[test]
fn a_write_of_ours_that_is_answered_does_not_fire_the_rule() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    assert!(end(&mut engine, "f1", "db", Some(7)).is_empty());
    assert_eq!(run(&mut engine, &[update("db", 7)]), ["own write shop/Deployment/db"]);
    assert_eq!(run(&mut engine, &[update("db", 8)]), [FIRED], "somebody else's write does");
    let counts = engine.progress(&rule_ref("web").uid).expect("progress").counts;
    assert_eq!((counts.matched, counts.fired, counts.suppressed.own_write, counts.suppressed.total), (2, 1, 1, 1));
}

#[test]
fn nothing_that_is_heard_of_an_object_that_the_rule_deletes_fires_it() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    assert_eq!(run(&mut engine, &[update("db", 7)]), ["waits for shop/Deployment/db"]);
    let gone = Effect { gone: true, resource_version: None, ..effect("db", 7, false) };
    assert_eq!(end_with(&mut engine, "f1", Some(gone)), ["own write shop/Deployment/db"]);
    let heard = [update("db", 8), deletion("db", 9)];
    assert_eq!(run(&mut engine, &heard), ["own write shop/Deployment/db"; 2]);
    assert_eq!(run(&mut engine, &[update("db", 10)]), [FIRED], "it is gone: nothing is heard of it any more");
}

/// The step begins with one more object, or ends with it.
fn beside(engine: &mut Engine, name: &str, over: bool, effect: Option<Effect>) -> Vec<String> {
    let writes = Writes { rule: rule_ref("web").uid, object: format!("shop/Deployment/{name}") };
    let beside = Beside { firing: FiringId("f1".into()), action: "grow".into(), writes, over, effect };
    fold(engine, &Record::Beside(beside))
}

#[test]
fn what_a_step_takes_away_beside_its_own_object_fires_nothing_each_by_itself() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    for name in ["a", "b"] {
        assert!(beside(&mut engine, name, false, None).is_empty());
    }
    let heard = [update("a", 3), update("b", 4), update("c", 5)];
    let waits = ["waits for shop/Deployment/a", "waits for shop/Deployment/b", "fired shop/Deployment/c by any"];
    assert_eq!(run(&mut engine, &heard), waits);
    let gone = Effect { gone: true, resource_version: None, ..effect("a", 3, false) };
    assert_eq!(beside(&mut engine, "a", true, Some(gone)), ["own write shop/Deployment/a"]);
    assert_eq!(run(&mut engine, &[deletion("a", 6)]), ["own write shop/Deployment/a"]);
    assert_eq!(beside(&mut engine, "b", true, None), ["fired shop/Deployment/b by any"], "it was refused");
    assert_eq!(run(&mut engine, &[update("db", 7)]), ["waits for shop/Deployment/db"], "its own object waits still");
}

#[test]
fn what_a_step_had_begun_beside_its_own_object_is_let_go_with_its_outcome_also_after_a_restart() {
    for restarts in [false, true] {
        let mut engine = engine();
        begin(&mut engine, "f1", "db");
        beside(&mut engine, "a", false, None);
        run(&mut engine, &[update("a", 3)]);
        if restarts {
            let rows = engine.dirty().into_iter().filter_map(|(table, key, row)| Some((table, key, row?)));
            engine = Engine::restore(log(), rows).0;
            let mut open = writing("f1", "db");
            open.steps.values_mut().for_each(|step| step.beside = ["shop/Deployment/a".to_owned()].into());
            engine.resume_writes(&open);
        }
        assert_eq!(end(&mut engine, "f1", "db", None), ["fired shop/Deployment/a by any"], "{restarts}");
    }
}

#[test]
fn a_change_that_is_faster_than_the_answer_waits_for_it() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    let waits = "waits for shop/Deployment/db";
    assert_eq!(run(&mut engine, &[update("db", 6), update("db", 7), update("db", 8)]), [waits; 3]);
    assert_eq!(run(&mut engine, &[update("web", 9)]), ["fired shop/Deployment/web by any"], "others do not wait");
    assert_eq!(end(&mut engine, "f1", "db", Some(7)), [FIRED, "own write shop/Deployment/db", FIRED]);
    let counts = engine.progress(&rule_ref("web").uid).expect("progress").counts;
    assert_eq!((counts.seen, counts.matched, counts.fired), (4, 4, 3), "each was seen once");
}

#[test]
fn what_waits_is_judged_when_the_answer_is_never_known() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    run(&mut engine, &[update("db", 6)]);
    assert_eq!(end(&mut engine, "f1", "db", None), [FIRED]);
    begin(&mut engine, "f2", "db");
    run(&mut engine, &[update("db", 7)]);
    let rule = rule_ref("web").uid;
    let finished = Finished {
        firing: FiringId("f2".into()),
        rule,
        outcome: FiringOutcome::Failed,
        message: "m".into(),
        failed_at: None,
    };
    assert_eq!(fold(&mut engine, &Record::Finished(finished)), [FIRED]);
}

#[test]
fn a_step_that_wrote_nothing_and_waits_holds_up_no_event() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    run(&mut engine, &[update("db", 6)]);
    let firing = FiringId("f1".into());
    let waits = Intent {
        firing,
        action: "grow".into(),
        rendering: 1,
        request: json!({}),
        writes: None,
        deadline: None,
        remember: None,
    };
    assert_eq!(fold(&mut engine, &Record::Intent(waits)), [FIRED]);
    assert_eq!(run(&mut engine, &[update("db", 7)]), [FIRED]);
}

#[test]
fn of_two_steps_that_write_one_object_both_are_waited_for() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    begin(&mut engine, "f2", "db");
    run(&mut engine, &[update("db", 6), update("db", 7)]);
    assert!(end(&mut engine, "f1", "db", Some(7)).is_empty());
    assert_eq!(end(&mut engine, "f2", "db", Some(6)), ["own write shop/Deployment/db"; 2]);
    assert_eq!(engine.progress(&rule_ref("web").uid).expect("progress").counts.seen, 2);
}

#[test]
fn another_rules_write_is_no_write_of_ours() {
    let mut engine = engine();
    let other =
        spec(json!({"sources": [{"name": "any", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}]}));
    put(&mut engine, "other", 1, &other);
    listen(&mut engine, "other", 1, "any", true);
    begin(&mut engine, "f1", "db");
    let words = run(&mut engine, &[update("db", 7)]);
    assert_eq!(words, [FIRED, "waits for shop/Deployment/db"], "in the order of uids: other, web");
    assert_eq!(end(&mut engine, "f1", "db", Some(7)), ["own write shop/Deployment/db"]);
}

#[test]
fn what_was_found_by_comparing_lists_is_ours_if_our_write_is_in_it_and_stands() {
    let found = |before, version, mark: &str| {
        let mut input = update("db", version);
        input.origin.before = Some(before);
        input.origin.marks = vec![mark.into()];
        input
    };
    let (ours, others) = ("signalbox-f1-grow", "signalbox-f0-grow");
    for (input, word) in
        [(found(6, 9, ours), "own write shop/Deployment/db"), (found(6, 9, others), FIRED), (found(7, 9, ours), FIRED)]
    {
        let mut engine = engine();
        begin(&mut engine, "f1", "db");
        end(&mut engine, "f1", "db", Some(7));
        assert_eq!(run(&mut engine, &[input]), [word]);
    }
}

#[test]
fn what_waits_and_what_was_written_outlive_a_restart() {
    let mut one = engine();
    begin(&mut one, "f1", "db");
    end(&mut one, "f1", "db", Some(5));
    begin(&mut one, "f1", "web");
    begin(&mut one, "f2", "db");
    run(&mut one, &[update("db", 6)]);
    let rows = one.dirty().into_iter().filter_map(|(table, key, row)| Some((table, key, row?)));
    let (mut two, damage) = Engine::restore(log(), rows);
    assert!(damage.is_empty(), "{damage:?}");
    // What waits for the second waits while only the first is known.
    two.resume_writes(&writing("f1", "web"));
    two.resume_writes(&writing("f2", "db"));
    assert!(two.take_released().is_empty());
    assert_eq!(run(&mut two, &[update("db", 5)]), ["waits for shop/Deployment/db"]);
    assert_eq!(end(&mut two, "f2", "db", Some(6)), ["own write shop/Deployment/db"; 2]);
}

#[test]
fn a_step_without_end_holds_up_so_many_events_and_no_more() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    let events: Vec<_> = (0..300).map(|version| update("db", version)).collect();
    let words = run(&mut engine, &events);
    assert_eq!(words.iter().filter(|word| **word == "waits for shop/Deployment/db").count(), 256);
    assert_eq!(words.iter().filter(|word| **word == FIRED).count(), 44);
}

#[test]
fn nothing_is_kept_for_a_rule_that_does_not_listen_to_what_it_writes() {
    let mut engine = engine_with(json!({"sources": [{"name": "any", "kubernetesEvent": {}}]}));
    engine.dirty();
    begin(&mut engine, "f1", "db");
    end(&mut engine, "f1", "db", Some(7));
    assert!(engine.dirty().is_empty());
}

#[test]
fn of_a_write_that_was_found_done_the_first_version_with_its_mark_is_ours() {
    let marked = |version| {
        let mut input = update("db", version);
        input.origin.marks = vec!["signalbox-f0-grow".into(), "signalbox-f1-grow".into()];
        input
    };
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    run(&mut engine, &[update("db", 5), marked(6), marked(7)]);
    let words = settle(&mut engine, "f1", "db", Some(7), true);
    assert_eq!(words, [FIRED, "own write shop/Deployment/db", FIRED]);
    begin(&mut engine, "f1", "db");
    settle(&mut engine, "f1", "db", Some(9), true);
    assert_eq!(run(&mut engine, &[marked(10)]), [FIRED], "later than what was found");
}

#[test]
fn a_step_that_turns_to_another_object_lets_go_of_what_waited_for_the_first() {
    let mut engine = engine();
    begin(&mut engine, "f1", "db");
    run(&mut engine, &[update("db", 6)]);
    begin(&mut engine, "f1", "web");
    assert_eq!(engine.take_released().len(), 1);
    assert_eq!(run(&mut engine, &[update("web", 7)]), ["waits for shop/Deployment/web"]);
}

/// A rule has written the Deployment `a` in answer to its version before, so often.
fn chained(engine: &mut Engine, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        let mut open = writing("f1", "a");
        open.firing.rule = rule_ref("other");
        open.event = update("a", version - 1).event;
        engine.wrote(&head(60, 60), &open, &effect("a", version, false));
    }
}

#[test]
fn changes_that_come_of_each_other_by_more_steps_than_eight_are_a_loop_and_what_others_do_is_none() {
    let mut engine = engine();
    chained(&mut engine, 2..=10);
    let (fired, ends) = ("fired shop/Deployment/a by any", "loop shop/Deployment/a");
    assert_eq!(run(&mut engine, &[update("a", 9), update("a", 10), update("a", 11)]), [fired, ends, fired]);
    let led: Vec<_> = engine.led(&update("a", 4).event, &update("a", 4).origin).into_iter().cloned().collect();
    assert_eq!(led, vec![rule_ref("other").uid; 3]);
    let rows = engine.dirty().into_iter().filter_map(|(table, key, row)| Some((table, key, row?)));
    let (mut again, damage) = Engine::restore(log(), rows);
    assert!(damage.is_empty(), "{damage:?}");
    assert_eq!(run(&mut again, &[update("a", 10)]), [ends], "also after a restart");
    chained(&mut again, 100..=700);
    assert_eq!(run(&mut again, &[update("a", 10), update("a", 700)]), [fired, ends], "the oldest are forgotten");
}

#[test]
fn a_write_that_leaves_an_object_as_it_was_makes_no_circle_of_what_led_to_it() {
    let mut engine = engine();
    let answered = |engine: &mut Engine, cause: u64, version: u64| {
        let mut open = writing("f1", "a");
        open.event = update("a", cause).event;
        engine.wrote(&head(60, 60), &open, &effect("a", version, false));
    };
    answered(&mut engine, 5, 5);
    answered(&mut engine, 5, 6);
    answered(&mut engine, 6, 5);
    answered(&mut engine, 6, 7);
    let led = |version| engine.led(&update("a", version).event, &update("a", version).origin).len();
    assert_eq!([led(5), led(6), led(7)], [0, 1, 2]);
}

#[test]
fn a_deletion_that_a_rule_made_is_a_step_of_a_chain() {
    let mut engine = engine();
    chained(&mut engine, 2..=9);
    let mut open = writing("f1", "a");
    open.event = update("a", 9).event;
    engine.wrote(&head(60, 60), &open, &Effect { gone: true, resource_version: None, ..effect("a", 9, false) });
    assert_eq!(
        run(&mut engine, &[deletion("a", 12), deletion("b", 12)]),
        ["loop shop/Deployment/a", "fired shop/Deployment/b by any"]
    );
}

#[test]
fn a_change_that_comes_before_the_answer_is_a_step_while_it_is_written_and_its_mark_says_so() {
    let marked = |version, mark: &str| {
        let mut input = update("a", version);
        input.origin.marks = vec![mark.into()];
        input
    };
    let (fired, ends) = ("fired shop/Deployment/a by any", "loop shop/Deployment/a");
    let mut engine = engine();
    chained(&mut engine, 2..=9);
    let mut open = writing("f2", "a");
    open.event = update("a", 9).event;
    engine.writes(&open, "grow");
    let (ours, others) = ("signalbox-f2-grow", "signalbox-f3-grow");
    assert_eq!(run(&mut engine, &[marked(10, ours), marked(10, others)]), [ends, fired]);
    end(&mut engine, "f2", "a", None);
    assert_eq!(run(&mut engine, &[marked(11, ours)]), [fired], "the mark stays, and says nothing of later changes");
}
