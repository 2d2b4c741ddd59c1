//! What a replay does again, and what it leaves alone.

use serde_json::{Value, json};

use super::*;
use crate::{
    event::Event,
    record::{RuleRef, RuleUid},
};

fn spec(actions: Value) -> Arc<EventRuleSpec> {
    Arc::new(serde_json::from_value(json!({"sources": [], "actions": actions})).expect("a spec"))
}

fn notify(name: &str) -> Value {
    json!({"name": name, "notify": {"sinkRef": {"name": "s"}, "text": "t"}})
}

fn each(name: &str) -> Value {
    json!({"name": name, "rollout": {"target": {"from": "EventUsers"}, "operation": "Restart"}})
}

fn step(outcome: ActionOutcome) -> Step {
    let request = Some((0, json!({"of": "the old firing"})));
    Step { intent: request, outcome: Some(outcome), message: "said".into(), result: json!(7), ..Step::default() }
}

fn replay(spec: &Arc<EventRuleSpec>, steps: &[(&str, Step)]) -> Replay {
    let event = Event::new("e", "/s", "t", json!({}));
    let firing = Firing {
        id: FiringId("old".into()),
        rule: RuleRef { uid: RuleUid("u".into()), namespace: "shop".into(), name: "web".into() },
        generation: 1,
        source: "s".into(),
        group: "g".into(),
        group_values: BTreeMap::from([("pod".to_owned(), json!("p"))]),
        count: Some(3),
        kind: Default::default(),
        step: None,
        planned: None,
        restores: None,
        closes: false,
        value: None,
        baseline: None,
        input: Position(4),
        stamp: Stamp::default(),
    };
    let steps = steps.iter().map(|(name, step)| ((*name).to_owned(), step.clone())).collect();
    let open = OpenFiring { firing, event: Arc::new(event), events: Vec::new(), spec: Arc::clone(spec), steps };
    Replay { of: FiringId("old".into()), open: Box::new(open), unjudged: None }
}

fn opened(replay: &Replay, spec: &Arc<EventRuleSpec>) -> OpenFiring {
    let head = Head { position: Position(9), stamp: Stamp { at: 5, wall: 6 } };
    replay.opens(&LogId("log".into()), &head, 2, spec)
}

use ActionOutcome::{Failed, Skipped, Succeeded, Superseded, Unchanged};

#[test]
fn what_was_done_is_not_done_again_and_the_rest_is() {
    let spec = spec(json!(["a", "b", "c", "d", "e", "f", "g"].map(notify)));
    let steps = [
        ("a", step(Succeeded)),
        ("b", step(Skipped)),
        ("c", step(Unchanged)),
        ("d", step(Failed)),
        // Of onError: Continue.
        ("e", step(Superseded)),
        ("f", step(Skipped)),
    ];
    let open = opened(&replay(&spec, &steps), &spec);
    assert_eq!(open.steps.keys().collect::<Vec<_>>(), ["a", "b", "c", "e"], "g was never begun");
    assert_eq!(open.steps["a"], Step { intent: None, ..step(Succeeded) }, "the result stays, the request does not");
    assert_eq!(open.results()["a"], json!(7));
}

#[test]
fn what_was_approved_is_asked_again_and_what_was_done_after_it_is_not_done_again() {
    let spec = spec(json!([{"name": "sure", "approve": {}}, notify("a"), notify("b")]));
    let steps = [("sure", step(Succeeded)), ("a", step(Succeeded)), ("b", step(Failed))];
    let open = opened(&replay(&spec, &steps), &spec);
    assert_eq!(open.steps.keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn the_new_firing_has_an_id_of_its_own_and_the_rule_as_it_is_now() {
    let (old, new) = (spec(json!([notify("a")])), spec(json!([notify("a"), notify("b")])));
    let replay = replay(&old, &[("a", step(Succeeded))]);
    let OpenFiring { firing, spec, .. } = opened(&replay, &new);
    assert_ne!(firing.id, replay.of);
    assert_eq!(firing.id, replay.firing(&LogId("log".into()), Position(9)));
    assert_ne!(firing.id, replay.firing(&LogId("log".into()), Position(10)), "a second time is another firing");
    assert_eq!((firing.generation, firing.input, firing.stamp.wall, firing.count), (2, Position(9), 6, Some(3)));
    assert_eq!((firing.group_values["pod"].clone(), spec), (json!("p"), new));
}

#[test]
fn of_several_objects_those_that_are_done_are_left_alone() {
    let spec = spec(json!([each("restart")]));
    let found = Step { intent: Some((0, json!({"targets": [1, 2, 3]}))), ..step(Failed) };
    let steps = [
        ("restart", found.clone()),
        ("restart.0", step(Succeeded)),
        ("restart.1", step(Failed)),
        ("restart.2", step(Unchanged)),
    ];
    let open = opened(&replay(&spec, &steps), &spec);
    assert_eq!(open.steps.keys().collect::<Vec<_>>(), ["restart", "restart.0", "restart.2"]);
    let again = &open.steps["restart"];
    assert_eq!((&again.intent, again.outcome), (&found.intent, None), "the same objects, and it has not ended");

    let one = json!([{"name": "restart", "rollout": {"target": {"kind": "Deployment", "name": "web"}, "operation": "Restart"}}]);
    let mended = Arc::new(serde_json::from_value(json!({"sources": [], "actions": one})).expect("a spec"));
    assert!(opened(&replay(&spec, &steps), &mended).steps.is_empty(), "an action on one object begins anew");
}

#[test]
fn what_was_undone_is_done_again_and_what_could_not_be_undone_is_not() {
    let spec = spec(json!([notify("undone"), notify("kept"), notify("back"), notify("failed")]));
    let steps = [
        ("undone", step(Succeeded)),
        ("undone.undo", step(Succeeded)),
        ("kept", step(Succeeded)),
        ("kept.undo", step(Skipped)),
        ("back", step(Succeeded)),
        ("back.undo", step(Unchanged)),
        ("failed", step(Failed)),
    ];
    let open = opened(&replay(&spec, &steps), &spec);
    assert_eq!(open.steps.keys().collect::<Vec<_>>(), ["kept"]);
}
