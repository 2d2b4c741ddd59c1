//! Which kinds the API server knows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{
    Client,
    client::{APIGroupDiscoveryList, APIResourceDiscovery},
    core::ApiResource,
};
use parking_lot::RwLock;
use tokio::time::Instant;

use super::Cluster;

/// The kinds are asked for at most so often, however many unknown kinds rules name. Two requests, about 200 KB.
const REFRESH: Duration = Duration::from_secs(5);
/// What is known is asked for again after so long, for a kind may have gone, or another version may have come.
const AGE: Duration = Duration::from_secs(600);

/// Groups that the API server itself serves, in the order in which a kind without `apiVersion` is looked for.
const BUILT_IN: [&str; 19] = [
    "",
    "apps",
    "batch",
    "autoscaling",
    "policy",
    "networking.k8s.io",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "node.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "certificates.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
    "events.k8s.io",
];

/// A kind as the API server serves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// What `kube::Api` needs.
    pub api: ApiResource,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it has a scale subresource.
    pub scalable: bool,
}

/// Why a kind was not found.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The API server does not serve it, now.
    #[error("{api_version} has no kind {kind}: check the spelling, or install its CustomResourceDefinition")]
    Unknown {
        /// The API version that was asked for.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// No API version was given, and the kind is not one that Kubernetes brings.
    #[error("kind {0} is not one that Kubernetes itself brings: set apiVersion")]
    NotBuiltIn(String),
    /// The API server could not be asked.
    #[error("ask the API server for its kinds: {0}")]
    Request(#[source] kube::Error),
}

#[derive(Default)]
pub(super) struct Discovery {
    known: RwLock<Option<Arc<Known>>>,
    // Held over the request: one asks, the others wait for its answer.
    asking: tokio::sync::Mutex<()>,
}

struct Known {
    by_version: HashMap<(String, String), Resource>,
    built_in: HashMap<String, Resource>,
    since: Instant,
}

impl Known {
    fn find(&self, api_version: Option<&str>, kind: &str) -> Option<Resource> {
        match api_version {
            Some(version) => self.by_version.get(&(version.to_owned(), kind.to_owned())).cloned(),
            None => self.built_in.get(kind).cloned(),
        }
    }
}

impl Cluster {
    /// The kind as the API server serves it. Without `api_version` only kinds that Kubernetes itself brings are found, in their preferred
    /// version. A kind that is not known makes the API server be asked again, at most every 5 s.
    ///
    /// # Errors
    /// When there is no such kind, or when the API server could not be asked and was never asked before.
    pub async fn resolve(&self, api_version: Option<&str>, kind: &str) -> Result<Resource, ResolveError> {
        let discovery = &self.0.discovery;
        if let Some(found) = discovery.fresh(api_version, kind) {
            return Ok(found);
        }
        let _asking = discovery.asking.lock().await;
        if let Some(found) = discovery.fresh(api_version, kind) {
            return Ok(found);
        }
        let known = discovery.known.read().clone();
        let known = match known {
            Some(known) if known.since.elapsed() < REFRESH => known,
            before => match (ask(self.own()).await, before) {
                (Ok(now), _) => {
                    let now = Arc::new(now);
                    *discovery.known.write() = Some(now.clone());
                    now
                }
                (Err(error), Some(before)) if before.find(api_version, kind).is_some() => {
                    tracing::warn!(%error, "the API server's kinds could not be asked for again");
                    before
                }
                (Err(error), _) => return Err(ResolveError::Request(error)),
            },
        };
        known.find(api_version, kind).ok_or_else(|| match api_version {
            Some(version) => ResolveError::Unknown { api_version: version.to_owned(), kind: kind.to_owned() },
            None => ResolveError::NotBuiltIn(kind.to_owned()),
        })
    }
}

impl Discovery {
    fn fresh(&self, api_version: Option<&str>, kind: &str) -> Option<Resource> {
        let known = self.known.read();
        let known = known.as_ref().filter(|known| known.since.elapsed() < AGE)?;
        known.find(api_version, kind)
    }
}

async fn ask(client: &Client) -> Result<Known, kube::Error> {
    let (core, groups) =
        futures::try_join!(client.list_core_api_versions_aggregated(), client.list_api_groups_aggregated())?;
    let mut known = Known { by_version: HashMap::new(), built_in: HashMap::new(), since: Instant::now() };
    let mut ranks = HashMap::new();
    for list in [core, groups] {
        add(list, &mut known, &mut ranks);
    }
    Ok(known)
}

/// Adds what a list holds. `ranks` has the place in [`BUILT_IN`] of each kind's group.
fn add(list: APIGroupDiscoveryList, known: &mut Known, ranks: &mut HashMap<String, usize>) {
    for group in list.items {
        let name = group.metadata.and_then(|meta| meta.name).unwrap_or_default();
        let rank = BUILT_IN.iter().position(|one| *one == name);
        for version in group.versions {
            let Some(number) = version.version else { continue };
            for resource in version.resources {
                let Some(resource) = read(&name, &number, resource) else { continue };
                let kind = resource.api.kind.clone();
                // Versions come in the group's order of preference, so the first one of the best group stays.
                if let Some(rank) = rank
                    && ranks.get(&kind).is_none_or(|best| rank < *best)
                {
                    ranks.insert(kind.clone(), rank);
                    known.built_in.insert(kind.clone(), resource.clone());
                }
                known.by_version.entry((resource.api.api_version.clone(), kind)).or_insert(resource);
            }
        }
    }
}

fn read(group: &str, version: &str, resource: APIResourceDiscovery) -> Option<Resource> {
    let api = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: resource.response_kind?.kind?,
        plural: resource.resource?,
    };
    let scalable = resource.subresources.iter().any(|sub| sub.subresource.as_deref() == Some("scale"));
    Some(Resource { api, namespaced: resource.scope.as_deref() == Some("Namespaced"), scalable })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::fake::Fake;

    fn resource(plural: &str, kind: &str, scope: &str, subresources: &[&str]) -> Value {
        let subresources: Vec<_> = subresources.iter().map(|name| json!({"subresource": name})).collect();
        json!({"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "subresources": subresources})
    }

    fn group(name: &str, versions: Value) -> Value {
        json!({"metadata": {"name": name}, "versions": versions})
    }

    fn answer(path: &str, with_widgets: bool) -> Value {
        let items = if path == "/api" {
            let kinds = [
                resource("pods", "Pod", "Namespaced", &["status"]),
                resource("nodes", "Node", "Cluster", &[]),
                resource("events", "Event", "Namespaced", &[]),
            ];
            vec![group("", json!([{"version": "v1", "resources": kinds}]))]
        } else {
            let apps = json!([{"version": "v1", "resources": [resource("deployments", "Deployment", "Namespaced", &["scale", "status"])]}]);
            let scaling = json!([
                {"version": "v2", "resources": [resource("horizontalpodautoscalers", "HorizontalPodAutoscaler", "Namespaced", &[])]},
                {"version": "v1", "resources": [resource("horizontalpodautoscalers", "HorizontalPodAutoscaler", "Namespaced", &[])]}]);
            let events = json!([{"version": "v1", "resources": [resource("events", "Event", "Namespaced", &[])]}]);
            let mut groups = vec![group("events.k8s.io", events), group("apps", apps), group("autoscaling", scaling)];
            if with_widgets {
                let widgets = json!([{"version": "v1", "resources": [resource("widgets", "Widget", "Namespaced", &["scale"]),
                    resource("pods", "Pod", "Namespaced", &[])]}]);
                groups.insert(0, group("acme.com", widgets));
            }
            groups
        };
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items})
    }

    #[tokio::test]
    async fn kinds_are_found_with_scope_and_scale() {
        let fake = Fake::new(|seen| (200, answer(&seen.path, true)));
        let cluster = Cluster::with_client(fake.client());
        let deployment = cluster.resolve(Some("apps/v1"), "Deployment").await.expect("deployment");
        assert_eq!(
            (deployment.api.plural.as_str(), deployment.namespaced, deployment.scalable),
            ("deployments", true, true)
        );
        let node = cluster.resolve(Some("v1"), "Node").await.expect("node");
        assert_eq!((node.api.group.as_str(), node.namespaced, node.scalable), ("", false, false));
        assert!(cluster.resolve(Some("acme.com/v1"), "Widget").await.expect("widget").scalable);
        assert_eq!(fake.requests().len(), 2, "two requests for everything");
    }

    #[tokio::test]
    async fn without_a_version_only_built_in_kinds_are_found_in_their_preferred_version() {
        let fake = Fake::new(|seen| (200, answer(&seen.path, true)));
        let cluster = Cluster::with_client(fake.client());
        let version = async |kind: &str| cluster.resolve(None, kind).await.map(|found| found.api.api_version);
        assert_eq!(version("HorizontalPodAutoscaler").await.expect("hpa"), "autoscaling/v2");
        assert_eq!(version("Pod").await.expect("pod"), "v1", "a custom kind of the same name does not get in the way");
        assert_eq!(version("Event").await.expect("event"), "v1");
        let error = version("Widget").await.expect_err("a custom kind");
        assert!(error.to_string().contains("set apiVersion"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_comes_later_is_found_after_five_seconds() {
        let installed = Arc::new(AtomicBool::new(false));
        let flag = installed.clone();
        let fake = Fake::new(move |seen| (200, answer(&seen.path, flag.load(Ordering::SeqCst))));
        let cluster = Cluster::with_client(fake.client());
        let widget = async || cluster.resolve(Some("acme.com/v1"), "Widget").await;
        assert!(matches!(widget().await, Err(ResolveError::Unknown { .. })));
        installed.store(true, Ordering::SeqCst);
        for _ in 0..50 {
            assert!(widget().await.is_err());
        }
        assert_eq!(fake.requests().len(), 2, "unknown kinds do not flood the API server");
        tokio::time::advance(REFRESH).await;
        widget().await.expect("installed");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_still_holds_when_the_api_server_is_away() {
        let away = Arc::new(AtomicBool::new(false));
        let flag = away.clone();
        let fake =
            Fake::new(
                move |seen| {
                    if flag.load(Ordering::SeqCst) { (500, json!({})) } else { (200, answer(&seen.path, false)) }
                },
            );
        let cluster = Cluster::with_client(fake.client());
        cluster.resolve(Some("v1"), "Pod").await.expect("pod");
        away.store(true, Ordering::SeqCst);
        tokio::time::advance(AGE).await;
        cluster.resolve(Some("v1"), "Pod").await.expect("still known");
        assert!(matches!(cluster.resolve(Some("v1"), "Widget").await, Err(ResolveError::Request(_))));
    }
}
