//! What a rule makes of an event, part by part: for whoever asks, with all values. Not fit for a status, which people may read who may not read the object.

use k8s_openapi::jiff::Timestamp;

use super::{
    cel::{Explained, Program, Scope},
    compile::{CompiledSource, Rule},
    engine::Views,
    fault::EvalError,
    filter::{Kind, is_kubernetes_event, operation},
};
use crate::record::EventInput;

/// What one source of a rule makes of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct OfSource {
    /// `sources[].name`
    pub source: String,
    /// What it makes of it.
    pub said: Said,
}

/// What a source says to an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// It looks at events of another kind, or that come another way.
    Elsewhere,
    /// Its filter says no.
    Refused {
        /// The field of the rule: `sources[crash].kubernetesEvent.reasons`.
        field: String,
        /// What was there, and what was wanted.
        saw: String,
    },
    /// Its filter says yes; what its conditions and those of the rule say.
    Asked(Vec<OfCondition>),
}

/// What one condition says.
#[derive(Clone, Debug, PartialEq)]
pub struct OfCondition {
    /// `when[often]`, or `sources[crash].when[front]`.
    pub place: String,
    /// The expression.
    pub expression: String,
    /// Whether it holds, or why that cannot be told.
    pub holds: Result<bool, EvalError>,
    /// Its parts with their values, the whole first.
    pub parts: Vec<Explained>,
}

/// What each source of the rule makes of the event at `now`, by itself: groups and triggers come after that.
pub fn explained(rule: &Rule, input: &EventInput, now: Timestamp) -> Vec<OfSource> {
    let mut views = Views::new(input);
    let lookups = &input.lookups;
    let (labels, regarding) = (lookups.namespace_labels.as_ref(), lookups.regarding(&rule.account));
    let mut of = |source: &CompiledSource| {
        let (filter, origin) = (&source.filter, &input.origin);
        if filter.passes(origin, &input.event, labels, regarding) {
            let event = views.of(rule, source);
            let scope = Scope::new(&event, &source.name, &rule.rule, now).with_variables(rule);
            return Said::Asked(conditions(rule, source, &scope));
        }
        let refusal =
            filter.looks_at(origin, &input.event).then(|| filter.refusal(&input.event, origin, labels, regarding));
        match refusal.flatten() {
            Some(refusal) if is_of_kind(source, input) => {
                Said::Refused { field: format!("sources[{}].{}", source.name, refusal.field), saw: refusal.saw }
            }
            _ => Said::Elsewhere,
        }
    };
    rule.sources.iter().map(|source| OfSource { source: source.name.clone(), said: of(source) }).collect()
}

/// Whether the event is of the kind that the source looks at, and came by a watch of its.
fn is_of_kind(source: &CompiledSource, input: &EventInput) -> bool {
    let (filter, watch) = (&source.filter, &input.origin.watch);
    let of_kind = match filter.kind() {
        Kind::KubernetesEvent { .. } => is_kubernetes_event(watch, &input.event),
        Kind::Resource { api_version, kind, .. } => {
            operation(&input.event).is_some() && watch.api_version == *api_version && watch.kind == *kind
        }
        Kind::Reference { .. } | Kind::Schedule(_) | Kind::Rules { .. } => true,
    };
    of_kind && filter.namespaces().scopes.contains(&watch.namespace)
}

fn conditions(rule: &Rule, source: &CompiledSource, scope: &Scope<'_>) -> Vec<OfCondition> {
    let of = |place: String, program: &Program| OfCondition {
        place,
        expression: program.source().to_owned(),
        holds: program.test(scope),
        parts: program.explain(scope),
    };
    let of_source = source.conditions.iter();
    let of_source = of_source.map(|(name, program)| of(format!("sources[{}].when[{name}]", source.name), program));
    of_source.chain(rule.conditions.iter().map(|(name, program)| of(format!("when[{name}]"), program))).collect()
}
