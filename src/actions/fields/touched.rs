//! What a patch touches of an object: pure.

use serde_json::{Map, Value};

/// The part of the object that the patch is about. Of lists it is all, for what an entry is named by is not known here.
pub(super) fn by(patch: &Value, object: &Value) -> Value {
    match patch {
        Value::Array(operations) => {
            let pointers = operations.iter().filter(|operation| operation["op"] != "test").flat_map(|operation| {
                let from = operation.get("from").filter(|_| operation["op"] == "move");
                [operation.get("path"), from].into_iter().flatten().filter_map(Value::as_str)
            });
            pointers.map(|pointer| at(pointer, object)).collect()
        }
        fields => part(fields, object),
    }
}

/// What is at the pointer, or the list that it is an entry of.
fn at(pointer: &str, object: &Value) -> Value {
    let ends = pointer.match_indices('/').map(|(end, _)| end);
    let list = ends.filter_map(|end| object.pointer(&pointer[..end])).find(|value| value.is_array());
    list.or_else(|| object.pointer(pointer)).cloned().unwrap_or(Value::Null)
}

fn part(patch: &Value, object: &Value) -> Value {
    let (Value::Object(fields), Value::Object(held)) = (patch, object) else { return object.clone() };
    if fields.contains_key("$patch") || fields.contains_key("$retainKeys") {
        return object.clone();
    }
    let one = |(key, value): (&String, &Value)| {
        // `$setElementOrder/containers` is about the list `containers`.
        let (key, whole) = match key.strip_prefix('$').and_then(|directive| directive.split_once('/')) {
            Some((_, list)) => (list, true),
            None => (key.as_str(), false),
        };
        let held = held.get(key).unwrap_or(&Value::Null);
        (key.to_owned(), if whole { held.clone() } else { part(value, held) })
    };
    fields.iter().map(one).collect::<Map<_, _>>().into()
}

/// Whether a map of fields takes fields away and sets none, so that no field manager is left behind.
pub(super) fn only_removes(patch: &Value) -> bool {
    match patch {
        Value::Object(fields) => fields.values().all(only_removes),
        other => other.is_null(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_map_of_fields_touches_what_it_names_and_lists_as_a_whole() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"args": ["x"], "n": 1}});
        let touched = by(&json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"args": ["y"]}}), &object);
        assert_eq!(touched, json!({"metadata": {"labels": {"a": "1", "c": null}}, "spec": {"args": ["x"]}}));
        let touched = by(&json!({"spec": {"$setElementOrder/args": ["x"]}}), &object);
        assert_eq!(touched, json!({"spec": {"args": ["x"]}}));
        let touched = by(&json!({"spec": {"$patch": "replace"}}), &object);
        assert_eq!(touched, json!({"spec": {"args": ["x"], "n": 1}}));
    }

    #[test]
    fn an_operation_touches_its_place_or_the_list_around_it() {
        let object = json!({"spec": {"args": ["x", {"y": 1}], "n": 1}});
        for (operation, touched) in [
            (json!({"op": "add", "path": "/spec/args/-", "value": 1}), json!([["x", {"y": 1}]])),
            (json!({"op": "replace", "path": "/spec/args/1/y", "value": 1}), json!([["x", {"y": 1}]])),
            (json!({"op": "move", "from": "/spec/n", "path": "/spec/m"}), json!([null, 1])),
            (json!({"op": "copy", "from": "/spec/n", "path": "/spec/m"}), json!([null])),
            (json!({"op": "test", "path": "/spec/n", "value": 1}), json!([])),
        ] {
            assert_eq!(by(&json!([operation]), &object), touched, "{operation}");
        }
    }

    #[test]
    fn a_patch_of_nulls_only_removes() {
        assert!(only_removes(&json!({"metadata": {"labels": {"a": null}}})));
        assert!(!only_removes(&json!({"metadata": {"labels": {"a": null, "b": "1"}}})));
    }
}
