//! What is kept of a rule: its versions, what became of its events, its groups.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    breaker::{Breaker, Trip},
    compile::{Rule, groups_hash},
    groups::{Cause, Groups},
    index::ClassHash,
    remembered::Remembered,
    silences::Silences,
    spend::{Spend, Spent},
    writes::{Kept, OwnWrites},
};
use crate::{
    api::{
        ActiveGroup, BudgetScope, ConcurrencyPolicy, Counts, EventRuleSpec, FiringKind, FiringStatus, LastError,
        LastSuppressed, Silence,
    },
    clock::Stamp,
    event::Origin,
    record::{Firing, FiringId, Mark, RuleRef, Stopped, SuppressedReason},
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
    /// The last matching event that did not fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_suppressed: Option<LastSuppressed>,
    /// The last firings, newest first, at most `historyLimit`; messages are cut to 256 characters.
    pub recent: Vec<Arc<FiringStatus>>,
    /// What the rule has fired for and what has not ended, oldest first, at most 10.
    #[serde(default, skip_serializing)]
    pub active: Vec<ActiveGroup>,
    /// How many there are of it in all.
    #[serde(default, skip_serializing)]
    pub active_total: u64,
    /// The generation in force.
    pub generation: Option<i64>,
    /// Set while the rule's breaker is tripped.
    #[serde(skip)]
    pub tripped: Option<Trip>,
    /// Set while the switch for all rules is.
    #[serde(skip)]
    pub stopped: Option<Stopped>,
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
    pub last_suppressed: Option<LastSuppressed>,
    /// Newest first.
    pub recent: VecDeque<Arc<FiringStatus>>,
    pub groups: Groups,
    /// Firings, where the budget is the rule's.
    pub spent: Spent,
    /// The groups of the firings that wait or are under way.
    pub running: BTreeMap<FiringId, Arc<str>>,
    /// What the rule itself writes.
    pub own: OwnWrites,
    /// [`groups_hash`] of the spec that the groups belong to.
    pub groups_hash: String,
    /// What is due waits for sources that have not caught up since the process began.
    pub settling: Settling,
    /// How many bytes of groups are counted for the namespace.
    pub weighed: u64,
    /// What the rule has seen since it began, while what exists is being told.
    pub begun: Begun,
    /// How its firings have gone.
    pub breaker: Breaker,
    /// What it has changed and is to give back.
    pub remembered: Remembered,
    /// What people have said beside its spec.
    pub silences: Silences,
}

/// How long after a rule that follows objects began it is told what exists, at most, in microseconds.
const BEGINS: i64 = 300_000_000;
/// Objects of which it is remembered meanwhile what was seen of them.
const MAX_BEGUN: usize = 10_000;

/// Of objects that changed while the list of what exists was under way: a list that was taken before the change tells of what is not so any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// When the rule began; nothing once it is over.
    since: Option<i64>,
    /// The last version of each object, by its uid; one that is gone has none to come.
    versions: BTreeMap<String, u64>,
}

impl Begun {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn at(now: i64) -> Self {
        Self { since: Some(now), versions: BTreeMap::new() }
    }

    /// Notes what was seen of an object.
    pub(super) fn note(&mut self, origin: &Origin, now: i64) {
        let Some(since) = self.since else { return };
        if now.saturating_sub(since) > BEGINS {
            *self = Self::default();
        } else if self.versions.len() < MAX_BEGUN {
            let version = origin.seen.as_ref().map_or(u64::MAX, |seen| seen.version);
            self.versions.insert(origin.uid.clone(), version);
        }
    }

    /// Whether the object was seen later than this tells.
    pub(super) fn is_stale(&self, origin: &Origin) -> bool {
        let version = origin.seen.as_ref().map_or(0, |seen| seen.version);
        self.versions.get(&origin.uid).is_some_and(|known| *known >= version)
    }
}

/// What has to wait after a start, for what happened before it may not be known yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settling {
    /// The sources that have not caught up.
    pub sources: BTreeSet<String>,
    /// Nothing is due before.
    pub until: i64,
}

impl Settling {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
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
        // By another version it may be told otherwise.
        self.last_suppressed = None;
        self.breaker.reset();
        self.silences = std::mem::take(&mut self.silences).for_version(Some(&version.rule));
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

    /// From when on neither cooldown nor budget keeps the group from firing.
    pub(super) fn free_at(&self, rule: &Rule, group: &str) -> i64 {
        let of_group = rule.budget.as_ref().filter(|budget| budget.scope == BudgetScope::Group);
        let of_rule = rule.budget.as_ref().filter(|budget| budget.scope == BudgetScope::Rule);
        self.groups.free_at(group, of_group).max(of_rule.map_or(0, |budget| self.spent.free_at(budget)))
    }

    /// A firing: gives the groups that changed.
    pub(super) fn fired(&mut self, firing: &Firing) -> Vec<String> {
        let Some(rule) = self.in_force.as_ref().map(|version| &version.rule) else { return Vec::new() };
        let (group, now) = (&firing.group, firing.stamp.at);
        let mut touched = Vec::new();
        if let Some(trigger) = &rule.trigger {
            touched = self.groups.forget(now);
            self.groups.go_on(group, trigger, firing);
            touched.push(group.clone());
        }
        if matches!(firing.kind, FiringKind::Step | FiringKind::Resolved) {
            return touched;
        }
        let of_group = rule.budget.as_ref().filter(|budget| budget.scope == BudgetScope::Group);
        if let (Some(budget), None) = (&rule.budget, of_group) {
            self.spent.spend(budget, now);
        }
        if rule.cooldown.is_some() || of_group.is_some() {
            touched.extend(self.groups.forget(now));
            self.groups.spend(group, rule.cooldown.map(|cooldown| now.saturating_add(cooldown)), of_group, now);
            touched.push(group.clone());
        }
        touched
    }

    /// Something for the trigger to keep of the group: gives the groups that changed.
    pub(super) fn note(&mut self, group: &str, mark: Mark, cause: Option<Cause>, now: i64) -> Vec<String> {
        let Some(rule) = self.in_force.as_ref().map(|version| &version.rule) else { return Vec::new() };
        let Some(trigger) = &rule.trigger else { return Vec::new() };
        let mut touched = self.groups.forget(now);
        self.groups.note(group, trigger, mark, cause, now);
        touched.push(group.to_owned());
        touched
    }

    /// The group lets the key through: gives the groups that changed.
    pub(super) fn passed(&mut self, group: &str, key: u64, now: i64) -> Vec<String> {
        let Some(rule) = self.in_force.as_ref().map(|version| &version.rule) else { return Vec::new() };
        let Some(dedupe) = &rule.dedupe else { return Vec::new() };
        let mut touched = self.groups.forget(now);
        self.groups.note_key(group, key, dedupe, now);
        touched.push(group.to_owned());
        touched
    }

    /// A matching event did not fire.
    pub(super) fn suppressed(&mut self, group: &str, reason: SuppressedReason, stamp: Stamp) {
        let Some(rule) = self.in_force.as_ref().map(|version| Arc::clone(&version.rule)) else { return };
        let now = stamp.timestamp();
        let until = match reason {
            SuppressedReason::Cooldown | SuppressedReason::Budget => {
                let wait = self.free_at(&rule, group).saturating_sub(stamp.at).max(0);
                Some(Stamp { wall: stamp.wall.saturating_add(wait), ..stamp }.timestamp())
            }
            SuppressedReason::OutsideActiveWindow => {
                // Of a storm outside of the windows, not each event is worth looking through the calendar.
                let known = self.last_suppressed.take().filter(|last| last.reason == reason.name());
                let known = known.and_then(|last| last.until).map(|until| until.0).filter(|until| *until > now);
                known.or_else(|| rule.windows.opening(now))
            }
            SuppressedReason::Silence => {
                self.silences.only_end(stamp.wall).map(|wall| Stamp { wall, ..stamp }.timestamp())
            }
            _ => None,
        };
        let (time, until) = (Time(now), until.map(Time));
        self.last_suppressed =
            Some(LastSuppressed { time, group: group.to_owned(), reason: reason.name().to_owned(), until });
    }

    /// What the rule had fired for has ended: gives the groups that changed.
    pub(super) fn resolved(&mut self, group: &str, now: i64) -> Vec<String> {
        let trigger = self.in_force.as_ref().and_then(|version| version.rule.trigger.as_ref());
        self.groups.resolved(group, trigger, now);
        vec![group.to_owned()]
    }

    /// When something is due for the group.
    pub(super) fn deadline(&self, group: &str) -> Option<i64> {
        let rule = self.in_force.as_ref().map(|version| &version.rule).filter(|rule| !rule.spec.suspend)?;
        let trigger = rule.trigger.as_ref()?;
        let at = trigger.deadline(self.groups.kept(group)?)?;
        Some(if trigger.waits_for_sources() { at.max(self.settling.until) } else { at })
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            counts: Counts { suppressed: self.counts.suppressed.clone().summed(), ..self.counts.clone() },
            last_match: self.last_match,
            last_firing: self.last_firing,
            last_error: self.last_error.clone(),
            last_suppressed: self.last_suppressed.clone(),
            recent: self.recent.iter().cloned().collect(),
            active: self.groups.active().take(10).map(active).collect(),
            active_total: self.groups.active().len() as u64,
            generation: self.in_force.as_ref().map(|version| version.rule.generation),
            tripped: self.breaker.trip(),
            stopped: None,
        }
    }
}

fn active((since, group): &(crate::clock::Stamp, String)) -> ActiveGroup {
    ActiveGroup { group: group.clone(), since: Time(since.timestamp()) }
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
    #[serde(default, skip_serializing_if = "Settling::is_none")]
    pub settling: Settling,
    #[serde(default, skip_serializing_if = "Begun::is_none")]
    pub begun: Begun,
    /// The class that counts for the rule, and what it had seen when the row was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<(ClassHash, u64)>,
    #[serde(default, skip_serializing_if = "Breaker::is_none")]
    pub breaker: Breaker,
    #[serde(default, skip_serializing_if = "Remembered::is_empty")]
    pub remembered: Remembered,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silences: Vec<Silence>,
}

/// A version in a row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VersionRow {
    pub generation: i64,
    #[serde(deserialize_with = "EventRuleSpec::read_to_keep")]
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
            settling: state.settling.clone(),
            begun: state.begun.clone(),
            class: None,
            breaker: state.breaker.clone(),
            remembered: state.remembered.clone(),
            silences: state.silences.told().to_vec(),
        }
    }
}
