//! What is surely not meant, though nothing forbids it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Finding, Manifest};
use crate::{
    api::{ActionKind, Condition, EventMatch, EventRuleSpec, Scale, ScaleAmount, Trigger},
    rule::cel::{Names, Program, Scope},
};

/// API versions that Kubernetes has taken away, since when, and what came in their place.
const REMOVED: [(&str, &str, &str); 16] = [
    ("admissionregistration.k8s.io/v1beta1", "1.22", "admissionregistration.k8s.io/v1"),
    ("apiextensions.k8s.io/v1beta1", "1.22", "apiextensions.k8s.io/v1"),
    ("apps/v1beta1", "1.16", "apps/v1"),
    ("apps/v1beta2", "1.16", "apps/v1"),
    ("autoscaling/v2beta1", "1.25", "autoscaling/v2"),
    ("autoscaling/v2beta2", "1.26", "autoscaling/v2"),
    ("batch/v1beta1", "1.25", "batch/v1"),
    ("certificates.k8s.io/v1beta1", "1.22", "certificates.k8s.io/v1"),
    ("coordination.k8s.io/v1beta1", "1.22", "coordination.k8s.io/v1"),
    ("discovery.k8s.io/v1beta1", "1.25", "discovery.k8s.io/v1"),
    ("events.k8s.io/v1beta1", "1.25", "events.k8s.io/v1"),
    ("extensions/v1beta1", "1.22", "apps/v1 or networking.k8s.io/v1"),
    ("policy/v1beta1", "1.25", "policy/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "1.22", "rbac.authorization.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", "1.22", "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "1.27", "storage.k8s.io/v1"),
];

impl Manifest {
    /// What is surely not meant.
    pub fn warnings(&self) -> Vec<Finding> {
        let spec = &self.rule.spec;
        let mut warnings = Warnings { manifest: self, found: Vec::new() };
        warnings.constants(spec);
        warnings.unused_sources(spec);
        warnings.unused_variables(spec);
        warnings.unbounded(spec);
        warnings.noise(spec);
        warnings.removed("spec", &self.node.get("spec").map(super::Node::json).unwrap_or_default());
        warnings.found
    }
}

struct Warnings<'m> {
    manifest: &'m Manifest,
    found: Vec<Finding>,
}

impl Warnings<'_> {
    fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.found.push(self.manifest.finding(path, message));
    }

    /// Conditions that depend on nothing.
    fn constants(&mut self, spec: &EventRuleSpec) {
        let of_sources = spec.sources.iter().enumerate();
        let of_sources = of_sources.map(|(index, source)| (format!("spec.sources[{index}].when"), &source.when));
        let lists: Vec<(String, &Vec<Condition>)> = of_sources.chain([("spec.when".to_owned(), &spec.when)]).collect();
        for (path, conditions) in lists {
            for (index, condition) in conditions.iter().enumerate() {
                let constant = Program::compile(&condition.expression, &Names::of(&[])).ok();
                if let Some(always) = constant.and_then(|program| program.test(&Scope::empty()).ok()) {
                    let so = if always { "it can be left out" } else { "the rule never fires for it" };
                    self.warn(&format!("{path}[{index}].expression"), format!("is always {always}: {so}"));
                }
            }
        }
    }

    /// Sources that no step of the trigger looks at.
    fn unused_sources(&mut self, spec: &EventRuleSpec) {
        let Some(Trigger { sequence, all, .. }) = spec.trigger.as_deref() else { return };
        let of_sequence = sequence.iter().flat_map(|sequence| sequence.steps.iter().chain(&sequence.unless));
        let of_all = all.iter().flat_map(|all| &all.of);
        let steps: Vec<&EventMatch> = of_sequence.chain(of_all).collect();
        if steps.is_empty() || steps.iter().any(|step| step.source.is_none()) {
            return;
        }
        for (index, source) in spec.sources.iter().enumerate() {
            if steps.iter().all(|step| step.source.as_deref() != Some(&source.name)) {
                let message = format!("no step of the trigger looks at source {}", source.name);
                self.warn(&format!("spec.sources[{index}].name"), message);
            }
        }
    }

    fn unused_variables(&mut self, spec: &EventRuleSpec) {
        let text = serde_json::to_string(spec).unwrap_or_default();
        if text.contains("variables[") || text.contains("variables.?") {
            return;
        }
        for (index, variable) in spec.variables.iter().enumerate() {
            let used = format!("variables.{}", variable.name);
            let part_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let is_used = text.match_indices(&used).any(|(at, _)| !text[at + used.len()..].starts_with(part_of_a_name));
            if !is_used {
                self.warn(
                    &format!("spec.variables[{index}].name"),
                    format!("variable {} is never used", variable.name),
                );
            }
        }
    }

    /// What grows with each firing, without end.
    fn unbounded(&mut self, spec: &EventRuleSpec) {
        for (index, action) in spec.actions.iter().enumerate() {
            let Some(ActionKind::Scale(scale @ Scale { max: None, .. })) = action.kind() else { continue };
            if matches!(scale.amount(), Some(ScaleAmount::By(by) | ScaleAmount::ByPercent(by)) if by > 0) {
                let message = "adds replicas at each firing, without end: set max";
                self.warn(&format!("spec.actions[{index}].scale.by"), message);
            }
            if scale.to_expression.is_some() {
                let message = "what an event says is bounded by nothing but 1000000: set max";
                self.warn(&format!("spec.actions[{index}].scale.toExpression"), message);
            }
        }
    }

    /// Rules that act upon every Event of a namespace.
    fn noise(&mut self, spec: &EventRuleSpec) {
        if !spec.when.is_empty() || spec.trigger.is_some() || spec.throttle.is_some() {
            return;
        }
        for (index, source) in spec.sources.iter().enumerate() {
            let Some(events) = source.kubernetes_event.as_ref().filter(|_| source.when.is_empty()) else { continue };
            if events.types.is_empty() && events.reasons.is_empty() && events.regarding.is_none() {
                let message = "takes every Kubernetes Event, and each fires: say which, or set throttle";
                self.warn(&format!("spec.sources[{index}].kubernetesEvent"), message);
            }
        }
    }

    fn removed(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = format!("{path}.{key}");
                    let version = value.as_str().filter(|_| key == "apiVersion").unwrap_or_default();
                    if let Some((_, since, instead)) = REMOVED.iter().find(|(removed, ..)| *removed == version) {
                        let message = format!("Kubernetes has no {version} since {since}; write {instead}");
                        self.warn(&path, message);
                    }
                    self.removed(&path, value);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.removed(&format!("{path}[{index}]"), item);
                }
            }
            _ => {}
        }
    }
}

/// Places of findings in the order of the file, each once.
pub fn in_order(findings: Vec<Finding>) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings: Vec<Finding> = findings
        .into_iter()
        .filter(|one| seen.insert((one.file.clone(), one.place, one.path.clone(), one.message.clone())))
        .collect();
    findings.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    findings
}
