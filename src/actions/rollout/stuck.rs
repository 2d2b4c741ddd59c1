//! Pods that keep a StatefulSet from going back: its controller replaces one after the other, and waits for the first that is not ready, for ever.
//! [Forced rollback](https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback)

use k8s_openapi::{
    api::core::v1 as core,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Preconditions},
    core::Selector,
};
use serde::{Deserialize, Serialize};

use super::{Aim, Context, Done, Failure, Object};
use crate::{actions::eviction::Pod, api::ActionOutcome, kubernetes::Right};

/// Label of a Pod: the revision that it is of.
const REVISION: &str = "controller-revision-hash";
/// Reason of the Kubernetes Event.
const REASON: &str = "DeletedByRule";

/// What tells the Pods that are stuck, as it was before the StatefulSet goes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stuck {
    /// The revision that it goes back from.
    revision: String,
    selector: LabelSelector,
}

impl Stuck {
    /// Nothing of an object whose controller has told no revision.
    pub(super) fn of(now: &kube::core::DynamicObject) -> Option<Self> {
        let revision = now.data["status"]["updateRevision"].as_str()?.to_owned();
        Some(Self { revision, selector: LabelSelector::deserialize(&now.data["spec"]["selector"]).ok()? })
    }

    /// Deletes the Pods that are stuck, each by its uid, once the StatefulSet has gone back.
    pub(super) async fn delete(&self, cx: &Context, object: &Object, done: Done) -> Result<Done, Failure> {
        if !matches!(done.outcome, ActionOutcome::Succeeded) {
            return Ok(done);
        }
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let pods: Api<core::Pod> = Api::namespaced(cx.services.cluster.as_account(&cx.account), namespace);
        let selector = Selector::try_from(self.selector.clone()).unwrap_or_default();
        let failure = |error: &kube::Error, verb: &str| {
            let doing = format!("{verb} the stuck Pods of {}", object.title());
            Failure::of_kube(error, &doing, &cx.account, right(namespace, verb))
        };
        let listed = pods.list(&ListParams::default().labels_from(&selector)).await;
        let listed = listed.map_err(|error| failure(&error, "list"))?.items;
        let mut deleted = 0;
        for pod in listed.into_iter().filter(|pod| self.is_stuck(pod, &object.uid)) {
            let ObjectMeta { name, uid, .. } = pod.metadata;
            let params =
                DeleteParams::default().preconditions(Preconditions { uid: uid.clone(), resource_version: None });
            let pod = Pod {
                namespace: namespace.to_owned(),
                name: name.unwrap_or_default(),
                uid: uid.clone().unwrap_or_default(),
            };
            let deleting = async {
                let answer = pods.delete(&pod.name, &params).await;
                let goes = answer.is_ok();
                (answer, goes)
            };
            match cx.beside(pod.taken(REASON), deleting).await {
                Ok(_) => deleted += 1,
                // It went by itself, and another one has its name perhaps.
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                Err(error) => return Err(failure(&error, "delete")),
            }
        }
        let message = match deleted {
            0 => done.message,
            1 => format!("{}; deleted 1 stuck Pod", done.message),
            more => format!("{}; deleted {more} stuck Pods", done.message),
        };
        Ok(Done { message, ..done })
    }

    fn is_stuck(&self, pod: &core::Pod, owner: &str) -> bool {
        let owned =
            pod.metadata.owner_references.iter().flatten().any(|one| one.uid == owner && one.controller == Some(true));
        let of_revision = pod.metadata.labels.as_ref().and_then(|all| all.get(REVISION)) == Some(&self.revision);
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
        owned && of_revision && !ready && pod.metadata.deletion_timestamp.is_none()
    }
}

/// What the account needs for it.
pub(super) fn rights(aim: &Aim) -> Vec<Right> {
    ["list", "delete"].map(|verb| right(aim.namespace.as_deref().unwrap_or_default(), verb)).to_vec()
}

fn right(namespace: &str, verb: &str) -> Right {
    Right::new(verb, "", "pods").within(Some(namespace))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_pods_of_the_bad_revision_that_are_not_ready_are_stuck() {
        let stuck = Stuck { revision: "bad".into(), selector: LabelSelector::default() };
        let pod = |revision: &str, ready: &str, owner: &str, more: Value| {
            let mut metadata = json!({"labels": {REVISION: revision},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": owner, "controller": true}]});
            metadata.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
            serde_json::from_value(
                json!({"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
            .expect("a Pod")
        };
        let none = || json!({});
        assert!(stuck.is_stuck(&pod("bad", "False", "u", none()), "u"));
        assert!(!stuck.is_stuck(&pod("bad", "True", "u", none()), "u"), "ready");
        assert!(!stuck.is_stuck(&pod("good", "False", "u", none()), "u"), "of the good revision");
        assert!(!stuck.is_stuck(&pod("bad", "False", "other", none()), "u"), "of another owner");
        assert!(
            !stuck.is_stuck(&pod("bad", "False", "u", json!({"deletionTimestamp": "2026-11-25T10:00:00Z"})), "u"),
            "going"
        );
    }
}
