//! Secrets that an action or its sink names, read as the account that may.

use super::{Context, Failure};
use crate::{api::SecretKeyRef, kubernetes::SecretError, record::Account, sinks::Secrets};

/// What the keys hold. `mend` makes of what is missing a sentence that says what to do.
///
/// # Errors
/// Final where the account may not read a Secret; retryable where there is none: who replaces a Secret by deleting and creating it leaves a moment
/// without.
pub(super) async fn read(
    cx: &Context,
    account: &Account,
    keys: Vec<SecretKeyRef>,
    mend: impl Fn(&str) -> String,
) -> Result<Secrets, Failure> {
    let mut secrets = Secrets::default();
    for key in keys {
        let value = match cx.services.cluster.secret_key(account, &key).await {
            Ok(value) => value,
            Err(error @ (SecretError::NotFound { .. } | SecretError::NoValue { .. })) => {
                return Err(Failure::retryable(mend(&error.to_string())));
            }
            Err(error @ SecretError::Other { .. }) => return Err(Failure::retryable(error.to_string())),
            Err(error) => return Err(Failure::last(error.to_string())),
        };
        secrets.insert(key, &value);
    }
    Ok(secrets)
}
