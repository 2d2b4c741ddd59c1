//! Which part of a filter said no, for people: slower than the filter, and asked of samples only.

use serde_json::Value;

use super::{
    Filter, From, Glob, Kind, Selector, is_gap, leaves, namespace_of, operation,
    selector::{Requirement, holds},
    selects, text,
};
use crate::{
    api::OnGap,
    event::{Event, Labels, Origin, WatchKey},
    rule::change::Change,
    text::cut,
};

/// Characters of one wanted or seen value.
const MAX_VALUE: usize = 64;

/// Why a filter did not take an event of the kind that it looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rule) struct Refusal {
    /// How many parts of the filter were passed: of two refusals, the greater is nearer.
    pub passed: u8,
    /// The field of the source: `resource.selector`.
    pub field: &'static str,
    /// What was there, and what was wanted.
    pub saw: String,
}

fn refuse(passed: u8, field: &'static str, what: &str, saw: Option<&str>, wanted: &[String]) -> Option<Refusal> {
    let saw = match saw {
        Some(text) => format!("{what} = {}", cut(text, MAX_VALUE)),
        None => format!("{what} is not there"),
    };
    let wanted = match wanted {
        [] => String::new(),
        some => format!("; wanted {}", cut(&some.join(", "), MAX_VALUE)),
    };
    Some(Refusal { passed, field, saw: saw + &wanted })
}

impl Filter {
    /// The first part that refuses an event of the right kind, that came by a watch of this source; nothing when the event passes.
    pub(in crate::rule) fn refusal(
        &self,
        event: &Event,
        origin: &Origin,
        namespace_labels: Option<&Labels>,
        regarding_labels: Option<&Labels>,
    ) -> Option<Refusal> {
        let refusal = match &self.kind {
            Kind::KubernetesEvent { .. } => self.refusal_of_event(event, regarding_labels),
            Kind::Resource { .. } => self.refusal_of_change(event, origin),
            Kind::Reference { types, .. } if misses(types, &event.type_) => {
                refuse(1, "ref.types", "event.type", Some(&event.type_), &texts(types))
            }
            Kind::Rules { types, .. } if misses(types, &event.type_) => {
                refuse(1, "events.types", "event.type", Some(&event.type_), &texts(types))
            }
            Kind::Reference { .. } | Kind::Rules { .. } => None,
            // It takes its own instants, all of them.
            Kind::Schedule(_) => return None,
        };
        let unchanged = || {
            let (field, saw) = ("resource.changedExpressions", "none of the values changed".to_owned());
            (self.change(event, origin) == Change::Same).then_some(Refusal { passed: 4, field, saw })
        };
        refusal.or_else(|| self.refusal_of_namespace(&origin.watch, event, namespace_labels)).or_else(unchanged)
    }

    fn refusal_of_event(&self, event: &Event, labels: Option<&Labels>) -> Option<Refusal> {
        let Kind::KubernetesEvent { types, reasons, api_version, kind, names, selector } = &self.kind else {
            return None;
        };
        let data = |field: &str| text(&event.data, &[field]);
        let regarding = |field: &str| text(&event.data, &["regarding", field]);
        let lacks = |wanted: &Option<String>, field: &str| wanted.as_deref().is_some_and(|one| one != regarding(field));
        if lacks(kind, "kind") {
            let wanted: Vec<String> = kind.iter().cloned().collect();
            return refuse(0, "kubernetesEvent.regarding.kind", "regarding.kind", Some(regarding("kind")), &wanted);
        }
        if lacks(api_version, "apiVersion") {
            let (field, wanted) =
                ("kubernetesEvent.regarding.apiVersion", api_version.iter().cloned().collect::<Vec<_>>());
            return refuse(0, field, "regarding.apiVersion", Some(regarding("apiVersion")), &wanted);
        }
        if !reasons.is_empty() && reasons.iter().all(|reason| reason != data("reason")) {
            return refuse(1, "kubernetesEvent.reasons", "reason", Some(data("reason")), reasons);
        }
        if !types.is_empty() && !types.contains(&data("type")) {
            let wanted: Vec<String> = types.iter().map(|one| (*one).to_owned()).collect();
            return refuse(2, "kubernetesEvent.types", "type", Some(data("type")), &wanted);
        }
        if misses(names, regarding("name")) {
            let field = "kubernetesEvent.regarding.names";
            return refuse(3, field, "regarding.name", Some(regarding("name")), &texts(names));
        }
        let field = "kubernetesEvent.regarding.selector";
        match (selector, labels) {
            (Some(selector), Some(labels)) => selector.refusal(4, field, |key| labels.get(key).map(String::as_str)),
            (Some(_), None) => Some(Refusal {
                passed: 4,
                field,
                saw: format!(
                    "the labels of {} {} are not known: it is gone, or the account may not get it",
                    regarding("kind"),
                    cut(regarding("name"), MAX_VALUE)
                ),
            }),
            (None, _) => None,
        }
    }

    fn refusal_of_change(&self, event: &Event, origin: &Origin) -> Option<Refusal> {
        let Kind::Resource { names, selector, operations, on_gap, .. } = &self.kind else { return None };
        let name = text(&event.data, &["object", "metadata", "name"]);
        if misses(names, name) {
            return refuse(1, "resource.names", "metadata.name", Some(name), &texts(names));
        }
        let labels = event.data.pointer("/object/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        let refuses =
            |selector: &&Selector| selects(selector, origin, event) == Some(false) && !leaves(selector, origin, event);
        if let Some(selector) = selector.as_ref().filter(refuses) {
            let saw = "the object did not match it when it was seen last".to_owned();
            let unseen = origin.last.is_some().then_some(Refusal { passed: 2, field: "resource.selector", saw });
            return unseen.or_else(|| selector.refusal(2, "resource.selector", label));
        }
        let operation = operation(event)?;
        if !operations.is_empty() && !operations.contains(&operation) {
            let wanted: Vec<String> = operations.iter().map(|one| format!("{one:?}")).collect();
            return refuse(3, "resource.operations", "operation", Some(&format!("{operation:?}")), &wanted);
        }
        if *on_gap == OnGap::Skip && is_gap(event) {
            let saw = "the change was found by comparison after an outage".to_owned();
            return Some(Refusal { passed: 4, field: "resource.onGap", saw });
        }
        None
    }

    fn refusal_of_namespace(&self, watch: &WatchKey, event: &Event, labels: Option<&Labels>) -> Option<Refusal> {
        let (field, from_names, from_labels) = match &self.kind {
            Kind::KubernetesEvent { .. } => (
                "kubernetesEvent.namespaces.clusterScoped",
                "kubernetesEvent.namespaces",
                "kubernetesEvent.namespaces.selector",
            ),
            Kind::Resource { .. } | Kind::Reference { .. } | Kind::Schedule(_) | Kind::Rules { .. } => {
                ("resource.namespaces.clusterScoped", "resource.namespaces", "resource.namespaces.selector")
            }
        };
        match (&self.namespaces.from, namespace_of(watch, event)) {
            (_, "") if self.namespaces.cluster_scoped => None,
            (_, "") => refuse(5, field, "namespace", None, &[]),
            (From::All, _) => None,
            (From::Names(names), namespace) if names.iter().any(|name| name == namespace) => None,
            (From::Names(names), namespace) => refuse(0, from_names, "namespace", Some(namespace), names),
            (From::Selector(selector), _) => match labels {
                Some(labels) => selector.refusal(5, from_labels, |key| labels.get(key).map(String::as_str)),
                None => refuse(5, from_labels, "the namespace", None, &[]),
            },
        }
    }
}

fn misses(names: &[Glob], name: &str) -> bool {
    !names.is_empty() && names.iter().all(|glob| !glob.matches(name))
}

fn texts(names: &[Glob]) -> Vec<String> {
    names.iter().map(Glob::pattern).collect()
}

impl Selector {
    /// The first label that is not as wanted.
    fn refusal<'l>(
        &self,
        passed: u8,
        field: &'static str,
        value_of: impl Fn(&str) -> Option<&'l str>,
    ) -> Option<Refusal> {
        let (key, requirement) = self.requirements.iter().find(|one| !holds(&one.1, value_of(&one.0)))?;
        let wanted = match requirement {
            Requirement::In(values) => values.clone(),
            Requirement::NotIn(values) => vec![format!("anything but {}", values.join(", "))],
            Requirement::Exists => vec!["any".to_owned()],
            Requirement::DoesNotExist => vec!["none".to_owned()],
        };
        refuse(passed, field, &format!("label {}", cut(key, MAX_VALUE)), value_of(key), &wanted)
    }
}
