//! From a source of a rule to its filter.

use super::{Filter, From, Glob, Kind, Namespaces, Selector};
use crate::{
    api::{
        ClusterScoped, EventSourceRef, EventType, KubernetesEventSource, NamespaceSelection, NamespacesFrom,
        ResourceSource, RuleEvents, ScheduleSource, Source, SourceKind,
    },
    event::{rule_event, schedule::Schedule},
    record::RuleRef,
    rule::{change, fault::Fault, timetable::Timetable},
};

impl Filter {
    /// Compiles the filter of a rule's source; faults are added with their paths.
    pub(in crate::rule) fn compile(
        source: &Source,
        rule: &RuleRef,
        path: &str,
        faults: &mut Vec<Fault>,
    ) -> Option<Self> {
        let Some(kind) = source.kind() else {
            faults.push(Fault::new(
                path,
                "exactly one of kubernetesEvent, resource, ref, schedule and events must be set",
            ));
            return None;
        };
        let (kind, path) = match kind {
            SourceKind::KubernetesEvent(source) => {
                let path = format!("{path}.kubernetesEvent");
                (compile_event(source, &path, faults), path)
            }
            SourceKind::Resource(source) => {
                let path = format!("{path}.resource");
                (compile_resource(source, &path, faults), path)
            }
            SourceKind::Reference(source) => (compile_reference(source), format!("{path}.ref")),
            SourceKind::Events(source) => (compile_events(source, rule), format!("{path}.events")),
            SourceKind::Schedule(spec) => {
                let path = format!("{path}.schedule");
                (compile_schedule(spec, rule, &source.name, &path, faults), path)
            }
        };
        let namespaces =
            Namespaces::compile(&source.namespaces(), &rule.namespace, &format!("{path}.namespaces"), faults);
        Some(Self { kind, namespaces })
    }
}

fn compile_event(source: &KubernetesEventSource, path: &str, faults: &mut Vec<Fault>) -> Kind {
    let regarding = source.regarding.clone().unwrap_or_default();
    let selector = regarding
        .selector
        .as_ref()
        .and_then(|selector| Selector::compile(selector, &format!("{path}.regarding.selector"), faults));
    let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
    Kind::KubernetesEvent {
        types: source
            .types
            .iter()
            .map(|one| match one {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            })
            .collect(),
        reasons: source.reasons.clone(),
        api_version: non_empty(regarding.api_version),
        kind: non_empty(regarding.kind),
        names: regarding.names.iter().map(|name| Glob::new(name)).collect(),
        selector,
    }
}

fn compile_resource(source: &ResourceSource, path: &str, faults: &mut Vec<Fault>) -> Kind {
    for (field, value) in [("apiVersion", &source.api_version), ("kind", &source.kind)] {
        if value.is_empty() {
            faults.push(Fault::new(format!("{path}.{field}"), "must not be empty"));
        }
    }
    let selector =
        source.selector.as_ref().and_then(|selector| Selector::compile(selector, &format!("{path}.selector"), faults));
    Kind::Resource {
        api_version: source.api_version.clone(),
        kind: source.kind.clone(),
        names: source.names.iter().map(|name| Glob::new(name)).collect(),
        selector,
        operations: source.operations.clone(),
        changes: change::compile(source, path, faults),
        on_gap: source.on_gap,
    }
}

fn compile_reference(source: &EventSourceRef) -> Kind {
    Kind::Reference { name: source.name.clone(), types: source.types.iter().map(|one| Glob::new(one)).collect() }
}

fn compile_events(source: &RuleEvents, rule: &RuleRef) -> Kind {
    let own = rule_event::event_source(&rule.namespace, &rule.name);
    Kind::Rules { types: source.types.iter().map(|one| Glob::new(one)).collect(), own }
}

fn compile_schedule(spec: &ScheduleSource, rule: &RuleRef, source: &str, path: &str, faults: &mut Vec<Fault>) -> Kind {
    let schedule = Schedule::new(&rule.uid.0, &rule.namespace, &rule.name, source, spec);
    for fault in Timetable::new(&schedule).err().into_iter().flatten() {
        faults.push(Fault::new(format!("{path}.{}", fault.field), fault.message));
    }
    Kind::Schedule(schedule)
}

impl Namespaces {
    fn compile(selection: &NamespaceSelection, own: &str, path: &str, faults: &mut Vec<Fault>) -> Self {
        let from = match (selection.from, &selection.selector) {
            (NamespacesFrom::Same, _) => From::Names(vec![own.to_owned()]),
            (NamespacesFrom::All, _) => From::All,
            (NamespacesFrom::Names, _) => From::Names(selection.names.clone()),
            (NamespacesFrom::Selector, Some(selector)) => {
                let selector = Selector::compile(selector, &format!("{path}.selector"), faults);
                From::Selector(selector.unwrap_or_default())
            }
            (NamespacesFrom::Selector, None) => {
                faults.push(Fault::new(format!("{path}.selector"), "must be set when from is Selector"));
                From::Names(Vec::new())
            }
        };
        if selection.from == NamespacesFrom::Names && selection.names.is_empty() {
            faults.push(Fault::new(format!("{path}.names"), "must be set when from is Names"));
        }
        if selection.from != NamespacesFrom::Names && !selection.names.is_empty() {
            faults.push(Fault::new(format!("{path}.names"), "is set exactly when from is Names"));
        }
        if selection.from != NamespacesFrom::Selector && selection.selector.is_some() {
            faults.push(Fault::new(format!("{path}.selector"), "is set exactly when from is Selector"));
        }
        let cluster_scoped = selection.cluster_scoped == ClusterScoped::Include;
        Self { from, cluster_scoped, scopes: selection.scopes(own) }
    }
}
