//! Objects as they come, decoded with the place of each fault.

use kube::Resource as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Object;
use crate::{
    api::Duration,
    event::{MAX_LEVELS, levels},
};

/// The names that every object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) generation: i64,
}

/// The object's names; nothing when the API server left one out, which it never does.
pub(super) fn names(object: &Object) -> Option<Names> {
    let meta = object.meta();
    Some(Names {
        uid: meta.uid.clone()?,
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        generation: meta.generation.unwrap_or_default(),
    })
}

/// Namespace and name of an object that may not be made yet: empty where the API server will say what they are.
pub(super) fn placed(object: &Object) -> (String, String) {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// The spec, or what is wrong with it.
pub(super) fn spec<S: DeserializeOwned>(object: &Object) -> Result<S, Vec<String>> {
    let spec = object.spec().map_err(|error| vec![format!("spec: it cannot be read: {error}")])?;
    if levels(&spec) > MAX_LEVELS {
        return Err(vec![format!("spec: lists and maps are nested deeper than {MAX_LEVELS} levels")]);
    }
    S::deserialize(&spec).map_err(|error| {
        // The schema checks all else; serde would tell the first fault only, and without its place.
        let durations = durations(&spec);
        if durations.is_empty() { vec![format!("spec: {error}")] } else { durations }
    })
}

/// The status, or nothing when there is none or a newer version wrote it.
pub(super) fn status<S: DeserializeOwned>(object: &Object) -> Option<S> {
    S::deserialize(object.status().ok()?).ok()
}

/// The faults of all durations of a rule.
fn durations(spec: &Value) -> Vec<String> {
    const OF_ACTIONS: [(&str, &str); 11] = [
        ("approve.timeout", "/approve/timeout"),
        ("timeout", "/timeout"),
        ("retry.backoff", "/retry/backoff"),
        ("retry.maxBackoff", "/retry/maxBackoff"),
        ("retry.attemptTimeout", "/retry/attemptTimeout"),
        ("waitFor.timeout", "/waitFor/timeout"),
        ("scale.restore.after", "/scale/restore/after"),
        ("patch.restore.after", "/patch/restore/after"),
        ("wait.for", "/wait/for"),
        ("wait.timeout", "/wait/timeout"),
        ("job.ttl", "/job/ttl"),
    ];
    const OF_RULES: [(&str, &str); 14] = [
        ("spec.groups.forgetAfter", "/groups/forgetAfter"),
        ("spec.trigger.count.within", "/trigger/count/within"),
        ("spec.trigger.held.for", "/trigger/held/for"),
        ("spec.trigger.absent.for", "/trigger/absent/for"),
        ("spec.trigger.value.within", "/trigger/value/within"),
        ("spec.trigger.value.for", "/trigger/value/for"),
        ("spec.trigger.sequence.within", "/trigger/sequence/within"),
        ("spec.trigger.all.within", "/trigger/all/within"),
        ("spec.trigger.batch.wait", "/trigger/batch/wait"),
        ("spec.trigger.batch.maxWait", "/trigger/batch/maxWait"),
        ("spec.repeat", "/repeat"),
        ("spec.throttle.cooldown", "/throttle/cooldown"),
        ("spec.throttle.budget.per", "/throttle/budget/per"),
        ("spec.startingDeadline", "/startingDeadline"),
    ];
    let mut places: Vec<_> = OF_RULES.map(|(path, pointer)| (path.to_owned(), spec.pointer(pointer))).into();
    let mut lists = vec![
        ("spec.actions".to_owned(), &spec["actions"]),
        ("spec.resolveActions".to_owned(), &spec["resolveActions"]),
        ("spec.failureActions".to_owned(), &spec["failureActions"]),
    ];
    let steps = spec.pointer("/trigger/held/steps").and_then(Value::as_array);
    for (index, step) in steps.into_iter().flatten().enumerate() {
        let path = format!("spec.trigger.held.steps[{index}]");
        places.push((format!("{path}.after"), step.pointer("/after")));
        lists.push((format!("{path}.actions"), &step["actions"]));
    }
    for (path, actions) in lists {
        for (index, action) in actions.as_array().into_iter().flatten().enumerate() {
            places.extend(
                OF_ACTIONS.map(|(field, pointer)| (format!("{path}[{index}].{field}"), action.pointer(pointer))),
            );
        }
    }
    let fault = |(path, value): (String, Option<&Value>)| {
        let error = value?.as_str()?.parse::<Duration>().err()?;
        Some(format!("{path}: {error}"))
    };
    places.into_iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::EventRuleSpec;

    fn faults(spec_of: Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "web"}, "spec": spec_of});
        let object: Object = serde_json::from_value(object).expect("an object");
        spec::<EventRuleSpec>(&object).expect_err("faults")
    }

    #[test]
    fn every_duration_that_is_none_is_told_with_its_place() {
        let action = json!({"name": "a", "timeout": "5", "retry": {"maxBackoff": "1w"}});
        let faults = faults(
            json!({"throttle": {"cooldown": "7d", "budget": {"firings": 1, "per": "1x"}}, "trigger": {"count": {"atLeast": 2, "within": "x"}},
            "groups": {"forgetAfter": "1w"}, "startingDeadline": "5", "sources": [], "actions": [{"name": "b"}, action]}),
        );
        let places: Vec<_> = faults.iter().filter_map(|fault| fault.split_once(": ")).map(|(place, _)| place).collect();
        let expected = [
            "spec.groups.forgetAfter",
            "spec.trigger.count.within",
            "spec.throttle.cooldown",
            "spec.throttle.budget.per",
            "spec.startingDeadline",
            "spec.actions[1].timeout",
            "spec.actions[1].retry.maxBackoff",
        ];
        assert_eq!(places, expected);
        assert!(faults[0].contains("\"168h\""), "{faults:?}");
    }

    #[test]
    fn a_spec_that_is_nested_too_deep_is_a_fault_of_this_object() {
        let patch = (0..=MAX_LEVELS).fold(json!(1), |inside, _| json!([inside]));
        assert!(faults(json!({"actions": [patch]}))[0].contains("nested deeper than 90 levels"));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let object =
            format!(r#"{{"metadata": {{"name": "web", "managedFields": {deep}}}, "spec": {deep}, "status": {deep}}}"#);
        let object: Object = serde_json::from_str(&object).expect("its name is read");
        let faults = spec::<EventRuleSpec>(&object).expect_err("a fault");
        assert!(faults[0].starts_with("spec: it cannot be read: recursion limit"), "{faults:?}");
        assert_eq!(status::<Value>(&object), None);
    }

    #[test]
    fn a_spec_of_a_newer_version_is_a_fault_of_this_object() {
        let faults = faults(json!({"sources": [{"name": "a"}], "actions": [{"name": "a", "onError": "Ignore"}]}));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("Ignore"), "{faults:?}");
    }
}
