//! What sources take.

use super::*;

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
        let seen = |event: &EventInput| !engine.seen_by(&engine.judge(&head(2, 0), event).seen).is_empty();
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
    let (uid, source) = (rule_ref("web").uid, "s");
    let labels = |input: &EventInput| engine.event_for(&uid, source, input).data["regarding"].get("labels").cloned();
    assert_eq!(labels(&with("ops", "web")), Some(json!({"app": "web"})));
    assert_eq!(labels(&with("other", "web")), None);
}

#[test]
fn the_owner_of_the_regarded_object_makes_the_group_and_where_it_could_not_be_read_that_is_told() {
    let rule = json!({"serviceAccountName": "ops", "sources": [{"name": "s", "kubernetesEvent": {}}],
        "groupBy": [{"name": "owner", "expression": "event.data.regarding.owner.name"}]});
    let with = |account: &str, owner: &str| {
        let mut event = about("shop", "p", "R", json!({}));
        let account = Account { namespace: "shop".into(), name: account.into() };
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": owner});
        event.lookups.regarding_owner = vec![(account, serde_json::from_value(owner).expect("names"))];
        event
    };
    let unread = "error groupBy[owner]: no such field: event.data.regarding.owner";
    check(
        rule,
        &[with("ops", "web"), with("ops", "db"), with("other", "web")],
        &["fired web by s", "fired db by s", unread],
    );
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

#[test]
fn an_instant_is_for_the_source_whose_timetable_it_is_of() {
    let schedule = |cron: &str| json!({"cron": cron, "timeZone": "Europe/Berlin"});
    let of = |rule: &str, source: &str, cron: &str| {
        let spec = serde_json::from_value(schedule(cron)).expect("a schedule");
        let schedule = crate::event::schedule::Schedule::new(&rule_ref(rule).uid.0, "shop", rule, source, &spec);
        let event = schedule.event("2027-01-04T06:00:00Z".parse().expect("an instant"), false);
        input(event, schedule.watch())
    };
    check(
        json!({"sources": [{"name": "early", "schedule": schedule("0 7 * * *")}, {"name": "late", "schedule": schedule("0 7 * * 1")}]}),
        &[
            of("web", "early", "0 7 * * *"),
            of("web", "late", "0 7 * * 1"),
            of("web", "early", "0 8 * * *"),
            of("other", "early", "0 7 * * *"),
        ],
        &["fired shop/EventRule/web by early", "fired shop/EventRule/web by late", ".", "."],
    );
}
