use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use super::*;
use crate::kubernetes::fake::{Fake, failure};

/// The policy as an API server stores it, defaults filled in.
pub(crate) fn policy() -> Value {
    json!({"spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [{
            "apiGroups": ["signalbox.dev"], "apiVersions": ["*"], "resources": ["eventrules", "eventsinks", "eventsources"],
            "operations": ["CREATE", "UPDATE"], "scope": "*"}]},
        "validations": [{"expression": EXPRESSION.replace(" || ", " ||\n  "), "messageExpression": "'no'", "reason": "Forbidden"},
            {"expression": APPROVAL_EXPRESSION}, {"expression": SILENCE_EXPRESSION}],
    }})
}

pub(crate) fn binding() -> Value {
    json!({"spec": {"policyName": POLICY, "validationActions": ["Deny"]}})
}

#[test]
fn the_charts_policy_checks_every_author() {
    assert_eq!(fault_of_policy(&policy()["spec"]), None);
    assert_eq!(fault_of_binding(&binding()["spec"]), None);
}

#[test]
fn a_policy_that_lets_anything_else_through_counts_as_none() {
    for (place, value, said) in [
        ("/failurePolicy", json!("Ignore"), "failurePolicy"),
        (
            "/matchConditions",
            json!([{"name": "not-me", "expression": "request.userInfo.username != 'me'"}]),
            "matchConditions",
        ),
        ("/paramKind", json!({"apiVersion": "v1", "kind": "ConfigMap"}), "paramKind"),
        ("/somethingNew", json!(true), "somethingNew"),
        ("/matchConstraints/namespaceSelector", json!({"matchLabels": {"a": "b"}}), "namespaceSelector"),
        ("/matchConstraints/objectSelector", json!({"matchLabels": {"a": "b"}}), "objectSelector"),
        ("/matchConstraints/excludeResourceRules", json!([{"resources": ["eventrules"]}]), "excludeResourceRules"),
        ("/matchConstraints/resourceRules", json!([]), "CREATE of eventrules"),
        ("/matchConstraints/resourceRules/0/resources", json!(["eventrules"]), "CREATE of eventsinks"),
        ("/matchConstraints/resourceRules/0/resources", json!(["eventrules", "eventsinks"]), "CREATE of eventsources"),
        ("/matchConstraints/resourceRules/0/operations", json!(["CREATE"]), "UPDATE of eventrules"),
        ("/matchConstraints/resourceRules/0/apiVersions", json!(["v1"]), "CREATE of eventrules"),
        ("/matchConstraints/resourceRules/0/scope", json!("Cluster"), "CREATE of eventrules"),
        ("/matchConstraints/resourceRules/0/resourceNames", json!(["web"]), "whatever their names"),
        ("/validations/0/expression", json!(format!("true || {EXPRESSION}")), "validation"),
        ("/validations", json!([]), "validation"),
    ] {
        let mut policy = policy()["spec"].take();
        let (parent, field) = place.rsplit_once('/').expect("a path");
        policy.pointer_mut(parent).expect("it is there")[field] = value;
        let fault = fault_of_policy(&policy).unwrap_or_else(|| panic!("{place} is taken"));
        assert!(fault.contains(said), "{place}: {fault}");
    }
}

#[test]
fn a_policy_without_a_word_of_approvals_checks_authors_and_nobody_who_approves() {
    assert_eq!(fault_of_approval(&policy()["spec"]), None);
    let mut older = policy()["spec"].take();
    older["validations"].as_array_mut().expect("a list").remove(1);
    assert_eq!(fault_of_policy(&older), None);
    let fault = fault_of_approval(&older).expect("approvals are not checked");
    assert!(fault.contains("approvals"), "{fault}");
    let mut open = policy()["spec"].take();
    open["validations"][1]["expression"] = json!(format!("true || {APPROVAL_EXPRESSION}"));
    assert!(fault_of_approval(&open).is_some());
    open["failurePolicy"] = json!("Ignore");
    assert!(fault_of_approval(&open).is_some());
}

#[test]
fn a_policy_without_a_word_of_silences_checks_nobody_who_silences() {
    assert_eq!(fault_of_silencing(&policy()["spec"]), None);
    let mut older = policy()["spec"].take();
    older["validations"].as_array_mut().expect("a list").pop();
    assert_eq!((fault_of_policy(&older), fault_of_approval(&older)), (None, None));
    let fault = fault_of_silencing(&older).expect("silences are not checked");
    assert!(fault.contains("silences"), "{fault}");
    let mut open = policy()["spec"].take();
    open["validations"][2]["expression"] = json!(format!("true || {SILENCE_EXPRESSION}"));
    assert!(fault_of_silencing(&open).is_some());
    // A variable could be another one than the chart's.
    assert!([EXPRESSION, APPROVAL_EXPRESSION, SILENCE_EXPRESSION].iter().all(|one| !one.contains("variables.")));
}

#[test]
fn a_binding_that_does_not_refuse_counts_as_none() {
    for (field, value) in [
        ("validationActions", json!(["Audit", "Warn"])),
        ("policyName", json!("another")),
        ("paramRef", json!({"name": "p"})),
        ("matchResources", json!({"namespaceSelector": {"matchLabels": {"a": "b"}}})),
        ("matchResources", json!({"excludeResourceRules": [{"resources": ["eventrules"]}]})),
    ] {
        let mut binding = binding()["spec"].take();
        binding[field] = value;
        let fault = fault_of_binding(&binding).unwrap_or_else(|| panic!("{field} is taken"));
        assert!(fault.contains(field), "{fault}");
    }
}

#[test]
fn what_an_administrator_adds_may_tighten_it() {
    let mut policy = policy()["spec"].take();
    policy["validations"].as_array_mut().expect("a list").push(json!({"expression": "false"}));
    policy["auditAnnotations"] = json!([{"key": "who", "valueExpression": "'x'"}]);
    assert_eq!(fault_of_policy(&policy), None);
    let mut binding = binding()["spec"].take();
    binding["validationActions"] = json!(["Audit", "Deny"]);
    assert_eq!(fault_of_binding(&binding), None);
}

#[tokio::test]
async fn an_older_policy_checks_authors_and_those_who_approve_and_nobody_who_silences() {
    let mut older = policy();
    older["spec"]["validations"].as_array_mut().expect("a list").pop();
    let fake = Fake::new(move |seen| match seen.path.contains("bindings/") {
        true => (200, binding()),
        false => (200, older.clone()),
    });
    let cluster = Cluster::with_client(fake.client());
    assert_eq!(cluster.authors().await.expect("an answer"), Authors::Checked);
    assert_eq!(cluster.approvers().await.expect("an answer"), Authors::Checked);
    let silencers = cluster.silencers().await.expect("an answer");
    assert!(matches!(&silencers, Authors::Unchecked(why) if why.contains("for silences")), "{silencers:?}");
}

#[tokio::test(start_paused = true)]
async fn it_is_looked_for_again_after_three_seconds_and_what_is_not_there_is_said() {
    let step = Arc::new(AtomicUsize::new(0));
    let now = step.clone();
    let fake = Fake::new(move |seen| match (now.load(Ordering::SeqCst), seen.path.contains("bindings/")) {
        (0, _) => failure(404, "NotFound", "no"),
        (1, true) => failure(403, "Forbidden", "no"),
        (2, true) => failure(500, "InternalError", "etcd is away"),
        (_, true) => (200, binding()),
        (_, false) => (200, policy()),
    });
    let cluster = Cluster::with_client(fake.client());
    let said = async || match cluster.authors().await {
        Ok(Authors::Unchecked(why)) => why,
        other => format!("{other:?}"),
    };
    assert_eq!(said().await, "ValidatingAdmissionPolicy signalbox-accounts does not exist");
    step.store(1, Ordering::SeqCst);
    assert!(said().await.ends_with("does not exist"), "it was asked just now");
    for (number, part) in
        [(1, "may not read ValidatingAdmissionPolicyBinding"), (2, "etcd is away"), (3, "Ok(Checked)")]
    {
        step.store(number, Ordering::SeqCst);
        tokio::time::advance(AGE).await;
        let said = said().await;
        assert!(said.contains(part), "{part}: {said}");
    }
}
