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
mod rule;
mod target;
mod wait_for;

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

pub use rule::{CompiledAction, CompiledSource, Rule};

use super::{
    breaker,
    cel::{LookedUp, Mode, Names, Place, Program, Template, Told},
    change::{self, Followed},
    dedupe::Dedupe,
    fault::Fault,
    filter::Filter,
    groups::micros,
    spend::Spend,
    trigger,
    windows::Windows,
};
use crate::{
    api::{Condition, DEFAULT_MAX_GROUPS, EventRuleSpec, GroupKey, GroupLimits, Source, Trigger, Variable},
    poison,
    record::{Account, RuleRef},
};

/// Values of `oldObject` that a rule may read: as many are kept of each object.
const MAX_PLACES: usize = 16;

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
    let mut compiler = Compiler { faults: Vec::new(), names, places: Vec::new(), looked_up: LookedUp::default() };
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
        looked_up: compiler.looked_up,
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
    let told: Option<Vec<Told>> = spec.sources.iter().map(told_by).collect();
    names.with_object_of(kinds).with_told(told.unwrap_or_default().into_iter())
}

/// What the events of a source tell of, if Signalbox makes them.
fn told_by(source: &Source) -> Option<Told> {
    match source {
        Source { kubernetes_event: Some(_), .. } => Some(Told::KubernetesEvent),
        Source { resource: Some(_), .. } => Some(Told::Change),
        Source { schedule: Some(_), .. } => Some(Told::Instant),
        _ => None,
    }
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
    /// What somebody has to look up for them, wherever they stand.
    looked_up: LookedUp,
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
                self.reads(&program);
                Some(program)
            }
            Err(faults) => {
                self.faults.extend(faults.into_iter().map(|fault| fault.of(path)));
                None
            }
        }
    }

    /// Notes what the expression needs beside the event.
    fn reads(&mut self, program: &Program) {
        self.places.extend_from_slice(program.places());
        self.looked_up = self.looked_up.or(program.looked_up());
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
            self.names = std::mem::take(&mut self.names).with_object_of(kind).with_told(told_by(source).into_iter());
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
