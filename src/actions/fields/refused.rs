//! Why the API server refuses a patch, in words that say what to do and hold nothing of a Secret.

use super::{Fields, on};
use crate::{
    actions::{
        Failure, FailureKind,
        failure::is_missing_right,
        write::{Change as _, Step},
    },
    api::PatchType,
};

/// The API server does not say which operation it was.
pub(super) const UNFIT: &str = "an operation does not fit the object: a path that is not there, or a test that fails";

impl Fields {
    pub(super) fn failure(&self, step: &Step<'_>, error: &kube::Error) -> Failure {
        let failure = step.failure(error, self.words().present, on(step.right("patch"), self.subresource.as_deref()));
        let kube::Error::Api(status) = error else { return failure };
        let title = self.object.title();
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let said = match status.code {
            409 if causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict") => {
                format!("{}; force: true takes the fields over", status.message)
            }
            415 if self.type_ == PatchType::Strategic => {
                format!("{} has no Strategic patches, which are for built-in kinds: use type Merge", self.object.kind)
            }
            404 if self.subresource.is_some() => {
                let subresource = self.subresource.as_deref().unwrap_or_default();
                format!("it is not there any more, or {} has no subresource {subresource}", self.object.kind)
            }
            422 if self.type_ == PatchType::JSON && status.message.starts_with("the server rejected our request") => {
                UNFIT.to_owned()
            }
            // Refusals repeat values.
            400..500 if self.is_secret() && failure.kind == FailureKind::Final && !is_missing_right(status) => {
                format!("the API server refuses it as {} (what it says is not shown for a Secret)", status.reason)
            }
            _ => match after_the_object(&status.message) {
                Some(reason) => reason.to_owned(),
                None => return failure,
            },
        };
        Failure::last(format!("{} {title}: {said}", self.words().present))
    }
}

/// What the API server says of a patch after having repeated the whole object: `patch: Invalid value: "{\"apiVersion\":…}": unknown field`.
fn after_the_object(message: &str) -> Option<&str> {
    let (_, quoted) = message.split_once("patch: Invalid value: \"{")?;
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    quoted[end + 1..].strip_prefix(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_without_the_object_that_it_repeats() {
        let message = r#" "" is invalid: patch: Invalid value: "{\"a\":\"b\\\"c\"}": strict decoding error: unknown field "spec.x""#;
        assert_eq!(after_the_object(message), Some("strict decoding error: unknown field \"spec.x\""));
        assert_eq!(after_the_object("spec.replicas: Invalid value: -1: must be greater"), None);
    }
}
