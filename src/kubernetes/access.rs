//! What accounts may do, and whether they may be used at all.

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::{
    authorization::v1::{
        SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview, SubjectAccessReviewSpec,
        SubjectAccessReviewStatus,
    },
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{Authors, Cluster, Right, cache::Expiring};
use crate::{
    api::{Reason, USABLE_LABEL},
    record::Account,
};

/// A right once seen is taken for granted so long; actions and reads meet the API server's own check anyway.
const ALLOWED: Duration = Duration::from_secs(60);
/// A right that was just granted is noticed after so long.
const DENIED: Duration = Duration::from_secs(5);
/// Answers kept: about 300 bytes each, 5 MB in all; 3,000 rules with five rights each.
const ANSWERS: usize = 16_384;
/// Questions about rights that are open at the same time. A thousand rules that come at once ask mostly the same, and whoever waits finds the answer;
/// without a bound each would open a connection of its own, 30 KiB and a TLS handshake each.
const ASKING: usize = 8;
/// How long the API server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is remembered whether an account may be used.
const USABLE: Duration = Duration::from_secs(3);

pub(super) struct Caches {
    /// Whether allowed, and when the API server was asked.
    rights: Expiring<(Account, Right), (bool, Instant)>,
    usable: Expiring<Account, Verdict>,
    asking: Semaphore,
}

impl Default for Caches {
    fn default() -> Self {
        Self { rights: Expiring::new(ANSWERS), usable: Expiring::new(ANSWERS), asking: Semaphore::new(ASKING) }
    }
}

/// Why an account may not be used by rules.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The operator may not impersonate accounts of the namespace.
    #[error(
        "signalbox was not enabled for namespace {0}: add it to the chart's value rules.namespaces, by \
         `helm upgrade ... --reset-then-reuse-values --set 'rules.namespaces={{THE-OTHERS,{0}}}'` (what is set takes the place of the whole list); \
         that lets the operator impersonate the ServiceAccounts there"
    )]
    NamespaceNotEnabled(String),
    /// There is no such account.
    #[error(
        "ServiceAccount {}/{} does not exist: create it with: kubectl create serviceaccount {} -n {}", .0.namespace, .0.name, .0.name, .0.namespace
    )]
    NotFound(Account),
    /// The account's label does not opt in, and nothing else checks who uses it.
    #[error(
        "ServiceAccount {}/{} is not labelled for use by rules, and {why}; if every author of rules in {} may have its rights: \
         kubectl label serviceaccount {} -n {} {USABLE_LABEL}=true",
        .account.namespace, .account.name, .account.namespace, .account.name, .account.namespace
    )]
    NotLabelled {
        /// The account.
        account: Account,
        /// Why the label is needed.
        why: Arc<str>,
    },
    /// The API server could not be asked.
    #[error("find out whether ServiceAccount {}/{} may be used: {source}", .account.namespace, .account.name)]
    Unknown {
        /// The account.
        account: Account,
        /// What went wrong.
        source: kube::Error,
    },
}

impl Unusable {
    /// The reason that a status condition shows.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NamespaceNotEnabled(_) => Reason::NamespaceNotEnabled,
            Self::NotFound(_) => Reason::AccountNotFound,
            Self::NotLabelled { .. } => Reason::AccountNotUsable,
            Self::Unknown { .. } => Reason::Pending,
        }
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    Labelled,
    NotEnabled,
    NotFound,
    NotLabelled,
}

impl Cluster {
    /// Whether the account has the right. Remembered for 60 s when it has, for 5 s when it has not.
    ///
    /// # Errors
    /// When the API server could not be asked.
    pub async fn may(&self, account: &Account, right: &Right) -> Result<bool, kube::Error> {
        self.may_lately(account, right, ALLOWED).await
    }

    /// As [`Cluster::may`], but an answer that is older than `age` is not good enough.
    ///
    /// # Errors
    /// When the API server could not be asked.
    pub async fn may_lately(&self, account: &Account, right: &Right, age: Duration) -> Result<bool, kube::Error> {
        let key = (account.clone(), right.clone());
        let known = |now: Instant| {
            let (answer, asked) = self.0.access.rights.get(&key)?;
            (now - asked < age).then_some(answer)
        };
        if let Some(answer) = known(Instant::now()) {
            return Ok(answer);
        }
        let _turn = self.0.access.asking.acquire().await.expect("the semaphore is never closed");
        let now = Instant::now();
        if let Some(answer) = known(now) {
            return Ok(answer);
        }
        // The groups that the API server gives every ServiceAccount; a review takes them as they are said.
        let groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", account.namespace),
            "system:authenticated".to_owned(),
        ];
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(account.to_string()),
                groups: Some(groups),
                resource_attributes: Some(right.attributes()),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        // Those who wait for their turn are not to wait for an API server that never answers.
        let answer = timeout(PATIENCE, self.review(&review, |review: SubjectAccessReview| review.status)).await;
        let allowed = answer.map_err(|elapsed| kube::Error::Service(elapsed.into()))??;
        self.0.access.rights.put(key, (allowed, now), if allowed { ALLOWED } else { DENIED });
        Ok(allowed)
    }

    /// The answer of an API server that knows the roles.
    async fn review<K>(
        &self,
        review: &K,
        status: fn(K) -> Option<SubjectAccessReviewStatus>,
    ) -> Result<bool, kube::Error>
    where
        K: kube::Resource<DynamicType = ()> + Clone + fmt::Debug + Serialize + DeserializeOwned,
    {
        let (api, params) = (Api::<K>::all(self.own().clone()), PostParams::default());
        let allowed = |answer| status(answer).is_some_and(|status| status.allowed);
        let known = self.0.readiness.lately();
        if allowed(api.create(&params, review).await?) {
            return Ok(true);
        }
        if known {
            return Ok(false);
        }
        self.0.readiness.ask(self.own()).await?;
        Ok(allowed(api.create(&params, review).await?))
    }

    /// Whether rules may use the account: the operator may impersonate it, it exists, and either its label opts in or the API server checks who
    /// writes rules. Remembered for 3 s.
    ///
    /// # Errors
    /// Says what is missing and what to do.
    pub async fn usable(&self, account: &Account) -> Result<(), Unusable> {
        if self.is_labelled(account).await? {
            return Ok(());
        }
        match self.authors().await {
            Ok(Authors::Checked) => Ok(()),
            Ok(Authors::Unchecked(why)) => {
                let why = format!("{why}, so that nobody checks who uses it").into();
                Err(Unusable::NotLabelled { account: account.clone(), why })
            }
            Err(source) => Err(Unusable::Unknown { account: account.clone(), source }),
        }
    }

    /// Whether the account may be used by whoever uses it, which its label alone says: for accounts that no author was asked about.
    ///
    /// # Errors
    /// Says what is missing and what to do.
    pub async fn opted_in(&self, account: &Account) -> Result<(), Unusable> {
        if self.is_labelled(account).await? {
            return Ok(());
        }
        let why = "the rule has another one, which alone was checked when it was written".into();
        Err(Unusable::NotLabelled { account: account.clone(), why })
    }

    /// Whether the label of an account that exists in an enabled namespace opts in.
    async fn is_labelled(&self, account: &Account) -> Result<bool, Unusable> {
        let verdict = match self.0.access.usable.get(account) {
            Some(verdict) => verdict,
            None => {
                let unknown = |source| Unusable::Unknown { account: account.clone(), source };
                let verdict = self.look_at(account).await.map_err(unknown)?;
                self.0.access.usable.put(account.clone(), verdict, USABLE);
                verdict
            }
        };
        match verdict {
            Verdict::Labelled => Ok(true),
            Verdict::NotLabelled => Ok(false),
            Verdict::NotEnabled => Err(Unusable::NamespaceNotEnabled(account.namespace.clone())),
            Verdict::NotFound => Err(Unusable::NotFound(account.clone())),
        }
    }

    async fn look_at(&self, account: &Account) -> Result<Verdict, kube::Error> {
        let right =
            Right::new("impersonate", "", "serviceaccounts").within(Some(&account.namespace)).named(&account.name);
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(right.attributes()),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        if !self.review(&review, |review: SelfSubjectAccessReview| review.status).await? {
            return Ok(Verdict::NotEnabled);
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.own().clone(), &account.namespace);
        let Some(found) = accounts.get_opt(&account.name).await? else { return Ok(Verdict::NotFound) };
        let label = found.metadata.labels.as_ref().and_then(|labels| labels.get(USABLE_LABEL));
        Ok(if label.is_some_and(|value| value == "true") { Verdict::Labelled } else { Verdict::NotLabelled })
    }
}

/// Whether a request was refused because the operator may not impersonate the account, rather than for what the account may not do: the API server
/// checks the former first.
pub fn impersonation_denied(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden()
        && status.message.contains("cannot impersonate resource \"serviceaccounts\""))
}

#[cfg(test)]
mod tests;
