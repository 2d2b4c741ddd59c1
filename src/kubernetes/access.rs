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
use tokio::time::Instant;

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
/// How long it is remembered whether an account may be used.
const USABLE: Duration = Duration::from_secs(3);

pub(super) struct Caches {
    /// Whether allowed, and when the API server was asked.
    rights: Expiring<(Account, Right), (bool, Instant)>,
    usable: Expiring<Account, Verdict>,
}

impl Default for Caches {
    fn default() -> Self {
        Self { rights: Expiring::new(ANSWERS), usable: Expiring::new(ANSWERS) }
    }
}

/// Why an account may not be used by rules.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The operator may not impersonate accounts of the namespace.
    #[error(
        "signalbox was not enabled for namespace {0}: add it to the chart's value rules.namespaces, such as \
         `helm upgrade ... --set rules.namespaces={{{0}}}`, which lets the operator impersonate the ServiceAccounts there"
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
        let (key, now) = ((account.clone(), right.clone()), Instant::now());
        if let Some((answer, asked)) = self.0.access.rights.get(&key)
            && now - asked < age
        {
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
        let allowed = self.review(&review, |review: SubjectAccessReview| review.status).await?;
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
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::{
        fake::{Fake, failure},
        policy,
        ready::Readiness,
    };

    fn account() -> Account {
        Account { namespace: "shop".into(), name: "shop-ops".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_is_asked_again_after_five_seconds_and_a_permission_after_sixty() {
        let fake = Fake::new(|seen| {
            let allowed = seen.body["spec"]["resourceAttributes"]["verb"] == "get";
            (201, json!({"spec": {}, "status": {"allowed": allowed}}))
        });
        let cluster = Cluster::with_client(fake.client());
        let (get, patch) = (Right::new("get", "", "pods"), Right::new("patch", "", "pods"));
        for _ in 0..3 {
            assert!(cluster.may(&account(), &get).await.expect("review"));
            assert!(!cluster.may(&account(), &patch).await.expect("review"));
        }
        assert_eq!(fake.requests().len(), 2);
        let spec = &fake.requests()[0].body["spec"];
        assert_eq!(spec["user"], "system:serviceaccount:shop:shop-ops");
        assert_eq!(
            spec["groups"],
            json!(["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"])
        );
        tokio::time::advance(DENIED).await;
        cluster.may(&account(), &get).await.expect("review");
        cluster.may(&account(), &patch).await.expect("review");
        assert_eq!(fake.requests().len(), 3);
        tokio::time::advance(ALLOWED).await;
        cluster.may(&account(), &get).await.expect("review");
        assert_eq!(fake.requests().len(), 4);
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        assert!(cluster.may_lately(&account(), &get, second * 2).await.expect("review"));
        assert_eq!(fake.requests().len(), 4);
        assert!(cluster.may_lately(&account(), &get, second).await.expect("review"));
        assert_eq!(fake.requests().len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_knows_no_roles_yet_takes_no_right_away() {
        let started = Arc::new(AtomicBool::new(false));
        let ready = started.clone();
        let fake = Fake::new(move |seen| match (seen.path.as_str(), ready.load(Ordering::SeqCst)) {
            ("/readyz", false) => (500, json!("[-]informer-sync failed")),
            ("/readyz", true) => (200, json!("ok")),
            (_, allowed) => (201, json!({"spec": {}, "status": {"allowed": allowed}})),
        });
        let cluster = Cluster::make(fake.client(), Arc::new(Readiness::doubted()));
        let get = Right::new("get", "", "pods");
        let error = cluster.may(&account(), &get).await.expect_err("it is not ready");
        assert!(error.to_string().contains("not ready"), "{error}");
        started.store(true, Ordering::SeqCst);
        assert!(cluster.may(&account(), &get).await.expect("review"));
    }

    /// What is said of an account, and of one that a rule's Job names, whether or not the policy is there.
    async fn asked(allowed: bool, found: (u16, Value), policy: (u16, Value)) -> [Result<(), Unusable>; 2] {
        let fake = Fake::new(move |seen| match seen.path.as_str() {
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
                (201, json!({"spec": {}, "status": {"allowed": allowed}}))
            }
            "/api/v1/namespaces/shop/serviceaccounts/shop-ops" => found.clone(),
            path if path.contains("validatingadmissionpolicybindings/") => (200, policy::tests::binding()),
            path if path.contains("validatingadmissionpolicies/") => policy.clone(),
            other => failure(500, "Unexpected", other),
        });
        let cluster = Cluster::with_client(fake.client());
        [cluster.usable(&account()).await, cluster.opted_in(&account()).await]
    }

    fn labelled(labels: Value) -> (u16, Value) {
        (200, json!({"metadata": {"name": "shop-ops", "labels": labels}}))
    }

    fn absent() -> (u16, Value) {
        failure(404, "NotFound", "no")
    }

    #[tokio::test]
    async fn without_the_policy_an_account_is_usable_when_enabled_and_labelled() {
        let yes = labelled(json!({USABLE_LABEL: "true"}));
        assert!(asked(true, yes.clone(), absent()).await.iter().all(Result::is_ok));
        for error in asked(false, yes, absent()).await {
            let error = error.expect_err("not enabled");
            assert!(matches!(error, Unusable::NamespaceNotEnabled(_)), "{error}");
            assert!(error.to_string().contains("rules.namespaces={shop}"), "{error}");
        }
        for error in asked(true, absent(), absent()).await {
            let error = error.expect_err("not there");
            assert!(matches!(error, Unusable::NotFound(_)), "{error}");
        }
        for labels in [json!({}), json!({USABLE_LABEL: "yes"})] {
            let [error, _] =
                asked(true, labelled(labels), absent()).await.map(|answer| answer.expect_err("not labelled"));
            assert!(matches!(error, Unusable::NotLabelled { .. }), "{error}");
            for part in [
                "kubectl label serviceaccount shop-ops -n shop signalbox.dev/usable-by-rules=true",
                "ValidatingAdmissionPolicy signalbox-accounts does not exist",
            ] {
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
        }
        for error in asked(true, failure(500, "InternalError", "etcd is away"), absent()).await {
            let error = error.expect_err("away");
            assert!(matches!(error, Unusable::Unknown { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn with_the_policy_the_label_is_needed_only_where_no_author_was_checked() {
        let policy = (200, policy::tests::policy());
        let [usable, opted_in] = asked(true, labelled(json!({})), policy).await;
        usable.expect("its author was checked");
        let error = opted_in.expect_err("nobody was checked");
        assert!(matches!(error, Unusable::NotLabelled { .. }), "{error}");
        let [error, _] = asked(true, labelled(json!({})), failure(500, "InternalError", "etcd is away")).await;
        let error = error.expect_err("it is not known");
        assert!(matches!(error, Unusable::Unknown { .. }), "{error}");
    }
}
