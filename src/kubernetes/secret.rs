//! Secrets, read as the account that names them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::Resource as _;

use super::{Cluster, Right, cache::Expiring, impersonation_denied};
use crate::{api::SecretKeyRef, record::Account};

/// A Secret that was changed is read anew after so long at the latest; a sink that is refused says [`Cluster::forget_secret`].
const AGE: Duration = Duration::from_secs(30);
/// Secrets kept. They may be 1 MiB each, but are a few hundred bytes where they hold addresses and keys.
pub(super) const ENTRIES: usize = 256;

type Data = Arc<BTreeMap<String, Vec<u8>>>;
pub(super) type Cache = Expiring<(Account, String), Data>;

/// Why a Secret could not be read. Never holds what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such Secret.
    #[error("Secret {namespace}/{name} does not exist")]
    NotFound {
        /// Namespace of the account.
        namespace: String,
        /// Name of the Secret.
        name: String,
    },
    /// It has no such key, or an empty one.
    #[error("Secret {namespace}/{name} has no value under the key {key}")]
    NoValue {
        /// Namespace of the account.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// The account may not read it.
    #[error(transparent)]
    Forbidden(#[from] super::MissingRight),
    /// The account may not be used.
    #[error(transparent)]
    Unusable(#[from] super::Unusable),
    /// The answer is not a Secret.
    #[error("decode Secret {namespace}/{name}")]
    Decode {
        /// Namespace of the account.
        namespace: String,
        /// Name of the Secret.
        name: String,
    },
    /// The API server could not be asked.
    #[error("read Secret {name}: {source}")]
    Other {
        /// Name of the Secret.
        name: String,
        /// What went wrong.
        source: kube::Error,
    },
}

impl SecretError {
    /// What is missing of the key that was asked for, in words; nothing when it cannot be told whether anything is.
    pub fn missing(&self, wanted: &SecretKeyRef) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some(format!("{self}; its key {} is needed", wanted.key)),
            Self::NoValue { .. } => Some(self.to_string()),
            Self::Forbidden(_) | Self::Unusable(_) | Self::Decode { .. } | Self::Other { .. } => None,
        }
    }
}

impl Cluster {
    /// The value of a key of a Secret, read as [`Cluster::secret`] does. One of spaces only is none: whoever adds it does not want to wait, so it is
    /// read anew next time.
    ///
    /// # Errors
    /// As [`Cluster::secret`], and when there is no value.
    pub async fn secret_key(&self, account: &Account, wanted: &SecretKeyRef) -> Result<Vec<u8>, SecretError> {
        let data = self.secret(account, &wanted.name).await?;
        if let Some(value) = data.get(&wanted.key).filter(|value| !value.trim_ascii().is_empty()) {
            return Ok(value.clone());
        }
        let SecretKeyRef { name, key } = wanted.clone();
        self.forget_secret(&account.namespace, &name);
        Err(SecretError::NoValue { namespace: account.namespace.clone(), name, key })
    }

    /// What is in the Secret of the account's namespace, read with the account's rights, at most 30 s old.
    ///
    /// # Errors
    /// When there is none, when the account may not read it, or when the API server could not be asked.
    pub async fn secret(&self, account: &Account, name: &str) -> Result<Data, SecretError> {
        let key = (account.clone(), name.to_owned());
        if let Some(data) = self.0.secrets.get(&key) {
            return Ok(data);
        }
        let data = Arc::new(self.read_secret(account, name).await?);
        self.0.secrets.put(key, data.clone(), AGE);
        Ok(data)
    }

    /// Makes the next [`Cluster::secret`] read it anew, for whichever account.
    pub fn forget_secret(&self, namespace: &str, name: &str) {
        self.0.secrets.retain(|(account, secret)| account.namespace != namespace || secret != name);
    }

    async fn read_secret(&self, account: &Account, name: &str) -> Result<BTreeMap<String, Vec<u8>>, SecretError> {
        let namespace = &account.namespace;
        let other = |source| SecretError::Other { name: name.to_owned(), source };
        let path = Secret::url_path(&(), Some(namespace));
        let request = kube::core::Request::new(path)
            .get(name, &Default::default())
            .map_err(|error| other(kube::Error::BuildRequest(error)))?;
        // Not `Api::get`: kube logs an answer that it cannot decode, contents and all.
        match self.as_account(account).request_text(request).await {
            Ok(text) => {
                let secret: Secret = serde_json::from_str(&text)
                    .map_err(|_| SecretError::Decode { namespace: namespace.clone(), name: name.to_owned() })?;
                Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                Err(SecretError::NotFound { namespace: namespace.clone(), name: name.to_owned() })
            }
            Err(error) if impersonation_denied(&error) => {
                Err(super::Unusable::NamespaceNotEnabled(namespace.clone()).into())
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                let right = Right::new("get", "", "secrets").within(Some(namespace)).named(name);
                Err(right.missing_for(account).into())
            }
            Err(error) => Err(other(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::fake::{Fake, failure};

    fn account() -> Account {
        Account { namespace: "shop".into(), name: "shop-ops".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_read_as_the_account_and_kept_for_thirty_seconds() {
        let fake = Fake::new(|_| (200, json!({"metadata": {"name": "slack"}, "data": {"url": "aGk="}})));
        let cluster = Cluster::with_client(fake.client());
        for _ in 0..3 {
            let data = cluster.secret(&account(), "slack").await.expect("secret");
            assert_eq!(data.get("url").map(Vec::as_slice), Some(b"hi".as_slice()));
        }
        assert_eq!(fake.requests().len(), 1);
        assert_eq!(fake.requests()[0].path, "/api/v1/namespaces/shop/secrets/slack");
        assert_eq!(fake.requests()[0].user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
        cluster.forget_secret("shop", "slack");
        cluster.secret(&account(), "slack").await.expect("secret");
        tokio::time::advance(AGE).await;
        cluster.secret(&account(), "slack").await.expect("secret");
        assert_eq!(fake.requests().len(), 3);
    }

    #[tokio::test]
    async fn a_key_without_a_value_is_missing_and_looked_for_anew() {
        let data = json!({"url": "aGk=", "empty": "IAo="});
        let fake = Fake::new(move |_| (200, json!({"metadata": {"name": "slack"}, "data": data})));
        let cluster = Cluster::with_client(fake.client());
        let wanted = |key: &str| SecretKeyRef { name: "slack".to_owned(), key: key.to_owned() };
        assert_eq!(cluster.secret_key(&account(), &wanted("url")).await.expect("a value"), b"hi");
        for key in ["empty", "none"] {
            let error = cluster.secret_key(&account(), &wanted(key)).await.expect_err("no value");
            let said = format!("Secret shop/slack has no value under the key {key}");
            assert_eq!(error.missing(&wanted(key)), Some(said));
        }
        assert_eq!(fake.requests().len(), 2, "what was remembered at first, and after the first miss");
    }

    #[tokio::test]
    async fn what_keeps_a_secret_from_being_read_is_told_apart() {
        let read = async |code, reason: &'static str, message: &'static str| {
            let fake = Fake::new(move |_| failure(code, reason, message));
            Cluster::with_client(fake.client()).secret(&account(), "slack").await.expect_err(reason)
        };
        let gone = read(404, "NotFound", "no").await;
        assert!(matches!(&gone, SecretError::NotFound { .. }), "{gone}");
        let denied = read(403, "Forbidden", "secrets \"slack\" is forbidden").await;
        assert!(matches!(&denied, SecretError::Forbidden(_)), "{denied}");
        assert!(denied.to_string().contains("--resource-name=slack"), "{denied}");
        let message =
            "serviceaccounts \"shop-ops\" is forbidden: User \"op\" cannot impersonate resource \"serviceaccounts\"";
        let not_enabled = read(403, "Forbidden", message).await;
        assert!(matches!(&not_enabled, SecretError::Unusable(_)), "{not_enabled}");
        let away = read(500, "InternalError", "etcd is away").await;
        assert!(matches!(&away, SecretError::Other { .. }), "{away}");
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_decoded_does_not_show_what_is_in_it() {
        let fake =
            Fake::new(|_| (200, json!({"metadata": {"name": "slack"}, "data": {"url": "hunter2 is not base64"}})));
        let error = Cluster::with_client(fake.client()).secret(&account(), "slack").await.expect_err("no base64");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
