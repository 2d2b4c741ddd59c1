//! What sources need to know of the rules: whether an event can concern any, and what must be looked up for it.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    change::{Change, Followed, Following},
    compile::Rule,
    index::Index,
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
    index: Index,
    lookers: Lookers,
    following: Following,
    known: HashSet<(RuleUid, i64)>,
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
    pub(super) fn of<'r>(rules: impl Iterator<Item = &'r Arc<Rule>>) -> Self {
        let mut interest = Self::default();
        for rule in rules {
            interest.index.insert(rule);
            interest.lookers.insert(rule);
            interest.following.insert(rule);
            interest.known.insert((rule.rule.uid.clone(), rule.generation));
        }
        interest
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
        self.known.contains(&(rule.clone(), generation))
    }

    /// What the event means to the rules.
    pub fn concern(&self, origin: &Origin, event: &Event) -> Concern {
        let watch = &origin.watch;
        let mut concern = Concern::default();
        let (mut labels, mut owner) = (BTreeSet::new(), BTreeSet::new());
        for slot in self.index.candidates(origin, event) {
            let source = &slot.rule.sources[slot.source];
            let look = source.filter.look(origin, event);
            let follows = slot.rule.trigger.as_ref().is_some_and(Trigger::follows_objects);
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
            if source.selects_regarding() || (regards && slot.rule.looked_up.labels) {
                labels.insert(slot.rule.account.clone());
            }
            if regards && slot.rule.looked_up.owner {
                owner.insert(slot.rule.account.clone());
            }
        }
        concern.regarding_labels_for = labels.into_iter().collect();
        concern.regarding_owner_for = owner.into_iter().collect();
        concern
    }
}
