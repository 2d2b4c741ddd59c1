//! What sources need to know of the rules: whether an event can concern any, and what must be looked up for it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    change::{Change, Followed, Following},
    compile::Rule,
    index::{FilterIndex, Heard},
    near::Lookers,
    trigger::Trigger,
};
use crate::{
    event::{Event, Origin, WatchKey},
    record::{Account, RuleUid},
};

/// A snapshot of the filters of all rules, those that wait for their sources included.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    index: FilterIndex,
    lookers: Lookers,
    following: Following,
    /// Versions of rules, and how often each was taken in: one that is put again comes before the one that it replaces goes.
    known: HashMap<(RuleUid, i64), usize>,
    heard: Arc<Heard>,
}

/// What an event means to the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    /// Some rule's source may take it.
    pub any: bool,
    /// The accounts of rules that need the labels of the object that a Kubernetes Event regards, each once.
    pub regarding_labels_for: Vec<Account>,
    /// Those of rules that need its controller at the top, each once.
    pub regarding_owner_for: Vec<Account>,
    /// Some rule chooses namespaces by their labels.
    pub namespace_labels: bool,
}

impl Interest {
    /// Takes a version of a rule in.
    pub(super) fn insert(&mut self, rule: &Arc<Rule>) {
        *self.known.entry((rule.rule.uid.clone(), rule.generation)).or_default() += 1;
        if rule.spec.suspend {
            return;
        }
        if self.index.insert(rule) {
            self.following.insert(rule);
        }
        self.following.insert_old(rule);
        self.lookers.insert(rule);
    }

    /// Takes a version of a rule out.
    pub(super) fn remove(&mut self, rule: &Arc<Rule>) {
        let version = (rule.rule.uid.clone(), rule.generation);
        match self.known.get_mut(&version) {
            Some(times) if *times > 1 => *times -= 1,
            _ => drop(self.known.remove(&version)),
        }
        if rule.spec.suspend {
            return;
        }
        if self.index.remove(rule) {
            self.following.remove(rule);
        }
        self.following.remove_old(rule);
        self.lookers.remove(rule);
    }

    /// Takes in which EventSources rules in force listen to.
    pub(super) fn hear(interest: &mut Arc<Self>, heard: &Arc<Heard>) {
        if !Arc::ptr_eq(&interest.heard, heard) {
            Arc::make_mut(interest).heard = Arc::clone(heard);
        }
    }

    /// Whether a rule in force listens to the EventSource: what comes from it now is judged. False while the rules wait for their sources.
    pub fn hears(&self, namespace: &str, name: &str) -> bool {
        // Few ask, and only when something has changed.
        self.heard.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    pub(super) fn lookers(&self) -> &Lookers {
        &self.lookers
    }

    /// The values that the watch has to follow.
    pub fn followed(&self, watch: &WatchKey) -> Arc<[Followed]> {
        self.following.of(watch)
    }

    /// Whether this version of the rule is part of the snapshot, in force or waiting for its sources.
    pub fn knows(&self, rule: &RuleUid, generation: i64) -> bool {
        self.known.contains_key(&(rule.clone(), generation))
    }

    /// What the event means to the rules.
    pub fn concern(&self, origin: &Origin, event: &Event) -> Concern {
        let watch = &origin.watch;
        let mut concern = Concern::default();
        let (mut labels, mut owner) = (BTreeSet::new(), BTreeSet::new());
        for (rule, source) in self.index.candidates(origin, event) {
            let source = &rule.sources[source];
            let look = source.filter.look(origin, event);
            let follows = rule.trigger.as_ref().is_some_and(Trigger::follows_objects);
            if follows && source.filter.is_left_by(origin, event) {
                concern.any = true;
                continue;
            }
            if !look.possible || source.filter.change(event, origin) == Change::Same {
                continue;
            }
            concern.any = true;
            concern.namespace_labels |= look.namespace_labels;
            let regards = super::filter::is_kubernetes_event(watch, event);
            if source.selects_regarding() || (regards && rule.looked_up.labels) {
                labels.insert(rule.account.clone());
            }
            if regards && rule.looked_up.owner {
                owner.insert(rule.account.clone());
            }
        }
        concern.regarding_labels_for = labels.into_iter().collect();
        concern.regarding_owner_for = owner.into_iter().collect();
        concern
    }
}
