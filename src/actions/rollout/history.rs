//! The earlier Pod templates of a workload: its ReplicaSets or its ControllerRevisions, read as the account.

use k8s_openapi::{
    api::apps::v1::{ControllerRevision, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    core::{ApiResource, DynamicObject, Selector},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Aim, Failure, Step, kubectl};
use crate::{actions::write::digest, kubernetes::Right};

const REVISION: &str = "deployment.kubernetes.io/revision";
/// Annotations that a roll-back leaves as they are: the Deployment's controller, or `kubectl apply`, keeps its own books in them.
/// [kubectl rollback.go](https://github.com/kubernetes/kubectl/blob/master/pkg/polymorphichelpers/rollback.go)
const KEPT: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

/// An earlier state of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Revision {
    /// As `kubectl rollout history` lists it. A Deployment's controller numbers it anew when it is rolled back to, so the number alone would not tell
    /// after a crash what was meant.
    pub(super) number: i64,
    template: Value,
    /// What becomes of the workload's own annotations; null takes one away.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    annotations: Map<String, Value>,
}

impl Revision {
    pub(super) fn digest(&self) -> Value {
        digest(&self.template).into()
    }

    /// The strategic merge patch that makes the workload's template this one, whatever it holds.
    pub(super) fn patch(&self, mut metadata: Value) -> Value {
        if !self.annotations.is_empty() {
            metadata["annotations"] = self.annotations.clone().into();
        }
        let mut template = self.template.clone();
        template["$patch"] = "replace".into();
        json!({"metadata": metadata, "spec": {"template": template}})
    }
}

/// The revision of this number, or the one before the present.
///
/// # Errors
/// Final when there is none, or when the account may not read them. Retryable while the workload's controller has not seen the present state, which would
/// not be in the list then, and the revision before it would be taken for the present one.
pub(super) async fn find(step: &Step<'_>, now: &DynamicObject, wanted: Option<i64>) -> Result<Revision, Failure> {
    let fault = |message: String| format!("roll back {}: {message}", step.aim.title());
    let observed = now.data["status"]["observedGeneration"].as_i64();
    if wanted.is_none() && observed < now.metadata.generation {
        return Err(Failure::retryable(fault("its controller has not seen its newest change yet".to_owned())));
    }
    let mut revisions = list(step, now).await?;
    revisions.sort_by_key(|revision| revision.number);
    let found = match wanted {
        Some(number) => revisions.into_iter().find(|revision| revision.number == number),
        None => revisions.into_iter().nth_back(1),
    };
    found.ok_or_else(|| {
        let missing = wanted.map_or("no earlier revision".to_owned(), |number| format!("no revision {number}"));
        Failure::last(fault(format!("it has {missing}; see {}", kubectl("history", &step.aim))))
    })
}

/// What the account needs to read the revisions.
pub(super) fn right(aim: &Aim) -> Right {
    let plural = if aim.resource.api.kind == "Deployment" { "replicasets" } else { "controllerrevisions" };
    Right::new("list", "apps", plural).within(aim.namespace.as_deref())
}

async fn list(step: &Step<'_>, now: &DynamicObject) -> Result<Vec<Revision>, Failure> {
    let by_replica_sets = step.aim.resource.api.kind == "Deployment";
    let kind = match by_replica_sets {
        true => ApiResource::erase::<ReplicaSet>(&()),
        false => ApiResource::erase::<ControllerRevision>(&()),
    };
    let namespace = step.aim.namespace.as_deref();
    let client = step.cx.services.cluster.as_account(&step.cx.account);
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace.unwrap_or_default(), &kind);
    let selector = LabelSelector::deserialize(&now.data["spec"]["selector"]).ok();
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok()).unwrap_or_default();
    let listed = api.list(&ListParams::default().labels_from(&selector)).await.map_err(|error| {
        let doing = format!("read the revisions of {}", step.aim.title());
        Failure::of_kube(&error, &doing, &step.cx.account, right(&step.aim))
    })?;
    let is_of = |object: &DynamicObject| {
        let mut owners = object.owner_references().iter();
        owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == now.metadata.uid.as_ref())
    };
    let owned = listed.items.iter().filter(|object| is_of(object));
    Ok(if by_replica_sets {
        owned.filter_map(|object| of_replica_set(object, now)).collect()
    } else {
        owned.filter_map(of_controller_revision).collect()
    })
}

fn of_replica_set(object: &DynamicObject, now: &DynamicObject) -> Option<Revision> {
    let number = object.annotations().get(REVISION)?.parse().ok()?;
    let mut template = object.data["spec"]["template"].clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove("pod-template-hash");
    }
    let (earlier, present) = (object.annotations(), now.annotations());
    let changed = earlier.iter().filter(|(key, value)| present.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| (key.clone(), value.as_str().into()));
    let gone = present.keys().filter(|key| !earlier.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let annotations = changed.chain(gone).filter(|(key, _)| !KEPT.contains(&key.as_str())).collect();
    Some(Revision { number, template, annotations })
}

fn of_controller_revision(object: &DynamicObject) -> Option<Revision> {
    let number = object.data["revision"].as_i64()?;
    let mut template = object.data["data"]["spec"]["template"].clone();
    template.as_object_mut()?.remove("$patch");
    Some(Revision { number, template, annotations: Map::new() })
}
