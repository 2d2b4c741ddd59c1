//! What a failed attempt means: whether, when and how to try again.

use std::time::Duration;

use kube::{Error, core::Status};

use crate::{
    kubernetes::{ResolveError, Right, Unusable, impersonation_denied},
    record::Account,
};

/// A step could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whether to try again.
    pub kind: FailureKind,
    /// What was attempted and what went wrong.
    pub message: String,
}

/// Whether and how a failed step is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It cannot succeed: a missing right, a missing target.
    Final,
    /// An expression or a text of it cannot be evaluated; as [`FailureKind::Final`].
    Invalid,
    /// The same request may succeed later; when the other side said when, not before.
    Retryable {
        /// What the other side asked for.
        after: Option<Duration>,
    },
    /// The target changed since the request was rendered, and nothing was written: a fresh request is needed.
    Conflict,
    /// Its turn comes after so long: nothing was attempted, so it is no failure that is counted.
    Turn(Duration),
    /// The process is about to stop: nothing is known to have failed, and the next process goes on.
    Interrupted,
}

impl Failure {
    /// It cannot succeed.
    pub fn last(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Final, message: message.into() }
    }

    /// It may succeed later.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Retryable { after: None }, message: message.into() }
    }

    /// What an error of the API server means. `doing` says what was attempted, `right` what the account needs for it.
    pub(super) fn of_kube(error: &Error, doing: &str, account: &Account, right: Right) -> Self {
        if impersonation_denied(error) {
            return Self::last(format!("{doing}: {}", Unusable::NamespaceNotEnabled(account.namespace.clone())));
        }
        let Error::Api(status) = error else {
            let kind = if is_ours(error) { FailureKind::Final } else { FailureKind::Retryable { after: None } };
            return Self { kind, message: format!("{doing}: {error}") };
        };
        if is_missing_right(status) {
            return Self::last(format!("{doing}: {}", right.missing_for(account)));
        }
        let kind = match status.code {
            409 => FailureKind::Conflict,
            // 401 is about the operator's own token: about to be renewed, or shown to an API server that has just started.
            401 | 408 | 429 | 500.. => FailureKind::Retryable { after: retry_after(status) },
            _ => FailureKind::Final,
        };
        Self { kind, message: format!("{doing}: {}", status.message) }
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Request(_) => Self::retryable(error.to_string()),
            ResolveError::Unknown { .. } | ResolveError::NotBuiltIn(_) => Self::last(error.to_string()),
        }
    }
}

/// Requests that were never sent. An answer that cannot be read is none of them: what was asked for may have been carried out, and the next attempt
/// finds out.
fn is_ours(error: &Error) -> bool {
    matches!(error, Error::BuildRequest(_) | Error::HttpError(_))
}

/// Admission, quota and Pod Security answer 403 as well, and no Role changes their minds; what a webhook says after its name may be what was said to it.
pub(super) fn is_missing_right(status: &Status) -> bool {
    let said = status.message.split_once("forbidden: User ");
    status.code == 403 && said.is_some_and(|(before, _)| !before.contains("denied the request"))
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account { namespace: "shop".into(), name: "shop-ops".into() }
    }

    fn of(code: u16, reason: &str, message: &str) -> Failure {
        let status = Status { code, reason: reason.into(), message: message.into(), ..Status::default() };
        let right = Right::new("patch", "apps", "deployments").on("scale").within(Some("shop"));
        Failure::of_kube(&Error::Api(Box::new(status)), "scale Deployment shop/web", &account(), right)
    }

    #[test]
    fn a_missing_right_is_final_and_says_how_to_grant_it() {
        let failure = of(
            403,
            "Forbidden",
            "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:shop:shop-ops\" cannot patch",
        );
        assert_eq!(failure.kind, FailureKind::Final);
        for part in
            ["shop/shop-ops", "patch deployments.apps/scale", "namespace shop", "kubectl create role ", "rolebinding"]
        {
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
    }

    #[test]
    fn a_refusal_by_admission_keeps_its_own_words() {
        let failure = of(403, "Forbidden", "pods \"web\" is forbidden: exceeded quota: small");
        assert_eq!(failure.kind, FailureKind::Final);
        assert_eq!(failure.message, "scale Deployment shop/web: pods \"web\" is forbidden: exceeded quota: small");
        let webhook = "admission webhook \"w.example.com\" denied the request: secrets \"s\" is forbidden: User \"w\" cannot get it";
        assert_eq!(of(403, "Forbidden", webhook).message, format!("scale Deployment shop/web: {webhook}"));
    }

    #[test]
    fn an_account_that_may_not_be_impersonated_is_told_as_that() {
        let failure = of(
            403,
            "Forbidden",
            "serviceaccounts \"shop-ops\" is forbidden: User \"op\" cannot impersonate resource \"serviceaccounts\" in API group \"\"",
        );
        assert!(failure.message.contains("was not enabled for namespace shop"), "{failure}");
    }

    #[test]
    fn an_answer_that_cannot_be_read_may_be_of_a_write_that_was_carried_out() {
        let half = serde_json::from_str::<serde_json::Value>("{\"kind\": \"Sc").expect_err("half an answer");
        let right = Right::new("patch", "apps", "deployments").on("scale").within(Some("shop"));
        let failure = Failure::of_kube(&Error::SerdeError(half), "scale Deployment shop/web", &account(), right);
        assert_eq!(failure.kind, FailureKind::Retryable { after: None }, "{failure}");
    }

    #[test]
    fn what_may_get_better_is_retryable_and_the_rest_is_final() {
        for (code, reason, kind) in [
            (404, "NotFound", FailureKind::Final),
            (422, "Invalid", FailureKind::Final),
            (409, "Conflict", FailureKind::Conflict),
            (401, "Unauthorized", FailureKind::Retryable { after: None }),
            (429, "TooManyRequests", FailureKind::Retryable { after: None }),
            (500, "InternalError", FailureKind::Retryable { after: None }),
            (504, "Timeout", FailureKind::Retryable { after: None }),
        ] {
            assert_eq!(of(code, reason, "m").kind, kind, "{code}");
        }
    }
}
