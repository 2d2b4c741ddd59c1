//! From an event to the sources whose filters it can pass, without looking at every rule.
//!
//! Sources are filed by what their filters ask for in every case: the kind of event, the namespace, and for Kubernetes Events the reason, for an EventSource its name. Conditions
//! are not looked into: an event that passes a filter counts as seen, whatever the conditions say.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    compile::Rule,
    filter::{From, Kind, is_kubernetes_event, namespace_of, text},
};
use crate::{
    event::{Event, Origin, event_source, schedule},
    record::RuleUid,
};

/// A source of a version of a rule is filed under so many keys at most: beyond that only by its kind.
const MAX_KEYS: usize = 64;

/// A source, by the rule's version and its place in the rule.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub rule: Arc<Rule>,
    pub source: usize,
}

impl Slot {
    fn order(&self) -> (&RuleUid, i64, usize) {
        (&self.rule.rule.uid, self.rule.generation, self.source)
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Slot {}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// API version and kind of changed objects; nothing for Kubernetes Events.
    object: Option<(String, String)>,
    /// Nothing: any.
    namespace: Option<String>,
    /// The reason of Kubernetes Events, the name of the EventSource; nothing: any.
    word: Option<String>,
}

/// The sources of all rules that may judge.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    slots: HashMap<Key, Vec<Slot>>,
}

impl Index {
    pub(super) fn insert(&mut self, rule: &Arc<Rule>) {
        if rule.spec.suspend {
            return;
        }
        for source in 0..rule.sources.len() {
            for key in keys(rule, source) {
                self.slots.entry(key).or_default().push(Slot { rule: Arc::clone(rule), source });
            }
        }
    }

    pub(super) fn remove(&mut self, rule: &Arc<Rule>) {
        for source in 0..rule.sources.len() {
            for key in keys(rule, source) {
                if let Some(slots) = self.slots.get_mut(&key) {
                    slots.retain(|slot| slot.rule.rule.uid != rule.rule.uid || slot.rule.generation != rule.generation);
                    if slots.is_empty() {
                        self.slots.remove(&key);
                    }
                }
            }
        }
    }

    /// The sources whose filters the event can pass, in the order of rule uids and sources.
    pub(super) fn candidates(&self, origin: &Origin, event: &Event) -> Vec<&Slot> {
        let watch = &origin.watch;
        let kubernetes_event = is_kubernetes_event(watch, event);
        let object = (!kubernetes_event).then(|| (watch.api_version.clone(), watch.kind.clone()));
        let reason = || kubernetes_event.then(|| text(&event.data, &["reason"]));
        let word = event_source::name(origin).or_else(reason).map(str::to_owned);
        let namespace = namespace_of(watch, event).to_owned();
        let mut found: Vec<&Slot> = Vec::new();
        for word in std::iter::once(None).chain(word.map(Some)) {
            for namespace in [None, Some(namespace.clone())] {
                let key = Key { object: object.clone(), namespace, word: word.clone() };
                found.extend(self.slots.get(&key).into_iter().flatten());
            }
        }
        // None comes twice: of the keys that one event asks for, a source is filed under one at most.
        found.sort_unstable();
        found
    }
}

fn keys(rule: &Rule, source: usize) -> Vec<Key> {
    let filter = &rule.sources[source].filter;
    let object = match filter.kind() {
        Kind::KubernetesEvent { .. } => None,
        Kind::Resource { api_version, kind, .. } => Some((api_version.clone(), kind.clone())),
        Kind::Reference { .. } => Some((event_source::API_VERSION.to_owned(), event_source::KIND.to_owned())),
        Kind::Schedule(_) => Some((schedule::API_VERSION.to_owned(), schedule::KIND.to_owned())),
    };
    let namespaces: BTreeSet<Option<String>> = match &filter.namespaces().from {
        From::All | From::Selector(_) => BTreeSet::from([None]),
        From::Names(names) => {
            let cluster = filter.namespaces().cluster_scoped.then(String::new);
            names.iter().cloned().chain(cluster).map(Some).collect()
        }
    };
    let words: BTreeSet<Option<String>> = match filter.kind() {
        Kind::KubernetesEvent { reasons, .. } if !reasons.is_empty() => reasons.iter().cloned().map(Some).collect(),
        Kind::Reference { name, .. } => BTreeSet::from([Some(name.clone())]),
        _ => BTreeSet::from([None]),
    };
    let (namespaces, words) = match namespaces.len() * words.len() {
        0..=MAX_KEYS => (namespaces, words),
        _ => (BTreeSet::from([None]), BTreeSet::from([None])),
    };
    let key = |namespace: &Option<String>, word: &Option<String>| Key {
        object: object.clone(),
        namespace: namespace.clone(),
        word: word.clone(),
    };
    namespaces.iter().flat_map(|namespace| words.iter().map(move |word| key(namespace, word))).collect()
}
