//! Rules whose sources filter alike, and which of them an event concerns.

use std::sync::Arc;

use super::{
    Slot,
    demands::Demands,
    filters::Filtering,
    hash::follows_objects,
    members::{Member, Slab},
};
use crate::{
    poison,
    record::EventInput,
    rule::{
        cel::{Demand, demands},
        change::Change,
        compile::Rule,
    },
};

/// The rules of a class.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// Whether it counts what its rules see. Rules that follow objects do so themselves.
    pub(super) counts: bool,
    /// How many events have passed one of the filters.
    pub(super) seen: u64,
    members: Slab<Arc<Rule>>,
    /// For each of the sources.
    demands: Vec<Demands>,
}

impl Class {
    /// No rules.
    pub(super) fn new(filtering: &Filtering, seen: u64) -> Self {
        let demands = vec![Demands::default(); filtering.sources.len()];
        Self { counts: !follows_objects(&filtering.rule), seen, members: Slab::default(), demands }
    }

    /// Takes a rule in, filed by its conditions.
    pub(super) fn insert(&mut self, filtering: &Filtering, rule: &Arc<Rule>) -> Member {
        let member = self.members.insert(Arc::clone(rule));
        for (source, known) in filtering.sources.iter().zip(&mut self.demands) {
            known.insert(member, if self.counts { demands_of(rule, *source) } else { Vec::new() });
        }
        member
    }

    /// Takes a rule out; tells whether none is left.
    pub(super) fn remove(&mut self, member: Member) -> bool {
        self.demands.iter_mut().for_each(|demands| demands.remove(member));
        self.members.remove(member);
        self.members.is_empty()
    }

    pub(super) fn seen_since(&self, since: u64) -> u64 {
        self.seen.saturating_sub(since)
    }

    /// Adds the sources that have to be asked about the event, of those at these places; tells whether the class counts it.
    pub(super) fn find<'i>(
        &'i self,
        filtering: &'i Filtering,
        input: &EventInput,
        sources: impl Iterator<Item = usize>,
        slots: &mut Vec<Slot<'i>>,
    ) -> bool {
        let mut passed = Vec::new();
        for at in sources {
            match poison::caught(|| self.passes(filtering, input, at)) {
                Ok(true) => passed.push(at),
                Ok(false) => {}
                // Each rule is asked, and errs.
                Err(_) => {
                    slots.extend(self.members.iter().flat_map(|(member, _)| self.of_member(filtering, member)));
                    return false;
                }
            }
        }
        let mut found = Vec::new();
        for at in &passed {
            found.clear();
            self.demands[*at].find(&input.event, &mut found);
            let rules = found.iter().filter_map(|member| self.members.get(*member));
            slots.extend(rules.map(|rule| Slot { rule, source: filtering.sources[*at], counted: self.counts }));
        }
        self.counts && !passed.is_empty()
    }

    /// All sources of a rule, for it alone.
    pub(super) fn of_member<'i>(&'i self, filtering: &'i Filtering, member: Member) -> Vec<Slot<'i>> {
        let Some(rule) = self.members.get(member) else { return Vec::new() };
        filtering.sources.iter().map(|source| Slot { rule, source: *source, counted: false }).collect()
    }

    fn passes(&self, filtering: &Filtering, input: &EventInput, at: usize) -> bool {
        let Some(filter) = filtering.filter(at) else { return false };
        let (origin, event, lookups) = (&input.origin, &input.event, &input.lookups);
        let (labels, regarding) = (lookups.namespace_labels.as_ref(), lookups.regarding(&filtering.rule.account));
        let takes = filter.passes(origin, event, labels, regarding) && filter.change(event, origin) != Change::Same;
        takes || (!self.counts && filter.is_left_by(origin, event))
    }
}

fn demands_of(rule: &Rule, source: usize) -> Vec<Demand> {
    let of_source = rule.sources[source].conditions.iter();
    demands(of_source.chain(&rule.conditions).map(|(_, program)| program), &rule.variables)
}
