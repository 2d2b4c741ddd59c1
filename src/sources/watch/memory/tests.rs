//! Values that are followed: what is a change of one, and what is the first sight of it.

use serde_json::json;

use super::*;
use crate::{rule::Interest, sources::testing};

fn watch() -> WatchKey {
    WatchKey { api_version: "apps/v1".into(), kind: "Deployment".into(), namespace: Some("shop".into()) }
}

/// What a watch has to follow for rules with these expressions.
fn followed(expressions: &[&str]) -> Vec<Followed> {
    let source = json!({"apiVersion": "apps/v1", "kind": "Deployment", "changedExpressions": expressions});
    let put = testing::rule("r", 1, json!([{"name": "s", "resource": source}]));
    let interest: std::sync::Arc<Interest> = testing::interest(&[put]);
    interest.followed(&watch()).to_vec()
}

fn object(version: u64, replicas: Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": version.to_string()}, "spec": replicas})
}

/// What is saved when a list has come to its end.
fn saved(memory: &mut Memory, followed: &[Followed]) -> String {
    let mark = memory.finish_list(1, followed);
    let mut saved = memory.objects.clone();
    saved.insert(mark.uid, mark.seen.expect("a mark"));
    serde_json::to_string(&saved).expect("rows")
}

fn restored(row: &str) -> Memory {
    Memory::new(watch(), serde_json::from_str(row).expect("rows"))
}

/// How many events the object in sight makes, and how many values changed.
fn see(memory: &mut Memory, object: Value, sight: Sight, followed: &[Followed]) -> Option<(usize, usize)> {
    let observed = memory.observe(object, sight, "/s", Timestamp::UNIX_EPOCH, followed).expect("an object");
    observed.map(|observed| (observed.events.len(), observed.origin.changed.len()))
}

const REPLICAS: &str = "object.?spec.?replicas";

#[test]
fn a_value_that_is_another_than_before_has_changed_and_the_first_sight_of_it_has_not() {
    let (one, both) = (followed(&[REPLICAS]), followed(&[REPLICAS, "object.spec.?paused"]));
    let mut memory = Memory::new(watch(), HashMap::new());
    let spec = |replicas: u32| json!({"replicas": replicas, "other": "x"});
    assert_eq!(see(&mut memory, object(1, spec(1)), Sight::Listed, &one), Some((0, 0)));
    memory.finish_list(1, &[]);
    for (version, spec, followed, expected) in [
        (2, json!({"replicas": 1, "other": "y"}), &one, 0),
        (3, json!({"replicas": 2}), &one, 1),
        (4, json!({}), &one, 1),
        (5, json!({"replicas": null}), &one, 1),
        // Newly watched.
        (6, json!({"replicas": null, "paused": true}), &both, 0),
        (7, json!({"replicas": 2, "paused": false}), &both, 2),
    ] {
        assert_eq!(see(&mut memory, object(version, spec), Sight::Changed, followed), Some((1, expected)), "{version}");
    }
    let gone = see(&mut memory, object(8, spec(9)), Sight::Deleted, &both);
    assert_eq!(gone, Some((1, 0)));
}

#[test]
fn a_value_that_cannot_be_evaluated_is_not_known_and_begins_anew() {
    let strict = followed(&["object.spec.replicas"]);
    let mut memory = Memory::new(watch(), HashMap::new());
    for (version, spec, changed) in [
        (1, json!({"replicas": 1}), 0),
        (2, json!({}), 0),
        (3, json!({"replicas": 3}), 0),
        (4, json!({"replicas": 4}), 1),
    ] {
        assert_eq!(see(&mut memory, object(version, spec), Sight::Changed, &strict), Some((1, changed)), "{version}");
        let value = memory.objects["u"].value(strict[0].id);
        assert_eq!(value.is_some(), version != 2);
    }
}

#[test]
fn a_list_teaches_values_that_were_not_asked_for_and_makes_no_event_of_it() {
    let both = followed(&[REPLICAS, "object.spec.?paused"]);
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, object(1, json!({"replicas": 1})), Sight::Listed, &[]);
    memory.finish_list(1, &[]);
    assert!(memory.knows("u", 1, &[]) && !memory.knows("u", 1, &both));
    assert_eq!(see(&mut memory, object(1, json!({"replicas": 1})), Sight::Listed, &both), Some((0, 0)));
    assert!(memory.knows("u", 1, &both));
    assert_eq!(see(&mut memory, object(2, json!({"replicas": 2})), Sight::Changed, &both), Some((1, 1)));
    assert_eq!((memory.contradicts("u", 1), memory.contradicts("u", 2)), (Some((2, 1)), None));
}

#[test]
fn values_outlive_a_restart_and_what_changed_meanwhile_is_found() {
    let one = followed(&[REPLICAS]);
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, object(1, json!({"replicas": 1})), Sight::Listed, &one);
    let row = saved(&mut memory, &one);
    for (spec, changed) in [(json!({"replicas": 1, "paused": true}), 0), (json!({"replicas": 5}), 1)] {
        let mut memory = restored(&row);
        assert_eq!(see(&mut memory, object(9, spec), Sight::Listed, &one), Some((1, changed)));
    }
}

#[test]
fn an_object_of_which_nothing_is_followed_takes_no_more_memory_than_before() {
    assert!(std::mem::size_of::<Seen>() <= std::mem::size_of::<(u64, u32, String)>());
    assert!(
        std::mem::size_of::<Values>() <= std::mem::size_of::<Vec<(u64, u64)>>(),
        "nor more where values are followed"
    );
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, object(1, json!({})), Sight::Changed, &[]);
    assert_eq!(memory.objects["u"], Seen::new(1, 0, "shop/web"));
    assert_eq!(serde_json::to_string(&memory.objects["u"]).expect("a row"), r#"{"version":1,"name":"shop/web"}"#);
}

/// What a watch has to follow for a selector for each of these tiers, in their order.
fn tiers(tiers: &[&str]) -> Vec<Followed> {
    let follow = |tier: &&str| {
        let selector = json!({"matchLabels": {"tier": tier}});
        let source =
            json!({"name": tier, "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "selector": selector}});
        let put = testing::rule("r", 1, json!([source]));
        let interest: std::sync::Arc<Interest> = testing::interest(&[put]);
        interest.followed(&watch()).to_vec()
    };
    tiers.iter().flat_map(follow).collect()
}

fn of_tier(version: u64, tier: &str) -> Value {
    let mut object = object(version, json!({}));
    object["metadata"]["labels"] = json!({"tier": tier});
    object
}

/// What is known of the selectors when the object turns out to be gone.
fn last(memory: &mut Memory, followed: &[Followed]) -> Vec<Option<u64>> {
    let lost = memory.lose("u", "/s", Timestamp::UNIX_EPOCH, followed).expect("it was there");
    assert_eq!(lost.events.len(), 1);
    let last = lost.origin.last.expect("what was known");
    followed.iter().map(|one| last.get(one.id)).collect()
}

#[test]
fn of_an_object_that_is_gone_it_is_known_which_selectors_it_matched_last_also_after_a_restart() {
    let both = tiers(&["front", "back"]);
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, of_tier(1, "front"), Sight::Listed, &both);
    saved(&mut memory, &both);
    see(&mut memory, of_tier(2, "back"), Sight::Changed, &both);
    assert_eq!(
        memory.objects["u"].values.as_ref().map(|values| values.hashes.len()),
        Some(1),
        "what does not match is free"
    );
    let row = saved(&mut memory, &both);
    assert_eq!(last(&mut memory, &both), [Some(0), Some(1)]);
    assert_eq!(last(&mut restored(&row), &both), [Some(0), Some(1)]);
    assert!(restored(&row).lose("other", "/s", Timestamp::UNIX_EPOCH, &both).is_none());
}

#[test]
fn an_object_that_matches_a_selector_no_more_has_left_it_also_after_a_restart_and_coming_is_no_leaving() {
    let both = tiers(&["front", "back"]);
    let changed = |memory: &mut Memory, object: Value, sight: Sight| {
        let observed = memory.observe(object, sight, "/s", Timestamp::UNIX_EPOCH, &both).expect("an object");
        observed.expect("news").origin.changed
    };
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, of_tier(1, "front"), Sight::Listed, &both);
    let row = saved(&mut memory, &both);
    for (mut memory, sight) in [(memory, Sight::Changed), (restored(&row), Sight::Listed)] {
        assert_eq!(changed(&mut memory, of_tier(2, "front"), sight), [0; 0]);
        assert_eq!(changed(&mut memory, of_tier(3, "back"), sight), [both[0].id]);
        assert_eq!(changed(&mut memory, of_tier(4, "front"), sight), [both[1].id]);
    }
}

#[test]
fn what_rules_read_of_an_object_as_it_was_comes_with_its_next_change_also_over_restarts_and_gaps() {
    let expression = json!([{"name": "c", "expression": "oldObject != null && oldObject.spec.replicas == 1"}]);
    let source = json!({"name": "s", "when": expression, "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}});
    let interest: std::sync::Arc<Interest> = testing::interest(&[testing::rule("r", 1, json!([source]))]);
    let old = interest.followed(&watch()).to_vec();
    assert!(old.len() == 1 && old[0].is_old());
    let told = |observed: Option<Observed>| {
        let old = observed.expect("news").origin.old;
        old.map(|old| serde_json::to_value(&old.0[0].1).expect("JSON"))
    };
    let change = |memory: &mut Memory, version: u64, spec: Value, sight: Sight| {
        told(memory.observe(object(version, spec), sight, "/s", Timestamp::UNIX_EPOCH, &old).expect("an object"))
    };
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, object(1, json!({"replicas": 1})), Sight::Listed, &[]);
    memory.finish_list(1, &[]);
    assert!(!memory.knows("u", 1, &old), "a newly read value is learnt with a list");
    assert_eq!(change(&mut memory, 1, json!({"replicas": 1}), Sight::Listed), None);
    let row = saved(&mut memory, &old);
    for (mut memory, sight) in [(memory, Sight::Changed), (restored(&row), Sight::Listed)] {
        assert!(memory.knows("u", 1, &old));
        assert_eq!(change(&mut memory, 2, json!({}), sight), Some(json!("1")));
        assert_eq!(
            change(&mut memory, 3, json!({"replicas": 3}), sight),
            Some(json!(1)),
            "of two keys one led somewhere"
        );
        let lost = memory.lose("u", "/s", Timestamp::UNIX_EPOCH, &old);
        assert_eq!(told(lost), Some(json!("3")), "of one that nobody saw go");
    }
}

#[test]
fn a_selector_is_not_known_before_all_objects_were_asked_nor_after_it_was_not_followed_for_a_while() {
    let (none, front) = (Vec::new(), tiers(&["front"]));
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, of_tier(1, "front"), Sight::Listed, &none);
    let row = saved(&mut memory, &none);
    assert!(!memory.knows("u", 1, &front));
    assert_eq!(last(&mut memory, &front), [None]);

    let mut memory = restored(&row);
    assert_eq!(see(&mut memory, of_tier(1, "front"), Sight::Listed, &front), Some((0, 0)));
    saved(&mut memory, &front);
    assert!(memory.knows("u", 1, &front));
    memory.follow(&none);
    see(&mut memory, of_tier(2, "back"), Sight::Changed, &none);
    assert!(!memory.knows("u", 2, &front));
    assert_eq!(last(&mut memory, &front), [None]);
}

#[test]
fn asking_objects_that_do_not_match_writes_nothing() {
    let (none, front) = (Vec::new(), tiers(&["front"]));
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, of_tier(1, "back"), Sight::Listed, &none);
    saved(&mut memory, &none);
    assert_eq!(see(&mut memory, of_tier(1, "back"), Sight::Listed, &front), None);
    saved(&mut memory, &front);
    assert_eq!(last(&mut memory, &front), [Some(0)]);
}

#[test]
fn event_objects_of_the_newer_api_group_are_objects_and_those_of_our_own_are_nothing() {
    let watch =
        WatchKey { api_version: "events.k8s.io/v1".into(), kind: "Event".into(), namespace: Some("shop".into()) };
    let mut memory = Memory::new(watch, HashMap::new());
    memory.finish_list(1, &[]);
    let mut event = |uid: &str, reporter: &str| {
        let mut event = object(2, json!({}));
        event["metadata"]["uid"] = uid.into();
        event["metadata"]["creationTimestamp"] = "2026-11-05T10:00:00Z".into();
        event["reportingController"] = reporter.into();
        let came = see(&mut memory, event, Sight::Changed, &[]).map(|(events, _)| events);
        let lost = memory.lose(uid, "/s", Timestamp::UNIX_EPOCH, &[]).map(|lost| lost.events.len());
        (came, lost)
    };
    assert_eq!(event("theirs", "kubelet"), (Some(1), Some(1)));
    assert_eq!(event("ours", crate::event::kubernetes_event::OWN_REPORTER), (Some(0), Some(0)));
}
