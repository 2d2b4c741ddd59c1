//! Classes of rules, filed by what their filters ask for in every case.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    demands::Demands,
    hash::ClassHash,
    members::{Member, Slab},
};
use crate::{
    event::{Event, Origin, event_source, rule_event, schedule},
    rule::{
        cel::{Demand, Scalar, Test, named},
        compile::Rule,
        filter::{Filter, From, Glob, Kind, is_kubernetes_event, namespace_of, text},
    },
};

/// A source of a class is filed under so many keys at most: beyond that only by its kind.
const MAX_KEYS: usize = 64;

/// A class by number.
pub(in crate::rule) type ClassId = usize;

/// What a source is filed under: API version and kind of what it looks at (nothing for Kubernetes Events), the namespace, and the reason of Kubernetes
/// Events or the name of the EventSource; nothing stands for any. One text, so that an event is looked up without making owned ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Key(String);

impl Key {
    fn of(object: Option<(&str, &str)>, namespace: Option<&str>, word: Option<&str>) -> Self {
        let mut key = Self::default();
        key.set(object, namespace, word);
        key
    }

    fn set(&mut self, object: Option<(&str, &str)>, namespace: Option<&str>, word: Option<&str>) {
        self.0.clear();
        let (api_version, kind) = object.unzip();
        for part in [api_version, kind, namespace, word] {
            // Names hold no line break. The last part may hold anything; the filter is asked in any case.
            self.0.push_str(if part.is_some() { "\n=" } else { "\n" });
            self.0.push_str(part.unwrap_or_default());
        }
    }
}

/// The filters of a class, by those of some rule that belongs to it or did.
#[derive(Clone, Debug)]
pub(super) struct Filtering {
    pub(super) hash: ClassHash,
    pub(super) rule: Arc<Rule>,
    /// Places of sources in the rule.
    pub(super) sources: Vec<usize>,
}

impl Filtering {
    /// The filter of a source, by its place among those of the class.
    pub(super) fn filter(&self, at: usize) -> Option<&Filter> {
        Some(&self.rule.sources.get(*self.sources.get(at)?)?.filter)
    }
}

/// Classes, each with what is kept for it. Sources are told of each change by a new snapshot: a clone shares all that has not changed.
#[derive(Clone, Debug)]
pub(super) struct Filters<T> {
    keys: HashMap<Arc<str>, Arc<Filed>>,
    classes: Vec<Option<Arc<(Filtering, T)>>>,
    free: Vec<ClassId>,
    by_hash: HashMap<ClassHash, ClassId>,
}

/// Sources of classes that are filed under the same key: each by one of the other things that its filter asks for.
#[derive(Clone, Debug, Default)]
struct Filed {
    /// A class, and the place of the source in it.
    sources: Slab<(ClassId, usize)>,
    demands: Demands,
}

impl<T> Default for Filters<T> {
    fn default() -> Self {
        Self { keys: HashMap::new(), classes: Vec::new(), free: Vec::new(), by_hash: HashMap::new() }
    }
}

impl<T: Clone> Filters<T> {
    pub(super) fn id(&self, hash: &ClassHash) -> Option<ClassId> {
        self.by_hash.get(hash).copied()
    }

    pub(super) fn get(&self, id: ClassId) -> Option<&(Filtering, T)> {
        self.classes.get(id)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: ClassId) -> Option<&mut (Filtering, T)> {
        self.classes.get_mut(id)?.as_mut().map(Arc::make_mut)
    }

    /// Files a class that is not there.
    pub(super) fn begin(&mut self, filtering: Filtering, kept: T) -> ClassId {
        let id = self.free.pop().unwrap_or(self.classes.len());
        if id == self.classes.len() {
            self.classes.push(None);
        }
        for at in 0..filtering.sources.len() {
            for key in keys(&filtering, at) {
                let filed = Arc::make_mut(self.keys.entry(key.0.into()).or_default());
                let member = filed.sources.insert((id, at));
                filed.demands.insert(member, filtering.filter(at).map(demands_of).unwrap_or_default());
            }
        }
        self.by_hash.insert(filtering.hash, id);
        self.classes[id] = Some(Arc::new((filtering, kept)));
        id
    }

    pub(super) fn end(&mut self, id: ClassId) {
        let Some(class) = self.classes.get_mut(id).and_then(Option::take) else { return };
        let (filtering, _) = &*class;
        for key in (0..filtering.sources.len()).flat_map(|at| keys(filtering, at)) {
            let Some(filed) = self.keys.get_mut(&*key.0).map(Arc::make_mut) else { continue };
            let gone: Vec<Member> =
                filed.sources.iter().filter(|(_, (class, _))| *class == id).map(|(at, _)| at).collect();
            for member in gone {
                filed.demands.remove(member);
                filed.sources.remove(member);
            }
            if filed.sources.is_empty() {
                self.keys.remove(&*key.0);
            }
        }
        self.by_hash.remove(&filtering.hash);
        self.free.push(id);
    }

    /// Whether a rule listens to what rules of the namespace do.
    pub(super) fn hears_rules(&self, namespace: &str) -> bool {
        let object = Some((rule_event::API_VERSION, rule_event::KIND));
        self.keys.contains_key(&*Key::of(object, Some(namespace), None).0)
    }

    /// The classes, and the places of those of their sources, whose filters the event can pass; those of one class together.
    pub(super) fn candidates(&self, origin: &Origin, event: &Event) -> Vec<(ClassId, usize)> {
        let watch = &origin.watch;
        let kubernetes_event = is_kubernetes_event(watch, event);
        let object = (!kubernetes_event).then_some((watch.api_version.as_str(), watch.kind.as_str()));
        let reason = || kubernetes_event.then(|| text(&event.data, &["reason"]));
        let word = event_source::name(origin).or_else(reason);
        let namespace = namespace_of(watch, event);
        let mut key = Key::default();
        let (mut found, mut members) = (Vec::new(), Vec::new());
        for word in std::iter::once(None).chain(word.map(Some)) {
            for namespace in [None, Some(namespace)] {
                key.set(object, namespace, word);
                let Some(filed) = self.keys.get(&*key.0) else { continue };
                members.clear();
                filed.demands.find(event, &mut members);
                found.extend(members.iter().filter_map(|member| filed.sources.get(*member)));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// What a filter asks for beside what its keys say.
fn demands_of(filter: &Filter) -> Vec<Demand> {
    match filter.kind() {
        Kind::KubernetesEvent { kind, names, .. } => {
            let kind =
                kind.iter().filter_map(|kind| one_of(&["event", "data", "regarding", "kind"], &[Glob::new(kind)]));
            kind.chain(one_of(&["event", "data", "regarding", "name"], names)).collect()
        }
        Kind::Resource { names, .. } => {
            one_of(&["event", "data", "object", "metadata", "name"], names).into_iter().collect()
        }
        Kind::Reference { types, .. } => one_of(&["event", "type"], types).into_iter().collect(),
        Kind::Schedule(_) | Kind::Rules { .. } => Vec::new(),
    }
}

/// A text at the path that fits one of the patterns; nothing when that may be any.
fn one_of(path: &[&str], patterns: &[Glob]) -> Option<Demand> {
    let mut beginnings: Vec<(String, bool)> = patterns.iter().map(Glob::beginning).collect();
    let test = if !beginnings.is_empty() && beginnings.iter().all(|(_, whole)| *whole) {
        Test::Equal(beginnings.into_iter().map(|(name, _)| Scalar::Text(name.into())).collect())
    } else {
        let (beginning, _) = beginnings.pop().filter(|_| patterns.len() == 1)?;
        Test::Prefix(beginning.into())
    };
    Some(Demand { path: path.iter().map(|name| named(name)).collect(), test, without: 0 })
}

fn keys(filtering: &Filtering, at: usize) -> HashSet<Key> {
    let Some(filter) = filtering.filter(at) else { return HashSet::new() };
    let object = match filter.kind() {
        Kind::KubernetesEvent { .. } => None,
        Kind::Resource { api_version, kind, .. } => Some((api_version.clone(), kind.clone())),
        Kind::Reference { .. } => Some((event_source::API_VERSION.to_owned(), event_source::KIND.to_owned())),
        Kind::Schedule(_) => Some((schedule::API_VERSION.to_owned(), schedule::KIND.to_owned())),
        Kind::Rules { .. } => Some((rule_event::API_VERSION.to_owned(), rule_event::KIND.to_owned())),
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
    let object = object.as_ref().map(|(api_version, kind)| (api_version.as_str(), kind.as_str()));
    let key =
        |namespace: &Option<String>, word: &Option<String>| Key::of(object, namespace.as_deref(), word.as_deref());
    namespaces.iter().flat_map(|namespace| words.iter().map(move |word| key(namespace, word))).collect()
}
