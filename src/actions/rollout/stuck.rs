//! Pods that keep a StatefulSet from going back: its controller replaces one after the other, and waits for the first that is not ready, for ever.
//! [Forced rollback](https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback)

use std::time::Duration;

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

/// Answers about one Pod that may be lost one after the other before the attempt has failed.
const LOST: u32 = 3;
/// The pause after one.
const PAUSE: Duration = Duration::from_millis(500);

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
                let answer = delete(&pods, &pod.name, &params).await;
                let goes = matches!(answer, Ok(true));
                (answer, goes)
            };
            match cx.beside(pod.taken(REASON), deleting).await {
                Ok(true) => deleted += 1,
                // It went by itself, and another one has its name perhaps.
                Ok(false) => {}
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

/// Deletes the Pod; whether it goes because of that. An answer may be lost of what was carried out: it is asked for again until there is one, for a moment.
async fn delete(pods: &Api<core::Pod>, name: &str, params: &DeleteParams) -> kube::Result<bool> {
    let mut lost = 0;
    loop {
        match pods.delete(name, params).await {
            Ok(_) => return Ok(true),
            // It was there and stayed when it was asked for first: that did it, for all that can be told.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(lost > 0),
            Err(kube::Error::Api(status)) if status.code < 500 => return Err(kube::Error::Api(status)),
            Err(error) if lost == LOST => return Err(error),
            Err(_) => lost += 1,
        }
        tokio::time::sleep(PAUSE).await;
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::fake::{Fake, failure};

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_went_while_the_answer_was_lost_was_deleted_by_the_rule() {
        // What each request is answered, the last one for ever; and what comes of it.
        let cases: [(&[u16], Result<bool, u16>); 7] = [
            (&[200], Ok(true)),
            (&[504, 200], Ok(true)),
            (&[504, 404], Ok(true)),
            (&[500, 504, 409], Ok(true)),
            (&[404], Ok(false)),
            (&[409], Ok(false)),
            (&[504], Err(504)),
        ];
        for (answers, expected) in cases {
            let asked = AtomicUsize::new(0);
            let fake = Fake::new(move |_| {
                let which = asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
                match answers[which] {
                    200 => (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
                    404 => failure(404, "NotFound", "it is not there"),
                    409 => failure(409, "Conflict", "it is another one"),
                    code => failure(code, "Timeout", "too slow"),
                }
            });
            let pods: Api<core::Pod> = Api::namespaced(fake.client(), "shop");
            let came = delete(&pods, "db-0", &DeleteParams::default()).await.map_err(|error| match error {
                kube::Error::Api(status) => status.code,
                other => panic!("{other}"),
            });
            assert_eq!(came, expected, "{answers:?}");
        }
    }

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
