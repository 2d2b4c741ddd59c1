//! From an event to the rules that it can concern, without looking at every rule.
//!
//! Rules whose sources filter alike, for the same account, are one class. Classes are filed by what their filters ask for in every case: the kind of
//! event, the namespace, and for Kubernetes Events the reason, for an EventSource its name. A filter is asked once for its class, and what it takes is
//! counted once for all its rules: an event that passes a filter counts as seen, whatever the conditions say. Within a class rules are filed by what
//! their conditions ask of single fields, so that conditions are evaluated only for rules of which one of these holds.

mod class;
mod demands;
mod filters;
mod hash;
mod intervals;
mod leaf;
mod members;
mod parts;
mod single;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::compile::Rule;
use crate::{
    event::{Event, Origin},
    record::{EventInput, RuleUid},
};
use class::Class;
pub(super) use filters::ClassId;
use filters::{Filtering, Filters};
pub(super) use hash::ClassHash;
use members::Member;

/// A source that is asked about an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'i> {
    pub rule: &'i Arc<Rule>,
    /// Its place in the rule.
    pub source: usize,
    /// The event is counted as seen for all rules of the class.
    pub counted: bool,
}

impl Slot<'_> {
    fn order(&self) -> (&RuleUid, i64, usize) {
        (&self.rule.rule.uid, self.rule.generation, self.source)
    }
}

/// Where a version of a rule is.
#[derive(Clone, Copy, Debug)]
struct Place {
    class: ClassId,
    member: Member,
    /// What the class had seen when the rule began to count.
    since: u64,
}

/// The sources of the rules that judge.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    classes: Filters<Class>,
    places: HashMap<(RuleUid, i64), Place>,
    /// What classes had seen that are yet to come, when a process ended.
    known: BTreeMap<ClassHash, u64>,
    /// Classes that have seen something since somebody asked, or are gone.
    changed: BTreeSet<ClassHash>,
    /// How many sources listen to each EventSource.
    heard: Arc<Heard>,
}

/// EventSources by namespace and name, and by how many sources of rules in force each is listened to; more than none.
pub(super) type Heard = BTreeMap<(String, String), usize>;

impl Index {
    /// Files a version of a rule, with the sources that are listened to. `since` is what its class, by its hash, had seen when the rule's own count was
    /// kept.
    pub(super) fn insert(&mut self, rule: &Arc<Rule>, is_live: impl Fn(&str) -> bool, since: Option<(ClassHash, u64)>) {
        if rule.spec.suspend {
            return;
        }
        let sources: Vec<usize> = (0..rule.sources.len()).filter(|at| is_live(&rule.sources[*at].name)).collect();
        let hash = ClassHash::of(rule, &sources);
        let id = self.classes.id(&hash).unwrap_or_else(|| {
            let filtering = Filtering { hash, rule: Arc::clone(rule), sources };
            let class = Class::new(&filtering, self.known.remove(&hash).unwrap_or(0));
            self.classes.begin(filtering, class)
        });
        let Some((filtering, class)) = self.classes.get_mut(id) else { return };
        let since = match since {
            Some((known, seen)) if known == hash => seen.min(class.seen),
            _ => class.seen,
        };
        for name in referred(filtering) {
            *Arc::make_mut(&mut self.heard).entry(name).or_default() += 1;
        }
        let member = class.insert(filtering, rule);
        self.places.insert((rule.rule.uid.clone(), rule.generation), Place { class: id, member, since });
    }

    /// Takes a version of a rule out; gives what it has seen by its class.
    pub(super) fn remove(&mut self, rule: &Rule) -> u64 {
        let Some(place) = self.places.remove(&(rule.rule.uid.clone(), rule.generation)) else { return 0 };
        let Some((filtering, class)) = self.classes.get_mut(place.class) else { return 0 };
        let seen = class.seen_since(place.since);
        for name in referred(filtering) {
            let heard = Arc::make_mut(&mut self.heard);
            match heard.get_mut(&name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(heard.remove(&name)),
            }
        }
        if class.remove(place.member) {
            self.changed.insert(filtering.hash);
            self.classes.end(place.class);
        }
        seen
    }

    /// The classes that count the event as seen, and the sources that have to be asked about it, in the order of rule uids and sources.
    pub(super) fn find(&self, input: &EventInput) -> (Vec<ClassId>, Vec<Slot<'_>>) {
        let (mut counting, mut slots) = (Vec::new(), Vec::new());
        let candidates = self.classes.candidates(&input.origin, &input.event);
        for sources in candidates.chunk_by(|one, other| one.0 == other.0) {
            let (id, sources) = (sources[0].0, sources.iter().map(|(_, at)| *at));
            let Some((filtering, class)) = self.classes.get(id) else { continue };
            if class.find(filtering, input, sources, &mut slots) {
                counting.push(id);
            }
        }
        slots.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        slots.dedup_by(|one, other| one.order() == other.order());
        (counting, slots)
    }

    /// All sources of a version of a rule; what they see is counted for the rule alone.
    pub(super) fn of_rule(&self, uid: &RuleUid, generation: i64) -> Vec<Slot<'_>> {
        let place = self.places.get(&(uid.clone(), generation));
        let found = place.and_then(|place| Some((self.classes.get(place.class)?, place.member)));
        found.map_or_else(Vec::new, |((filtering, class), member)| class.of_member(filtering, member))
    }

    /// The EventSources that are listened to.
    pub(super) fn heard(&self) -> &Arc<Heard> {
        &self.heard
    }

    /// Whether a rule of the namespace has a source `events`.
    pub(super) fn hears_rules(&self, namespace: &str) -> bool {
        self.classes.hears_rules(namespace)
    }

    /// Whether a source's filter can take the event.
    pub(super) fn is_heard(&self, origin: &Origin, event: &Event) -> bool {
        self.classes.candidates(origin, event).into_iter().any(|(id, at)| {
            let filter = self.classes.get(id).and_then(|(filtering, _)| filtering.filter(at));
            filter.is_some_and(|filter| filter.look(origin, event).possible)
        })
    }

    // === What was seen ===

    /// An event has passed a filter of the class.
    pub(super) fn count(&mut self, id: ClassId) {
        if let Some((filtering, class)) = self.classes.get_mut(id) {
            class.seen += 1;
            self.changed.insert(filtering.hash);
        }
    }

    /// An event that one of these classes has counted is not to count for this rule.
    pub(super) fn uncount(&mut self, uid: &RuleUid, generation: i64, counted: &[ClassId]) {
        let place = self.places.get_mut(&(uid.clone(), generation));
        if let Some(place) = place.filter(|place| counted.contains(&place.class)) {
            place.since += 1;
        }
    }

    /// What a version of a rule has seen by its class, and by what that is kept: the class, and what all of it has seen.
    pub(super) fn seen(&self, uid: &RuleUid, generation: i64) -> (u64, Option<(ClassHash, u64)>) {
        let place = self.places.get(&(uid.clone(), generation));
        let found = place.and_then(|place| Some((self.classes.get(place.class)?, place.since)));
        found.map_or((0, None), |((filtering, class), since)| {
            (class.seen_since(since), Some((filtering.hash, class.seen.max(since))))
        })
    }

    /// What a class had seen, which rules that are yet to be filed belong to.
    pub(super) fn know(&mut self, class: ClassHash, seen: u64) {
        self.known.insert(class, seen);
    }

    /// What is known of classes that no rule belongs to any more is left out from here on.
    pub(super) fn forget_known(&mut self) {
        self.changed.extend(std::mem::take(&mut self.known).into_keys());
    }

    /// The classes that have changed since the last call, and what they have seen; nothing for those that are gone.
    pub(super) fn take_changed(&mut self) -> Vec<(ClassHash, Option<u64>)> {
        let changed = std::mem::take(&mut self.changed);
        let seen = |hash: &ClassHash| self.classes.get(self.classes.id(hash)?).map(|(_, class)| class.seen);
        changed.into_iter().map(|hash| (hash, seen(&hash))).collect()
    }

    /// The rules that a class counts for.
    #[cfg(test)]
    pub(super) fn rules_of(&self, id: ClassId) -> Vec<RuleUid> {
        self.places.iter().filter(|(_, place)| place.class == id).map(|((uid, _), _)| uid.clone()).collect()
    }
}

/// The filters of rules, without their conditions.
#[derive(Clone, Debug, Default)]
pub(super) struct FilterIndex(Filters<usize>);

impl FilterIndex {
    /// Takes a version of a rule in; tells whether it is the first that filters so.
    pub(super) fn insert(&mut self, rule: &Arc<Rule>) -> bool {
        let filtering = filtering(rule);
        match self.0.id(&filtering.hash).and_then(|id| self.0.get_mut(id)) {
            Some((_, rules)) => *rules += 1,
            None => {
                self.0.begin(filtering, 1);
                return true;
            }
        }
        false
    }

    /// Takes a version of a rule out; tells whether none is left that filters so.
    pub(super) fn remove(&mut self, rule: &Arc<Rule>) -> bool {
        let Some(id) = self.0.id(&filtering(rule).hash) else { return false };
        let Some((_, rules)) = self.0.get_mut(id) else { return false };
        *rules -= 1;
        let last = *rules == 0;
        if last {
            self.0.end(id);
        }
        last
    }

    /// Of rules that filter alike one, and the place of a source whose filter the event can pass.
    pub(super) fn candidates(&self, origin: &Origin, event: &Event) -> impl Iterator<Item = (&Arc<Rule>, usize)> {
        self.0.candidates(origin, event).into_iter().filter_map(|(id, at)| {
            let (filtering, _) = self.0.get(id)?;
            Some((&filtering.rule, *filtering.sources.get(at)?))
        })
    }
}

/// All sources of a rule.
fn filtering(rule: &Arc<Rule>) -> Filtering {
    let sources: Vec<usize> = (0..rule.sources.len()).collect();
    Filtering { hash: ClassHash::of(rule, &sources), rule: Arc::clone(rule), sources }
}

/// The EventSources that the sources of a class refer to.
fn referred(filtering: &Filtering) -> Vec<(String, String)> {
    let names = (0..filtering.sources.len()).filter_map(|at| filtering.filter(at)?.referred());
    names.map(|name| (filtering.rule.rule.namespace.clone(), name.to_owned())).collect()
}
