//! Tokens by which people ask the operator about rules: whose they are, and how they are made.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, api::PostParams};

use super::Cluster;
use crate::record::Account;

/// The audience that such a token must have: a token that was made for something else is of no use here, and one of these nowhere else.
pub const AUDIENCE: &str = "signalbox";
/// How long the API server may take to say whose a token is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why it is not known whose a token is.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The API server could not be asked.
    #[error("ask the API server whose the token is: {0}")]
    Review(#[from] kube::Error),
    /// It did not answer.
    #[error("ask the API server whose the token is: no answer within {} s", PATIENCE.as_secs())]
    Late,
}

impl Cluster {
    /// The ServiceAccount whose token this is; nothing when it is none, has run out or was not made for [`AUDIENCE`].
    ///
    /// # Errors
    /// When the API server could not be asked.
    pub async fn account_of(&self, token: &str) -> Result<Option<Account>, TokenError> {
        let review = TokenReview {
            spec: TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: token.to_owned() },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.own().clone());
        let asked = PostParams::default();
        let answer = tokio::time::timeout(PATIENCE, reviews.create(&asked, &review));
        let review = answer.await.map_err(|_| TokenError::Late)??;
        Ok(review.status.as_ref().and_then(account))
    }
}

fn account(status: &TokenReviewStatus) -> Option<Account> {
    let ours = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
    if status.authenticated != Some(true) || !ours {
        return None;
    }
    let name = status.user.as_ref()?.username.as_deref()?.strip_prefix("system:serviceaccount:")?;
    let (namespace, name) = name.split_once(':')?;
    Some(Account { namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(status: Value) -> Option<String> {
        account(&serde_json::from_value(status).expect("a status")).map(|account| account.to_string())
    }

    #[test]
    fn a_token_is_of_an_account_only_when_it_is_good_and_for_us() {
        let good = json!({"authenticated": true, "audiences": ["signalbox"],
            "user": {"username": "system:serviceaccount:shop:ops"}});
        assert_eq!(of(good.clone()).as_deref(), Some("system:serviceaccount:shop:ops"));
        for (key, value) in [
            ("authenticated", json!(false)),
            ("audiences", json!(["https://kubernetes.default.svc"])),
            // An API server that knows no audiences says none.
            ("audiences", json!(null)),
            ("user", json!({"username": "system:node:n1"})),
        ] {
            let mut other = good.clone();
            other[key] = value;
            assert_eq!(of(other), None, "{key}");
        }
    }
}
