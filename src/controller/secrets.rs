//! Whether what an object names can be used: its account, and the keys of Secrets. Values are never told.

use crate::{
    api::{ConditionStatus, Reason, SecretKeyRef},
    kubernetes::{Cluster, SecretError},
    record::Account,
    status::Finding,
};

/// Whether the account may be used; otherwise what the object's condition is to say.
pub(super) async fn usable(cluster: &Cluster, account: &Account) -> Result<(), Finding> {
    cluster.usable(account).await.map_err(|error| match error.reason() {
        Reason::Pending => pending(&error.to_string()),
        reason => (ConditionStatus::False, reason, error.to_string()),
    })
}

/// The keys that have no value, a sentence each; where that cannot be told, what the object's condition is to say.
pub(super) async fn missing(
    cluster: &Cluster,
    account: &Account,
    keys: &[SecretKeyRef],
) -> Result<Vec<String>, Finding> {
    let mut missing = Vec::new();
    for wanted in keys {
        let Err(error) = cluster.secret_key(account, wanted).await else { continue };
        if let Some(what) = error.missing(wanted) {
            missing.push(what);
            continue;
        }
        return Err(match error {
            SecretError::Forbidden(right) => (ConditionStatus::False, Reason::RightMissing, right.to_string()),
            SecretError::Unusable(error) => (ConditionStatus::False, error.reason(), error.to_string()),
            other => pending(&other.to_string()),
        });
    }
    Ok(missing)
}

/// It is not known yet.
pub(super) fn pending(why: &str) -> Finding {
    (ConditionStatus::Unknown, Reason::Pending, why.to_owned())
}
