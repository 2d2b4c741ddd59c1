//! Near misses: what said no, and what it saw.

use super::*;

/// What is told of the event when so many rules may be looked at.
fn misses(engine: &Engine, input: &EventInput, turn: usize, at_most: usize) -> Vec<NearMiss> {
    let mut left = at_most;
    let more = || {
        left -= 1;
        left > 0
    };
    engine.interest().near_misses(head(1, 0).stamp.timestamp(), input, turn, more)
}

/// `condition: saw` of the only rule's miss, or nothing.
fn told(rule: Value, input: &EventInput) -> Option<String> {
    let misses = misses(&engine_with(rule), input, 0, 10);
    assert!(misses.len() <= 1, "{misses:?}");
    misses.first().map(|miss| format!("{}: {}", miss.told.condition, miss.told.saw))
}

#[track_caller]
fn says(rule: Value, input: &EventInput, expected: &str) {
    assert_eq!(told(rule, input).as_deref(), Some(expected));
}

#[test]
fn the_condition_that_said_no_is_named_with_the_values_it_saw() {
    let rule = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {}, "when": [{"name": "front", "expression": "event.data.regarding.name.startsWith('web')"}]}],
        "variables": [{"name": "n", "expression": "event.data.count * 2"}],
        "when": [{"name": "fine", "expression": "true"}, {"name": "often", "expression": "source.name != 'crash' || variables.n >= 6 && event.data.count > 1"}]
    });
    let web = about("shop", "web-1", "R", json!({"count": 2}));
    says(rule.clone(), &web, "when[often]: source.name = crash; variables.n = 4; event.data.count = 2");
    let db = about("shop", "db-1", "R", json!({}));
    says(rule.clone(), &db, "sources[crash].when[front]: event.data.regarding.name = db-1");
    assert_eq!(told(rule, &about("shop", "web-1", "R", json!({"count": 3}))), None, "it matches");
    // What cannot be evaluated is an error, and told as one.
    assert_eq!(told(json!({"when": [{"name": "w", "expression": "event.data.nothing > 1"}]}), &db), None);
}

#[test]
fn only_numbers_truths_and_short_texts_of_metadata_and_status_are_shown() {
    let source = json!([{"name": "d", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}]);
    let mut input = change("Update", "Deployment", Some("shop"), "web", json!({"app.io/tier": "front"}));
    let object = json!({"spec": {"image": "secret.example/x", "replicas": 3, "list": ["a", "b"], "on": true}, "status": {"phase": "p".repeat(100)}});
    let event = Arc::get_mut(&mut input.event).expect("one owner");
    for (key, value) in object.as_object().into_iter().flatten() {
        event.data["object"][key] = value.clone();
    }
    event.data["object"]["metadata"]["annotations"] = json!({"a": "password"});
    for (expression, expected) in [
        ("object.spec.image == 'x'", "object.spec.image = a text (not shown)"),
        ("object.spec.replicas + 1 < 2 && object.spec.on", "object.spec.replicas = 3; object.spec.on = true"),
        ("object.spec.list.size() == 0", "object.spec.list = a list of 2"),
        ("'z' in object.spec.list", "object.spec.list = a list of 2"),
        ("object.spec.list[1] == 'z'", "object.spec.list[1] = a text (not shown)"),
        ("object.metadata.labels['app.io/tier'] == 'back'", "object.metadata.labels['app.io/tier'] = front"),
        ("object.metadata.?labels[?'team'].orValue('') == 'x'", "object.metadata.labels.team is not there"),
        ("has(object.metadata.annotations.b)", "object.metadata.annotations.b is not there"),
        ("object.metadata.annotations['a'] == 'x'", "object.metadata.annotations.a = a text (not shown)"),
        ("event.data.object.metadata.name.matches('^x')", "event.data.object.metadata.name = web"),
        ("event.subject == 'x' || event.data.gap", "event.subject = shop/Deployment/web; event.data.gap = false"),
        ("object.metadata.name == rule.name + string(now)", "object.metadata.name = web"),
        ("false", ""),
    ] {
        let rule = json!({"sources": source, "when": [{"name": "w", "expression": expression}]});
        says(rule, &input, &format!("when[w]: {expected}"));
    }
    let long = json!({"sources": source, "when": [{"name": "w", "expression": "object.status.phase == 'x'"}]});
    let said = told(long, &input).expect("a miss");
    assert!(said.ends_with('…') && said.chars().count() < 110, "{said}");
    // Free text of an Event, and a text that a variable made of anything.
    let input = about("shop", "web-1", "R", json!({"message": "token=abc"}));
    let rule = json!({"variables": [{"name": "m", "expression": "event.data.message"}],
        "when": [{"name": "w", "expression": "variables.m == 'x' && event.data.message == 'y' || event.data.reason == 'z'"}]});
    let said = "variables.m = a text (not shown); event.data.message = a text (not shown); event.data.reason = R";
    says(rule, &input, &format!("when[w]: {said}"));
}

#[test]
fn the_part_of_a_filter_that_refused_is_named() {
    let events = |filter: Value| json!({"sources": [{"name": "s", "kubernetesEvent": filter}]});
    let objects = |mut filter: Value| {
        filter["apiVersion"] = json!("apps/v1");
        filter["kind"] = json!("Deployment");
        json!({"sources": [{"name": "s", "resource": filter}]})
    };
    let event = about("shop", "web-1", "R", json!({}));
    for (filter, expected) in [
        (json!({"reasons": ["A", "B"]}), "reasons: reason = R; wanted A, B"),
        (json!({"types": ["Normal"]}), "types: type = Warning; wanted Normal"),
        (json!({"regarding": {"kind": "Node"}}), "regarding.kind: regarding.kind = Pod; wanted Node"),
        (json!({"regarding": {"apiVersion": "v2"}}), "regarding.apiVersion: regarding.apiVersion = v1; wanted v2"),
        (json!({"regarding": {"names": ["db-*"]}}), "regarding.names: regarding.name = web-1; wanted db-*"),
        (
            json!({"regarding": {"selector": {"matchLabels": {"app": "web"}}}}),
            "regarding.selector: the labels of Pod web-1 are not known: it is gone, or the account may not get it",
        ),
    ] {
        says(events(filter), &event, &format!("sources[s].kubernetesEvent.{expected}"));
    }
    let object = change("Update", "Deployment", Some("shop"), "web", json!({"app": "web"}));
    let needs = |one: Value| json!({"selector": {"matchExpressions": [one]}});
    for (filter, expected) in [
        (json!({"names": ["db"]}), "names: metadata.name = web; wanted db"),
        (json!({"operations": ["Create", "Delete"]}), "operations: operation = Update; wanted Create, Delete"),
        (json!({"selector": {"matchLabels": {"app": "wbe"}}}), "selector: label app = web; wanted wbe"),
        (json!({"selector": {"matchLabels": {"tier": "front"}}}), "selector: label tier is not there; wanted front"),
        (needs(json!({"key": "tier", "operator": "Exists"})), "selector: label tier is not there; wanted any"),
        (needs(json!({"key": "app", "operator": "DoesNotExist"})), "selector: label app = web; wanted none"),
        (
            needs(json!({"key": "app", "operator": "NotIn", "values": ["web"]})),
            "selector: label app = web; wanted anything but web",
        ),
    ] {
        says(objects(filter), &object, &format!("sources[s].resource.{expected}"));
    }
    let all = |namespaces: Value| objects(json!({"namespaces": namespaces}));
    let node = wide(change("Update", "Deployment", None, "web", json!({})));
    says(all(json!({"from": "All"})), &node, "sources[s].resource.namespaces.clusterScoped: namespace is not there");
    let far = wide(change("Update", "Deployment", Some("far"), "web", json!({})));
    let both = json!({"from": "Names", "names": ["shop"], "clusterScoped": "Include"});
    says(all(both), &far, "sources[s].resource.namespaces: namespace = far; wanted shop");
    // Another kind, and another watch, are not near.
    assert_eq!(told(objects(json!({})), &event), None);
    assert_eq!(told(objects(json!({"names": ["db"]})), &wide(object)), None);
}

#[test]
fn of_two_sources_the_nearer_tells_and_none_when_one_takes_the_event() {
    let sources = |first: Value| json!({"sources": [{"name": "a", "kubernetesEvent": first}, {"name": "b", "kubernetesEvent": {"reasons": ["A"]}}]});
    let event = about("shop", "web-1", "R", json!({}));
    let near = sources(json!({"regarding": {"names": ["db-*"]}}));
    says(near, &event, "sources[a].kubernetesEvent.regarding.names: regarding.name = web-1; wanted db-*");
    assert_eq!(told(sources(json!({})), &event), None);
    let mut only = event;
    only.only = Some(SourceRef { rule: rule_ref("web").uid, generation: 1, source: "b".into() });
    assert_eq!(told(sources(json!({"reasons": ["B"]})), &only), None, "it is for one source");
}

#[test]
fn every_rule_has_its_turn_and_no_more_are_looked_at_than_allowed() {
    let mut engine = Engine::new(log());
    for name in ["a", "b", "c"] {
        put(&mut engine, name, 1, &spec(json!({"sources": [{"name": "s", "kubernetesEvent": {"reasons": ["A"]}}]})));
    }
    put(&mut engine, "d", 1, &spec(json!({"suspend": true})));
    let event = about("shop", "web-1", "R", json!({}));
    let names = |turn, at_most| -> Vec<String> {
        misses(&engine, &event, turn, at_most).into_iter().map(|miss| miss.rule.name).collect()
    };
    assert_eq!(names(0, 2), ["a", "b"]);
    assert_eq!(names(2, 2), ["c", "a"]);
    assert_eq!(names(4, 10), ["b", "c", "a"]);
    let interest = engine.interest();
    assert!(interest.looks_at(&event.origin.watch, &event.event));
    assert!(!interest.looks_at(&wide(event.clone()).origin.watch, &event.event));
}

#[test]
fn a_timetable_has_only_its_own_instants_to_refuse() {
    let spec = json!({"cron": "0 7 * * *"});
    let instant = |rule: &str| {
        let spec = serde_json::from_value(spec.clone()).expect("a schedule");
        let schedule = crate::event::schedule::Schedule::new(&rule_ref(rule).uid.0, "shop", rule, "daily", &spec);
        let event = schedule.event("2027-01-04T07:00:00Z".parse().expect("an instant"), true);
        input(event, schedule.watch())
    };
    let rule = json!({"sources": [{"name": "daily", "schedule": spec}], "when": [{"name": "timely", "expression": "!event.data.missed"}]});
    says(rule.clone(), &instant("web"), "when[timely]: event.data.missed = true");
    assert_eq!(told(rule, &instant("other")), None);
}
