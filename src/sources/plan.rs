//! What a rule's sources need: which kinds of the cluster, in which scopes, with which rights; an EventSource; or only the time, or other rules.
//!
//! [`plan`] is pure; [`probe`] asks the API server for what a plan needs.

use std::{sync::Arc, time::Duration};

use kube::core::ApiResource;

use crate::{
    api::{EventRuleSpec, Existing, GROUP, Regarding, ScheduleSource, SourceKind},
    event::WatchKey,
    kubernetes::{Cluster, MissingRight, ResolveError, Resource, Right},
    record::Account,
};

/// What one source of a rule needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Watches.
    Watch(WatchPlan),
    /// An EventSource of the rule's namespace.
    Reference {
        /// `sources[].name`
        source: String,
        /// The EventSource's name.
        name: String,
    },
    /// The time.
    Schedule {
        /// `sources[].name`
        source: String,
        /// The timetable.
        spec: ScheduleSource,
    },
    /// Other rules, whose events come by the log alone.
    Rules {
        /// `sources[].name`
        source: String,
    },
}

/// A source that needs watches.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchPlan {
    /// `sources[].name`
    pub source: String,
    /// API version of the watched kind.
    pub api_version: String,
    /// The watched kind.
    pub kind: String,
    /// One watch each; `None` is the whole cluster.
    pub scopes: Vec<Option<String>>,
    /// The object whose labels are looked up as the account, if the source has a selector for it.
    pub regarding: Option<Box<Regarding>>,
    /// Whether existing objects count as created: for a trigger that follows objects they always do.
    pub existing: Existing,
}

/// What the sources of a rule need.
pub fn plan(spec: &EventRuleSpec, rule_namespace: &str) -> Vec<Plan> {
    let of = |source: &crate::api::Source| {
        let scopes = source.namespaces().scopes(rule_namespace);
        let source_name = source.name.clone();
        Some(match source.kind()? {
            SourceKind::KubernetesEvent(event) => Plan::Watch(WatchPlan {
                source: source_name,
                api_version: "v1".to_owned(),
                kind: "Event".to_owned(),
                scopes,
                regarding: event.regarding.clone().filter(|regarding| regarding.selector.is_some()).map(Box::new),
                existing: Existing::Ignore,
            }),
            SourceKind::Resource(resource) => Plan::Watch(WatchPlan {
                source: source_name,
                api_version: resource.api_version.clone(),
                kind: resource.kind.clone(),
                scopes,
                regarding: None,
                existing: if spec.follows_objects() { Existing::Fire } else { resource.existing },
            }),
            SourceKind::Reference(of) => Plan::Reference { source: source_name, name: of.name.clone() },
            SourceKind::Schedule(spec) => Plan::Schedule { source: source_name, spec: spec.clone() },
            SourceKind::Events(_) => Plan::Rules { source: source_name },
        })
    };
    spec.sources.iter().filter_map(of).collect()
}

impl Plan {
    /// `sources[].name`
    pub fn source(&self) -> &str {
        match self {
            Self::Watch(WatchPlan { source, .. })
            | Self::Reference { source, .. }
            | Self::Schedule { source, .. }
            | Self::Rules { source } => source,
        }
    }

    /// What it needs of the cluster.
    pub(super) fn watch(&self) -> Option<&WatchPlan> {
        match self {
            Self::Watch(plan) => Some(plan),
            Self::Reference { .. } | Self::Schedule { .. } | Self::Rules { .. } => None,
        }
    }

    /// Whether the API server has to be asked about it. Time and the log need no rights and are always there.
    pub(super) fn is_asked_for(&self) -> bool {
        !matches!(self, Self::Schedule { .. } | Self::Rules { .. })
    }
}

impl WatchPlan {
    /// The watches that bring the source's events. Kinds without namespaces have one for the whole cluster.
    pub(super) fn keys(&self, resource: &Resource) -> Vec<WatchKey> {
        let key = |namespace: Option<String>| WatchKey {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace,
        };
        if resource.namespaced { self.scopes.iter().cloned().map(key).collect() } else { vec![key(None)] }
    }
}

/// What the API server says about a source.
#[derive(Clone, Debug)]
pub(super) enum Probe {
    /// There is no such kind.
    NotFound(String),
    /// It could not be asked.
    Unavailable(String),
    /// The kind, or the EventSource if there is one, may be asked for; the account lacks these rights.
    Found {
        /// The kind; nothing for an EventSource.
        resource: Option<Arc<Resource>>,
        /// What the account lacks; empty: nothing.
        missing: Vec<MissingRight>,
    },
}

/// The rights that the account needs to listen to the sources of a rule; and of sources whose kind cannot be found, why.
pub async fn rights(cluster: &Cluster, account: &Account, spec: &EventRuleSpec) -> (Vec<Right>, Vec<String>) {
    let (mut rights, mut unknown) = (Vec::new(), Vec::new());
    for plan in plan(spec, &account.namespace) {
        match wanted(cluster, account, &plan).await {
            Ok((_, of_plan)) => rights.extend(of_plan),
            Err(Probe::NotFound(why) | Probe::Unavailable(why)) => {
                unknown.push(format!("sources[{}]: {why}", plan.source()))
            }
            Err(Probe::Found { .. }) => {}
        }
    }
    (rights, unknown)
}

/// Asks for the kind and for every right. Rights may be known from before, if not for longer than `age`.
pub(super) async fn probe(cluster: &Cluster, account: &Account, plan: &Plan, age: Duration) -> Probe {
    let (resource, rights) = match wanted(cluster, account, plan).await {
        Ok(wanted) => wanted,
        Err(probe) => return probe,
    };
    let mut missing = Vec::new();
    for right in rights {
        match cluster.may_lately(account, &right, age).await {
            Ok(true) => {}
            Ok(false) => missing.push(right.missing_for(account)),
            Err(error) => return Probe::Unavailable(format!("ask for the rights of {account}: {error}")),
        }
    }
    Probe::Found { resource, missing }
}

/// The kind, if there is one, and every right that is needed.
async fn wanted(
    cluster: &Cluster,
    account: &Account,
    plan: &Plan,
) -> Result<(Option<Arc<Resource>>, Vec<Right>), Probe> {
    Ok(match plan {
        Plan::Watch(plan) => {
            let (resource, rights) = needs(cluster, plan).await?;
            (Some(Arc::new(resource)), rights)
        }
        Plan::Reference { name, .. } => {
            (None, vec![Right::new("get", GROUP, "eventsources").within(Some(&account.namespace)).named(name)])
        }
        Plan::Schedule { .. } | Plan::Rules { .. } => (None, Vec::new()),
    })
}

/// The kind, and every right that its watches need.
async fn needs(cluster: &Cluster, plan: &WatchPlan) -> Result<(Resource, Vec<Right>), Probe> {
    let resource = match cluster.resolve(Some(&plan.api_version), &plan.kind).await {
        Ok(resource) => resource,
        Err(error @ ResolveError::Request(_)) => return Err(Probe::Unavailable(error.to_string())),
        Err(error) => return Err(Probe::NotFound(error.to_string())),
    };
    let mut rights = Vec::new();
    for key in plan.keys(&resource) {
        for verb in ["list", "watch"] {
            rights.push(right(verb, &resource.api, key.namespace.as_deref()));
        }
    }
    rights.extend(regarding_rights(cluster, plan).await);
    Ok((resource, rights))
}

/// `get` on the regarded kind where its labels are asked for. Without a kind there is nothing to ask: then each lookup shows.
async fn regarding_rights(cluster: &Cluster, plan: &WatchPlan) -> Vec<Right> {
    let Some(Regarding { api_version, kind: Some(kind), .. }) = plan.regarding.as_deref() else { return Vec::new() };
    match cluster.resolve(api_version.as_deref(), kind).await {
        Ok(resource) if resource.namespaced => {
            plan.scopes.iter().map(|scope| right("get", &resource.api, scope.as_deref())).collect()
        }
        Ok(resource) => vec![right("get", &resource.api, None)],
        Err(_) => Vec::new(),
    }
}

fn right(verb: &str, api: &ApiResource, namespace: Option<&str>) -> Right {
    Right::new(verb, &api.group, &api.plural).within(namespace)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sources::testing::rule;

    fn keys(namespaces: Value, namespaced: bool) -> Vec<String> {
        let put = rule(
            "r",
            1,
            json!([{"name": "s", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "namespaces": namespaces}}]),
        );
        let api = ApiResource {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            plural: "deployments".to_owned(),
        };
        let resource = Resource { api, namespaced, scalable: true };
        plan(&put.spec, "shop")[0].watch().expect("watches").keys(&resource).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn named_namespaces_have_a_watch_each_and_everything_else_one_for_the_cluster() {
        let cluster = ["apps/v1/Deployment@*"];
        assert_eq!(keys(json!({}), true), ["apps/v1/Deployment@shop"]);
        assert_eq!(
            keys(json!({"from": "Names", "names": ["b", "a", "b"]}), true),
            ["apps/v1/Deployment@a", "apps/v1/Deployment@b"]
        );
        assert_eq!(keys(json!({"from": "All"}), true), cluster);
        assert_eq!(keys(json!({"from": "Selector", "selector": {}}), true), cluster);
        assert_eq!(keys(json!({"clusterScoped": "Include"}), true), cluster);
        assert_eq!(keys(json!({}), false), cluster, "a kind without namespaces");
    }
}
