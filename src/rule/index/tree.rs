//! The rules of a class that has many, filed by the fields that they ask about.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value};

use super::{leaf::Leaf, members::Member};
use crate::{
    event::Event,
    rule::cel::{Demand, Path},
};

/// Rules, each under one demand. Of an event it gives those of which the demand may be met, or is an error.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    roots: Node,
    filed: HashMap<Member, Demand>,
}

/// What is asked of a field, and of those within it.
#[derive(Clone, Debug, Default)]
struct Node {
    leaf: Option<Box<Leaf>>,
    below: HashMap<Arc<str>, Node>,
}

impl Tree {
    /// About how many rules are found in vain by filing another one under this.
    pub(super) fn crowd(&self, demand: &Demand) -> usize {
        self.roots
            .leaf(&demand.path)
            .map_or_else(|| Leaf::default().crowd(&demand.test), |leaf| leaf.crowd(&demand.test))
    }

    pub(super) fn insert(&mut self, member: Member, demand: Demand) {
        self.roots.make(&demand.path).insert(&demand, member);
        self.filed.insert(member, demand);
    }

    /// Takes a rule out; tells whether it was here.
    pub(super) fn remove(&mut self, member: Member) -> bool {
        let Some(demand) = self.filed.remove(&member) else { return false };
        self.roots.remove(&demand, &demand.path, member);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filed.is_empty()
    }

    /// The rules that the event may concern; some of them perhaps more than once.
    pub(super) fn find(&self, event: &Event, found: &mut Vec<Member>) {
        for (root, node) in &self.roots.below {
            match (&**root, event.bytes.is_none()) {
                ("event", true) => node.attributes(event, found),
                ("object", true) if event.is_change() => match event.data.get("object") {
                    Some(object) => node.find(object, 1, found),
                    None => node.all(found),
                },
                _ => node.all(found),
            }
        }
    }
}

impl Node {
    fn leaf(&self, path: &[Arc<str>]) -> Option<&Leaf> {
        match path {
            [] => self.leaf.as_deref(),
            [name, rest @ ..] => self.below.get(name)?.leaf(rest),
        }
    }

    fn make(&mut self, path: &Path) -> &mut Leaf {
        let node = path.iter().fold(self, |node, name| node.below.entry(Arc::clone(name)).or_default());
        node.leaf.get_or_insert_default()
    }

    /// Takes a rule out; tells whether nothing is left here.
    fn remove(&mut self, demand: &Demand, path: &[Arc<str>], member: Member) -> bool {
        match path {
            [] => {
                if let Some(leaf) = &mut self.leaf {
                    leaf.remove(demand, member);
                }
                self.leaf.take_if(|leaf| leaf.is_empty());
            }
            [name, rest @ ..] => {
                if self.below.get_mut(name).is_some_and(|node| node.remove(demand, rest, member)) {
                    self.below.remove(name);
                }
            }
        }
        self.leaf.is_none() && self.below.is_empty()
    }

    fn attributes(&self, event: &Event, found: &mut Vec<Member>) {
        for (name, node) in &self.below {
            let text = match &**name {
                "data" => {
                    node.find(&event.data, 2, found);
                    continue;
                }
                "id" => Some(event.id.as_str()),
                "source" => Some(event.source.as_str()),
                "type" => Some(event.type_.as_str()),
                "subject" => event.subject.as_deref(),
                // An extension may be a number: it is looked at by those who ask.
                _ => {
                    node.all(found);
                    continue;
                }
            };
            match text {
                Some(text) => node.find_text(text, found),
                None => node.without(1, found),
            }
        }
    }

    fn find_text(&self, text: &str, found: &mut Vec<Member>) {
        self.leaf.iter().for_each(|leaf| leaf.find_text(text, found));
        self.below.values().for_each(|node| node.all(found));
    }

    /// Those that ask for the value or something in it, `depth` names below the root.
    fn find(&self, value: &Value, depth: usize, found: &mut Vec<Member>) {
        self.leaf.iter().for_each(|leaf| leaf.find(value, found));
        match value {
            Value::Object(map) => self.fields(map, depth, found),
            // A field of what has none is an error.
            _ => self.below.values().for_each(|node| node.all(found)),
        }
    }

    fn fields(&self, map: &Map<String, Value>, depth: usize, found: &mut Vec<Member>) {
        for (name, node) in &self.below {
            match map.get(&**name) {
                Some(value) => node.find(value, depth + 1, found),
                None => node.without(depth, found),
            }
        }
    }

    /// Those that are not surely false where the name at this place is not there.
    fn without(&self, place: usize, found: &mut Vec<Member>) {
        self.leaf.iter().for_each(|leaf| leaf.find_without(place, found));
        self.below.values().for_each(|node| node.without(place, found));
    }

    fn all(&self, found: &mut Vec<Member>) {
        self.leaf.iter().for_each(|leaf| leaf.all(found));
        self.below.values().for_each(|node| node.all(found));
    }
}
