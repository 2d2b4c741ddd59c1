//! What conditions need and only I/O can tell: labels and owner of the object an event is about, and labels of its namespace.
//!
//! What cannot be found in time is left out; an event is never held back or lost for it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{Request, header::ACCEPT};
use kube::{Client, Resource as _, api::DynamicObject, core::ApiResource};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    event::{Event, Labels, Named, TYPE_KUBERNETES_EVENT},
    kubernetes::{Cluster, Expiring},
    record::{Account, Lookups},
    rule::Concern,
};

/// How long one lookup may take: the events behind it wait.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Labels of namespaces change rarely; a rule may see the old ones so long.
const NAMESPACE_AGE: Duration = Duration::from_secs(30);
/// Namespaces remembered; when there are more, the old ones are dropped. About 500 bytes each: 1 MiB.
const NAMESPACES: usize = 2048;
/// An object keeps its controller as long as it lives; the age only bounds how long one that was read before it was adopted is taken for its own.
const OWNER_AGE: Duration = Duration::from_secs(30);
/// Owners remembered, about 300 bytes each: 600 KiB.
const OWNERS: usize = 2048;
/// Only the metadata is asked for.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Looks things up. Clones share what is remembered.
#[derive(Clone)]
pub(super) struct Looker {
    cluster: Cluster,
    namespaces: Arc<Mutex<HashMap<String, (Instant, Labels)>>>,
    owners: Arc<Expiring<(Account, Named), Named>>,
}

impl Looker {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, namespaces: Arc::default(), owners: Arc::new(Expiring::new(OWNERS)) }
    }

    /// What those who are concerned need to know about the event.
    pub(super) async fn look_up(&self, event: &Event, concern: &Concern) -> Lookups {
        let namespace_labels = async {
            match namespace(event) {
                Some(name) if concern.namespace_labels => self.namespace_labels(name).await,
                _ => None,
            }
        };
        let regarding = futures::future::join_all(concern.regarding_labels_for.iter().map(|account| async move {
            let labels = self.regarding_labels(event, account).await?;
            Some((account.clone(), labels))
        }));
        let owners = futures::future::join_all(concern.regarding_owner_for.iter().map(|account| async move {
            let owner = self.owner(event, account).await?;
            Some((account.clone(), owner))
        }));
        let (namespace_labels, regarding, owners) = futures::join!(namespace_labels, regarding, owners);
        Lookups {
            namespace_labels,
            regarding_labels: regarding.into_iter().flatten().collect(),
            regarding_owner: owners.into_iter().flatten().collect(),
        }
    }

    /// The controller at the top of the object that a Kubernetes Event regards.
    async fn owner(&self, event: &Event, account: &Account) -> Option<Named> {
        let regarding = event.data.get("regarding")?;
        let key = (account.clone(), Named::read(regarding, regarding)?);
        if let Some(known) = self.owners.get(&key) {
            return Some(known);
        }
        let looking = self.cluster.top_controller(account, &key.1, None);
        match tokio::time::timeout(TIMEOUT, looking).await {
            Ok(Ok(owner)) => {
                self.owners.put(key, owner.clone(), OWNER_AGE);
                Some(owner)
            }
            Ok(Err(error)) => {
                tracing::debug!(regarding = %key.1, %error, "the owner could not be looked up");
                None
            }
            Err(_) => {
                tracing::debug!(regarding = %key.1, "the owner could not be looked up in time");
                None
            }
        }
    }

    async fn namespace_labels(&self, name: &str) -> Option<Labels> {
        let now = Instant::now();
        let known = self.namespaces.lock().get(name).filter(|(since, _)| now - *since < NAMESPACE_AGE).cloned();
        if let Some((_, labels)) = known {
            return Some(labels);
        }
        let labels = labels(self.cluster.own(), &format!("/api/v1/namespaces/{name}")).await?;
        let mut namespaces = self.namespaces.lock();
        if namespaces.len() >= NAMESPACES {
            namespaces.retain(|_, (since, _)| now - *since < NAMESPACE_AGE);
        }
        namespaces.insert(name.to_owned(), (now, labels.clone()));
        Some(labels)
    }

    async fn regarding_labels(&self, event: &Event, account: &Account) -> Option<Labels> {
        let regarding = event.data.get("regarding")?;
        let field = |name: &str| regarding.get(name)?.as_str().filter(|text| !text.is_empty());
        let (kind, name) = (field("kind")?, field("name")?);
        let resource =
            tokio::time::timeout(TIMEOUT, self.cluster.resolve(field("apiVersion"), kind)).await.ok()?.ok()?;
        let namespace = field("namespace").filter(|_| resource.namespaced);
        labels(&self.cluster.as_account(account), &format!("{}/{name}", path(&resource.api, namespace))).await
    }
}

/// Path of the objects of a kind, in a namespace or in the whole cluster.
pub(super) fn path(api: &ApiResource, namespace: Option<&str>) -> String {
    DynamicObject::url_path(api, namespace)
}

fn namespace(event: &Event) -> Option<&str> {
    let place =
        if event.type_ == TYPE_KUBERNETES_EVENT { "/regarding/namespace" } else { "/object/metadata/namespace" };
    event.data.pointer(place)?.as_str()
}

#[derive(Deserialize)]
struct MetadataOnly {
    metadata: OnlyLabels,
}

#[derive(Deserialize)]
struct OnlyLabels {
    #[serde(default)]
    labels: Option<Labels>,
}

async fn labels(client: &Client, path: &str) -> Option<Labels> {
    let request = Request::get(path).header(ACCEPT, METADATA_ONLY).body(Vec::new()).ok()?;
    match tokio::time::timeout(TIMEOUT, client.request::<MetadataOnly>(request)).await {
        Ok(Ok(found)) => Some(found.metadata.labels.unwrap_or_default()),
        Ok(Err(error)) => {
            tracing::debug!(path, %error, "labels could not be looked up");
            None
        }
        Err(_) => {
            tracing::debug!(path, "labels could not be looked up in time");
            None
        }
    }
}
