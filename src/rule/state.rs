//! What is kept of a rule: its versions, what became of its events, its groups.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    compile::{Rule, groups_hash},
    groups::Groups,
    spend::{Spend, Spent},
    writes::{Kept, OwnWrites},
};
use crate::{
    api::{BudgetScope, ConcurrencyPolicy, Counts, EventRuleSpec, FiringStatus, LastError},
    record::{FiringId, Occurrence, RuleRef},
};

/// What status tells of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Counts since the rule was created.
    pub counts: Counts,
    /// When an event last met every condition.
    pub last_match: Option<Timestamp>,
    /// When the rule last fired.
    pub last_firing: Option<Timestamp>,
    /// The last expression or action that failed.
    pub last_error: Option<LastError>,
    /// The last firings, newest first, at most `historyLimit`; messages are cut to 256 characters.
    pub recent: Vec<FiringStatus>,
    /// The generation in force.
    pub generation: Option<i64>,
}

/// One version of a rule.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub rule: Arc<Rule>,
    /// Of the sources that have one, whether they are listened to.
    pub live: BTreeMap<String, bool>,
}

impl Version {
    pub(super) fn new(rule: Arc<Rule>) -> Self {
        Self { rule, live: BTreeMap::new() }
    }

    /// Whether it may judge: each source has its baseline or is known to be deaf. What is suspended has nothing to wait for.
    pub(super) fn is_complete(&self) -> bool {
        self.rule.spec.suspend || self.rule.sources.iter().all(|source| self.live.contains_key(&source.name))
    }

    pub(super) fn is_live(&self, source: &str) -> bool {
        self.live.get(source).copied().unwrap_or(false)
    }
}

/// The state of a rule, across its versions.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub in_force: Option<Version>,
    pub pending: Option<Version>,
    pub counts: Counts,
    pub last_match: Option<Timestamp>,
    pub last_firing: Option<Timestamp>,
    pub last_error: Option<LastError>,
    /// Newest first.
    pub recent: VecDeque<FiringStatus>,
    pub groups: Groups,
    /// Firings, where the budget is the rule's.
    pub spent: Spent,
    /// The groups of the firings that wait or are under way.
    pub running: BTreeMap<FiringId, Arc<str>>,
    /// What the rule itself writes.
    pub own: OwnWrites,
    /// [`groups_hash`] of the spec that the groups belong to.
    pub groups_hash: String,
}

impl State {
    /// The version that was put last.
    pub(super) fn latest(&self) -> Option<&Version> {
        self.pending.as_ref().or(self.in_force.as_ref())
    }

    pub(super) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.in_force.iter().chain(&self.pending)
    }

    pub(super) fn history_limit(&self) -> usize {
        self.in_force.as_ref().map_or(0, |version| version.rule.spec.history_limit.min(10) as usize)
    }

    /// Makes the pending version the one in force; tells whether groups started anew.
    pub(super) fn promote(&mut self) -> bool {
        let Some(version) = self.pending.take() else { return false };
        let hash = groups_hash(&version.rule.spec);
        let anew = hash != self.groups_hash;
        self.groups_hash = hash;
        if anew {
            self.spent = Spent::default();
        }
        self.in_force = Some(version);
        anew
    }

    /// Whether a firing of the group is open and the rule wants no second one beside it.
    pub(super) fn is_busy(&self, rule: &Rule, group: &str) -> bool {
        rule.spec.concurrency_policy == ConcurrencyPolicy::Forbid && self.running.values().any(|one| **one == *group)
    }

    /// Whether the budget allows no firing of the group.
    pub(super) fn is_spent(&self, budget: &Spend, group: &str, now: i64) -> bool {
        match budget.scope {
            BudgetScope::Group => self.groups.is_spent(group, budget, now),
            BudgetScope::Rule => self.spent.is_spent(budget, now),
        }
    }

    /// A firing of the group: gives the groups that changed.
    pub(super) fn fired(&mut self, group: &str, now: i64) -> Vec<String> {
        let Some(rule) = self.in_force.as_ref().map(|version| &version.rule) else { return Vec::new() };
        let of_group = rule.budget.as_ref().filter(|budget| budget.scope == BudgetScope::Group);
        if let (Some(budget), None) = (&rule.budget, of_group) {
            self.spent.spend(budget, now);
        }
        if !rule.keeps_groups() {
            return Vec::new();
        }
        let mut touched = self.groups.forget(now);
        self.groups.fired(group, rule.cooldown.map(|cooldown| now.saturating_add(cooldown)), of_group, now);
        touched.push(group.to_owned());
        touched
    }

    /// Something to count for the group: gives the groups that changed.
    pub(super) fn count(&mut self, group: &str, occurrence: Occurrence, now: i64) -> Vec<String> {
        let Some(count) = self.in_force.as_ref().and_then(|version| version.rule.count) else { return Vec::new() };
        let mut touched = self.groups.forget(now);
        self.groups.keep(group, &count, occurrence, now);
        touched.push(group.to_owned());
        touched
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            counts: Counts { suppressed: self.counts.suppressed.clone().summed(), ..self.counts.clone() },
            last_match: self.last_match,
            last_firing: self.last_firing,
            last_error: self.last_error.clone(),
            recent: self.recent.iter().cloned().collect(),
            generation: self.in_force.as_ref().map(|version| version.rule.generation),
        }
    }
}

/// A row of the table of rules.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RuleRow {
    pub rule: RuleRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<VersionRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<VersionRow>,
    pub progress: Progress,
    pub groups_hash: String,
    #[serde(default, skip_serializing_if = "Spent::is_empty")]
    pub spent: Spent,
    #[serde(default, skip_serializing_if = "Kept::is_empty")]
    pub own: Kept,
}

/// A version in a row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VersionRow {
    pub generation: i64,
    pub spec: Arc<EventRuleSpec>,
    pub live: BTreeMap<String, bool>,
}

impl VersionRow {
    pub(super) fn of(version: &Version) -> Self {
        Self { generation: version.rule.generation, spec: Arc::clone(&version.rule.spec), live: version.live.clone() }
    }
}

impl RuleRow {
    pub(super) fn of(rule: &RuleRef, state: &State) -> Self {
        Self {
            rule: rule.clone(),
            in_force: state.in_force.as_ref().map(VersionRow::of),
            pending: state.pending.as_ref().map(VersionRow::of),
            progress: state.progress(),
            groups_hash: state.groups_hash.clone(),
            spent: state.spent.clone(),
            own: state.own.kept().clone(),
        }
    }
}
