//! From a spec to a rule: everything that can be wrong with a spec is said here, all at once.

mod actions;
mod approve;
mod emit;
mod failure;
mod fields;
mod http;
mod objects;
mod patch;
mod publish;
mod restore;
mod wait_for;

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{
    breaker,
    cel::{LookedUp, Mode, Names, Place, Program, Template},
    change::{self, Followed},
    dedupe::Dedupe,
    fault::Fault,
    filter::{Filter, Kind},
    groups::micros,
    spend::Spend,
    trigger,
    windows::Windows,
};
use crate::{
    api::{
        BudgetScope, Condition, DEFAULT_MAX_GROUPS, EventRuleSpec, FiringKind, GroupKey, GroupLimits, Trigger, Variable,
    },
    poison,
    record::{Account, RuleRef},
};

/// Values of `oldObject` that a rule may read: as many are kept of each object.
const MAX_PLACES: usize = 16;

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
    resolve_actions: Vec<CompiledAction>,
    /// What it does when a firing has failed.
    pub failure_actions: Vec<CompiledAction>,
    steps: Vec<Vec<CompiledAction>>,
    pub(super) variables: Vec<(String, Program)>,
    pub(super) conditions: Vec<(String, Program)>,
    pub(super) group_by: Vec<(String, Program)>,
    pub(super) max_groups: usize,
    pub(super) trigger: Option<trigger::Trigger>,
    pub(super) dedupe: Option<Dedupe>,
    pub(super) windows: Windows,
    pub(super) breaker: Option<breaker::Limit>,
    /// `throttle.cooldown`, in microseconds.
    pub(super) cooldown: Option<i64>,
    pub(super) budget: Option<Spend>,
    /// What its expressions read of the regarded object that is not in the Event.
    pub(super) looked_up: LookedUp,
    /// What its expressions read of objects as they were.
    pub(super) old: Vec<Followed>,
}

/// A source of a rule.
#[derive(Debug)]
pub struct CompiledSource {
    /// `sources[].name`
    pub name: String,
    pub(super) filter: Filter,
    pub(super) conditions: Vec<(String, Program)>,
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
    /// The action kind's own object, such as `scale`; `job.script` is never filled in.
    pub body: Template,
}

impl CompiledAction {
    /// One that has nothing to fill in.
    pub fn bare(name: &str) -> Self {
        let body = Template::fixed(Value::Null, name);
        Self { name: name.to_owned(), if_expression: None, wait_for: None, fails_when: None, body }
    }
}

impl Rule {
    /// Whether it has anything to remember of groups.
    pub(super) fn keeps_groups(&self) -> bool {
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
    pub(super) fn source(&self, name: &str) -> Option<&CompiledSource> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The action of this name, of those that the rule does when it fires.
    pub fn action(&self, name: &str) -> Option<&CompiledAction> {
        self.actions.iter().find(|action| action.name == name)
    }
}

/// Compiles a rule's spec.
///
/// # Errors
/// All faults of the spec; one that panics is a fault too, for the spec is there again after every restart.
pub fn compile(rule: &RuleRef, generation: i64, spec: &Arc<EventRuleSpec>) -> Result<Arc<Rule>, Vec<Fault>> {
    let compiled = poison::caught(|| compile_parts(rule, generation, spec));
    compiled.unwrap_or_else(|poisoned| Err(vec![Fault::new("spec", poisoned.to_string())]))
}

fn compile_parts(rule: &RuleRef, generation: i64, spec: &Arc<EventRuleSpec>) -> Result<Arc<Rule>, Vec<Fault>> {
    let names = names_of_events(spec);
    // It holds or does not until something happens: what depends on the time alone would be judged too seldom.
    let held = spec.trigger.as_ref().is_some_and(|trigger| trigger.held.is_some());
    let names = if held { names.without("now") } else { names };
    let names = if spec.follows_objects() { names.without("oldObject") } else { names };
    let mut compiler = Compiler { faults: Vec::new(), names, places: Vec::new() };
    compiler.header(spec);
    let variables = compiler.variables(&spec.variables);
    let conditions = compiler.conditions(&spec.when, "spec.when");
    let sources = compiler.sources(spec, rule);
    let group_by = compiler.group_by(&spec.group_by);
    let trigger = trigger::Trigger::compile(spec, &mut compiler);
    let dedupe = Dedupe::compile(spec, &mut compiler);
    let windows = Windows::compile(spec, &mut compiler.faults);
    let breaker = breaker::Limit::compile(spec, &mut compiler.faults);
    let budget = Spend::compile(spec, &mut compiler.faults);
    compiler.names_of_actions(spec);
    let actions = compiler.actions(&spec.actions, "spec.actions");
    let resolve_actions = compiler.actions(&spec.resolve_actions, "spec.resolveActions");
    let of_steps = spec.trigger.as_deref().map_or(&[][..], Trigger::steps).iter().enumerate();
    let steps: Vec<_> = of_steps
        .map(|(index, step)| compiler.actions(&step.actions, &format!("spec.trigger.held.steps[{index}].actions")))
        .collect();
    let failure_actions = compiler.failure_actions(spec);
    compiler.restores(spec);
    let old = compiler.old();
    if !compiler.faults.is_empty() {
        return Err(compiler.faults);
    }
    let conditions_of_sources = sources.iter().flat_map(|source| &source.conditions);
    let looked_up = variables
        .iter()
        .chain(&conditions)
        .chain(conditions_of_sources)
        .chain(&group_by)
        .map(|(_, program)| program)
        .chain(dedupe.as_ref().map(Dedupe::expression))
        .chain((actions.iter().chain(&resolve_actions).chain(steps.iter().flatten()).chain(&failure_actions)).flat_map(
            |action| {
                action
                    .if_expression
                    .iter()
                    .chain(&action.wait_for)
                    .chain(&action.fails_when)
                    .chain(action.body.programs())
            },
        ))
        .map(Program::looked_up)
        .fold(LookedUp::default(), LookedUp::or);
    Ok(Arc::new(Rule {
        rule: rule.clone(),
        generation,
        spec: Arc::clone(spec),
        account: Account { namespace: rule.namespace.clone(), name: spec.service_account_name.clone() },
        sources,
        actions,
        resolve_actions,
        failure_actions,
        steps,
        variables,
        conditions,
        group_by,
        max_groups: spec.groups.as_ref().map_or(DEFAULT_MAX_GROUPS, GroupLimits::max) as usize,
        trigger,
        dedupe,
        windows,
        breaker,
        cooldown: spec.throttle.as_ref().and_then(|throttle| throttle.cooldown).map(|time| micros(time.get())),
        budget,
        looked_up,
        old,
    }))
}

/// What expressions about the events of the rule may use.
fn names_of_events(spec: &EventRuleSpec) -> Names {
    let names = Names::conditions();
    let from_elsewhere = spec.sources.iter().any(|source| source.reference.is_some() || source.events.is_some());
    let names = if from_elsewhere { names.with_extensions() } else { names };
    let resources = spec.sources.iter().filter_map(|source| source.resource.as_ref());
    let kinds = resources.map(|resource| (resource.api_version.as_str(), resource.kind.as_str()));
    names.with_object_of(kinds)
}

/// What silences of the rule may use: what is silenced is silenced to the end of the silence, whatever the time is.
pub(super) fn names_of_silences(spec: &EventRuleSpec) -> Names {
    let mut names = names_of_events(spec).without("now").without("oldObject").with("group");
    spec.variables.iter().for_each(|variable| names.add_variable(&variable.name));
    spec.group_by.iter().for_each(|key| names.add_group(&key.name));
    names
}

pub(super) struct Compiler {
    pub(super) faults: Vec<Fault>,
    names: Names,
    /// What expressions read of `oldObject`.
    places: Vec<Place>,
}

impl Compiler {
    pub(super) fn fault(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault::new(path, message));
    }

    fn header(&mut self, spec: &EventRuleSpec) {
        if spec.service_account_name.is_empty() {
            self.fault("spec.serviceAccountName", "must not be empty");
        }
        if spec.sources.is_empty() {
            self.fault("spec.sources", "must have at least one source");
        }
        if spec.actions.is_empty() {
            self.fault("spec.actions", "must have at least one action");
        }
        if spec.history_limit > 10 {
            self.fault("spec.historyLimit", "must be at most 10");
        }
        self.unique("spec.sources", spec.sources.iter().map(|one| one.name.as_str()));
        self.unique("spec.variables", spec.variables.iter().map(|one| one.name.as_str()));
        self.unique("spec.when", spec.when.iter().map(|one| one.name.as_str()));
        self.unique("spec.groupBy", spec.group_by.iter().map(|one| one.name.as_str()));
        self.unique("spec.actions", spec.actions.iter().map(|one| one.name.as_str()));
        self.unique("spec.resolveActions", spec.resolve_actions.iter().map(|one| one.name.as_str()));
        for (index, step) in spec.trigger.as_deref().into_iter().flat_map(Trigger::steps).enumerate() {
            let path = format!("spec.trigger.held.steps[{index}].actions");
            self.unique(&path, step.actions.iter().map(|one| one.name.as_str()));
        }
    }

    pub(super) fn unique<'n>(&mut self, path: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            let path = format!("{path}[{index}].name");
            let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
            if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
                self.fault(
                    path,
                    format!("{name:?} is not a name that expressions can use: letters, digits and _ only"),
                );
            } else if !seen.insert(name) {
                self.fault(path, format!("there is another {name:?}"));
            }
        }
    }

    pub(super) fn program(&mut self, source: &str, path: &str) -> Option<Program> {
        match Program::compile_all(source, &self.names) {
            Ok(program) => {
                self.places.extend_from_slice(program.places());
                Some(program)
            }
            Err(faults) => {
                self.faults.extend(faults.into_iter().map(|fault| fault.of(path)));
                None
            }
        }
    }

    /// What the expressions of the rule read of objects as they were.
    fn old(&mut self) -> Vec<Followed> {
        let places = change::places(self.places.iter());
        if places.len() > MAX_PLACES {
            let message = format!("expressions read {} values of oldObject; {MAX_PLACES} are allowed", places.len());
            self.fault("spec", message);
        }
        places.into_iter().map(Followed::old).collect()
    }

    fn condition(&mut self, source: &str, path: &str) -> Option<Program> {
        let program = self.program(source, path)?;
        if let Some(other) = program.surely_not_bool() {
            self.fault(path, format!("gives {other}, not true or false"));
        }
        Some(program)
    }

    fn variables(&mut self, variables: &[Variable]) -> Vec<(String, Program)> {
        let mut compiled = Vec::with_capacity(variables.len());
        for (index, variable) in variables.iter().enumerate() {
            let program = self.program(&variable.expression, &format!("spec.variables[{index}].expression"));
            compiled.extend(program.map(|program| (variable.name.clone(), program)));
            self.names.add_variable(&variable.name);
        }
        compiled
    }

    pub(super) fn conditions(&mut self, conditions: &[Condition], path: &str) -> Vec<(String, Program)> {
        let mut compiled = Vec::with_capacity(conditions.len());
        for (index, condition) in conditions.iter().enumerate() {
            let program = self.condition(&condition.expression, &format!("{path}[{index}].expression"));
            compiled.extend(program.map(|program| (condition.name.clone(), program)));
        }
        compiled
    }

    fn sources(&mut self, spec: &EventRuleSpec, rule: &RuleRef) -> Vec<CompiledSource> {
        // A list that grows by itself begins with room for four, and most rules have one source of 300 bytes.
        let mut compiled = Vec::with_capacity(spec.sources.len());
        for (index, source) in spec.sources.iter().enumerate() {
            let path = format!("spec.sources[{index}]");
            let filter = Filter::compile(source, rule, &path, &mut self.faults);
            self.unique(&format!("{path}.when"), source.when.iter().map(|one| one.name.as_str()));
            let all = self.names.clone();
            let kind = source.resource.iter().map(|one| (one.api_version.as_str(), one.kind.as_str()));
            self.names = std::mem::take(&mut self.names).with_object_of(kind);
            let conditions = self.conditions(&source.when, &format!("{path}.when"));
            self.names = all;
            compiled.extend(filter.map(|filter| CompiledSource { name: source.name.clone(), filter, conditions }));
        }
        compiled
    }

    fn group_by(&mut self, keys: &[GroupKey]) -> Vec<(String, Program)> {
        let mut compiled = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            let path = format!("spec.groupBy[{index}].expression");
            let Some(program) = self.program(&key.expression, &path) else { continue };
            if let Some(other @ ("null" | "a list" | "a map")) = program.surely_not_bool() {
                self.fault(path, format!("gives {other}, not a text, a number, or true or false"));
            }
            compiled.push((key.name.clone(), program));
        }
        compiled
    }
}

impl CompiledSource {
    /// Whether the source needs labels of the regarded object for its filter.
    pub(super) fn selects_regarding(&self) -> bool {
        matches!(self.filter.kind(), Kind::KubernetesEvent { selector: Some(_), .. })
    }
}

/// The parts of a spec on which the state of groups depends: a change of any of them makes groups start anew.
pub(super) fn groups_hash(spec: &EventRuleSpec) -> String {
    use sha2::{Digest, Sha256};
    let mut parts = vec![json!([spec.sources, spec.when, spec.variables, spec.throttle])];
    // Fields of later versions count only where they are set, so that an upgrade of the program loses nothing.
    if !spec.group_by.is_empty() || spec.trigger.is_some() {
        let mut trigger = spec.trigger.clone();
        // What is done does not tell what is kept.
        for step in trigger.iter_mut().flat_map(|trigger| &mut trigger.held).flat_map(|held| &mut held.steps) {
            step.actions.clear();
        }
        parts.push(json!([spec.group_by, trigger]));
    }
    if let Some(dedupe) = &spec.dedupe {
        parts.push(json!({"dedupe": dedupe}));
    }
    // What waits for a window would wait for one that is no more.
    if !spec.active_windows.is_empty() {
        parts.push(json!({"activeWindows": spec.active_windows}));
    }
    let parts: String = parts.iter().map(Value::to_string).collect();
    let digest = Sha256::digest(parts.as_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
