//! A source's filter: which events it takes, before any condition is evaluated.

mod compile;
mod glob;
mod refusal;
mod selector;

use serde_json::Value;

use super::change::{Change, Followed};
use crate::{
    api::{OnGap, Operation},
    event::{
        Event, Labels, OWN_TYPES, Origin, TYPE_KUBERNETES_EVENT, TYPE_RESOURCE_CREATED, TYPE_RESOURCE_DELETED,
        TYPE_RESOURCE_UPDATED, TYPE_SCHEDULE, WatchKey, event_source, rule_event, schedule::Schedule,
    },
};

pub(super) use glob::Glob;
pub(super) use selector::Selector;

/// What a filter says without the labels that only I/O can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Static {
    /// The event can pass.
    pub possible: bool,
    /// Only the labels of its namespace can tell.
    pub namespace_labels: bool,
    /// Only the labels of the regarded object can tell.
    pub regarding_labels: bool,
}

const NO: Static = Static { possible: false, namespace_labels: false, regarding_labels: false };

/// A source's filter, compiled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    kind: Kind,
    namespaces: Namespaces,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    KubernetesEvent {
        types: Vec<&'static str>,
        reasons: Vec<String>,
        api_version: Option<String>,
        kind: Option<String>,
        names: Vec<Glob>,
        selector: Option<Selector>,
    },
    Resource {
        api_version: String,
        kind: String,
        names: Vec<Glob>,
        selector: Option<Selector>,
        operations: Vec<Operation>,
        changes: Vec<Followed>,
        on_gap: OnGap,
    },
    /// Events of the EventSource of this name only.
    Reference { name: String, types: Vec<Glob> },
    /// The instants of this schedule only.
    Schedule(Schedule),
    /// Events of rules of the namespace, but for what tells of this rule itself.
    Rules { types: Vec<Glob>, own: String },
}

/// The namespaces that a filter takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Namespaces {
    pub from: From,
    pub cluster_scoped: bool,
    /// The scopes of the watches that bring this source's events. The same event may come by a wider or a narrower watch of other rules as well.
    pub scopes: Vec<Option<String>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum From {
    All,
    Names(Vec<String>),
    Selector(Selector),
}

impl Filter {
    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(super) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The EventSource that it refers to.
    pub(super) fn referred(&self) -> Option<&str> {
        match &self.kind {
            Kind::Reference { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether it is for events that came this way at all: those of one EventSource, the instants of one timetable, otherwise all of a kind.
    pub(super) fn looks_at(&self, origin: &Origin, event: &Event) -> bool {
        match &self.kind {
            Kind::Reference { name, .. } => event_source::name(origin) == Some(name),
            Kind::Schedule(_) => self.look(origin, event).possible,
            Kind::Rules { own, .. } => is_of_others(own, origin, event),
            Kind::KubernetesEvent { .. } | Kind::Resource { .. } => true,
        }
    }

    /// What can be told of the event without looking anything up.
    pub(super) fn look(&self, origin: &Origin, event: &Event) -> Static {
        let watch = &origin.watch;
        if !self.namespaces.scopes.contains(&watch.namespace) || !self.fits(origin, event) {
            return NO;
        }
        let namespace = namespace_of(watch, event);
        let namespace_labels = match (&self.namespaces.from, namespace) {
            (_, "") if self.namespaces.cluster_scoped => false,
            (_, "") => return NO,
            (From::All, _) => false,
            (From::Names(names), namespace) if names.iter().any(|name| name == namespace) => false,
            (From::Names(_), _) => return NO,
            (From::Selector(_), _) => true,
        };
        let regarding_labels = matches!(self.kind, Kind::KubernetesEvent { selector: Some(_), .. });
        Static { possible: true, namespace_labels, regarding_labels }
    }

    /// Whether it is an event of the kind that is wanted, as far as namespaces and the labels of other objects do not say otherwise.
    fn fits(&self, origin: &Origin, event: &Event) -> bool {
        let watch = &origin.watch;
        match &self.kind {
            Kind::KubernetesEvent { types, reasons, api_version, kind, names, .. } => {
                let data = |field: &str| text(&event.data, &[field]);
                let regarding = |field: &str| text(&event.data, &["regarding", field]);
                is_kubernetes_event(watch, event)
                    && (types.is_empty() || types.contains(&data("type")))
                    && (reasons.is_empty() || reasons.iter().any(|reason| reason == data("reason")))
                    && api_version.as_deref().is_none_or(|wanted| wanted == regarding("apiVersion"))
                    && kind.as_deref().is_none_or(|wanted| wanted == regarding("kind"))
                    && (names.is_empty() || names.iter().any(|name| name.matches(regarding("name"))))
            }
            Kind::Resource { api_version, kind, names, selector, operations, on_gap, .. } => {
                let Some(operation) = operation(event) else { return false };
                watch.api_version == *api_version
                    && watch.kind == *kind
                    && (operations.is_empty() || operations.contains(&operation))
                    && (*on_gap == OnGap::NetChange || !is_gap(event))
                    && (names.is_empty()
                        || names.iter().any(|name| name.matches(text(&event.data, &["object", "metadata", "name"]))))
                    && selector.as_ref().is_none_or(|selector| {
                        selects(selector, origin, event) != Some(false) || leaves(selector, origin, event)
                    })
            }
            Kind::Reference { name, types } => {
                event_source::name(origin) == Some(name)
                    && (types.is_empty() || types.iter().any(|one| one.matches(&event.type_)))
            }
            Kind::Rules { types, own } => {
                is_of_others(own, origin, event) && types.iter().any(|one| one.matches(&event.type_))
            }
            Kind::Schedule(schedule) => {
                event.type_ == TYPE_SCHEDULE
                    && event.source == schedule.event_source()
                    && text(&event.data, &["cron"]) == schedule.cron
                    && text(&event.data, &["timeZone"]) == schedule.time_zone
            }
        }
    }

    /// The selector whose answer is to be remembered of every object: an update tells what an object had before only by that, and one that is gone
    /// has no labels any more.
    pub(super) fn remembered_selector(&self) -> Option<&Selector> {
        let Kind::Resource { selector: Some(selector), operations, on_gap, .. } = &self.kind else {
            return None;
        };
        let takes = |operation: Operation| operations.is_empty() || operations.contains(&operation);
        let remembered = takes(Operation::Update) || (takes(Operation::Delete) && *on_gap == OnGap::NetChange);
        remembered.then_some(selector)
    }

    /// Whether the event tells that the object has just left the filter's selector.
    pub(super) fn is_leaving(&self, origin: &Origin, event: &Event) -> bool {
        let Kind::Resource { selector: Some(selector), .. } = &self.kind else { return false };
        leaves(selector, origin, event)
    }

    /// What is remembered of the object says, of an event that passes otherwise.
    pub(super) fn change(&self, event: &Event, origin: &Origin) -> Change {
        let Kind::Resource { changes, selector, .. } = &self.kind else { return Change::Passes };
        if selector.as_ref().is_some_and(|selector| selects(selector, origin, event).is_none()) {
            return Change::Unselected;
        }
        let of_none = changes.is_empty() || operation(event) != Some(Operation::Update);
        if of_none || changes.iter().any(|one| origin.changed.contains(&one.id)) {
            return Change::Passes;
        }
        let known = |one: &Followed| origin.seen.as_ref().is_some_and(|seen| seen.value(one.id).is_some());
        changes.iter().position(|one| !known(one)).map_or(Change::Same, Change::Untold)
    }

    /// Whether the object has just left what the filter selects by labels: it does not pass any more and did before.
    pub(super) fn is_left_by(&self, origin: &Origin, event: &Event) -> bool {
        let Kind::Resource { api_version, kind, names, selector: Some(selector), .. } = &self.kind else {
            return false;
        };
        let watch = &origin.watch;
        let in_namespace = match (&self.namespaces.from, namespace_of(watch, event)) {
            (_, "") => self.namespaces.cluster_scoped,
            (From::All | From::Selector(_), _) => true,
            (From::Names(known), namespace) => known.iter().any(|name| name == namespace),
        };
        in_namespace
            && watch.api_version == *api_version
            && watch.kind == *kind
            && self.namespaces.scopes.contains(&watch.namespace)
            && (names.is_empty()
                || names.iter().any(|name| name.matches(text(&event.data, &["object", "metadata", "name"]))))
            && leaves(selector, origin, event)
    }

    /// Whether the event passes, given what was looked up for the rule's account.
    pub(super) fn passes(
        &self,
        origin: &Origin,
        event: &Event,
        namespace_labels: Option<&Labels>,
        regarding_labels: Option<&Labels>,
    ) -> bool {
        let look = self.look(origin, event);
        look.possible
            && (!look.namespace_labels
                || matches!((&self.namespaces.from, namespace_labels), (From::Selector(selector), Some(labels)) if selector.matches(labels)))
            && (!look.regarding_labels
                || matches!((&self.kind, regarding_labels), (Kind::KubernetesEvent { selector: Some(selector), .. }, Some(labels)) if selector.matches(labels)))
    }
}

/// Whether the event is of a rule, and does not tell how the rule `own` fares. What that emits itself it may ask for, and is told that it is a loop.
fn is_of_others(own: &str, origin: &Origin, event: &Event) -> bool {
    rule_event::is_watch(&origin.watch) && (event.source != own || !event.type_.starts_with(OWN_TYPES))
}

/// Whether the object has the labels, or had them when it was seen last; nothing when that is not known.
fn selects(selector: &Selector, origin: &Origin, event: &Event) -> Option<bool> {
    match &origin.last {
        Some(last) => last.get(selector.id()).map(|matched| matched == 1),
        None => Some(selector.matches_json(event.data.pointer("/object/metadata/labels"))),
    }
}

/// Whether the object had the labels before this update and has them no more.
fn leaves(selector: &Selector, origin: &Origin, event: &Event) -> bool {
    origin.changed.contains(&selector.id()) && selects(selector, origin, event) == Some(false)
}

/// Whether the event is a Kubernetes Event object as such, and not a change of an object that happens to be one.
pub(super) fn is_kubernetes_event(watch: &WatchKey, event: &Event) -> bool {
    watch.api_version == "v1" && watch.kind == "Event" && event.type_ == TYPE_KUBERNETES_EVENT
}

/// What happened to the object, for events of object changes.
pub(super) fn operation(event: &Event) -> Option<Operation> {
    match event.type_.as_str() {
        TYPE_RESOURCE_CREATED => Some(Operation::Create),
        TYPE_RESOURCE_UPDATED => Some(Operation::Update),
        TYPE_RESOURCE_DELETED => Some(Operation::Delete),
        _ => None,
    }
}

/// Whether the change was found by comparing lists.
fn is_gap(event: &Event) -> bool {
    event.data.get("gap").and_then(Value::as_bool).unwrap_or(false)
}

/// The namespace of what the event is about; empty for cluster-scoped things. That of an event of an EventSource or a rule is where that is, whatever the
/// event says.
pub(super) fn namespace_of<'e>(watch: &'e WatchKey, event: &'e Event) -> &'e str {
    if event_source::is_watch(watch) || rule_event::is_watch(watch) {
        return watch.namespace.as_deref().unwrap_or_default();
    }
    match event.type_.as_str() {
        TYPE_KUBERNETES_EVENT => text(&event.data, &["regarding", "namespace"]),
        TYPE_SCHEDULE => text(&event.data, &["rule", "namespace"]),
        _ => text(&event.data, &["object", "metadata", "namespace"]),
    }
}

/// The text at a path, or an empty one.
pub(super) fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    path.iter().try_fold(value, |value, key| value.get(key)).and_then(Value::as_str).unwrap_or_default()
}
