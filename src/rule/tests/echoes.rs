//! What a controller says about a rule's own write is answered once, and not for ever.

use super::*;

const FIRED: &str = "fired shop/Pod/web by told";
const LOOP: &str = "loop shop/Pod/web";

fn engine() -> Engine {
    engine_with(json!({"sources": [{"name": "told", "kubernetesEvent": {"reasons": ["Scaled"]}}]}))
}

/// A controller tells of this version of the object; `regarding` is what the API group calls the reference.
fn told(version: u64, regarding: &str) -> EventInput {
    let reference = json!({"uid": "uid-web", "resourceVersion": version.to_string()});
    about("shop", "web", "Scaled", json!({"object": {regarding: reference}}))
}

/// A firing of the rule, made by this event, has written this version, so many seconds after the beginning.
fn wrote(engine: &mut Engine, rule: &str, because: &EventInput, version: u64, seconds: i64) {
    let firing = firing(&format!("f{version}"), rule, "told", seconds);
    let (event, spec) = (Arc::clone(&because.event), spec(json!({})));
    let open = OpenFiring { firing, event, events: Vec::new(), spec, steps: Default::default() };
    let effect = Effect {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: "web".into(),
        uid: "uid-web".into(),
        resource_version: Some(version.to_string()),
        found: false,
        gone: false,
        reason: "ScaledByRule".into(),
    };
    engine.wrote(&head(60, seconds), &open, &effect);
}

fn said(engine: &mut Engine, input: EventInput) -> String {
    let [said] = run(engine, &[input]).try_into().expect("one word");
    said
}

#[test]
fn what_a_controller_says_about_a_rules_own_write_is_answered_once() {
    for regarding in ["involvedObject", "regarding"] {
        let mut engine = engine();
        let tells = |version| told(version, regarding);
        assert_eq!(said(&mut engine, tells(1)), FIRED);
        wrote(&mut engine, "web", &tells(1), 2, 0);
        assert_eq!(said(&mut engine, tells(2)), FIRED, "the first is answered");
        wrote(&mut engine, "web", &tells(2), 3, 0);
        assert_eq!(said(&mut engine, tells(3)), LOOP);
        let rows = engine.dirty().into_iter().filter_map(|(table, key, row)| Some((table, key, row?)));
        let (mut again, damage) = Engine::restore(log(), rows);
        assert!(damage.is_empty(), "{damage:?}");
        assert_eq!(said(&mut again, tells(3)), LOOP, "also after a restart");
        assert_eq!(said(&mut again, tells(4)), FIRED, "what somebody else has written begins anew");
        let counts = again.progress(&rule_ref("web").uid).expect("progress").counts;
        assert_eq!((counts.suppressed.looped, counts.suppressed.total), (2, 2));
    }
}

#[test]
fn what_is_said_a_minute_after_a_write_or_again_and_again_is_no_echo_of_it() {
    let mut engine = engine();
    let tells = |version| told(version, "involvedObject");
    wrote(&mut engine, "web", &tells(1), 2, -60);
    wrote(&mut engine, "web", &tells(2), 3, -60);
    assert_eq!(said(&mut engine, tells(3)), FIRED, "a minute later");
    wrote(&mut engine, "web", &tells(3), 4, 0);
    assert_eq!(said(&mut engine, tells(4)), LOOP);
    let mut again = tells(4);
    Arc::get_mut(&mut again.event).expect("one owner").data["count"] = json!(2);
    assert_eq!(said(&mut engine, again), FIRED, "the second time it may be about a later version");
}

#[test]
fn rules_that_set_each_other_off_by_what_controllers_say_end_after_eight_steps() {
    let mut engine = engine();
    let tells = |version| told(version, "regarding");
    for version in 2..=10 {
        wrote(&mut engine, &format!("other-{version}"), &tells(version - 1), version, 0);
    }
    assert_eq!([9, 10].map(|version| said(&mut engine, tells(version))), [FIRED, LOOP]);
}
