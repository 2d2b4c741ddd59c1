//! `waitFor` of actions: what is refused.

use super::*;

fn faults(kind: Value, wait_for: Value) -> Vec<String> {
    let mut action = kind;
    action["name"] = "act".into();
    action["waitFor"] = wait_for;
    match compile(&rule_ref("web"), 1, &spec(json!({"actions": [action]}))) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn what_cannot_be_waited_for_is_refused_with_its_place() {
    let scale = |kind: &str| json!({"scale": {"target": {"kind": kind, "name": "web"}, "to": 1}});
    let at = "spec.actions[0].waitFor";
    let one = "exactly one of rollout and expression must be set";
    let kinds = "is for a Deployment, a StatefulSet or a DaemonSet; for others there is expression";
    let notify = json!({"notify": {"sinkRef": {"name": "s"}, "text": "t"}});
    for (action, wait_for, fault) in [
        (scale("Deployment"), json!({}), format!("{at}:1:1: {one}")),
        (scale("Deployment"), json!({"rollout": {}, "expression": "true"}), format!("{at}:1:1: {one}")),
        (scale("Widget"), json!({"rollout": {}}), format!("{at}.rollout:1:1: {kinds}")),
        (
            notify,
            json!({"rollout": {}}),
            format!(
                "{at}:1:1: waitFor is for actions that change or create an object: scale, rollout, setImage, patch, apply, create"
            ),
        ),
        (
            scale("Widget"),
            json!({"expression": "target.status.phase == 'Ready' &&\n  nobody"}),
            format!("{at}.expression:2:3: unknown name `nobody`"),
        ),
        (
            scale("Widget"),
            json!({"expression": "'Ready'"}),
            format!("{at}.expression:1:1: gives a text, not true or false"),
        ),
        (
            scale("Widget"),
            json!({"expression": "true", "failExpression": "'Broken'"}),
            format!("{at}.failExpression:1:1: gives a text, not true or false"),
        ),
        (
            scale("Deployment"),
            json!({"rollout": {}, "failExpression": "nobody"}),
            format!("{at}.failExpression:1:1: unknown name `nobody`"),
        ),
    ] {
        let found = faults(action, wait_for);
        assert!(found.len() == 1 && found[0].starts_with(&fault), "{fault}: {found:?}");
    }
    let all = "target.status.replicas == event.data.count && target.metadata.name == firing.id";
    assert_eq!(faults(scale("Widget"), json!({"expression": all})), Vec::<String>::new());
}

#[test]
fn the_rollout_of_what_an_event_leads_to_can_be_waited_for() {
    for from in ["Event", "EventOwner", "EventUsers"] {
        let action = json!({"rollout": {"target": {"from": from}, "operation": "Restart"}});
        assert_eq!(faults(action, json!({"rollout": {}})), Vec::<String>::new(), "{from}");
    }
}

#[test]
fn the_target_is_known_where_it_is_waited_for_and_nowhere_else() {
    let action = json!({"scale": {"target": {"kind": "Widget", "name": "${target.metadata.name}"}, "to": 1}});
    let found = faults(action, json!({"expression": "true"}));
    assert!(found.len() == 1 && found[0].starts_with("spec.actions[0].scale.target.name:1:3: "), "{found:?}");
    assert!(found[0].ends_with("; `target` is known in waitFor.expression and wait.expression"), "{found:?}");
}
