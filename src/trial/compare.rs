//! What was expected beside what was.
//!
//! An expectation is a part of what is: of a map those keys that it names, of a list all entries in their order. Of actions those that it names.

use serde_json::Value;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field: `actions[tell].notify.text`.
    pub path: String,
    /// What was expected, as JSON.
    pub expected: String,
    /// What was, as JSON; nothing when it is not there.
    pub was: Option<String>,
}

/// All differences of a firing from what was expected of it.
pub(super) fn differences(expected: &Value, was: &Value) -> Vec<Difference> {
    let mut all = Vec::new();
    part(expected, Some(was), "", &mut all);
    all
}

fn part(expected: &Value, was: Option<&Value>, path: &str, all: &mut Vec<Difference>) {
    let differs =
        || Difference { path: path.to_owned(), expected: expected.to_string(), was: was.map(Value::to_string) };
    match (expected, was) {
        (Value::Object(expected), Some(Value::Object(was))) => {
            for (key, value) in expected {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                part(value, was.get(key), &path, all);
            }
        }
        (Value::Array(expected), Some(Value::Array(was))) if path == "actions" => {
            for action in expected {
                let name = action["name"].as_str().unwrap_or_default();
                let was = was.iter().find(|one| one["name"] == action["name"]);
                part(action, was, &format!("actions[{name}]"), all);
            }
        }
        (Value::Array(expected), Some(Value::Array(was))) if expected.len() == was.len() => {
            for (index, (expected, was)) in expected.iter().zip(was).enumerate() {
                part(expected, Some(was), &format!("{path}[{index}]"), all);
            }
        }
        (Value::Number(one), Some(Value::Number(other))) if one.as_f64() == other.as_f64() => {}
        (expected, Some(was)) if expected == was => {}
        _ => all.push(differs()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_named_may_be_anything_and_lists_are_whole() {
        let was = json!({"group": "a", "actions": [{"name": "x", "job": {"n": 1, "l": [1, 2]}}, {"name": "y"}]});
        let same = |expected: Value| differences(&expected, &was).is_empty();
        assert!(same(json!({"actions": [{"name": "x", "job": {"l": [1, 2.0]}}]})));
        assert!(same(json!({"group": "a"})) && same(json!({"actions": [{"name": "y"}, {"name": "x"}]})));
        for other in [json!({"group": "b"}), json!({"count": 1}), json!({"actions": [{"name": "z"}]})] {
            assert!(!same(other));
        }
        let shorter = differences(&json!({"actions": [{"name": "x", "job": {"l": [1]}}]}), &was);
        let told = Difference { path: "actions[x].job.l".into(), expected: "[1]".into(), was: Some("[1,2]".into()) };
        assert_eq!(shorter, [told]);
    }
}
