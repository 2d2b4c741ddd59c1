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

/// Keys without a value that can be used.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    /// A sentence for each.
    pub(super) what: Vec<String>,
    /// Whether one of them has a value.
    invalid: bool,
}

impl Lacking {
    /// What kind of fault it is.
    pub(super) fn reason(&self) -> Reason {
        if self.invalid { Reason::SecretInvalid } else { Reason::SecretNotFound }
    }
}

/// The keys that have no value, or one that has a `flaw`; where that cannot be told, what the object's condition is to say.
pub(super) async fn lacking(
    cluster: &Cluster,
    account: &Account,
    keys: &[SecretKeyRef],
    flaw: impl Fn(&[u8]) -> Option<&'static str>,
) -> Result<Lacking, Finding> {
    let mut lacking = Lacking::default();
    for wanted in keys {
        let error = match cluster.secret_key(account, wanted).await {
            Ok(value) => {
                let flaw = flaw(&value)
                    .map(|flaw| format!("key {} of Secret {}/{} {flaw}", wanted.key, account.namespace, wanted.name));
                lacking.invalid |= flaw.is_some();
                lacking.what.extend(flaw);
                continue;
            }
            Err(error) => error,
        };
        if let Some(what) = error.missing(wanted) {
            lacking.what.push(what);
            continue;
        }
        return Err(match error {
            SecretError::Forbidden(right) => (ConditionStatus::False, Reason::RightMissing, right.to_string()),
            SecretError::Unusable(error) => (ConditionStatus::False, error.reason(), error.to_string()),
            other => pending(&other.to_string()),
        });
    }
    Ok(lacking)
}

/// It is not known yet.
pub(super) fn pending(why: &str) -> Finding {
    (ConditionStatus::Unknown, Reason::Pending, why.to_owned())
}
