//! The entry of a list that a change is about: what others do with the rest of the list does not stand in its way.

use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Fields;
use crate::actions::write::Verdict;

/// An entry, by what names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::actions) enum Entry {
    /// Taints of a Node.
    Taints(Taints),
    /// The image of a container.
    Image(Image),
}

/// The taints of a Node that have this key and this effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::actions) struct Taints {
    pub(in crate::actions) key: String,
    /// Nothing: whatever it is.
    pub(in crate::actions) effect: Option<String>,
}

/// The image of the container of this name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::actions) struct Image {
    /// Where the list stands that it is in: `/spec/template/spec/containers`.
    pub(in crate::actions) list: String,
    pub(in crate::actions) container: String,
}

impl Entry {
    /// What the object holds of it, as a request tells it; nothing when it has no such container.
    fn held(&self, now: &DynamicObject) -> Option<Value> {
        match self {
            Self::Taints(taints) => Some(taints.held(now).into()),
            Self::Image(image) => image.held(now),
        }
    }

    /// The patch that makes it `to`, where that depends on what the object is now.
    pub(super) fn patch(&self, now: &DynamicObject, to: &Value) -> Option<Value> {
        match self {
            Self::Taints(taints) => Some(taints.patch(now, to.as_array()?)),
            // The API server finds the container by its name.
            Self::Image(_) => None,
        }
    }
}

impl Taints {
    fn is(&self, taint: &Value) -> bool {
        taint["key"] == *self.key && self.effect.as_ref().is_none_or(|effect| taint["effect"] == **effect)
    }

    /// Those of the Node's taints, and the others.
    fn of(&self, now: &DynamicObject) -> (Vec<Value>, Vec<Value>) {
        let all = now.data["spec"]["taints"].as_array().cloned().unwrap_or_default();
        all.into_iter().partition(|taint| self.is(taint))
    }

    /// Those that the Node has; since when is nobody's wish.
    pub(in crate::actions) fn held(&self, now: &DynamicObject) -> Vec<Value> {
        without_time(&self.of(now).0)
    }

    /// The patch that makes them these.
    pub(in crate::actions) fn patch(&self, now: &DynamicObject, to: &[Value]) -> Value {
        let (held, others) = self.of(now);
        // As it is, with the time that it has been so.
        let these = if without_time(&held) == to { held } else { to.to_vec() };
        let list = [others, these].concat();
        json!({"spec": {"taints": if list.is_empty() { Value::Null } else { list.into() }}})
    }

    /// `example.com/x:NoSchedule`
    pub(in crate::actions) fn named(&self) -> String {
        self.effect.as_ref().map_or_else(|| self.key.clone(), |effect| format!("{}:{effect}", self.key))
    }
}

fn without_time(taints: &[Value]) -> Vec<Value> {
    let mut taints = taints.to_vec();
    taints.iter_mut().filter_map(Value::as_object_mut).for_each(|taint| drop(taint.remove("timeAdded")));
    taints
}

impl Image {
    fn held(&self, now: &DynamicObject) -> Option<Value> {
        let list = now.data.pointer(&self.list)?.as_array()?;
        let found = list.iter().find(|one| one["name"] == *self.container)?;
        Some(found["image"].as_str().unwrap_or_default().into())
    }
}

impl Fields {
    /// What a repetition has to do about the entry.
    pub(super) fn judge_entry(&self, entry: &Entry, now: &DynamicObject) -> Verdict {
        let Some(held) = entry.held(now) else {
            return Verdict::Superseded("lost this container".to_owned());
        };
        match (self.more.get("from"), self.more.get("to")) {
            // Controllers write Nodes in a way that takes all marks away.
            (_, Some(to)) if held == *to && self.object.kind == "Node" => Verdict::Unmarked,
            (_, Some(to)) if held == *to => Verdict::Unchanged,
            (Some(from), _) if held == *from => Verdict::Write,
            _ => Verdict::Superseded("was changed by somebody else".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
