//! The cluster: the only maker of Kubernetes clients, and what is asked of the API server about kinds, rights and accounts.
//!
//! The operator acts as itself ([`Cluster::own`]) only for its own business; whatever a rule, a source or a sink sees or does goes through
//! [`Cluster::as_account`]. All clients share one pool of connections. This module knows no rule.

mod access;
mod approval;
mod cache;
mod connect;
mod discovery;
mod events;
mod lease;
mod owner;
pub(crate) mod policy;
mod ready;
mod right;
mod role;
mod secret;
mod token;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;
use kube::{Client, Config, client::Body};

pub use access::{Unusable, impersonation_denied};
pub use approval::{APPROVAL, Approval, Approvals};
pub use cache::{Bucket, Expiring};
pub use connect::{ConnectError, client_of_person};
pub use discovery::{ResolveError, Resource};
pub use events::{EventRecorder, EventWriter, Note, NoteType, REPORTING_CONTROLLER, event_channel};
pub use lease::{Authority, Claim, Displaced, Keeper, Lost, Taken};
pub use owner::{OwnerError, top_controller_among};
pub use policy::{Authors, POLICY, fault_of_approval, fault_of_binding, fault_of_policy, fault_of_silencing};
pub use right::{MissingRight, Right, merged};
pub use role::roles;
pub use secret::SecretError;
pub use token::{AUDIENCE, TokenError};

use crate::record::Account;
use ready::Readiness;

/// Clients of accounts that are kept at the same time. One is a task and a small queue, about 2 KiB: 4 MiB in all.
const CLIENTS: usize = 2048;
/// A client that was made so long ago is made anew; this only keeps accounts that nobody uses from staying.
const CLIENT_AGE: Duration = Duration::from_secs(3600);

/// The way to the API server. A clone is cheap and shares connections and caches.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    own: Client,
    readiness: Arc<Readiness>,
    accounts: Expiring<Account, Client>,
    discovery: discovery::Discovery,
    access: access::Caches,
    policy: policy::Known,
    approvals: Approvals,
    secrets: secret::Cache,
}

impl Cluster {
    /// Connects as the kubeconfig or, in a pod, the pod's ServiceAccount says. Sends nothing yet.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn connect() -> Result<Self, ConnectError> {
        Self::connect_with(Config::infer().await.map_err(Box::new)?)
    }

    /// Connects with the given configuration. Sends nothing yet.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn connect_with(config: Config) -> Result<Self, ConnectError> {
        let readiness = Arc::new(Readiness::doubted());
        let client = ready::doubting(connect::client(&config)?, readiness.clone());
        Ok(Self::make(client, readiness))
    }

    /// Uses a client that exists, such as one over a service that plays an API server. What is denied is believed at once.
    pub fn with_client(own: Client) -> Self {
        Self::make(own, Arc::new(Readiness::assumed()))
    }

    fn make(own: Client, readiness: Arc<Readiness>) -> Self {
        Self(Arc::new(Inner {
            own,
            readiness,
            accounts: Expiring::new(CLIENTS),
            discovery: discovery::Discovery::default(),
            access: access::Caches::default(),
            policy: policy::Known::default(),
            approvals: Approvals::default(),
            secrets: secret::Cache::new(secret::ENTRIES),
        }))
    }

    /// The operator's own client.
    pub fn own(&self) -> &Client {
        &self.0.own
    }

    /// What people have decided about steps that wait for them.
    pub fn approvals(&self) -> &Approvals {
        &self.0.approvals
    }

    /// A client that acts as the account, over the same connections.
    ///
    /// No `Impersonate-Group` is sent: the API server itself adds the groups of a ServiceAccount.
    pub fn as_account(&self, account: &Account) -> Client {
        if let Some(client) = self.0.accounts.get(account) {
            return client;
        }
        let client = impersonating(&self.0.own, account);
        self.0.accounts.put(account.clone(), client.clone(), CLIENT_AGE);
        client
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

fn impersonating(own: &Client, account: &Account) -> Client {
    let (base, namespace) = (own.clone(), account.namespace.clone());
    // Names that are no header value are names that no ServiceAccount has: then an impossible user is sent, never none, because a
    // request without the header would act with the operator's own rights.
    let user = HeaderValue::from_str(&account.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("system:serviceaccount:-:-"));
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        request.headers_mut().insert("impersonate-user", user.clone());
        let base = base.clone();
        async move { base.send(request).await }
    });
    Client::new(service, namespace)
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use serde_json::json;

    use super::{fake::Fake, *};

    fn account() -> Account {
        Account { namespace: "shop".into(), name: "shop-ops".into() }
    }

    #[tokio::test]
    async fn what_an_account_sends_names_the_account_and_no_groups() {
        let fake = Fake::new(|_| (200, json!({"metadata": {"name": "web-1"}})));
        let cluster = Cluster::with_client(fake.client());
        let pods: Api<Pod> = Api::namespaced(cluster.as_account(&account()), "shop");
        pods.get("web-1").await.expect("get pod");
        let pods: Api<Pod> = Api::namespaced(cluster.own().clone(), "shop");
        pods.get("web-1").await.expect("get pod");

        let seen = fake.requests();
        assert_eq!(seen[0].user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
        assert!(!seen[0].headers.contains_key("impersonate-group"));
        assert_eq!(seen[1].user, None, "the operator's own client impersonates nobody");
    }

    #[tokio::test]
    async fn a_name_that_is_no_header_never_acts_as_the_operator() {
        let fake = Fake::new(|_| (200, json!({"metadata": {"name": "web-1"}})));
        let cluster = Cluster::with_client(fake.client());
        let odd = Account { namespace: "shop".into(), name: "a\nb".into() };
        let pods: Api<Pod> = Api::namespaced(cluster.as_account(&odd), "shop");
        pods.get("web-1").await.expect("get pod");
        assert_eq!(fake.requests()[0].user.as_deref(), Some("system:serviceaccount:-:-"));
    }
}
