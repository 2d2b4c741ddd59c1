//! Deleting one object, by its uid: what `delete` does, and how what was created is taken back.

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Attempt, Context, Done, Failure, recording,
    target::{Aim, uid_of_event},
    write::{Object, Step},
};
use crate::{
    api::{ActionOutcome, Propagation},
    bus::Permit,
    record::Effect,
};

/// Reason of the Kubernetes Event.
const REASON: &str = "DeletedByRule";

/// What is recorded before an object is deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    delete: Deletion,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deletion {
    /// Without a uid when there was none to delete.
    #[serde(flatten)]
    object: Object,
    propagation: Propagation,
    /// Whether another one had its name already: this one is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    another: bool,
}

impl Request {
    /// To delete this object and no other of its name.
    pub(super) fn new(object: Object, propagation: Propagation) -> Self {
        Self { delete: Deletion { object, propagation, another: false } }
    }

    /// The same, if another one has its name already.
    pub(super) fn another(mut self, another: bool) -> Self {
        self.delete.another = another;
        self
    }

    /// The request, if that is what was recorded.
    pub(super) fn read(recorded: &Value) -> Option<Self> {
        Self::deserialize(recorded).ok()
    }

    pub(super) fn to_request(&self) -> Result<Value, Failure> {
        recording::of(self)
    }

    /// The object.
    pub(super) fn object(&self) -> &Object {
        &self.delete.object
    }

    /// Deletes the object, unless it is gone or is another one by now.
    pub(super) async fn execute(&self, cx: &Context, attempt: Attempt, _permit: Permit) -> Result<Done, Failure> {
        let object = self.object();
        if object.uid.is_empty() {
            return Ok(self.ended(ActionOutcome::Unchanged, format!("{} is not there", object.title())));
        }
        if self.delete.another {
            return Ok(self.theirs());
        }
        let step = self.step(cx).await?;
        let title = object.title();
        let error = match step.api.delete(&object.name, &self.params()).await {
            Ok(answer) => {
                let left = answer.left();
                let begun = left.as_ref().is_some_and(|left| left.metadata.deletion_timestamp.is_some());
                let message = if begun { format!("began to delete {title}") } else { format!("deleted {title}") };
                let version = left.and_then(|left| left.metadata.resource_version);
                return Ok(Done {
                    effect: Some(self.effect(version)),
                    ..self.ended(ActionOutcome::Succeeded, message)
                });
            }
            Err(error) => error,
        };
        let found = match &error {
            kube::Error::Api(status) if status.is_not_found() => Found::Nothing,
            kube::Error::Api(status) if status.code == 409 => find(&step, &object.uid).await?,
            _ => Found::Itself,
        };
        Ok(match (found, attempt) {
            // An earlier attempt did it, for all that can be told.
            (Found::Nothing, Attempt::Again) => self.found(format!("deleted {title}")),
            (Found::Leaving, Attempt::Again) => self.found(format!("began to delete {title}")),
            (Found::Another, Attempt::Again) => {
                self.found(format!("deleted {title}; it was created anew meanwhile, and that one is left as it is"))
            }
            (Found::Nothing, Attempt::First) => {
                self.ended(ActionOutcome::Unchanged, format!("{title} is not there any more"))
            }
            (Found::Leaving, Attempt::First) => {
                self.ended(ActionOutcome::Unchanged, format!("{title} is being deleted already"))
            }
            (Found::Another, Attempt::First) => self.theirs(),
            (Found::Itself, _) => return Err(step.failure(&error, "delete", step.right("delete"))),
        })
    }

    /// Tells what it would delete, by a dry run.
    pub(super) async fn observe(&self, cx: &Context) -> Result<Done, Failure> {
        let object = self.object();
        let title = object.title();
        if object.uid.is_empty() {
            return Ok(self.ended(ActionOutcome::Unchanged, format!("{title} is not there")));
        }
        if self.delete.another {
            let message = format!("would leave {title}, which was deleted and created anew");
            return Ok(Done::observed(message, self.result()));
        }
        let step = self.step(cx).await?;
        let params = DeleteParams { dry_run: true, ..self.params() };
        match step.api.delete(&object.name, &params).await {
            Ok(_) => Ok(Done::observed(format!("would delete {title}"), self.result())),
            Err(error) => Err(step.failure(&error, "delete", step.right("delete"))),
        }
    }

    async fn step<'a>(&self, cx: &'a Context) -> Result<Step<'a>, Failure> {
        let Object { api_version, kind, namespace, name, .. } = self.object();
        let resource = cx.services.cluster.resolve(Some(api_version), kind).await?;
        Ok(Step::new(cx, Aim { resource, name: name.clone(), namespace: namespace.clone() }))
    }

    fn params(&self) -> DeleteParams {
        let policy = match self.delete.propagation {
            Propagation::Background => PropagationPolicy::Background,
            Propagation::Foreground => PropagationPolicy::Foreground,
            Propagation::Orphan => PropagationPolicy::Orphan,
        };
        let preconditions = Preconditions { uid: Some(self.object().uid.clone()), resource_version: None };
        DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() }.preconditions(preconditions)
    }

    fn found(&self, message: String) -> Done {
        Done { effect: Some(self.effect(None)), ..self.ended(ActionOutcome::Succeeded, message) }.found()
    }

    fn theirs(&self) -> Done {
        let message = format!("{} was deleted and created anew: it is left as it is", self.object().title());
        self.ended(ActionOutcome::Superseded, message)
    }

    fn effect(&self, resource_version: Option<String>) -> Effect {
        Effect { gone: true, ..self.object().effect(resource_version, REASON) }
    }

    fn result(&self) -> Value {
        let Object { api_version, kind, namespace, name, uid, .. } = self.object();
        json!({"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name, "uid": uid})
    }

    fn ended(&self, outcome: ActionOutcome, message: String) -> Done {
        Done { outcome, message, result: self.result(), effect: None, reason: None }
    }
}

/// What is found under the name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// Another one than that.
    Another,
    /// It, on its way out.
    Leaving,
    Itself,
}

/// Looks whether the object is there, and is the one with this uid. A conflict alone does not tell: whoever deletes a Namespace once more gets one as well,
/// and so does whoever is refused by an admission webhook that says so.
///
/// # Errors
/// Whatever the API server says to reading it, but that there is none.
pub(super) async fn find(step: &Step<'_>, uid: &str) -> Result<Found, Failure> {
    match step.api.get_metadata(&step.aim.name).await {
        Ok(now) if now.metadata.uid.as_deref() != Some(uid) => Ok(Found::Another),
        Ok(now) if now.metadata.deletion_timestamp.is_some() => Ok(Found::Leaving),
        Ok(_) => Ok(Found::Itself),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Found::Nothing),
        Err(error) => Err(step.failure(&error, "read", step.right("get"))),
    }
}

/// The uid of the object that a step is to take away, empty when there is none; and whether another one has its name already, as the event that has led to
/// it was about this one.
///
/// # Errors
/// Whatever the API server says to reading it.
pub(super) async fn doomed(step: &Step<'_>, filled: &Value) -> Result<(String, bool), Failure> {
    let now = match step.api.get_metadata(&step.aim.name).await {
        Ok(now) => now.metadata.uid.unwrap_or_default(),
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok((String::new(), false)),
        Err(error) => return Err(step.failure(&error, "read", step.right("get"))),
    };
    Ok(match uid_of_event(filled) {
        Some(uid) if uid != now => (uid.to_owned(), true),
        _ => (now, false),
    })
}

#[cfg(test)]
mod tests;
