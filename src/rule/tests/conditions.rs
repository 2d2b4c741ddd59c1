//! Conditions, variables, faults and texts.

use super::*;

#[test]
fn conditions_of_source_and_rule_and_variables_must_all_hold() {
    let rule = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {}, "when": [{"name": "front", "expression": "event.data.regarding.name.startsWith('web')"}]}],
        "variables": [{"name": "n", "expression": "event.data.count"}, {"name": "twice", "expression": "variables.n * 2"}],
        "when": [{"name": "often", "expression": "source.name != 'crash' || variables.twice >= 6"}, {"name": "mine", "expression": "rule.name == 'web' && object == null"}]
    });
    check(
        rule,
        &[
            about("shop", "web-1", "R", json!({"count": 3})),
            about("shop", "web-1", "R", json!({"count": 2})),
            about("shop", "db", "R", json!({"count": 9})),
        ],
        &["fired shop/Pod/web-1 by crash", "-", "-"],
    );
}

#[test]
fn an_expression_that_fails_is_counted_and_disturbs_nobody() {
    let mut engine = engine_with(json!({"when": [{"name": "deep", "expression": "event.data.missing > 3"}]}));
    let other = spec(json!({"variables": [{"name": "svc", "expression": "event.data.nothing.app"}],
        "sources": [{"name": "a", "kubernetesEvent": {}, "when": [{"name": "v", "expression": "variables.svc == 'x'"}]}, {"name": "b", "kubernetesEvent": {}}]}));
    put(&mut engine, "aaa", 1, &other);
    listen(&mut engine, "aaa", 1, "a", true);
    listen(&mut engine, "aaa", 1, "b", true);
    let words = run(&mut engine, &[about("shop", "p", "R", json!({}))]);
    assert_eq!(
        words,
        [
            "error variables[svc]: no such field: event.data.nothing",
            "fired shop/Pod/p by b",
            "error when[deep]: no such field: event.data.missing"
        ]
    );
    let progress = engine.progress(&rule_ref("web").uid).expect("progress");
    assert_eq!((progress.counts.seen, progress.counts.matched, progress.counts.errors), (1, 0, 1));
    let error = progress.last_error.expect("an error");
    assert_eq!((error.place.as_str(), error.message.as_str()), ("when[deep]", "no such field: event.data.missing"));
}

#[test]
fn all_faults_of_a_spec_are_told_at_once_with_their_places() {
    let spec = spec(json!({
        "sources": [{"name": "a", "kubernetesEvent": {"regarding": {"selector": {"matchExpressions": [{"key": "x", "operator": "Is"}]}}}}, {"name": "a"}],
        "variables": [{"name": "one", "expression": "variables.two"}, {"name": "two", "expression": "1 +"}],
        "when": [{"name": "n", "expression": "1 + 1"}, {"name": "m", "expression": "true && evnt.id == ''"}],
        "actions": [
            {"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "${actions.tell.x}"}, "by": "2", "to": 3}},
            {"name": "tell", "ifExpression": "size(event.id)", "notify": {"sinkRef": {"name": "${event.id}"}, "text": "${nope}"}},
            {"name": "run", "job": {"script": {"image": "i", "run": "echo ${HOME}"}}},
            {"name": "both"},
            {"name": "jobs", "job": {"from": {"cronJob": "${nope}"}, "script": {"image": "i", "run": "r"}}}
        ]
    }));
    let faults = compile(&rule_ref("web"), 1, &spec).expect_err("faults");
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let expected = [
        "spec.sources[1].name:1:1: there is another \"a\"",
        "spec.variables[0].expression:1:1: `variables` has no `two`: known are none",
        "spec.variables[1].expression:1:4:",
        "spec.when[0].expression:1:1: gives a number, not true or false",
        "spec.when[1].expression:1:9: unknown name `evnt`",
        "spec.sources[0].kubernetesEvent.regarding.selector.matchExpressions[0].operator:1:1: unknown operator \"Is\"",
        "spec.sources[1]:1:1: exactly one of kubernetesEvent, resource, ref, schedule and events",
        "spec.actions[0].scale:1:1: exactly one of to, toExpression and by",
        "spec.actions[0].scale.target.name:1:3: `actions` has no `tell`: known are none",
        "spec.actions[1].ifExpression:1:1: gives a number",
        "spec.actions[1].notify.sinkRef.name:1:1: takes no `${ }`",
        "spec.actions[3]:1:1: exactly one of scale, rollout, setImage, patch,",
        "spec.actions[4].job:1:1: exactly one of template, script and from",
        "spec.actions[4].job.from.cronJob:1:3: unknown name `nope`",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}\nis not\n{expected}");
    }
}

#[test]
fn what_a_rule_watches_decides_which_fields_are_right() {
    let watch = |name: &str, kind: &str, more: Value| {
        let mut resource = json!({"apiVersion": "apps/v1", "kind": kind});
        more.as_object().into_iter().flatten().for_each(|(key, value)| resource[key] = value.clone());
        json!({"name": name, "resource": resource})
    };
    let mut stateful = watch("b", "StatefulSet", json!({"changedExpressions": ["object.stauts"]}));
    stateful["when"] = json!([{"name": "w", "expression": "object.spec.sevriceName == 'x'"}]);
    let spec = spec(json!({
        "sources": [watch("a", "Deployment", json!({})), stateful, {"name": "c", "kubernetesEvent": {}}],
        "when": [{"name": "both", "expression": "object.spec.serviceName == 'x' || object.spec.paused"}, {"name": "none", "expression": "object.sepc == 1"}],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "${object.metdata.name}"}, "to": 3}}]
    }));
    let faults = compile(&rule_ref("web"), 1, &spec).expect_err("faults");
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let expected = [
        "spec.when[1].expression:1:1: apps/v1 Deployment or apps/v1 StatefulSet has no such field `sepc`",
        "spec.sources[1].resource.changedExpressions[0]:1:1: apps/v1 StatefulSet has no such field `stauts`",
        "spec.sources[1].when[0].expression:1:7: apps/v1 StatefulSet has no such field `sevriceName`",
        "spec.actions[0].scale.target.name:1:3: apps/v1 Deployment or apps/v1 StatefulSet has no such field `metdata`",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}\nis not\n{expected}");
    }
}

#[test]
fn actions_are_filled_in_and_scripts_are_not() {
    let spec = spec(json!({"actions": [
        {"name": "run", "job": {"script": {"image": "i", "run": "echo ${HOME} ${event.id}"}}},
        {"name": "tmpl", "job": {"template": {"spec": {"parallelism": "${event.data.count}", "args": ["${actions.run.jobName} ${firing.id}"]}}}},
        {"name": "grow", "ifExpression": "actions.run.ok", "scale": {"target": {"kind": "Deployment", "name": "${event.data.regarding.name}"}, "to": 3}}
    ]}));
    let rule = compile(&rule_ref("web"), 1, &spec).expect("compiles");
    let input = about("shop", "web-1", "R", json!({"count": 3}));
    let results = [("run".to_owned(), json!({"jobName": "sb-1", "ok": true}))].into();
    let firing = FiringId("f1".into());
    let scope = super::cel::Scope::new(&input.event, "any", &rule.rule, head(1, 0).stamp.timestamp())
        .with_variables(&rule)
        .with_results(&results)
        .with_firing(&firing);
    let filled = |name: &str| rule.action(name).expect("the action").body.fill(&scope).expect("fills");
    assert_eq!(filled("run")["script"]["run"], json!("echo ${HOME} ${event.id}"));
    assert_eq!(filled("tmpl")["template"]["spec"], json!({"parallelism": 3, "args": ["sb-1 f1"]}));
    assert_eq!(filled("grow")["target"]["name"], json!("web-1"));
    assert_eq!(filled("grow")["to"], json!(3));
    assert_eq!(
        rule.action("grow").and_then(|grow| grow.if_expression.as_ref()).expect("a condition").test(&scope),
        Ok(true)
    );
    assert!(rule.action("run").expect("the action").body.is_static());
}

#[test]
fn how_many_replicas_is_a_whole_number_that_may_come_out_of_what_is_known() {
    let scale = |expression: &str| {
        let scale = json!({"target": {"kind": "Deployment", "name": "${event.data.regarding.name}"}, "toExpression": expression, "max": 9});
        spec(json!({"actions": [{"name": "one", "wait": {"for": "1s"}}, {"name": "grow", "scale": scale}]}))
    };
    for (expression, told) in [
        ("event.data.count / 2.0 > 3.0", "gives true or false, not a whole number"),
        ("1.5 * 2.0", "gives a double, not a whole number; of a double int() makes one"),
        ("event.id + 'x'", "gives a text, not a whole number"),
        ("nope", "unknown name `nope`"),
        ("value", "`value` is known in actions of a rule with trigger.value"),
        ("actions.grow.to", "`actions` has no `grow`"),
    ] {
        let faults = compile(&rule_ref("web"), 1, &scale(expression)).expect_err("a fault");
        let said = faults[0].to_string();
        assert!(faults.len() == 1 && said.starts_with("spec.actions[1].scale.toExpression:1:"), "{faults:?}");
        assert!(said.contains(told), "{expression}: {said}");
    }
    let input = about("shop", "web-1", "R", json!({"count": 7, "half": 3.5}));
    let filled = |expression: &str| {
        let rule = compile(&rule_ref("web"), 1, &scale(expression)).expect("compiles");
        let scope = super::cel::Scope::new(&input.event, "any", &rule.rule, head(1, 0).stamp.timestamp());
        rule.action("grow").expect("the action").body.fill(&scope)
    };
    for (expression, number) in [
        ("event.data.count", json!(7)),
        ("int(math.ceil(event.data.half))", json!(4)),
        ("4u", json!(4)),
        ("event.data.half", json!(3.5)),
    ] {
        let filled = filled(expression).expect("fills");
        assert_eq!((&filled["toExpression"], &filled["target"]["name"]), (&number, &json!("web-1")), "{expression}");
    }
    let error = filled("event.data.none").expect_err("there is none");
    assert_eq!(error.path, "spec.actions[1].scale.toExpression");
}

#[test]
fn the_structure_of_a_patch_is_looked_at_before_its_texts_are_filled_in() {
    let patch = |rest: Value| {
        let mut patch = json!({"target": {"kind": "Deployment", "name": "web"}});
        rest.as_object().expect("a map").iter().for_each(|(key, value)| patch[key] = value.clone());
        spec(json!({"actions": [{"name": "mend", "patch": patch}]}))
    };
    let wrong = patch(json!({"force": true, "patch": {"metadata": {"name": "x"}, "spec": {"a": ["${nope}"]}}}));
    let faults = compile(&rule_ref("web"), 1, &wrong).expect_err("faults");
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults[0], "spec.actions[0].patch.force:1:1: is for type Apply");
    assert_eq!(faults[1], "spec.actions[0].patch.patch.metadata.name:1:1: cannot be patched");
    assert!(faults[2].starts_with("spec.actions[0].patch.patch.spec.a[0]:1:3: unknown name `nope`"), "{faults:?}");

    let good = patch(json!({"patch": {"spec": {"count": "${event.data.count}", "of": "is ${event.data.count}"}}}));
    let rule = compile(&rule_ref("web"), 1, &good).expect("compiles");
    let input = about("shop", "web-1", "R", json!({"count": 3}));
    let scope = super::cel::Scope::new(&input.event, "any", &rule.rule, head(1, 0).stamp.timestamp());
    let filled = rule.action("mend").expect("the action").body.fill(&scope).expect("fills");
    assert_eq!(filled["patch"], json!({"spec": {"count": 3, "of": "is 3"}}));
    assert_eq!((&filled["type"], &filled["target"]["name"]), (&json!("Merge"), &json!("web")));
}
