//! `restore`: when what a rule has changed is given back, over edits, restarts and the end of the rule; and what is refused of it.

use super::{timeline::Timeline, *};
use crate::record::{Change, Release, Remember};

fn remember(from: i64, to: i64, release: Release) -> Remember {
    let change = Change {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: "web".into(),
        uid: "u".into(),
        subresource: Some("scale".into()),
        manager: "m".into(),
        unsure: false,
        back: json!({"replicas": from}),
        made: json!({"replicas": to}),
    };
    Remember { rule: rule_ref("web").uid, change, release }
}

/// The step of the last firing has changed the Deployment.
fn changes(line: &mut Timeline, second: i64, from: i64, to: i64, release: Release) {
    changed(line, second, remember(from, to, release));
}

fn changed(line: &mut Timeline, second: i64, remember: Remember) {
    let firing = line.fired.last().expect("a firing").id.clone();
    let outcome = Outcome {
        firing,
        action: "grow".into(),
        outcome: ActionOutcome::Succeeded,
        message: String::new(),
        result: Value::Null,
        effect: None,
        reason: None,
        remember: Some(Box::new(remember)),
    };
    line.fold(second, &Record::Outcome(outcome));
}

fn finish(line: &mut Timeline, second: i64) {
    let firing = line.fired.last().expect("a firing").id.clone();
    let rule = rule_ref("web").uid;
    let finished =
        Finished { firing, rule, outcome: FiringOutcome::Succeeded, message: String::new(), failed_at: None };
    line.fold(second, &Record::Finished(finished));
}

fn grow(restore: Value) -> Value {
    let target = json!({"kind": "Deployment", "name": "web"});
    json!([{"name": "grow", "scale": {"target": target, "by": "2", "restore": restore}}])
}

fn pod(name: &str) -> EventInput {
    about("shop", name, "R", json!({}))
}

const BACK: &str = "gives back {\"replicas\":2} of Deployment shop/web";
const TEN: Release = Release::After(10 * SECOND);

#[test]
fn it_is_given_back_after_its_time_also_after_a_restart_and_once() {
    for restarts in [false, true] {
        let mut line = Timeline::of(json!({"actions": grow(json!({"after": "10s"}))}));
        line.event(0, &pod("a"));
        changes(&mut line, 1, 2, 4, TEN);
        line.event(5, &pod("b"));
        changes(&mut line, 6, 4, 6, TEN);
        if restarts {
            line.restart();
        }
        assert_eq!(line.tick(15), [""; 0], "the second firing holds it");
        assert_eq!(line.tick(100), [BACK]);
        let firing = line.fired.last().expect("a firing");
        assert_eq!((firing.kind, firing.stamp.at), (FiringKind::Restored, 16 * SECOND));
        assert_eq!(firing.restores.as_ref().expect("a change").made, json!({"replicas": 6}));
        if restarts {
            line.restart();
        }
        assert_eq!(line.tick(200), [""; 0], "it is being given back");
        finish(&mut line, 201);
        assert_eq!(line.tick(300), [""; 0]);
    }
}

#[test]
fn what_is_due_at_one_instant_for_two_objects_is_given_back_by_two_firings() {
    let mut line = Timeline::of(json!({"actions": grow(json!({"after": "10s"}))}));
    line.event(0, &pod("a"));
    for uid in ["u", "v"] {
        let mut remember = remember(2, 4, TEN);
        remember.change.uid = uid.into();
        changed(&mut line, 1, remember);
    }
    assert_eq!(line.tick(100), [BACK; 2]);
    let [.., one, other] = line.fired.as_slice() else { unreachable!("two firings") };
    assert_ne!(one.id, other.id);
}

#[test]
fn it_is_given_back_when_all_that_hold_it_have_ended() {
    let rule = json!({
        "sources": [{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}],
        "when": [{"name": "down", "expression": "object.status.down"}],
        "trigger": {"held": {"for": "1s"}}, "actions": grow(json!({"when": "Resolved"})),
    });
    let seen = |name: &str, down: bool| {
        let mut input = change("Update", "Deployment", Some("shop"), name, json!({}));
        let event = Arc::get_mut(&mut input.event).expect("one owner");
        event.data["object"]["status"] = json!({"down": down});
        input
    };
    let mut line = Timeline::of(rule.clone());
    for (name, from, to) in [("a", 2, 4), ("b", 4, 6)] {
        line.event(0, &seen(name, true));
        line.tick(2);
        changes(&mut line, 2, from, to, Release::Resolved);
    }
    assert_eq!(line.event(10, &seen("a", false)), ["resolved shop/Deployment/a"]);
    assert_eq!(line.tick(20), [""; 0], "b holds it");
    assert_eq!(line.event(30, &seen("b", false)), ["resolved shop/Deployment/b"]);
    assert_eq!(line.tick(31), [BACK]);

    // What ended before the write was known, and what is not looked at any more.
    let mut line = Timeline::of(rule.clone());
    line.event(0, &seen("a", true));
    line.tick(2);
    line.event(3, &seen("a", false));
    changes(&mut line, 4, 2, 4, Release::Resolved);
    assert_eq!(line.tick(5), [BACK]);
    let mut line = Timeline::of(rule.clone());
    line.event(0, &seen("a", true));
    line.tick(2);
    changes(&mut line, 3, 2, 4, Release::Resolved);
    let mut suspended = rule;
    suspended["suspend"] = json!(true);
    line.put(4, 2, suspended);
    assert_eq!(line.tick(5), [BACK], "also while the rule is suspended");
}

#[test]
fn it_neither_counts_against_the_rule_nor_holds_up_its_groups() {
    let mut line = Timeline::of(json!({"actions": grow(json!({"after": "10s"})), "concurrencyPolicy": "Forbid",
        "throttle": {"budget": {"firings": 2, "per": "1h", "scope": "Rule"}}}));
    line.event(0, &pod("a"));
    changes(&mut line, 1, 2, 4, TEN);
    finish(&mut line, 2);
    assert_eq!(line.tick(20), [BACK]);
    assert_eq!(line.event(21, &pod("a")), ["fired shop/Pod/a by any"]);
    assert_eq!(line.progress().counts.matched, 2);
}

#[test]
fn a_step_that_waits_holds_from_its_write_on_and_a_rule_that_goes_leaves_what_is_to_be_given_back() {
    let mut line = Timeline::of(json!({"actions": grow(json!({"after": "10s"}))}));
    line.event(0, &pod("a"));
    let intent = Intent {
        firing: line.fired[0].id.clone(),
        action: "grow".into(),
        rendering: 1,
        request: json!({}),
        writes: None,
        deadline: None,
        remember: Some(Box::new(remember(2, 4, TEN))),
    };
    line.fold(1, &Record::Intent(intent));
    let uid = rule_ref("web").uid;
    let left = line.engine.left_of(&head(99, 5), &uid);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0.restores.as_ref().expect("a change").back, json!({"replicas": 2}));
    line.fold(5, &Record::RuleRemove(uid.clone()));
    assert_eq!(line.tick(100), [""; 0], "nothing is due of a rule that is gone");
    assert_eq!(line.engine.next_deadline(), None);
}

#[test]
fn what_could_not_be_given_back_and_is_run_again_is_not_taken_for_held_after_a_restart() {
    let mut line = Timeline::of(json!({"actions": grow(json!({"after": "10s"}))}));
    line.event(0, &pod("a"));
    changes(&mut line, 1, 2, 4, TEN);
    assert_eq!(line.tick(20), [BACK]);
    let (firing, uid) = (line.fired.last().expect("a firing").clone(), rule_ref("web").uid);
    finish(&mut line, 21);
    assert!(!line.engine.gives(&uid, &firing.id));
    let (event, spec, steps) = (event_of_restore(&firing), Arc::clone(&line.rule().spec), Default::default());
    let letter = crate::record::OpenFiring { event, events: Vec::new(), spec, steps, firing };
    let replay = crate::record::Replay { of: letter.firing.id.clone(), open: Box::new(letter), unjudged: None };
    let again = line.engine.fire_again(&head(999, 22), &replay).expect("it fires again").firing.id;
    line.restart();
    assert!(line.engine.gives(&uid, &again));
    assert_eq!(line.tick(1000), [""; 0], "it is being given back");
    let outcome = FiringOutcome::Succeeded;
    let message = String::new();
    line.fold(
        1001,
        &Record::Finished(Finished { firing: again.clone(), rule: uid.clone(), outcome, message, failed_at: None }),
    );
    assert!(!line.engine.gives(&uid, &again), "it was given back");

    // What has been taken hold of since is not given back.
    line.event(1002, &pod("b"));
    changes(&mut line, 1003, 2, 4, TEN);
    let again = line.engine.fire_again(&head(9999, 1004), &replay).expect("it fires again").firing.id;
    line.restart();
    assert!(!line.engine.gives(&uid, &again));
    assert_eq!(line.tick(1100), [BACK], "in its own time");
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let at = "spec.actions[0]";
    let ending = json!({"absent": {"for": "1m"}});
    let patch = |target: Value| json!([{"name": "p", "patch": {"target": target, "patch": {"data": {"a": "b"}}, "restore": {"after": "1m"}}}]);
    for (body, fault) in [
        (json!({"actions": grow(json!({"after": "1m"}))}), None),
        (json!({"actions": grow(json!({"when": "Resolved"})), "trigger": ending}), None),
        (json!({"actions": grow(json!({}))}), Some(format!("{at}.scale.restore:1:1: exactly one of after and when"))),
        (
            json!({"actions": grow(json!({"when": "Resolved"}))}),
            Some(format!("{at}.scale.restore.when:1:1: when: Resolved needs a trigger that has an end")),
        ),
        (
            json!({"actions": grow(json!({"after": "0s"}))}),
            Some(format!("{at}.scale.restore.after:1:1: must be longer")),
        ),
        (
            json!({"resolveActions": grow(json!({"when": "Resolved"})), "trigger": ending}),
            Some("spec.resolveActions[0].scale.restore.when:1:1: when: Resolved is for what is done while".into()),
        ),
        (
            json!({"actions": patch(json!({"kind": "Secret", "name": "s"}))}),
            Some(format!("{at}.patch.restore:1:1: is not for a Secret")),
        ),
    ] {
        let faults = compile(&rule_ref("web"), 1, &spec(body)).err().unwrap_or_default();
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        match fault {
            None => assert_eq!(faults, [""; 0]),
            Some(fault) => assert!(faults.len() == 1 && faults[0].starts_with(&fault), "{faults:?} is not {fault}"),
        }
    }
}
