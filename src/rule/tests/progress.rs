//! Versions, cooldowns, progress and interest.

use super::*;

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
    assert!(
        !engine
            .interest()
            .concern(&about("shop", "p", "R", json!({})).origin, &about("shop", "p", "R", json!({})).event)
            .any
    );
    let mut engine = engine_with(json!({"throttle": {"cooldown": "1h"}}));
    run(&mut engine, &[about("shop", "p", "R", json!({}))]);
    engine.dirty();
    engine.fold(&head(50, 0), &Record::RuleRemove(rule_ref("web").uid));
    assert_eq!(run(&mut engine, &[about("shop", "p", "R", json!({}))]), ["."]);
    let gone: Vec<_> = engine.dirty();
    // The rule, its group, and what its class had seen.
    assert_eq!(gone.len(), 3);
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

#[test]
fn a_rule_fires_however_many_of_its_firings_are_open_and_reads_what_earlier_versions_suppressed() {
    let mut engine = engine_with(json!({}));
    let web = || about("shop", "web", "R", json!({}));
    let told = run(&mut engine, &vec![web(); 20_000]);
    assert!(told.iter().all(|word| word.starts_with("fired")));
    let decision = json!({"Suppressed": {"rule": rule_ref("web").uid, "group": "g", "reason": "Backlog"}});
    let decision: Decision = serde_json::from_value(decision).expect("a decision of an earlier version");
    engine.decide(&head(30_000, 0), &web(), &SeenBy::default(), &[decision]);
    let counts = engine.progress(&rule_ref("web").uid).expect("progress").counts;
    assert_eq!((counts.fired, counts.matched, counts.suppressed.total), (20_000, 20_001, 0));
}

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
        reason: None,
        remember: None,
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

#[test]
fn what_an_expression_reads_of_the_regarded_object_is_looked_up_wherever_it_stands() {
    let labelled = "event.data.regarding.?labels[?'app'].orValue('') == 'web'";
    let events = |when: &str| json!([{"when": [{"name": "w", "expression": when}]}, {"source": "any"}]);
    let tell = json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": format!("${{{labelled}}}")}}]);
    let wait = json!([{"name": "one", "wait": {"for": "1s"}}]);
    let number = |trigger: &str| json!({"trigger": {trigger: {"expression": format!("{labelled} ? 1.0 : 0.0"), "within": "1m", "above": "0", "deviations": 4}}});
    for (place, rule) in [
        ("sequence", json!({"trigger": {"sequence": {"within": "1m", "steps": events(labelled)}}})),
        (
            "unless",
            json!({"trigger": {"sequence": {"within": "1m", "steps": events("true"), "unless": events(labelled)[0]}}}),
        ),
        ("all", json!({"trigger": {"all": {"within": "1m", "of": events(labelled)}}})),
        ("value", number("value")),
        ("anomaly", number("anomaly")),
        ("when", json!({"when": [{"name": "w", "expression": labelled}]})),
        ("dedupe", json!({"dedupe": {"keyExpression": labelled, "within": "1m"}})),
        ("actions", json!({"actions": tell})),
        ("failureActions", json!({"actions": wait, "failureActions": tell})),
    ] {
        let engine = engine_with(rule);
        let input = about("shop", "p", "R", json!({}));
        let concern = engine.interest().concern(&input.origin, &input.event);
        assert_eq!(concern.regarding_labels_for.len(), 1, "{place}");
        assert!(concern.regarding_owner_for.is_empty(), "{place}");
    }
}

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
    let by_owner = spec(
        json!({"serviceAccountName": "d", "sources": [{"name": "s", "kubernetesEvent": {"reasons": ["Owned"]}}], "groupBy": [{"name": "owner", "expression": "event.data.regarding['owner'].name"}]}),
    );
    put(&mut engine, "by-owner", 1, &by_owner);
    let concern = |input: &EventInput| engine.interest().concern(&input.origin, &input.event);
    let account = |name: &str| Account { namespace: "shop".into(), name: name.into() };
    let any = || Concern { any: true, ..Concern::default() };
    let both = vec![account("a"), account("b")];
    let plain = concern(&about("shop", "p", "R", json!({})));
    assert_eq!(plain, Concern { regarding_labels_for: both.clone(), ..any() });
    let owned = concern(&about("shop", "p", "Owned", json!({})));
    assert_eq!(owned, Concern { regarding_labels_for: both, regarding_owner_for: vec![account("d")], ..any() });
    let odd = concern(&wide(about("orders", "p", "Odd", json!({}))));
    assert_eq!(odd, Concern { namespace_labels: true, ..any() });
    assert_eq!(concern(&about("orders", "p", "R", json!({}))), Concern::default());
    assert!(Arc::ptr_eq(&engine.interest(), &engine.interest()));
}
