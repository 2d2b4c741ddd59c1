use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{ActionOutcome, EventRuleSpec, FiringOutcome},
    event::{Event, Labels, Origin, WatchKey},
    record::{
        Account, Decision, EventInput, Finished, FiringId, Head, LogId, Lookups, Outcome, Position, Record, RulePut,
        RuleRef, RuleUid, SourceRef, Stamp, SuppressedReason, Table,
    },
};

const SECOND: i64 = 1_000_000;

fn log() -> LogId {
    LogId("log".into())
}

fn head(position: u64, seconds: i64) -> Head {
    Head {
        position: Position(position),
        stamp: Stamp { at: seconds * SECOND, wall: (1_790_000_000 + seconds) * SECOND },
    }
}

fn rule_ref(name: &str) -> RuleRef {
    RuleRef { uid: RuleUid(format!("uid-{name}").into()), namespace: "shop".into(), name: name.into() }
}

/// A spec with a notification as its action, unless it brings actions.
fn spec(mut body: Value) -> Arc<EventRuleSpec> {
    let action = json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.id}"}}]);
    let map = body.as_object_mut().expect("an object");
    map.entry("actions").or_insert(action);
    map.entry("sources").or_insert(json!([{"name": "any", "kubernetesEvent": {}}]));
    Arc::new(serde_json::from_value(body).expect("a spec"))
}

/// The narrow watch that sees things of a namespace.
fn watch(api_version: &str, kind: &str, namespace: &str) -> WatchKey {
    let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
    WatchKey { api_version: api_version.into(), kind: kind.into(), namespace }
}

/// The same event, as the watch of the whole cluster sees it.
fn wide(mut input: EventInput) -> EventInput {
    input.origin.watch.namespace = None;
    input
}

fn input(event: Event, watch: WatchKey) -> EventInput {
    EventInput {
        event: Arc::new(event),
        origin: Origin { watch, uid: "u".into(), seen: None },
        only: None,
        lookups: Lookups::default(),
    }
}

/// A Kubernetes Event about a Pod of `namespace` (none: about a Node).
fn about(namespace: &str, name: &str, reason: &str, more: Value) -> EventInput {
    let mut data = json!({
        "type": "Warning", "reason": reason, "message": "m", "count": 1, "delta": 1, "time": "2026-11-02T07:16:20Z",
        "reporter": "kubelet", "object": {},
        "regarding": {"apiVersion": "v1", "kind": if namespace.is_empty() { "Node" } else { "Pod" }, "name": name}
    });
    if !namespace.is_empty() {
        data["regarding"]["namespace"] = json!(namespace);
    }
    for (key, value) in more.as_object().into_iter().flatten() {
        data[key] = value.clone();
    }
    let subject = if namespace.is_empty() { format!("Node/{name}") } else { format!("{namespace}/Pod/{name}") };
    let event = Event {
        id: "u/1".into(),
        source: "/api/v1/events".into(),
        type_: "dev.signalbox.kubernetes.event".into(),
        subject: Some(subject),
        time: "2026-11-02T07:16:20Z".parse().expect("time"),
        data,
    };
    input(event, watch("v1", "Event", namespace))
}

fn change(operation: &str, kind: &str, namespace: Option<&str>, name: &str, labels: Value) -> EventInput {
    let mut metadata = json!({"name": name, "labels": labels, "annotations": {}});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    let verb = match operation {
        "Create" => "created",
        "Update" => "updated",
        _ => "deleted",
    };
    let event = Event {
        id: "u/7".into(),
        source: "/apis/apps/v1".into(),
        type_: format!("dev.signalbox.resource.{verb}"),
        subject: Some(format!("{}/{kind}/{name}", namespace.unwrap_or_default())),
        time: "2026-11-02T07:16:20Z".parse().expect("time"),
        data: json!({"operation": operation, "gap": false, "object": {"kind": kind, "metadata": metadata}}),
    };
    input(event, watch("apps/v1", kind, namespace.unwrap_or_default()))
}

fn put(engine: &mut Engine, name: &str, generation: i64, spec: &Arc<EventRuleSpec>) {
    let rule = rule_ref(name);
    engine.fold(&head(1, 0), &Record::RulePut(RulePut { rule, generation, spec: Arc::clone(spec) }));
}

fn listen(engine: &mut Engine, name: &str, generation: i64, source: &str, live: bool) {
    let source = SourceRef { rule: rule_ref(name).uid, generation, source: source.to_owned() };
    engine.fold(&head(1, 0), &if live { Record::Baseline(source) } else { Record::Deaf(source) });
}

/// An engine with one rule, `web`, in force.
fn engine_with(body: Value) -> Engine {
    let mut engine = Engine::new(log());
    let spec = spec(body);
    put(&mut engine, "web", 1, &spec);
    for source in &spec.sources {
        listen(&mut engine, "web", 1, &source.name, true);
    }
    engine
}

fn word(decision: &Decision) -> String {
    match decision {
        Decision::Fired(firing) => format!("fired {} by {}", firing.group, firing.source),
        Decision::Suppressed { group, reason: SuppressedReason::Cooldown, .. } => format!("cooldown {group}"),
        Decision::Errored { place, message, .. } => format!("error {place}: {message}"),
    }
}

/// Judges events a second apart and tells the decisions in words, `-` for an event that was seen only and `.` for one that was not.
fn run(engine: &mut Engine, events: &[EventInput]) -> Vec<String> {
    let mut words = Vec::new();
    for (index, input) in events.iter().enumerate() {
        let head = head(10 + index as u64, index as i64);
        let judged = engine.judge(&head, input);
        engine.decide(&head, input, &judged.seen, &judged.decisions);
        match (judged.decisions.as_slice(), judged.seen.as_slice()) {
            ([], []) => words.push(".".to_owned()),
            ([], _) => words.push("-".to_owned()),
            (decisions, _) => words.extend(decisions.iter().map(word)),
        }
    }
    words
}

#[track_caller]
fn check(rule: Value, events: &[EventInput], expected: &[&str]) {
    assert_eq!(run(&mut engine_with(rule), events), expected);
}

// === Sources ===

#[test]
fn a_source_takes_types_reasons_and_what_the_event_regards() {
    let rule = json!({"sources": [{"name": "crash", "kubernetesEvent": {
        "types": ["Warning"], "reasons": ["BackOff"], "regarding": {"apiVersion": "v1", "kind": "Pod", "names": ["web-*", "api-?"]}}}]});
    check(
        rule,
        &[
            about("shop", "web-1", "BackOff", json!({})),
            about("shop", "api-1", "BackOff", json!({})),
            about("shop", "api-10", "BackOff", json!({})),
            about("shop", "web-1", "Failed", json!({})),
            about("shop", "web-1", "BackOff", json!({"type": "Normal"})),
            about("test", "web-1", "BackOff", json!({})),
        ],
        &["fired shop/Pod/web-1 by crash", "fired shop/Pod/api-1 by crash", ".", ".", ".", "."],
    );
}

#[test]
fn the_namespace_of_an_event_is_that_of_what_it_regards() {
    let source = |namespaces: Value| json!({"sources": [{"name": "s", "kubernetesEvent": {"namespaces": namespaces}}]});
    let events =
        [about("shop", "p", "R", json!({})), about("orders", "p", "R", json!({})), about("", "n1", "R", json!({}))];
    let taken = |namespaces: Value| {
        let engine = engine_with(source(namespaces));
        let seen = |event: &EventInput| !engine.judge(&head(2, 0), event).seen.is_empty();
        events.each_ref().map(|event| {
            let wide = wide(event.clone());
            assert!(wide == *event || !(seen(event) && seen(&wide)), "an event that comes by two watches counts once");
            seen(event) || seen(&wide)
        })
    };
    assert_eq!(taken(json!({})), [true, false, false]);
    assert_eq!(taken(json!({"clusterScoped": "Include"})), [true, false, true]);
    assert_eq!(taken(json!({"from": "All"})), [true, true, false]);
    assert_eq!(taken(json!({"from": "All", "clusterScoped": "Include"})), [true, true, true]);
    assert_eq!(taken(json!({"from": "Names", "names": ["orders"], "clusterScoped": "Include"})), [false, true, true]);
    assert_eq!(taken(json!({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}})), [false, false, false]);
}

#[test]
fn namespaces_are_chosen_by_looked_up_labels() {
    let rule = json!({"sources": [{"name": "s", "kubernetesEvent": {"namespaces": {"from": "Selector", "selector": {
        "matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}, {"key": "off", "operator": "DoesNotExist"}]}}}}]});
    let with = |labels: Value| {
        let mut event = wide(about("orders", "p", "R", json!({})));
        event.lookups.namespace_labels = Some(serde_json::from_value::<Labels>(labels).expect("labels"));
        event
    };
    check(
        rule,
        &[
            with(json!({"team": "a"})),
            with(json!({"team": "c"})),
            with(json!({"team": "a", "off": ""})),
            about("orders", "p", "R", json!({})),
        ],
        &["fired orders/Pod/p by s", ".", ".", "."],
    );
}

#[test]
fn labels_of_the_regarded_object_count_only_for_accounts_that_may_read_them() {
    let rule = json!({"serviceAccountName": "ops", "sources": [{"name": "s", "kubernetesEvent": {"regarding": {"selector": {"matchLabels": {"app": "web"}}}},
        "when": [{"name": "labelled", "expression": "event.data.regarding.labels.app == 'web'"}]}]});
    let with = |account: &str, app: &str| {
        let mut event = about("shop", "p", "R", json!({}));
        let account = Account { namespace: "shop".into(), name: account.into() };
        event.lookups.regarding_labels = vec![(account, Labels::from([("app".to_owned(), app.to_owned())]))];
        event
    };
    check(
        rule.clone(),
        &[with("ops", "web"), with("ops", "db"), with("other", "web")],
        &["fired shop/Pod/p by s", ".", "."],
    );
    let engine = engine_with(rule);
    let uid = rule_ref("web").uid;
    let labels = |input: &EventInput| engine.event_for(&uid, input).data["regarding"].get("labels").cloned();
    assert_eq!(labels(&with("ops", "web")), Some(json!({"app": "web"})));
    assert_eq!(labels(&with("other", "web")), None);
}

#[test]
fn a_resource_source_takes_its_kind_names_labels_and_operations() {
    let rule = json!({"sources": [{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["w*"],
        "selector": {"matchLabels": {"tier": "front"}}, "operations": ["Create", "Delete"]}}]});
    let labels = || json!({"tier": "front"});
    check(
        rule,
        &[
            change("Create", "Deployment", Some("shop"), "web", labels()),
            change("Update", "Deployment", Some("shop"), "web", labels()),
            change("Delete", "Deployment", Some("shop"), "web", labels()),
            change("Create", "Deployment", Some("shop"), "db", labels()),
            change("Create", "Deployment", Some("shop"), "web", json!({})),
            change("Create", "StatefulSet", Some("shop"), "web", labels()),
            change("Create", "Deployment", Some("test"), "web", labels()),
            change("Create", "Deployment", None, "web", labels()),
        ],
        &["fired shop/Deployment/web by deploy", ".", "fired shop/Deployment/web by deploy", ".", ".", ".", ".", "."],
    );
}

#[test]
fn an_event_object_as_a_resource_is_another_thing_than_what_it_tells() {
    let rule = json!({"sources": [{"name": "raw", "resource": {"apiVersion": "v1", "kind": "Event"}}]});
    let mut raw = change("Create", "Event", Some("shop"), "e", json!({}));
    raw.origin.watch = watch("v1", "Event", "shop");
    check(rule, &[about("shop", "web-1", "R", json!({})), raw], &[".", "fired shop/Event/e by raw"]);
}

// === Conditions ===

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
            {"name": "both"}
        ]
    }));
    let faults = compile(&rule_ref("web"), 1, &spec).expect_err("faults");
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let expected = [
        "spec.sources[1].name:1:1: there is another \"a\"",
        "spec.variables[0].expression:1:1: `variables` has no `two`: known are none",
        "spec.variables[1].expression:1:4:",
        "spec.when[0].expression:1:1: gives a sum, not true or false",
        "spec.when[1].expression:1:9: unknown name `evnt`",
        "spec.sources[0].kubernetesEvent.regarding.selector.matchExpressions[0].operator:1:1: unknown operator \"Is\"",
        "spec.sources[1]:1:1: exactly one of kubernetesEvent and resource",
        "spec.actions[0].scale:1:1: exactly one of to and by",
        "spec.actions[0].scale.target.name:1:3: `actions` has no `tell`: known are none",
        "spec.actions[1].ifExpression:1:1: gives a number",
        "spec.actions[1].notify.sinkRef.name:1:1: takes no `${ }`",
        "spec.actions[3]:1:1: exactly one of scale, job and notify",
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

// === Versions ===

#[test]
fn a_new_version_judges_only_when_all_its_sources_have_begun() {
    let mut engine = engine_with(json!({"sources": [{"name": "old", "kubernetesEvent": {}}]}));
    let uid = rule_ref("web").uid;
    let next = spec(
        json!({"sources": [{"name": "new", "kubernetesEvent": {}}, {"name": "other", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}]}),
    );
    let events = || [about("shop", "p", "R", json!({}))];
    put(&mut engine, "web", 2, &next);
    assert_eq!(run(&mut engine, &events()), ["fired shop/Pod/p by old"]);
    listen(&mut engine, "web", 2, "new", true);
    assert_eq!(run(&mut engine, &events()), ["fired shop/Pod/p by old"]);
    assert_eq!(engine.rule(&uid).map(|rule| rule.generation), Some(1));
    assert!(engine.interest().knows(&uid, 1) && engine.interest().knows(&uid, 2));
    listen(&mut engine, "web", 2, "other", false);
    assert_eq!(run(&mut engine, &events()), ["fired shop/Pod/p by new"]);
    assert!(!engine.interest().knows(&uid, 1));
    assert_eq!(run(&mut engine, &[change("Create", "Deployment", Some("shop"), "d", json!({}))]), ["."]);
    listen(&mut engine, "web", 2, "other", true);
    assert_eq!(
        run(&mut engine, &[change("Create", "Deployment", Some("shop"), "d", json!({}))]),
        ["fired shop/Deployment/d by other"]
    );
    assert_eq!(engine.progress(&uid).map(|progress| progress.counts.fired), Some(4));
    assert_eq!(
        engine.known().map(|(rule, generation, _)| (rule.name.as_str(), generation)).collect::<Vec<_>>(),
        [("web", 2)]
    );
}

#[test]
fn a_suspended_rule_sees_nothing_at_once_and_a_removed_one_is_gone() {
    let mut engine = engine_with(json!({}));
    put(&mut engine, "web", 2, &spec(json!({"suspend": true})));
    assert_eq!(run(&mut engine, &[about("shop", "p", "R", json!({}))]), ["."]);
    assert!(!engine.interest().concern(&watch("v1", "Event", "shop"), &about("shop", "p", "R", json!({})).event).any);
    let mut engine = engine_with(json!({"throttle": {"cooldown": "1h"}}));
    run(&mut engine, &[about("shop", "p", "R", json!({}))]);
    engine.dirty();
    engine.fold(&head(50, 0), &Record::RuleRemove(rule_ref("web").uid));
    assert_eq!(run(&mut engine, &[about("shop", "p", "R", json!({}))]), ["."]);
    let gone: Vec<_> = engine.dirty();
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|(_, _, row)| row.is_none()));
}

#[test]
fn an_event_for_one_source_only_is_judged_by_that_one() {
    let mut engine =
        engine_with(json!({"sources": [{"name": "a", "kubernetesEvent": {}}, {"name": "b", "kubernetesEvent": {}}]}));
    let mut event = about("shop", "p", "R", json!({}));
    let only =
        |generation, source: &str| Some(SourceRef { rule: rule_ref("web").uid, generation, source: source.to_owned() });
    event.only = only(1, "b");
    assert_eq!(run(&mut engine, std::slice::from_ref(&event)), ["fired shop/Pod/p by b"]);
    event.only = only(2, "b");
    assert_eq!(run(&mut engine, &[event]), ["."]);
}

// === Throttle ===

#[test]
fn a_second_event_inside_the_cooldown_of_its_group_does_not_fire() {
    let rule = json!({"throttle": {"cooldown": "2s"}});
    let web = || about("shop", "web", "R", json!({}));
    check(
        rule,
        &[web(), web(), about("shop", "db", "R", json!({})), web(), web()],
        &[
            "fired shop/Pod/web by any",
            "cooldown shop/Pod/web",
            "fired shop/Pod/db by any",
            "fired shop/Pod/web by any",
            "cooldown shop/Pod/web",
        ],
    );
}

#[test]
fn a_cooldown_outlives_an_edit_of_a_text_but_not_of_a_condition() {
    let base = json!({"throttle": {"cooldown": "1h"}});
    let web = || [about("shop", "web", "R", json!({}))];
    let mut engine = engine_with(base.clone());
    run(&mut engine, &web());
    let mut text = base.clone();
    text["actions"] = json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "other"}}]);
    put(&mut engine, "web", 2, &spec(text));
    listen(&mut engine, "web", 2, "any", true);
    assert_eq!(run(&mut engine, &web()), ["cooldown shop/Pod/web"]);
    let mut condition = base;
    condition["when"] = json!([{"name": "always", "expression": "true"}]);
    put(&mut engine, "web", 3, &spec(condition));
    listen(&mut engine, "web", 3, "any", true);
    assert_eq!(run(&mut engine, &web()), ["fired shop/Pod/web by any"]);
    let progress = engine.progress(&rule_ref("web").uid).expect("progress");
    assert_eq!((progress.counts.fired, progress.counts.suppressed.cooldown, progress.recent.len()), (2, 1, 2));
}

#[test]
fn groups_are_bounded_and_those_whose_cooldown_is_over_go_first() {
    let mut groups = state::Groups::default();
    for index in 0..state::MAX_GROUPS as i64 {
        assert!(groups.cool(&format!("g{index}"), 1_000 + index, 0).is_empty());
    }
    assert_eq!(groups.cool("one more", 50_000, 0), ["g0"]);
    assert_eq!(groups.cool("another", 50_000, 1_010).len(), 10);
    assert!(groups.is_cooling("g11", 1_010) && !groups.is_cooling("g10", 1_010));
}

// === Progress ===

fn finish(engine: &mut Engine, firing: &FiringId, outcome: FiringOutcome) {
    let action = if outcome == FiringOutcome::Failed { ActionOutcome::Failed } else { ActionOutcome::Succeeded };
    let message = "ä".repeat(300);
    let step = Outcome {
        firing: firing.clone(),
        action: "tell".into(),
        outcome: action,
        message: message.clone(),
        result: Value::Null,
        effect: None,
    };
    engine.fold(&head(90, 5), &Record::Outcome(step));
    let failed_at = (outcome == FiringOutcome::Failed).then(|| "actions[tell]".to_owned());
    let finished = Finished { firing: firing.clone(), rule: rule_ref("web").uid, outcome, message, failed_at };
    engine.fold(&head(91, 6), &Record::Finished(finished));
}

#[test]
fn the_last_firings_are_kept_newest_first_with_what_became_of_them() {
    let mut engine = engine_with(json!({"historyLimit": 2}));
    let uid = rule_ref("web").uid;
    let mut ids = Vec::new();
    for index in 0..3 {
        let input = about("shop", &format!("p{index}"), "R", json!({}));
        let head = head(10 + index, index as i64);
        let judged = engine.judge(&head, &input);
        engine.decide(&head, &input, &judged.seen, &judged.decisions);
        if let Some(Decision::Fired(firing)) = judged.decisions.first() {
            ids.push(firing.id.clone());
        }
    }
    assert_eq!(engine.dirty_rules(), std::slice::from_ref(&uid));
    finish(&mut engine, &ids[0], FiringOutcome::Failed);
    finish(&mut engine, &ids[1], FiringOutcome::Succeeded);
    let progress = engine.progress(&uid).expect("progress");
    assert_eq!((progress.counts.fired, progress.counts.succeeded, progress.counts.failed), (3, 1, 1));
    let groups: Vec<_> = progress.recent.iter().map(|firing| (firing.group.as_str(), firing.outcome)).collect();
    assert_eq!(groups, [("shop/Pod/p2", FiringOutcome::Running), ("shop/Pod/p1", FiringOutcome::Succeeded)]);
    assert_eq!(progress.recent[1].actions[0].message.chars().count(), 256);
    assert_eq!(progress.last_error.map(|error| error.place), Some("actions[tell]".to_owned()));
}

#[test]
fn seen_alone_is_written_to_the_view_but_not_to_status() {
    let mut engine = engine_with(json!({"when": [{"name": "no", "expression": "false"}]}));
    engine.dirty_rules();
    engine.dirty();
    run(&mut engine, &[about("shop", "p", "R", json!({}))]);
    assert_eq!(engine.dirty_rules(), []);
    assert_eq!(engine.dirty().len(), 1);
    assert!(engine.dirty().is_empty());
}

#[test]
fn rows_that_cannot_be_read_are_told_and_the_others_are_restored() {
    let mut engine = engine_with(json!({}));
    let mut rows: Vec<_> =
        engine.dirty().into_iter().filter_map(|(table, key, row)| Some((table, key, row?))).collect();
    rows.push((Table::Rules, b"bad".to_vec(), b"{".to_vec()));
    rows.push((Table::Groups, b"nobody\0g".to_vec(), br#"{"until":1}"#.to_vec()));
    let (restored, damage) = Engine::restore(log(), rows);
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert_eq!(restored.known().count(), 1);
}

// === Interest ===

#[test]
fn interest_tells_what_must_be_looked_up_and_for_whom() {
    let mut engine = engine_with(
        json!({"serviceAccountName": "a", "sources": [{"name": "s", "kubernetesEvent": {"regarding": {"selector": {"matchLabels": {"x": "y"}}}}}]}),
    );
    let reads = spec(
        json!({"serviceAccountName": "b", "variables": [{"name": "app", "expression": "event.data.regarding.?labels[?'app'].orValue('')"}]}),
    );
    put(&mut engine, "reads", 1, &reads);
    let chooses = spec(
        json!({"serviceAccountName": "c", "sources": [{"name": "s", "kubernetesEvent": {"reasons": ["Odd"], "namespaces": {"from": "Selector", "selector": {}}}}]}),
    );
    put(&mut engine, "chooses", 1, &chooses);
    let concern = |input: &EventInput| engine.interest().concern(&input.origin.watch, &input.event);
    let account = |name: &str| Account { namespace: "shop".into(), name: name.into() };
    let plain = concern(&about("shop", "p", "R", json!({})));
    assert_eq!(
        plain,
        Concern { any: true, regarding_labels_for: vec![account("a"), account("b")], namespace_labels: false }
    );
    let odd = concern(&wide(about("orders", "p", "Odd", json!({}))));
    assert_eq!(odd, Concern { any: true, regarding_labels_for: vec![], namespace_labels: true });
    assert_eq!(concern(&about("orders", "p", "R", json!({}))), Concern::default());
    assert!(Arc::ptr_eq(&engine.interest(), &engine.interest()));
}

// === Properties ===

fn any_source() -> impl Strategy<Value = Value> {
    let reasons = prop::collection::vec(prop::sample::select(vec!["A", "B", "C"]), 0..3);
    let namespaces = prop::sample::select(vec![
        json!({}),
        json!({"from": "All"}),
        json!({"from": "All", "clusterScoped": "Include"}),
        json!({"from": "Names", "names": ["shop", "orders"]}),
        json!({"from": "Names", "names": ["orders"], "clusterScoped": "Include"}),
        json!({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}),
        json!({"from": "Names", "names": (0..64).map(|n| format!("n{n}")).chain(["shop".to_owned()]).take(64).collect::<Vec<_>>()}),
    ]);
    let kinds = prop::sample::select(vec!["Deployment", "StatefulSet"]);
    prop_oneof![
        (reasons, namespaces.clone()).prop_map(|(reasons, namespaces)| json!({"name": "s", "kubernetesEvent": {"reasons": reasons, "namespaces": namespaces}})),
        (kinds, namespaces).prop_map(|(kind, namespaces)| json!({"name": "s", "resource": {"apiVersion": "apps/v1", "kind": kind, "namespaces": namespaces}})),
    ]
}

fn any_input() -> impl Strategy<Value = EventInput> {
    let namespace = prop::sample::select(vec!["shop", "orders", "n3", ""]);
    let labels = prop::option::of(prop::sample::select(vec![json!({"a": "b"}), json!({})]));
    let event = (namespace.clone(), prop::sample::select(vec!["A", "B", "D"]))
        .prop_map(|(namespace, reason)| about(namespace, "p", reason, json!({})));
    let object = (namespace, prop::sample::select(vec!["Deployment", "Job"])).prop_map(|(namespace, kind)| {
        change("Update", kind, (!namespace.is_empty()).then_some(namespace), "p", json!({}))
    });
    (prop_oneof![event, object], labels).prop_map(|(mut input, labels)| {
        input.lookups.namespace_labels = labels.map(|labels| serde_json::from_value(labels).expect("labels"));
        input
    })
}

/// The state as its rows tell it.
fn rows(engine: &mut Engine, view: &mut std::collections::BTreeMap<(Table, Vec<u8>), Vec<u8>>) {
    for (table, key, row) in engine.dirty() {
        match row {
            Some(row) => view.insert((table, key), row),
            None => view.remove(&(table, key)),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_index_finds_what_a_look_at_every_rule_finds(sources in prop::collection::vec(any_source(), 1..12), inputs in prop::collection::vec(any_input(), 1..12)) {
        let mut engine = Engine::new(log());
        let mut rules = Vec::new();
        for (number, source) in sources.into_iter().enumerate() {
            let name = format!("r{number:02}");
            put(&mut engine, &name, 1, &spec(json!({"sources": [source]})));
            listen(&mut engine, &name, 1, "s", true);
            rules.push(Arc::clone(engine.rule(&rule_ref(&name).uid).expect("in force")));
        }
        // One is replaced and one removed, so that what is taken out of the index is tried as well.
        put(&mut engine, "r00", 2, &spec(json!({})));
        listen(&mut engine, "r00", 2, "any", true);
        rules[0] = Arc::clone(engine.rule(&rule_ref("r00").uid).expect("in force"));
        if rules.len() > 1 {
            engine.fold(&head(1, 0), &Record::RuleRemove(rules.remove(1).rule.uid.clone()));
        }
        for input in &inputs {
            let expected: Vec<RuleUid> = rules.iter()
                .filter(|rule| rule.sources[0].filter.passes(&input.origin.watch, &input.event, input.lookups.namespace_labels.as_ref(), None))
                .map(|rule| rule.rule.uid.clone())
                .collect();
            prop_assert_eq!(engine.judge(&head(5, 0), input).seen, expected.clone());
            let concern = engine.interest().concern(&input.origin.watch, &input.event);
            prop_assert!(concern.any || expected.is_empty(), "interest misses an event that a rule takes");
        }
    }

    #[test]
    fn a_restored_engine_is_the_one_that_was_saved(steps in prop::collection::vec((0u8..8, 0u8..3, 1i64..40), 1..60), cut in 0usize..60) {
        let mut one = Engine::new(log());
        let mut other: Option<Engine> = None;
        let mut view = std::collections::BTreeMap::new();
        let mut generation = 0;
        let mut time = 0;
        let mut fired: Vec<FiringId> = Vec::new();
        for (number, (step, which, wait)) in steps.iter().enumerate() {
            if number == cut {
                rows(&mut one, &mut view);
                let (restored, damage) = Engine::restore(log(), view.iter().map(|((table, key), row)| (*table, key.clone(), row.clone())));
                prop_assert!(damage.is_empty(), "{:?}", damage);
                other = Some(restored);
            }
            time += wait;
            let head = head(number as u64 + 100, time);
            let pod = format!("p{which}");
            let input = about("shop", &pod, "R", json!({"count": wait}));
            let record = match step {
                0 => {
                    generation += 1;
                    let body = json!({"historyLimit": which, "throttle": {"cooldown": format!("{}s", 10 * (generation % 2 + 1))},
                        "when": [{"name": "w", "expression": "event.data.count > 2 && event.data.coutn == 1 || event.data.count > 5"}]});
                    Some(Record::RulePut(RulePut { rule: rule_ref("web"), generation, spec: spec(body) }))
                }
                1 | 2 => {
                    let source = SourceRef { rule: rule_ref("web").uid, generation, source: "any".into() };
                    Some(if *which == 0 { Record::Deaf(source) } else { Record::Baseline(source) })
                }
                3 => fired.pop().map(|firing| Record::Finished(Finished { firing, rule: rule_ref("web").uid, outcome: FiringOutcome::Failed, message: "m".into(), failed_at: None })),
                4 if *which == 0 && *wait > 30 => Some(Record::RuleRemove(rule_ref("web").uid)),
                _ => None,
            };
            for engine in std::iter::once(&mut one).chain(&mut other) {
                if let Some(record) = &record {
                    engine.fold(&head, record);
                }
            }
            if record.is_none() {
                let judged = one.judge(&head, &input);
                if let Some(other) = &mut other {
                    prop_assert_eq!(&other.judge(&head, &input), &judged);
                    other.decide(&head, &input, &judged.seen, &judged.decisions);
                }
                one.decide(&head, &input, &judged.seen, &judged.decisions);
                fired.extend(judged.decisions.iter().filter_map(|decision| match decision {
                    Decision::Fired(firing) => Some(firing.id.clone()),
                    _ => None,
                }));
            }
        }
        if let Some(mut other) = other {
            let mut copy = view.clone();
            rows(&mut one, &mut view);
            rows(&mut other, &mut copy);
            prop_assert_eq!(view, copy);
            prop_assert_eq!(one.progress(&rule_ref("web").uid), other.progress(&rule_ref("web").uid));
        }
    }

    #[test]
    fn globs_match_as_regular_expressions_do(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
        let regex = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
        let expected = regex::Regex::new(&regex).expect("a pattern").is_match(&name);
        prop_assert_eq!(filter::Glob::new(&pattern).matches(&name), expected);
    }
}
