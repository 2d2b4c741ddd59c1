//! `sources[]` of an EventRule: which events it looks at.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// One kind of event that a rule looks at. Exactly one of `kubernetesEvent`, `resource`, `ref`, `schedule` and `events` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("[has(self.kubernetesEvent), has(self.resource), has(self.ref), has(self.schedule), has(self.events)].filter(set, set).size() == 1")
    .message("exactly one of kubernetesEvent, resource, ref, schedule and events must be set"))]
pub struct Source {
    /// Name of the source, unique in the rule; `source.name` in expressions.
    #[schemars(schema_with = "schema::identifier")]
    pub name: String,
    /// Kubernetes Event objects (what `kubectl get events` shows), from core/v1 and events.k8s.io/v1 alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_event: Option<Box<KubernetesEventSource>>,
    /// Creation, update and deletion of objects of any kind, custom resources included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Box<ResourceSource>>,
    /// Events of an EventSource of this namespace. Needs `get` on it for the rule's account.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Box<EventSourceRef>>,
    /// Instants of a timetable, in the manner of a CronJob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<ScheduleSource>>,
    /// Events of rules of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Box<RuleEvents>>,
    /// Conditions for events of this source only; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub when: Vec<Condition>,
}

/// The one kind that a [`Source`] has.
#[derive(Clone, Copy, Debug)]
pub enum SourceKind<'a> {
    /// `kubernetesEvent`
    KubernetesEvent(&'a KubernetesEventSource),
    /// `resource`
    Resource(&'a ResourceSource),
    /// `ref`
    Reference(&'a EventSourceRef),
    /// `schedule`
    Schedule(&'a ScheduleSource),
    /// `events`
    Events(&'a RuleEvents),
}

impl Source {
    /// The kind that is set, or nothing when not exactly one is.
    pub fn kind(&self) -> Option<SourceKind<'_>> {
        let kinds = [
            self.kubernetes_event.as_deref().map(SourceKind::KubernetesEvent),
            self.resource.as_deref().map(SourceKind::Resource),
            self.reference.as_deref().map(SourceKind::Reference),
            self.schedule.as_deref().map(SourceKind::Schedule),
            self.events.as_deref().map(SourceKind::Events),
        ];
        let mut set = kinds.into_iter().flatten();
        set.next().filter(|_| set.next().is_none())
    }

    /// The namespaces the source covers.
    pub fn namespaces(&self) -> NamespaceSelection {
        match self.kind() {
            Some(SourceKind::KubernetesEvent(source)) => source.namespaces.clone().unwrap_or_default(),
            Some(SourceKind::Resource(source)) => source.namespaces.clone().unwrap_or_default(),
            // A schedule is the rule's own; EventSources and rules are of its namespace.
            Some(SourceKind::Reference(_) | SourceKind::Schedule(_) | SourceKind::Events(_)) | None => {
                NamespaceSelection::default()
            }
        }
    }
}

/// A named CEL expression that must be true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Name of the condition, unique in its list; status shows it when the condition says no or fails.
    #[schemars(schema_with = "schema::identifier")]
    pub name: String,
    /// CEL expression that gives true or false.
    #[schemars(schema_with = "schema::expression")]
    pub expression: String,
}

/// Kubernetes Events, one event for each increase of an Event object's count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesEventSource {
    /// Types to take; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub types: Vec<EventType>,
    /// Reasons to take, such as `BackOff` or `FailedScheduling`; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub reasons: Vec<String>,
    /// The object that the Event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regarding: Option<Regarding>,
    /// The namespaces of the objects that Events are about; default: the rule's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceSelection>,
}

/// Type of a Kubernetes Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// Something happened as it should.
    Normal,
    /// Something may need attention.
    Warning,
}

/// What an Event must be about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Regarding {
    /// API version of the object, such as `v1` or `apps/v1`; empty: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub api_version: Option<String>,
    /// Kind of the object, such as `Pod`; empty: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub kind: Option<String>,
    /// Names of the object; `*` stands for any characters, `?` for one. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
    /// Labels of the object, looked up when the Event arrives with the rights of the rule's account; needs `get` on the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Changes of objects of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceSource {
    /// API version of the objects, such as `v1`, `apps/v1` or `stable.example.com/v1`.
    #[schemars(length(min = 1, max = 317))]
    pub api_version: String,
    /// Kind of the objects, such as `Deployment`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Names of the objects; `*` stands for any characters, `?` for one. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
    /// Labels that the objects must have. An update after which an object has them no more is the last one told of it, with
    /// `event.data.selector: Left`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// What must have happened to the object; empty: anything. Of an object that was deleted while nobody listened, `object` has only what is
    /// remembered: `apiVersion`, `kind` and of `metadata` `name`, `namespace`, `uid` and `resourceVersion`. A `selector` takes it if it had the
    /// labels when it was seen last; a condition that asks for anything else is an error that is counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub operations: Vec<Operation>,
    /// Of updates only those are taken that change the value of one of these CEL expressions, such as `object.?status.availableReplicas`. They see
    /// `object` only. What an object is like when the rule begins is no change. Not for Kubernetes Events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 4096)))]
    pub changed_expressions: Vec<String>,
    /// Whether objects that are there when the rule begins count as created.
    #[serde(default)]
    pub existing: Existing,
    /// What to do about changes that are found by comparison, because the operator was away or a watch was cut off for so long that they cannot be
    /// told one by one.
    #[serde(default)]
    pub on_gap: OnGap,
    /// The namespaces of the objects; default: the rule's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceSelection>,
}

/// Events of an EventSource. `event.data` is what was sent; `event.type`, `event.subject` and the like are the sender's too where it sends CloudEvents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSourceRef {
    /// Name of the EventSource, in the rule's namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// Values of `event.type` to take, such as `com.github.push`; `*` stands for any characters, `?` for one. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub types: Vec<String>,
}

/// One event at each instant of a timetable. A time of day that daylight saving skips comes at the first instant after the gap, one that it
/// doubles comes once; a timetable with `*` or a step in the hour follows real time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSource {
    /// Minute, hour, day of month, month and day of week, such as `0 7 * * 1-5`; 0 and 7 are Sunday, names such as `MON` and `JAN` are allowed, and
    /// where both days are restricted either will do. Or one of `@yearly`, `@monthly`, `@weekly`, `@daily`, `@hourly`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = kube::core::cel::Rule::new("self.matches('^(@[a-z]+|[^ @]+( +[^ ]+){4})$')")
        .message("cron must have 5 fields (minute, hour, day of month, month, day of week) or be one of @yearly, @monthly, @weekly, @daily and @hourly"))]
    pub cron: String,
    /// Time zone of the timetable, a name of the IANA database such as `Europe/Berlin`; default: `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// What to do about instants that passed while nobody listened, because the operator was away, for instance: an instant is missed when it
    /// is more than 10 s late. What passes while the rule is suspended is never caught up.
    #[serde(default)]
    pub missed: Missed,
}

/// What to do about missed instants of a timetable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Missed {
    /// One event for all of them, that of the latest.
    #[default]
    Once,
    /// None.
    Skip,
}

/// Events of rules of this namespace: what they `emit`, and `dev.signalbox.rule.fired`, `.failed` and `.resolved`. Needs no right. A rule does not hear of
/// itself, and one that had a part in how an event came about does not fire for it: `suppressed.loop`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleEvents {
    /// Values of `event.type` to take, such as `dev.signalbox.rule.failed` or `com.acme.*`; `*` stands for any characters, `?` for one.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub types: Vec<String>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// The object was created.
    Create,
    /// The object was changed.
    Update,
    /// The object was deleted, seen as it happened or found out afterwards.
    Delete,
}

/// What a new rule does about objects that exist already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Existing {
    /// They are the state of things, not events.
    #[default]
    Ignore,
    /// Each counts as created when the rule begins.
    Fire,
}

/// What a source does about changes that are found by comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnGap {
    /// One event for each object that was created, changed or deleted meanwhile, whatever came between; `event.data.gap` is true.
    #[default]
    NetChange,
    /// None: the objects are taken as they are now.
    Skip,
}

/// A choice of namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("(self.from == 'Selector') == has(self.selector)")
    .message("selector is set exactly when from is Selector"))]
#[x_kube(validation = kube::core::cel::Rule::new("(self.from == 'Names') == has(self.names)")
    .message("names is set exactly when from is Names"))]
pub struct NamespaceSelection {
    /// How the namespaces are chosen. `All` and `Selector` need `list` and `watch` in the whole cluster for the rule's account.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces, with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Names of the namespaces, with `from: Names`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
    /// Whether objects that have no namespace count too. `Include` needs `list` and `watch` in the whole cluster for the rule's account.
    #[serde(default)]
    pub cluster_scoped: ClusterScoped,
}

impl NamespaceSelection {
    /// The scopes of the watches that bring the selection's events to a rule in the namespace `own`: a namespace each, or `None` for one watch
    /// of the whole cluster. Events that come by a watch of another scope are not the selection's, or it would get some of them twice.
    pub fn scopes(&self, own: &str) -> Vec<Option<String>> {
        let mut scopes = match (self.from, self.cluster_scoped) {
            (NamespacesFrom::All | NamespacesFrom::Selector, _) | (_, ClusterScoped::Include) => vec![None],
            (NamespacesFrom::Same, ClusterScoped::Exclude) => vec![Some(own.to_owned())],
            (NamespacesFrom::Names, ClusterScoped::Exclude) => self.names.iter().cloned().map(Some).collect(),
        };
        scopes.sort();
        scopes.dedup();
        scopes
    }
}

/// How namespaces are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The rule's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// Those whose labels match `selector`.
    Selector,
    /// Those listed in `names`.
    Names,
}

/// Whether objects without a namespace count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterScoped {
    /// They count too.
    Include,
    /// They do not.
    #[default]
    Exclude,
}
