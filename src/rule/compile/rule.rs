//! What a spec is compiled to.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    api::{BudgetScope, EventRuleSpec, FiringKind},
    record::{Account, RuleRef},
    rule::{
        breaker,
        cel::{LookedUp, Program, Template},
        change::Followed,
        dedupe::Dedupe,
        filter::{Filter, Kind},
        spend::Spend,
        trigger,
        windows::Windows,
    },
};

/// A rule that can judge and act: one version of it.
#[derive(Debug)]
pub struct Rule {
    /// The rule.
    pub rule: RuleRef,
    /// `metadata.generation` of the spec.
    pub generation: i64,
    /// The spec as it was put.
    pub spec: Arc<EventRuleSpec>,
    /// The ServiceAccount whose rights the rule has.
    pub account: Account,
    /// Its sources.
    pub sources: Vec<CompiledSource>,
    /// Its actions.
    pub actions: Vec<CompiledAction>,
    pub(super) resolve_actions: Vec<CompiledAction>,
    /// What it does when a firing has failed.
    pub failure_actions: Vec<CompiledAction>,
    pub(super) steps: Vec<Vec<CompiledAction>>,
    pub(in crate::rule) variables: Vec<(String, Program)>,
    pub(in crate::rule) conditions: Vec<(String, Program)>,
    pub(in crate::rule) group_by: Vec<(String, Program)>,
    pub(in crate::rule) max_groups: usize,
    pub(in crate::rule) trigger: Option<trigger::Trigger>,
    pub(in crate::rule) dedupe: Option<Dedupe>,
    pub(in crate::rule) windows: Windows,
    pub(in crate::rule) breaker: Option<breaker::Limit>,
    /// `throttle.cooldown`, in microseconds.
    pub(in crate::rule) cooldown: Option<i64>,
    pub(in crate::rule) budget: Option<Spend>,
    /// What its expressions read of the regarded object that is not in the Event.
    pub(in crate::rule) looked_up: LookedUp,
    /// What its expressions read of objects as they were.
    pub(in crate::rule) old: Vec<Followed>,
}

/// A source of a rule.
#[derive(Debug)]
pub struct CompiledSource {
    /// `sources[].name`
    pub name: String,
    pub(in crate::rule) filter: Filter,
    pub(in crate::rule) conditions: Vec<(String, Program)>,
}

impl CompiledSource {
    /// Whether the source needs labels of the regarded object for its filter.
    pub(in crate::rule) fn selects_regarding(&self) -> bool {
        matches!(self.filter.kind(), Kind::KubernetesEvent { selector: Some(_), .. })
    }
}

/// An action of a rule.
#[derive(Debug)]
pub struct CompiledAction {
    /// `actions[].name`
    pub name: String,
    /// The condition of this action only.
    pub if_expression: Option<Program>,
    /// `waitFor.expression`, over `target`.
    pub wait_for: Option<Program>,
    /// `waitFor.failExpression`, over `target`.
    pub fails_when: Option<Program>,
    /// `target.filterExpression`, over `target`.
    pub filter: Option<Program>,
    /// The action kind's own object, such as `scale`; `job.script` is never filled in.
    pub body: Template,
}

impl CompiledAction {
    /// One that has nothing to fill in.
    pub fn bare(name: &str) -> Self {
        let body = Template::fixed(Value::Null, name);
        Self { name: name.to_owned(), if_expression: None, wait_for: None, fails_when: None, filter: None, body }
    }
}

impl Rule {
    /// Whether it has anything to remember of groups.
    pub(in crate::rule) fn keeps_groups(&self) -> bool {
        self.trigger.is_some()
            || self.dedupe.is_some()
            || self.cooldown.is_some()
            || self.budget.is_some_and(|budget| budget.scope == BudgetScope::Group)
    }

    /// What a firing of this kind does, as [`EventRuleSpec::actions_of`] says.
    pub fn actions_of(&self, kind: FiringKind, step: Option<u32>) -> &[CompiledAction] {
        match kind {
            FiringKind::Fired | FiringKind::Repeated => &self.actions,
            FiringKind::Resolved => &self.resolve_actions,
            FiringKind::Restored => &[],
            FiringKind::Step => step.and_then(|step| self.steps.get(step as usize)).map_or(&[], Vec::as_slice),
        }
    }

    /// The source of this name.
    pub(in crate::rule) fn source(&self, name: &str) -> Option<&CompiledSource> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The action of this name, of those that the rule does when it fires.
    pub fn action(&self, name: &str) -> Option<&CompiledAction> {
        self.actions.iter().find(|action| action.name == name)
    }
}
