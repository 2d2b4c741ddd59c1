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
    memory.finish_list(1, &HashSet::from(["u".to_owned()]));
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
    memory.finish_list(1, &HashSet::from(["u".to_owned()]));
    assert!(memory.knows("u", 1, &[]) && !memory.knows("u", 1, &both));
    assert_eq!(see(&mut memory, object(1, json!({"replicas": 1})), Sight::Listed, &both), Some((0, 0)));
    assert!(memory.knows("u", 1, &both));
    assert_eq!(see(&mut memory, object(2, json!({"replicas": 2})), Sight::Changed, &both), Some((1, 1)));
    // An older list tells nothing.
    assert!(memory.knows("u", 1, &followed(&["object.metadata.name"])));
}

#[test]
fn values_outlive_a_restart_and_what_changed_meanwhile_is_found() {
    let one = followed(&[REPLICAS]);
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, object(1, json!({"replicas": 1})), Sight::Listed, &one);
    let mark = memory.finish_list(1, &HashSet::from(["u".to_owned()]));
    let mut saved = memory.objects.clone();
    saved.extend(mark.into_iter().filter_map(|origin| Some((origin.uid, origin.seen?))));
    let row = serde_json::to_string(&saved).expect("rows");
    for (spec, changed) in [(json!({"replicas": 1, "paused": true}), 0), (json!({"replicas": 5}), 1)] {
        let mut memory = Memory::new(watch(), serde_json::from_str(&row).expect("rows"));
        assert_eq!(see(&mut memory, object(9, spec), Sight::Listed, &one), Some((1, changed)));
    }
}

#[test]
fn an_object_of_which_nothing_is_followed_takes_no_more_memory_than_before() {
    assert!(std::mem::size_of::<Seen>() <= std::mem::size_of::<(u64, u32, String)>());
    let mut memory = Memory::new(watch(), HashMap::new());
    see(&mut memory, object(1, json!({})), Sight::Changed, &[]);
    assert_eq!(memory.objects["u"], Seen::new(1, 0, "shop/web"));
    assert_eq!(serde_json::to_string(&memory.objects["u"]).expect("a row"), r#"{"version":1,"name":"shop/web"}"#);
}
