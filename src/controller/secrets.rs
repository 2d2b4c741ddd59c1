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
        match cluster.secret(account, &wanted.name).await {
            Ok(data) if data.get(&wanted.key).is_some_and(|value| !value.trim_ascii().is_empty()) => {}
            Ok(_) => {
                let namespace = &account.namespace;
                missing.push(format!("Secret {namespace}/{} has no value under the key {}", wanted.name, wanted.key));
                // Whoever adds the key does not want to wait for what is remembered.
                cluster.forget_secret(namespace, &wanted.name);
            }
            Err(error @ SecretError::NotFound { .. }) => {
                missing.push(format!("{error}; its key {} is needed", wanted.key))
            }
            Err(SecretError::Forbidden(right)) => {
                return Err((ConditionStatus::False, Reason::RightMissing, right.to_string()));
            }
            Err(SecretError::Unusable(error)) => {
                return Err((ConditionStatus::False, error.reason(), error.to_string()));
            }
            Err(error @ (SecretError::Decode { .. } | SecretError::Other { .. })) => {
                return Err(pending(&error.to_string()));
            }
        }
    }
    Ok(missing)
}

/// It is not known yet.
pub(super) fn pending(why: &str) -> Finding {
    (ConditionStatus::Unknown, Reason::Pending, why.to_owned())
}
