//! Firings that wait for a person, as status shows them.

use super::*;

fn spec_that_asks() -> Value {
    json!({"actions": [{"name": "sure", "approve": {}}, {"name": "tell", "notify": {"sinkRef": {"name": "s"}, "text": "${actions.sure.by}"}}]})
}

#[test]
fn a_firing_that_waits_shows_until_when_and_for_what_command() {
    let mut engine = engine_with(spec_that_asks());
    let input = about("shop", "p", "BackOff", json!({}));
    let judged = engine.judge(&head(5, 5), &input);
    engine.decide(&head(5, 5), &input, &judged.seen, &judged.decisions);
    let Decision::Fired(firing) = &judged.decisions[0] else { panic!("it fires") };
    let intent = |request: Value| {
        Record::Intent(Intent {
            firing: firing.id.clone(),
            action: "sure".into(),
            rendering: 0,
            request,
            writes: None,
            deadline: None,
            remember: None,
        })
    };
    let shown = |engine: &Engine| engine.progress(&rule_ref("web").uid).expect("the rule").recent[0].actions.clone();
    engine.fold(&head(6, 6), &intent(json!({"approveUntil": 1_790_003_600_000_000_i64, "url": "http://h/"})));
    assert_eq!(shown(&engine), [], "another action's request is none");
    engine.fold(&head(6, 6), &intent(json!({"approveUntil": 1_790_003_600_000_000_i64})));
    let action = shown(&engine).remove(0);
    assert_eq!((action.name.as_str(), action.outcome), ("sure", ActionOutcome::Running));
    let until = head(6, 3_600).stamp.timestamp();
    assert_eq!(action.message, format!("waits until {until} for: kubectl signalbox approve web {} -n shop", firing.id));
}

#[test]
fn what_means_nothing_for_an_approval_is_refused_where_it_stands() {
    let faults = |more: Value| -> Vec<String> {
        let mut body = spec_that_asks();
        for (key, value) in more.as_object().into_iter().flatten() {
            body["actions"][0][key] = value.clone();
        }
        let compiled = compile(&rule_ref("web"), 1, &spec(body));
        compiled.err().into_iter().flatten().map(|fault| fault.to_string()).collect()
    };
    assert_eq!(faults(json!({})), [] as [String; 0]);
    for (more, part) in [
        (json!({"timeout": "1m"}), "spec.actions[0].timeout:1:1: approve has a timeout of its own"),
        (json!({"approve": {"timeout": "721h"}}), "spec.actions[0].approve.timeout:1:1: must be at most 720h"),
        (json!({"retry": {"limit": 1}}), "spec.actions[0].retry:1:1: "),
        (
            json!({"waitFor": {"rollout": {}}}),
            "spec.actions[0].waitFor:1:1: waitFor is for actions that change or create an object",
        ),
        (json!({"emit": {"type": "t"}}), "spec.actions[0]:1:1: exactly one of"),
    ] {
        let faults = faults(more);
        assert!(faults.iter().any(|fault| fault.starts_with(part)), "{part}: {faults:?}");
    }
}
