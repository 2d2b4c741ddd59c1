//! Asking the API server to evict one Pod: what `evict` and `drain` have in common.

use std::time::Duration;

use kube::{Api, api::PostParams, core::DynamicObject};
use serde_json::{Value, json};

use super::{Context, Failure, FailureKind, failure::is_missing_right};
use crate::{event::title, kubernetes::Right, record::Effect};

/// A Pod, which may be on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// What the API server says to an eviction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The Pod goes.
    Accepted,
    /// There is none.
    Gone,
    /// Another one has its name by now, or something else is in the way of it; in the API server's words.
    Another(String),
    /// It is refused, whatever the account may do: by admission, or as its namespace goes; in the API server's words.
    Refused(String),
    /// A PodDisruptionBudget forbids it for now; in the API server's words.
    NotNow {
        /// What it says.
        why: String,
        /// When to ask again, if it says so.
        after: Option<Duration>,
    },
}

impl Pod {
    /// What an eviction that is accepted does to it; `reason` is that of the Kubernetes Event.
    pub(super) fn taken(&self, reason: &str) -> Effect {
        Effect {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: Some(self.namespace.clone()),
            name: self.name.clone(),
            uid: self.uid.clone(),
            resource_version: None,
            found: false,
            gone: true,
            reason: reason.to_owned(),
        }
    }

    /// `Pod shop/web-1`
    pub(super) fn title(&self) -> String {
        title("Pod", Some(&self.namespace), &self.name)
    }

    /// Asks for this Pod and no other of its name; as a dry run, when `params` say so.
    ///
    /// # Errors
    /// Whatever is not about this Pod alone.
    pub(super) async fn evict(&self, cx: &Context, params: &PostParams) -> Result<Answer, Failure> {
        // kube's own method sends the precondition under a name that the API server does not know.
        let pods: Api<DynamicObject> = Api::namespaced_with(
            cx.services.cluster.as_account(&cx.account),
            &self.namespace,
            &kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()),
        );
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "deleteOptions": {"preconditions": {"uid": self.uid}},
        });
        let answer: Result<Value, kube::Error> = pods.create_subresource("eviction", &self.name, params, &body).await;
        match answer {
            Ok(_) => Ok(Answer::Accepted),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Answer::Gone),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(Answer::Another(format!("evict {}: {}", self.title(), status.message)))
            }
            Err(error) => {
                let blocked = matches!(&error, kube::Error::Api(status) if status.code == 429);
                let refused = matches!(&error, kube::Error::Api(status) if !is_missing_right(status));
                let failure =
                    Failure::of_kube(&error, &format!("evict {}", self.title()), &cx.account, right(&self.namespace));
                match failure.kind {
                    FailureKind::Retryable { after } if blocked => Ok(Answer::NotNow { why: failure.message, after }),
                    FailureKind::Final if refused => Ok(Answer::Refused(failure.message)),
                    _ => Err(failure),
                }
            }
        }
    }
}

fn right(namespace: &str) -> Right {
    Right::new("create", "", "pods").on("eviction").within(Some(namespace))
}
