//! `failureActions`, `wait`, `timeout` and `onError`: what is refused.

use super::*;

fn faults(body: Value) -> Vec<String> {
    let faults = compile(&rule_ref("web"), 1, &spec(body)).err().unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}

fn tell(name: &str, text: &str) -> Value {
    json!({"name": name, "notify": {"sinkRef": {"name": "s"}, "text": text}})
}

#[test]
fn failure_actions_know_what_failed_and_the_results_of_all_before() {
    let after = |text: &str| faults(json!({"actions": [tell("first", "t")], "failureActions": [tell("told", text)]}));
    assert_eq!(
        after("${failure.action} ${failure.reason} ${failure.message} ${string(actions.first.status)}"),
        [""; 0]
    );
    let said = after("${failure.mesage}");
    assert!(said[0].contains("spec.failureActions[0].notify.text") && said[0].contains("mesage"), "{said:?}");
    let said = faults(json!({"actions": [tell("first", "${failure.message}")]}));
    assert!(said[0].contains("`failure` is known in failureActions"), "{said:?}");
    let mut undoes = tell("told", "t");
    undoes["onError"] = "Undo".into();
    let said = faults(json!({"actions": [tell("first", "t")], "failureActions": [tell("first", "t"), undoes]}));
    assert_eq!(
        said,
        [
            "spec.failureActions[0].name:1:1: there is another action \"first\": results are known by name",
            "spec.failureActions[1].onError:1:1: what failureActions do is not undone: Stop or Continue",
        ]
    );
}

#[test]
fn a_wait_has_a_time_or_an_expression_and_what_goes_with_it() {
    let target = json!({"kind": "Deployment", "name": "${event.data.regarding.name}"});
    let at = "spec.actions[0].wait";
    for (wait, fault) in [
        (json!({"for": "30s"}), None),
        (json!({"expression": "target.status.replicas == 0", "target": target, "timeout": "1m"}), None),
        (json!({}), Some(format!("{at}:1:1: exactly one of for and expression must be set"))),
        (json!({"for": "1s", "expression": "true", "target": target}), Some(format!("{at}:1:1: exactly one of"))),
        (json!({"for": "0s"}), Some(format!("{at}.for:1:1: must be longer than 0s"))),
        (json!({"for": "720h"}), None),
        (json!({"for": "721h"}), Some(format!("{at}.for:1:1: must be at most 720h"))),
        (
            json!({"expression": "true", "target": target, "timeout": "721h"}),
            Some(format!("{at}.timeout:1:1: must be at most 720h")),
        ),
        (json!({"for": "1s", "timeout": "1m"}), Some(format!("{at}.timeout:1:1: is for expression"))),
        (json!({"for": "1s", "target": target}), Some(format!("{at}.target:1:1: is for expression"))),
        (json!({"expression": "true"}), Some(format!("{at}:1:1: expression needs a target"))),
        (
            json!({"expression": "nobody", "target": target}),
            Some(format!("{at}.expression:1:1: unknown name `nobody`")),
        ),
        (
            json!({"expression": "true", "target": {"from": "EventUsers"}}),
            Some(format!("{at}.target:1:1: may be several objects")),
        ),
    ] {
        let said = faults(json!({"actions": [{"name": "pause", "wait": wait}]}));
        match fault {
            None => assert_eq!(said, [""; 0]),
            Some(fault) => assert!(said.iter().any(|said| said.starts_with(&fault)), "{said:?} is not {fault}"),
        }
    }
}

#[test]
fn times_that_would_be_ignored_are_refused() {
    let path = "spec.actions[0]";
    let job = json!({"wait": "Completed", "template": {"spec": {}}});
    let scale = json!({"target": {"kind": "Deployment", "name": "web"}, "to": 1});
    for (action, fault) in [
        (json!({"scale": scale, "timeout": "0s"}), format!("{path}.timeout:1:1: must be longer than 0s")),
        (
            json!({"scale": scale, "retry": {"attemptTimeout": "0s"}}),
            format!("{path}.retry.attemptTimeout:1:1: must be longer than 0s"),
        ),
        (
            json!({"job": job, "retry": {"attemptTimeout": "1s"}}),
            format!("{path}.retry.attemptTimeout:1:1: is not for a Job that is waited for"),
        ),
        (json!({"wait": {"for": "1s"}, "timeout": "1m"}), format!("{path}.timeout:1:1: is not for wait")),
        (json!({"wait": {"for": "1s"}, "retry": {"limit": 1}}), format!("{path}.retry:1:1: is not for wait")),
        (
            json!({"wait": {"for": "1s"}, "waitFor": {"expression": "true"}}),
            format!("{path}.waitFor:1:1: waitFor is for actions that change or create an object"),
        ),
    ] {
        let mut action = action;
        action["name"] = "act".into();
        let said = faults(json!({"actions": [action]}));
        assert!(said.len() == 1 && said[0].starts_with(&fault), "{said:?} is not {fault}");
    }
}
