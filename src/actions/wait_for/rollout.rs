//! Whether a rollout is complete, as `kubectl rollout status` decides (kubectl/pkg/polymorphichelpers/rollout_status.go).

use serde_json::Value;

use super::Look;

/// Looks at a Deployment, a StatefulSet or a DaemonSet.
pub(super) fn look(object: &Value) -> Look {
    let kind = object["kind"].as_str().unwrap_or_default();
    if !object["apiVersion"].as_str().unwrap_or_default().starts_with("apps/") {
        return Look::Never(format!("{kind} has no rollout"));
    }
    // The status is of the spec before; a controller that has never seen the object leaves it out.
    if number(object, "/metadata/generation") > number(object, "/status/observedGeneration") {
        return Look::NotYet("its controller has not seen the change yet".to_owned());
    }
    match kind {
        "Deployment" => deployment(object),
        "StatefulSet" | "DaemonSet" if strategy(object) != "RollingUpdate" => {
            Look::Never(format!("its updateStrategy is {}, whose rollout has no status", strategy(object)))
        }
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        _ => Look::Never(format!("{kind} has no rollout")),
    }
}

fn deployment(object: &Value) -> Look {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let mut exceeded = conditions
        .filter(|condition| condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded");
    if let Some(condition) = exceeded.next() {
        let message = condition["message"].as_str().unwrap_or_default();
        return Look::Never(format!("it exceeded its progress deadline: {message}"));
    }
    let (wanted, all) = (wanted(object), number(object, "/status/replicas"));
    let updated = number(object, "/status/updatedReplicas");
    let available = number(object, "/status/availableReplicas");
    if updated < wanted {
        Look::NotYet(format!("{updated} of {wanted} replicas are updated"))
    } else if all > updated {
        Look::NotYet(format!("{} old replicas are to be terminated", all - updated))
    } else if available < updated {
        Look::NotYet(format!("{available} of {updated} updated replicas are available"))
    } else {
        Look::Met
    }
}

fn stateful_set(object: &Value) -> Look {
    let wanted = wanted(object);
    let (ready, updated) = (number(object, "/status/readyReplicas"), number(object, "/status/updatedReplicas"));
    if ready < wanted {
        return Look::NotYet(format!("{ready} of {wanted} replicas are ready"));
    }
    if let Some(partition) = object.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64) {
        let wanted = (wanted - partition).max(0);
        return match updated < wanted {
            true => Look::NotYet(format!("{updated} of {wanted} replicas are updated")),
            false => Look::Met,
        };
    }
    match object["status"]["updateRevision"] == object["status"]["currentRevision"] {
        true => Look::Met,
        false => Look::NotYet(format!("{updated} of {wanted} replicas are updated")),
    }
}

fn daemon_set(object: &Value) -> Look {
    let wanted = number(object, "/status/desiredNumberScheduled");
    let updated = number(object, "/status/updatedNumberScheduled");
    let available = number(object, "/status/numberAvailable");
    if updated < wanted {
        Look::NotYet(format!("{updated} of {wanted} pods are updated"))
    } else if available < wanted {
        Look::NotYet(format!("{available} of {wanted} pods are available"))
    } else {
        Look::Met
    }
}

fn strategy(object: &Value) -> &str {
    object.pointer("/spec/updateStrategy/type").and_then(Value::as_str).unwrap_or("RollingUpdate")
}

/// The API server sets 1 where nothing is said.
fn wanted(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

/// Absent means 0: the API server leaves zeros out.
fn number(object: &Value, path: &str) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: &str, spec: &Value, cases: &[(Value, &str)]) {
        for (status, expect) in cases {
            let object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"generation": 2}, "spec": spec, "status": status});
            let seen = match look(&object) {
                Look::Met => "met".to_owned(),
                Look::NotYet(what) => what,
                Look::Never(why) => format!("never: {why}"),
            };
            assert_eq!(seen, *expect, "{kind} {status}");
        }
    }

    #[test]
    fn a_deployment_is_complete_when_all_its_replicas_are_new_and_available() {
        let at = |all: i64, updated: i64, available: i64| json!({"observedGeneration": 2, "replicas": all, "updatedReplicas": updated, "availableReplicas": available});
        let stuck = json!({"observedGeneration": 2, "conditions": [{"type": "Available", "reason": "x"},
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no progress"}]});
        let mut old = stuck.clone();
        old["observedGeneration"] = json!(1);
        check(
            "Deployment",
            &json!({"replicas": 3}),
            &[
                (json!({}), "its controller has not seen the change yet"),
                (old, "its controller has not seen the change yet"),
                (at(4, 2, 2), "2 of 3 replicas are updated"),
                (at(4, 3, 3), "1 old replicas are to be terminated"),
                (at(3, 3, 1), "1 of 3 updated replicas are available"),
                (at(3, 3, 3), "met"),
                (stuck, "never: it exceeded its progress deadline: no progress"),
            ],
        );
        check("Deployment", &json!({"replicas": 0}), &[(at(0, 0, 0), "met")]);
        check("Deployment", &json!({}), &[(at(0, 0, 0), "0 of 1 replicas are updated")]);
    }

    #[test]
    fn a_stateful_set_is_complete_when_its_revision_is_the_new_one() {
        let at = |ready: i64, updated: i64, current: &str| json!({"observedGeneration": 2, "readyReplicas": ready, "updatedReplicas": updated, "currentRevision": current, "updateRevision": "b"});
        check(
            "StatefulSet",
            &json!({"replicas": 3}),
            &[
                (json!({"observedGeneration": 1}), "its controller has not seen the change yet"),
                (at(2, 3, "b"), "2 of 3 replicas are ready"),
                (at(3, 1, "a"), "1 of 3 replicas are updated"),
                (at(3, 3, "b"), "met"),
            ],
        );
        let parted =
            json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
        check("StatefulSet", &parted, &[(at(3, 1, "a"), "1 of 2 replicas are updated"), (at(3, 2, "a"), "met")]);
        let by_hand = json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}});
        check(
            "StatefulSet",
            &by_hand,
            &[(at(3, 3, "b"), "never: its updateStrategy is OnDelete, whose rollout has no status")],
        );
    }

    #[test]
    fn a_daemon_set_is_complete_when_every_node_has_the_new_pod() {
        let at = |updated: i64, available: i64| json!({"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": updated, "numberAvailable": available});
        check(
            "DaemonSet",
            &json!({}),
            &[
                (json!({"observedGeneration": 1}), "its controller has not seen the change yet"),
                (at(1, 3), "1 of 3 pods are updated"),
                (at(3, 2), "2 of 3 pods are available"),
                (at(3, 3), "met"),
            ],
        );
    }

    #[test]
    fn what_is_no_workload_has_no_rollout() {
        let object = json!({"apiVersion": "example.com/v1", "kind": "Deployment"});
        assert!(matches!(look(&object), Look::Never(why) if why == "Deployment has no rollout"));
    }
}
