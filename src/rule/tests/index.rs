//! The index of conditions: what it leaves out would not have fired, would not have erred, and counts as seen.

use super::*;
use crate::rule::{cel::Scope, engine::first_no, fault::EvalError};

/// An event of an EventSource with these data.
fn pushed(data: Value) -> EventInput {
    let origin = crate::event::event_source::origin("shop", "acme", "1".into(), 1);
    let event = Event { subject: Some("s".into()), ..Event::new("1", "/x", "com.acme.push", data) };
    EventInput { origin, ..input(event, watch("v1", "Event", "shop")) }
}

fn rule_of(conditions: &[&str]) -> Value {
    let when: Vec<Value> =
        (0..).zip(conditions).map(|(at, one)| json!({"name": format!("c{at}"), "expression": one})).collect();
    json!({
        "sources": [{"name": "push", "ref": {"name": "acme"}}],
        "variables": [{"name": "user", "expression": "event.data.user"}, {"name": "name", "expression": "variables.user.?name.orValue('none')"}],
        "when": when,
    })
}

fn begin(engine: &mut Engine, name: &str, conditions: &[&str]) {
    put(engine, name, 1, &spec(rule_of(conditions)));
    listen(engine, name, 1, "push", true);
}

/// Conditions that are lifted, and some that are not, over the fields that events have or have not.
const CONDITIONS: [&str; 30] = [
    "event.data.a == 1",
    "event.data.a == 1.0",
    "event.data.a == 'x'",
    "'xy' == event.data.a",
    "event.data.a in ['x', 'y', 2, true]",
    "event.data.a == null",
    "event.data.a == true || event.data.a == 'x'",
    "event.data.a.startsWith('x')",
    "event.data.a.startsWith('')",
    "event.data.a.contains('yy')",
    "event.data.?a.orValue('x').contains('x')",
    "event.data.a >= 1",
    "event.data.a > 1 && event.data.a < 3",
    "2 > event.data.a",
    "event.data.a <= -1.5",
    "event.data.?a.orValue(1) < 2",
    "has(event.data.a)",
    "has(event.data.a) && event.data.a == 'x'",
    "has(event.data.a) && has(event.data.a.b) && event.data.a.b == 'x'",
    "event.data.?a.b.orValue('') == 'x'",
    "event.data.?a.?b.orValue('x') == 'x'",
    "event.data['a'][?'b'].orValue('x') in ['x', 1]",
    "event.data.a.b == 'x'",
    "event.data.a.b.contains('x') && event.data.a.c == 1",
    "variables.name == 'none'",
    "variables.user.name.startsWith('x')",
    "event.subject == 's' && event.type.startsWith('com.')",
    "event.type == 'other'",
    "event.data.a != 'x'",
    "event.data.a == 'x' || event.data.a > 1",
];

fn values() -> impl Strategy<Value = Value> {
    let of = [
        json!(1),
        json!(1.0),
        json!(2),
        json!(-3),
        json!(0.5),
        json!("x"),
        json!("xy"),
        json!("xyyz"),
        json!(""),
        json!("none"),
        json!(true),
        json!(null),
        json!([1]),
        json!({}),
        json!({"b": "x"}),
        json!({"b": 1}),
        json!({"b": "xy", "c": 1}),
        json!({"name": "x"}),
        json!({"b": null}),
        json!(9_007_199_254_740_993_u64),
    ];
    proptest::sample::select(of.to_vec())
}

fn data() -> impl Strategy<Value = Value> {
    (proptest::option::of(values()), proptest::option::of(values())).prop_map(|(a, user)| {
        let mut data = json!({});
        for (name, value) in [("a", a), ("user", user)] {
            if let Some(value) = value {
                data[name] = value;
            }
        }
        data
    })
}

/// What each rule says to the event by itself.
fn alone(engine: &Engine, name: &str, input: &EventInput) -> Result<bool, EvalError> {
    let rule = engine.rule(&rule_ref(name).uid).expect("in force");
    let scope = Scope::new(&input.event, "push", &rule.rule, head(9, 9).stamp.timestamp()).with_variables(rule);
    first_no(rule, &rule.sources[0], &scope).map(|no| no.is_none())
}

proptest! {
    #[test]
    fn rules_say_the_same_with_the_index_and_without(
        rules in proptest::collection::vec(proptest::collection::vec(0..CONDITIONS.len(), 0..4), 1..30),
        gone in proptest::collection::vec(any::<bool>(), 30),
        events in proptest::collection::vec(data(), 1..10),
    ) {
        let mut engine = Engine::new(log());
        let mut names = Vec::new();
        for (number, conditions) in rules.iter().enumerate() {
            let conditions: Vec<&str> = conditions.iter().map(|at| CONDITIONS[*at]).collect();
            let name = format!("r{number:02}");
            begin(&mut engine, &name, &conditions);
            names.push(name);
        }
        for name in names.iter().zip(&gone).filter(|(_, gone)| **gone).map(|(name, _)| name) {
            engine.fold(&head(1, 0), &Record::RuleRemove(rule_ref(name).uid));
        }
        let names: Vec<&String> = names.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(name, _)| name).collect();
        for (at, data) in (0..).zip(events) {
            let input = pushed(data);
            let head = head(10 + at, i64::try_from(at).expect("few"));
            let judged = engine.judge(&head, &input);
            for name in &names {
                let uid = rule_ref(name).uid;
                let said = judged.decisions.iter().filter_map(|decision| match decision {
                    Decision::Fired(firing) if firing.rule.uid == uid => Some(Ok(true)),
                    Decision::Errored { rule, message, .. } if *rule == uid => Some(Err(message.clone())),
                    _ => None,
                }).next().unwrap_or(Ok(false));
                prop_assert_eq!(said, alone(&engine, name, &input).map_err(|error| error.message), "{} says to {}", name, input.event.data);
            }
            engine.decide(&head, &input, &judged.seen, &judged.decisions);
            for name in &names {
                prop_assert_eq!(engine.progress(&rule_ref(name).uid).expect("known").counts.seen, at + 1);
            }
        }
    }
}

#[test]
fn a_rule_that_comes_later_has_not_seen_what_others_had() {
    let mut engine = Engine::new(log());
    let seen = |engine: &Engine, name: &str| engine.progress(&rule_ref(name).uid).expect("known").counts.seen;
    let see = |engine: &mut Engine, position: u64| {
        let (head, input) = (head(position, 0), pushed(json!({"a": 1})));
        let judged = engine.judge(&head, &input);
        assert_eq!(judged.decisions, []);
        engine.decide(&head, &input, &judged.seen, &judged.decisions);
    };
    begin(&mut engine, "old", &["event.data.a == 2"]);
    (10..13).for_each(|position| see(&mut engine, position));
    begin(&mut engine, "new", &["event.data.a == 3"]);
    see(&mut engine, 13);
    assert_eq!((seen(&engine, "old"), seen(&engine, "new")), (4, 1));
    // Deaf for one event.
    listen(&mut engine, "new", 1, "push", false);
    see(&mut engine, 14);
    listen(&mut engine, "new", 1, "push", true);
    see(&mut engine, 15);
    assert_eq!((seen(&engine, "old"), seen(&engine, "new")), (6, 2));
    let rows = engine.dirty().into_iter().filter_map(|(table, key, value)| Some((table, key, value?)));
    let rows: Vec<_> = rows.collect();
    see(&mut engine, 16);
    // Only what the class has seen is written for an event that no rule takes.
    let later = engine.dirty();
    assert_eq!(later.len(), 1, "{later:?}");
    let of_later = later.into_iter().filter_map(|(table, key, value)| Some((table, key, value?)));
    let known: Vec<_> = rows.into_iter().filter(|(table, ..)| *table != Table::Meta).chain(of_later).collect();
    let (mut engine, damage) = Engine::restore(log(), known);
    assert_eq!(damage, [] as [String; 0]);
    assert_eq!((seen(&engine, "old"), seen(&engine, "new")), (7, 3));
    see(&mut engine, 17);
    assert_eq!((seen(&engine, "old"), seen(&engine, "new")), (8, 4));
    // The row of the class goes with its last rule.
    for name in ["old", "new"] {
        engine.fold(&head(20, 0), &Record::RuleRemove(rule_ref(name).uid));
    }
    assert!(engine.dirty().iter().all(|(_, _, value)| value.is_none()));
}

#[test]
fn a_condition_that_is_false_hides_that_another_one_fails() {
    check(rule_of(&["event.data.missing == 1", "event.data.a == 2"]), &[pushed(json!({"a": 1}))], &["-"]);
    check(
        rule_of(&["event.data.missing == 1", "event.data.a == 1"]),
        &[pushed(json!({"a": 1}))],
        &["error when[c0]: no such field: event.data.missing"],
    );
}

#[test]
fn what_rules_follow_is_followed_until_the_last_of_them_is_gone() {
    let mut engine = Engine::new(log());
    let follows = |expression: &str| json!({"sources": [{"name": "any", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "changedExpressions": [expression]}}]});
    let deployments = watch("apps/v1", "Deployment", "shop");
    let followed = |engine: &Engine| engine.interest().followed(&deployments).len();
    for (name, expression) in
        [("a", "object.spec.replicas"), ("b", "object.spec.replicas"), ("c", "object.metadata.labels")]
    {
        put(&mut engine, name, 1, &spec(follows(expression)));
        listen(&mut engine, name, 1, "any", true);
    }
    assert_eq!(followed(&engine), 2);
    let mut gone = |name: &str| {
        engine.fold(&head(2, 0), &Record::RuleRemove(rule_ref(name).uid));
        assert!(!engine.interest().knows(&rule_ref(name).uid, 1));
        followed(&engine)
    };
    assert_eq!((gone("a"), gone("c"), gone("b")), (2, 1, 0));
    // One that waits for its sources is asked about as well, beside the one that is in force.
    put(&mut engine, "d", 1, &spec(follows("object.spec.replicas")));
    listen(&mut engine, "d", 1, "any", true);
    put(&mut engine, "d", 2, &spec(follows("object.spec.paused")));
    assert_eq!(followed(&engine), 2);
    listen(&mut engine, "d", 2, "any", true);
    assert_eq!(followed(&engine), 1);
}

#[test]
fn a_snapshot_of_the_filters_stays_as_it_was_when_rules_come_and_go() {
    let mut engine = Engine::new(log());
    begin(&mut engine, "old", &["event.data.a == 2"]);
    let before = engine.interest();
    begin(&mut engine, "new", &["event.data.a == 3"]);
    let both = engine.interest();
    for name in ["old", "new"] {
        engine.fold(&head(2, 0), &Record::RuleRemove(rule_ref(name).uid));
    }
    let known: Vec<[bool; 2]> = [&before, &both, &engine.interest()]
        .map(|interest| ["old", "new"].map(|name| interest.knows(&rule_ref(name).uid, 1)))
        .into();
    assert_eq!(known, [[true, false], [true, true], [false, false]]);
    let input = pushed(json!({"a": 2}));
    let concerned =
        [&before, &both, &engine.interest()].map(|interest| interest.concern(&input.origin, &input.event).any);
    assert_eq!(concerned, [true, true, false]);
}
