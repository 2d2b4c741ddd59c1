//! Taking back what an action has changed, unless somebody else has changed it since: what `onError: Undo` and `restore` have in common.
//!
//! It is a request like any other, with absolute values and a precondition, recorded before it is carried out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::core::DynamicObject;
use serde_json::Value;

use super::{
    Context, Done, Failure,
    target::Aim,
    write::{Object, Step},
};
use crate::{api::ActionOutcome, event::title, record::Change};

/// What carrying a request out has changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Undo {
    /// This, which [`super::Action::take_back`] gives back.
    Change(Box<Change>),
    /// Nothing.
    Nothing,
    /// What cannot be taken back; why, in words.
    Never(&'static str),
}

/// How a change is taken back.
#[derive(Clone, Debug, PartialEq)]
pub enum Back {
    /// By this request.
    Request(Value),
    /// There is nothing to do, or nothing that may be done.
    Done(Box<Done>),
}

impl Undo {
    pub(super) fn of(change: Change) -> Self {
        Self::Change(Box::new(change))
    }
}

impl Back {
    /// It is as it was before.
    pub(super) fn unchanged(message: String) -> Self {
        Self::done(ActionOutcome::Unchanged, message)
    }

    /// Somebody else has changed it: `was set to 9 by somebody else`.
    pub(super) fn theirs(change: &Change, what: &str) -> Self {
        Self::done(ActionOutcome::Superseded, format!("{} {what}: it is left as it is", named(change)))
    }

    /// It is as it was made, but not by the firing, as far as can be seen.
    pub(super) fn not_ours(change: &Change) -> Self {
        Self::theirs(change, "is so, but not by this firing")
    }

    fn done(outcome: ActionOutcome, message: String) -> Self {
        Self::Done(Box::new(Done { outcome, message, result: Value::Null, effect: None, reason: None }))
    }
}

/// `Deployment shop/web`
pub(super) fn named(change: &Change) -> String {
    title(&change.kind, change.namespace.as_deref(), &change.name)
}

/// A step that is about the object of the change.
pub(super) async fn step<'a>(cx: &'a Context, change: &Change) -> Result<Step<'a>, Failure> {
    let resource = cx.services.cluster.resolve(Some(&change.api_version), &change.kind).await?;
    Ok(Step::new(cx, Aim { resource, name: change.name.clone(), namespace: change.namespace.clone() }))
}

/// What was read of the object: it, or what there is to say when it is not the one that was changed.
pub(super) fn same(
    change: &Change,
    read: Result<DynamicObject, kube::Error>,
    failure: impl FnOnce(&kube::Error) -> Failure,
) -> Result<Result<DynamicObject, Back>, Failure> {
    match read {
        Ok(now) if now.metadata.uid.as_deref() == Some(&change.uid) => Ok(Ok(now)),
        Ok(_) => Ok(Err(Back::theirs(change, "was deleted and created anew"))),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            Ok(Err(Back::unchanged(format!("{} is not there any more", named(change)))))
        }
        Err(error) => Err(failure(&error)),
    }
}

/// Whether one of these entries is of a step of the firing that made the change: of that one, or of one that has undone a later step.
///
/// It is asked only where it is not known whether the change was made: the API server keeps the last ten writers of an object, and each firing is another.
pub(super) fn is_witnessed(change: &Change, entries: Option<&[ManagedFieldsEntry]>) -> bool {
    let firing = change.manager.rsplit_once('-').map_or(change.manager.as_str(), |(firing, _)| firing);
    let ours = |manager: &str| manager.strip_prefix(firing).is_some_and(|rest| rest.starts_with('-'));
    let mut of_part = entries.unwrap_or_default().iter().filter(|one| one.subresource == change.subresource);
    of_part.any(|entry| entry.manager.as_deref().is_some_and(ours))
}

impl Object {
    /// A change of this object under the manager.
    pub(super) fn change(&self, manager: String, subresource: Option<&str>, back: Value, made: Value) -> Change {
        Change {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            subresource: subresource.map(str::to_owned),
            manager,
            unsure: false,
            back,
            made,
        }
    }
}
