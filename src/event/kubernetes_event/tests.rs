use serde_json::json;

use super::*;

fn watch() -> WatchKey {
    WatchKey { api_version: "v1".to_owned(), kind: "Event".to_owned(), namespace: None }
}

fn metadata(version: &str) -> Value {
    json!({
        "name": "tap.17", "namespace": "garden", "uid": "e-1", "resourceVersion": version,
        "creationTimestamp": "2026-11-05T10:00:09Z", "managedFields": [{"manager": "kubelet"}],
    })
}

fn read(raw: Value, previous: Option<&Seen>) -> Normalised {
    from_kubernetes_event(raw, &watch(), previous).expect("a readable Event")
}

fn event(raw: Value) -> Event {
    read(raw, None).event.expect("an event")
}

fn remembered(normalised: &Normalised) -> Seen {
    normalised.origin.seen.clone().expect("something remembered")
}

#[test]
fn an_event_with_only_an_event_time_has_that_time_and_counts_once() {
    let event = event(json!({
        "apiVersion": "v1", "kind": "Event", "metadata": metadata("7"), "reason": "FailedScheduling", "type": "Warning",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "garden", "name": "tap"},
        "eventTime": "2026-11-05T10:00:00.250000Z", "firstTimestamp": null, "lastTimestamp": null, "source": {},
        "reportingComponent": "default-scheduler", "action": "Scheduling", "message": "no node",
    }));
    assert_eq!(event.time.expect("a time").to_string(), "2026-11-05T10:00:00.25Z");
    assert_eq!((event.id.as_str(), event.source.as_str()), ("e-1/1", "/api/v1/events"));
    assert_eq!(event.subject.as_deref(), Some("garden/Pod/tap"));
    assert_eq!(event.data["count"], 1);
    assert_eq!(event.data["delta"], 1);
    assert_eq!(event.data["reporter"], "default-scheduler");
    assert_eq!(event.data["action"], "Scheduling");
    assert_eq!(event.data["firstTime"], "2026-11-05T10:00:00.25Z");
}

#[test]
fn a_classic_event_has_its_last_timestamp_its_count_and_its_source_component() {
    let event = event(json!({
        "metadata": metadata("7"), "reason": "BackOff", "type": "Warning", "message": "again", "count": 9,
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "garden", "name": "tap", "fieldPath": "spec.containers{t}"},
        "eventTime": null, "firstTimestamp": "2026-11-05T09:00:00Z", "lastTimestamp": "2026-11-05T09:59:00Z",
        "source": {"component": "kubelet", "host": "n1"}, "reportingComponent": "",
    }));
    assert_eq!(event.time.expect("a time").to_string(), "2026-11-05T09:59:00Z");
    assert_eq!(event.data["firstTime"], "2026-11-05T09:00:00Z");
    assert_eq!(event.data["reporter"], "kubelet");
    assert_eq!(event.data["delta"], 9);
    assert_eq!(event.data["regarding"]["fieldPath"], "spec.containers{t}");
    assert!(event.data["object"]["metadata"].get("managedFields").is_none());
    assert_eq!(event.data["object"]["source"]["host"], "n1");
}

#[test]
fn an_event_without_times_count_and_message_has_its_creation_time_one_occurrence_and_an_empty_message() {
    let event = event(json!({
        "metadata": metadata("7"), "reason": "HandMade", "type": "Warning",
        "involvedObject": {"kind": "Pod", "namespace": "garden", "name": "tap"},
    }));
    assert_eq!(event.time.expect("a time").to_string(), "2026-11-05T10:00:09Z");
    assert_eq!(event.data["message"], "");
    assert_eq!(event.data["count"], 1);
    assert_eq!(event.data["reporter"], "");
    assert!(event.data.get("firstTime").is_none());
    assert_eq!(event.data["regarding"]["apiVersion"], "v1", "a Pod without an API version is one of core/v1");
}

#[test]
fn year_one_and_1970_are_no_times() {
    let event = event(json!({
        "metadata": metadata("7"), "involvedObject": {"kind": "Pod", "name": "tap"},
        "lastTimestamp": "0001-01-01T00:00:00Z", "firstTimestamp": "1970-01-01T00:00:00Z",
    }));
    assert_eq!(event.time.expect("a time").to_string(), "2026-11-05T10:00:09Z");
}

#[test]
fn repeats_are_told_by_their_increase_through_both_groups() {
    let new = |version: &str, series: Value| {
        json!({
            "apiVersion": "events.k8s.io/v1", "metadata": metadata(version), "reason": "TapStuck", "note": "stuck", "type": "Warning",
            "eventTime": "2026-11-05T10:00:00.000001Z", "reportingController": "example.com/tap", "series": series,
            "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "garden", "name": "tap"},
        })
    };
    let first = read(new("7", Value::Null), None);
    let event = first.event.clone().expect("the first");
    assert_eq!((&event.data["message"], &event.data["reporter"]), (&json!("stuck"), &json!("example.com/tap")));

    let second = read(
        new("8", json!({"count": 2, "lastObservedTime": "2026-11-05T10:01:00.000000Z"})),
        Some(&remembered(&first)),
    );
    assert_eq!(second.event.as_ref().expect("the second").data["delta"], 1);

    // The same stored object through core/v1.
    let third = json!({
        "metadata": metadata("9"), "reason": "TapStuck", "message": "stuck", "type": "Warning",
        "eventTime": "2026-11-05T10:00:00.000001Z", "firstTimestamp": null, "lastTimestamp": null, "reportingComponent": "example.com/tap",
        "series": {"count": 31, "lastObservedTime": "2026-11-05T10:30:00.000000Z"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "garden", "name": "tap"},
    });
    let third = read(third, Some(&remembered(&second)));
    let event = third.event.clone().expect("the third");
    assert_eq!((&event.data["delta"], &event.data["count"]), (&json!(29), &json!(31)));
    assert_eq!(
        (event.id.as_str(), event.time.expect("a time").to_string().as_str()),
        ("e-1/31", "2026-11-05T10:30:00Z")
    );

    let labelled = read(
        new("10", json!({"count": 31, "lastObservedTime": "2026-11-05T10:30:00.000000Z"})),
        Some(&remembered(&third)),
    );
    assert_eq!(labelled.event, None, "a change of labels is no occurrence");
    assert_eq!(remembered(&labelled), Seen::new(10, 31, "garden/tap.17".to_owned()));
}

#[test]
fn names_of_the_old_fields_in_the_new_group_are_understood() {
    let event = event(json!({
        "metadata": metadata("7"), "regarding": {"kind": "Pod", "name": "tap"}, "deprecatedCount": 4, "deprecatedSource": {"component": "kubelet"},
        "deprecatedFirstTimestamp": "2026-11-05T09:00:00Z", "deprecatedLastTimestamp": "2026-11-05T09:30:00Z", "eventTime": null,
    }));
    assert_eq!((&event.data["count"], &event.data["reporter"]), (&json!(4), &json!("kubelet")));
    assert_eq!(event.data["firstTime"], "2026-11-05T09:00:00Z");
    assert_eq!(event.time.expect("a time").to_string(), "2026-11-05T09:30:00Z");
}

#[test]
fn a_node_has_no_namespace_wherever_its_event_is_stored() {
    let event =
        event(json!({"metadata": metadata("7"), "involvedObject": {"kind": "Node", "name": "n1", "uid": "n1"}}));
    assert_eq!(event.subject.as_deref(), Some("Node/n1"));
    assert!(event.data["regarding"].get("namespace").is_none());
    assert_eq!(event.data["object"]["metadata"]["namespace"], "garden");
}

#[test]
fn our_own_events_are_only_remembered() {
    for field in ["reportingComponent", "reportingController"] {
        let own =
            json!({"metadata": metadata("7"), "involvedObject": {"kind": "Pod", "name": "tap"}, field: OWN_REPORTER});
        let normalised = read(own, None);
        assert_eq!(normalised.event, None);
        assert_eq!(remembered(&normalised).version, 7);
    }
}

#[test]
fn an_object_without_uid_version_or_time_is_malformed() {
    let read = |raw| from_kubernetes_event(raw, &watch(), None);
    assert_eq!(
        read(json!({"metadata": {"name": "x", "resourceVersion": "7"}})),
        Err(Malformed::Missing("metadata.uid"))
    );
    let versioned = |version: &str| json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": version}});
    assert_eq!(read(versioned("seven")), Err(Malformed::Version("seven".to_owned())));
    assert_eq!(read(versioned("7")), Err(Malformed::Missing("metadata.creationTimestamp")));
    assert!(read(json!("text")).is_err());
}
