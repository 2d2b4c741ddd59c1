//! How two states of an object differ, in words: pure.

use serde_json::Value;

use crate::text::cut;

/// Characters of the sentence, as status shows them.
const SENTENCE: usize = 200;
/// Characters of one value.
const VALUE: usize = 40;
/// What the API server keeps of every write.
pub(super) const BOOKS: [&str; 3] = ["metadata.managedFields", "metadata.resourceVersion", "metadata.generation"];

/// A place where two states differ; null is absent.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    path: String,
    before: Value,
    after: Value,
}

/// All places where they differ, except for what the API server keeps of every write.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(String::new(), before, after, &mut found);
    found
}

fn compare(path: String, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    if before == after || BOOKS.contains(&path.as_str()) {
        return;
    }
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let added = other.iter().filter(|(key, _)| !one.contains_key(*key)).map(|(key, _)| key);
            for key in one.keys().chain(added) {
                let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare(join(&path, key), &value(one), &value(other), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(format!("{path}[{index}]"), one, other, found);
            }
        }
        _ => found.push(Difference { path, before: before.clone(), after: after.clone() }),
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match (path, plain) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{path}.{key}"),
        _ => format!("{path}[{key:?}]"),
    }
}

/// `spec.replicas: 2 → 3; metadata.labels.tier: none → "front"; 3 more`; of a Secret the places alone.
pub(super) fn sentence(differences: &[Difference], secret: bool) -> String {
    let mut told = String::new();
    for (index, Difference { path, before, after }) in differences.iter().enumerate() {
        let one = match secret {
            true => format!("{path} changes"),
            false => format!("{path}: {} → {}", short(before), short(after)),
        };
        if !told.is_empty() && told.chars().count() + one.chars().count() > SENTENCE {
            return format!("{told}; {} more", differences.len() - index);
        }
        told = if told.is_empty() { cut(&one, SENTENCE) } else { format!("{told}; {one}") };
    }
    told
}

fn short(value: &Value) -> String {
    if value.is_null() { "none".to_owned() } else { cut(&value.to_string(), VALUE) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_with_their_places_and_the_books_of_the_api_server_are_not() {
        let before = json!({"metadata": {"resourceVersion": "7", "generation": 1, "labels": {"a": "1"}},
            "spec": {"replicas": 2, "ports": [{"port": 80}], "args": ["x"]}});
        let after = json!({"metadata": {"resourceVersion": "8", "generation": 2, "annotations": {"e.com/x": "y"}},
            "spec": {"replicas": 3, "ports": [{"port": 81}], "args": ["x", "y"]}});
        let told = sentence(&differences(&before, &after), false);
        for part in [
            "metadata.labels: {\"a\":\"1\"} → none",
            "metadata.annotations: none → {\"e.com/x\":\"y\"}",
            "spec.replicas: 2 → 3",
            "spec.ports[0].port: 80 → 81",
            "spec.args: [\"x\"] → [\"x\",\"y\"]",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("generation") && !told.contains("resourceVersion"), "{told}");
    }

    #[test]
    fn a_long_difference_is_cut_and_what_is_left_out_is_counted() {
        let many: serde_json::Map<_, _> = (0..50).map(|n| (format!("k{n}"), json!("v".repeat(100)))).collect();
        let told = sentence(&differences(&json!({}), &many.into()), false);
        assert!(told.chars().count() <= SENTENCE + 10 && told.ends_with(" more"), "{told}");
    }

    #[test]
    fn of_a_secret_only_the_places_are_told() {
        let told = sentence(&differences(&json!({"data": {"a": "b2xk"}}), &json!({"data": {"a": "bmV3"}})), true);
        assert_eq!(told, "data.a changes");
    }
}
