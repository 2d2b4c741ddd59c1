//! Who controls an object, at the top.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, core::DynamicObject};

use super::{Cluster, ResolveError, Right};
use crate::{
    event::{Named, is_label, is_subdomain},
    record::Account,
};

/// How many controllers may stand above an object: a Pod of a CronJob has two, and custom resources add a few.
const LEVELS: usize = 8;
/// The label by which a ReplicaSet's Pods bear the end of its name.
const HASH: &str = "pod-template-hash";

/// Why the controller at the top cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// An object on the way is gone.
    #[error("{0} is gone, and with it who controls it")]
    Gone(Named),
    /// What is named is no name of an object.
    #[error("{:?} is not the name of an object", .0.chars().take(80).collect::<String>())]
    NoName(String),
    /// A circle, or very many.
    #[error("more than {LEVELS} controllers stand above {0}")]
    TooMany(Named),
    /// A kind on the way is not known.
    #[error(transparent)]
    Kind(#[from] ResolveError),
    /// An object on the way could not be read.
    #[error("find who controls {of}: {error}")]
    Read {
        /// The object.
        of: Named,
        /// The right that reading it needs.
        right: Right,
        /// What was answered.
        error: Box<kube::Error>,
    },
}

/// As [`Cluster::top_controller`], among objects that are all known: nothing when one on the way is not.
pub fn top_controller_among(about: &Named, known: impl Fn(&Named) -> Option<ObjectMeta>) -> Option<Named> {
    let (mut here, mut hash) = (about.clone(), None::<String>);
    for _ in 0..=LEVELS {
        let Some(metadata) = known(&here) else {
            here = deployment(&here, hash.take().as_deref())?;
            // Told by its name alone, it is the last one that is known of.
            if known(&here).is_none() {
                return Some(here);
            }
            continue;
        };
        hash = metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).cloned();
        match controller(&here, &metadata) {
            Some(controller) => here = controller,
            None => return Some(here),
        }
    }
    None
}

impl Cluster {
    /// The object's controller, that one's controller, and so on to the top; the object itself when it has none. The Deployment of a ReplicaSet that is
    /// gone is told by its name. `metadata` are the object's, if they are known. Reads as `account`.
    ///
    /// # Errors
    /// See [`OwnerError`]. Cancel safe.
    pub async fn top_controller(
        &self,
        account: &Account,
        about: &Named,
        metadata: Option<ObjectMeta>,
    ) -> Result<Named, OwnerError> {
        let (mut here, mut known, mut hash) = (about.clone(), metadata, None::<String>);
        for _ in 0..=LEVELS {
            let metadata = match known.take() {
                Some(metadata) => metadata,
                None => match self.metadata(account, &here).await? {
                    Some(metadata) => metadata,
                    None => {
                        here = deployment(&here, hash.take().as_deref()).ok_or(OwnerError::Gone(here))?;
                        continue;
                    }
                },
            };
            hash = metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).cloned();
            match controller(&here, &metadata) {
                Some(controller) => here = controller,
                None => return Ok(here),
            }
        }
        Err(OwnerError::TooMany(about.clone()))
    }

    /// The object's metadata; nothing when it is gone.
    async fn metadata(&self, account: &Account, named: &Named) -> Result<Option<ObjectMeta>, OwnerError> {
        if !is_subdomain(&named.name) || !named.namespace.as_deref().is_none_or(is_label) {
            return Err(OwnerError::NoName(named.name.clone()));
        }
        let resource = self.resolve(Some(&named.api_version), &named.kind).await?;
        let namespace = named.namespace.as_deref().filter(|_| resource.namespaced);
        let client = self.as_account(account);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource.api),
            None => Api::all_with(client, &resource.api),
        };
        match api.get_metadata(&named.name).await {
            Ok(object) => Ok(Some(object.metadata)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => {
                let right = Right::new("get", &resource.api.group, &resource.api.plural).within(namespace);
                Err(OwnerError::Read { of: named.clone(), right, error: Box::new(error) })
            }
        }
    }
}

/// What the metadata name as the object's controller.
fn controller(of: &Named, metadata: &ObjectMeta) -> Option<Named> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let (api_version, kind, name) = (owner.api_version.clone(), owner.kind.clone(), owner.name.clone());
    Some(Named { api_version, kind, namespace: of.namespace.clone(), name })
}

/// The Deployment of a ReplicaSet that is gone: it has named it by its own name and the hash that its Pods still bear.
fn deployment(gone: &Named, hash: Option<&str>) -> Option<Named> {
    let name = gone.name.strip_suffix(hash?)?.strip_suffix('-')?;
    let of_deployment = gone.kind == "ReplicaSet" && gone.api_version == "apps/v1";
    of_deployment.then(|| Named { kind: "Deployment".to_owned(), name: name.to_owned(), ..gone.clone() })
}
