//! What a step has changed of an object, so that it can be given back what it had.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RuleUid;

/// What a step has changed of an object: a part of it as it was, and as it was made.
///
/// Both are fields as a merge patch has them (RFC 7386), of the same places: null is absent, and a list is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// API version of the object.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// Namespace of the object, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
    /// `metadata.uid` of the object: one that was created anew is another one. Empty when it is not known, of what may have been created.
    pub uid: String,
    /// The subresource that was written, if it was not the object itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
    /// The field manager that has written it.
    pub manager: String,
    /// Set when it is not known whether it was made: then the manager has to bear witness.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsure: bool,
    /// What it was.
    pub back: Value,
    /// What it was made.
    pub made: Value,
}

/// A change that is to be given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remember {
    /// The rule.
    pub rule: RuleUid,
    /// What was changed. Of an object that was as wanted already, nothing.
    pub change: Change,
    /// When it is given back.
    pub release: Release,
}

/// When a change is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    /// So many microseconds after the record.
    After(i64),
    /// When what the rule has fired for has ended.
    Resolved,
    /// It was: the change is the way back, of a firing that was undone.
    Undone,
}

/// Where an object stands with a [`Change`] of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is as it was made.
    Made,
    /// It is as it was before: given back already, or never changed.
    Back,
    /// It is neither: somebody else has changed it.
    Other,
}

impl Change {
    /// What differs between two states of an object, as the patch back and as what it was made; nothing when nothing does. Places of which `skip` says so
    /// are left out.
    pub fn between(before: &Value, after: &Value, skip: &dyn Fn(&str) -> bool) -> Option<(Value, Value)> {
        differ(String::new(), before, after, skip)
    }

    /// Which value it is of all that a rule remembers: the object and what of it was written.
    pub fn key(&self) -> String {
        format!("{}/{}", self.uid, self.subresource.as_deref().unwrap_or_default())
    }

    /// Whether it changes nothing.
    pub fn is_nothing(&self) -> bool {
        self.back == self.made
    }

    /// Whether a later change found what this one has made, as far as both are about the same places: nobody else has changed that in between.
    pub fn leads_to(&self, later: &Self) -> bool {
        agree(&self.made, &later.back)
    }

    /// Where the object, or its part, stands.
    pub fn standing(&self, now: &Value) -> Standing {
        if holds(now, &self.made, &self.back) {
            Standing::Made
        } else if holds(now, &self.back, &self.made) {
            Standing::Back
        } else {
            Standing::Other
        }
    }

    /// What becomes of two changes of the same object, one after the other: what it was before the first, and what the second made of it.
    pub fn followed_by(mut self, later: &Self) -> Self {
        if later.is_nothing() {
            return self;
        }
        overlay(&mut self.made, &later.made);
        let mut back = later.back.clone();
        overlay(&mut back, &self.back);
        Self { back, made: self.made, manager: later.manager.clone(), ..later.clone() }
    }
}

fn differ(path: String, before: &Value, after: &Value, skip: &dyn Fn(&str) -> bool) -> Option<(Value, Value)> {
    if before == after || skip(&path) {
        return None;
    }
    let (Value::Object(one), Value::Object(other)) = (before, after) else {
        return Some((before.clone(), after.clone()));
    };
    let (mut back, mut made) = (Map::new(), Map::new());
    for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
        let value = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if let Some((was, is)) = differ(path, &value(one), &value(other), skip) {
            back.insert(key.clone(), was);
            made.insert(key.clone(), is);
        }
    }
    (!back.is_empty()).then(|| (back.into(), made.into()))
}

/// Whether the object has these values, at places that have those others in the other state: where both states are maps, more is not looked at than they name.
fn holds(now: &Value, values: &Value, others: &Value) -> bool {
    let (Value::Object(values), Value::Object(others)) = (values, others) else {
        return without_nulls(now) == without_nulls(values);
    };
    let absent = Value::Null;
    values.iter().all(|(key, value)| {
        let now = now.get(key).unwrap_or(&absent);
        holds(now, value, others.get(key).unwrap_or(&absent))
    })
}

/// Whether two parts of an object say the same where both say something.
fn agree(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.iter().all(|(key, value)| other.get(key).is_none_or(|other| agree(value, other)))
        }
        (one, other) => without_nulls(one) == without_nulls(other),
    }
}

/// The value without the fields that are null: absent is the same to the API server.
pub fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Puts values above others; maps are joined.
fn overlay(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                match below.get_mut(key) {
                    Some(known) => overlay(known, value),
                    None => drop(below.insert(key.clone(), value.clone())),
                }
            }
        }
        (below, above) => *below = above.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(before: &Value, after: &Value) -> Change {
        let (back, made) =
            Change::between(before, after, &|path| path == "metadata.resourceVersion").expect("a change");
        Change {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: None,
            name: "c".into(),
            uid: "u".into(),
            subresource: None,
            manager: "m".into(),
            unsure: false,
            back,
            made,
        }
    }

    /// A merge patch as the API server applies it.
    fn patched(object: &Value, patch: &Value) -> Value {
        let Value::Object(fields) = patch else { return patch.clone() };
        let mut object = object.as_object().cloned().unwrap_or_default();
        for (key, value) in fields {
            match value {
                Value::Null => drop(object.remove(key)),
                value => {
                    let now = patched(object.get(key).unwrap_or(&Value::Null), value);
                    object.insert(key.clone(), now);
                }
            }
        }
        object.into()
    }

    #[test]
    fn what_was_changed_is_given_back_and_nothing_else() {
        for (before, after) in [
            (json!({"a": 1, "b": 2}), json!({"a": 3, "b": 2})),
            (json!({"a": 1}), json!({"a": 1, "labels": {"x": "y"}})),
            (json!({"labels": {"x": "y", "z": "1"}}), json!({"labels": {"z": "1"}})),
            (json!({"labels": {"x": "y"}}), json!({})),
            (json!({"list": [{"n": 1}, {"n": 2}]}), json!({"list": [{"n": 1}, {"n": 3}]})),
            (json!({"a": {"b": 1}}), json!({"a": "text"})),
        ] {
            let change = change(&before, &after);
            assert_eq!(patched(&after, &change.back), before);
            assert_eq!(change.standing(&after), Standing::Made, "{after}");
            assert_eq!(change.standing(&before), Standing::Back, "{before}");
            let mut more = after.clone();
            more["elsewhere"] = json!({"other": true});
            assert_eq!(change.standing(&more), Standing::Made, "other fields are not looked at");
        }
    }

    #[test]
    fn what_somebody_else_has_changed_since_is_not_as_it_was_made() {
        let made = change(&json!({"spec": {"n": 1}}), &json!({"spec": {"n": 2}, "labels": {"x": "y"}}));
        assert_eq!(made.standing(&json!({"spec": {"n": 9}, "labels": {"x": "y"}})), Standing::Other);
        let added = json!({"spec": {"n": 2}, "labels": {"x": "y", "theirs": "1"}});
        assert_eq!(made.standing(&added), Standing::Other, "the map is ours as a whole, and has more now");
    }

    #[test]
    fn changes_one_after_the_other_go_back_to_what_was_before_the_first() {
        for states in [
            [json!({"n": 1}), json!({"n": 2}), json!({"n": 3})],
            [json!({}), json!({"labels": {"a": "1"}}), json!({"labels": {"a": "1", "b": "2"}})],
            [json!({"labels": {"a": "0"}}), json!({"labels": {"a": "0", "b": "2"}}), json!({})],
            [json!({"a": 1, "b": 1}), json!({"a": 2, "b": 1}), json!({"a": 2, "b": 2})],
        ] {
            let both = change(&states[0], &states[1]).followed_by(&change(&states[1], &states[2]));
            assert_eq!(both.standing(&states[2]), Standing::Made, "{states:?}");
            assert_eq!(patched(&states[2], &both.back), states[0], "{states:?}");
        }
    }

    #[test]
    fn the_books_of_the_api_server_are_left_out() {
        let version = |n: &str| json!({"metadata": {"resourceVersion": n}});
        assert_eq!(Change::between(&version("1"), &version("2"), &|path| path == "metadata.resourceVersion"), None);
    }
}
