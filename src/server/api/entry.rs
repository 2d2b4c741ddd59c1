//! Who asks, and whether he may.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::Refusal;
use crate::{
    clock::Quota,
    kubernetes::{AUDIENCE, Cluster, Expiring},
    record::{Account, RuleRef},
};

/// The API server's proxy takes `Authorization` for itself and does not pass it on: behind it the token comes in this header.
const TOKEN: &str = "x-signalbox-token";
/// Tokens that the API server is asked about in a second: anybody who reaches the port can make us ask.
const REVIEWS_PER_SECOND: u32 = 200;
/// How long a good token is believed without asking again: who runs a thousand letters again asks once.
const BELIEVED: Duration = Duration::from_secs(30);
/// Good tokens that are remembered, by their hash: about 150 bytes each.
const REMEMBERED: usize = 1_024;
/// The longest token, in bytes: those of the API server have about 1,000.
const LONGEST: usize = 8 * 1024;

/// Tells whose a token is.
pub(super) struct Visitors {
    cluster: Cluster,
    reviews: Quota,
    known: Expiring<[u8; 32], Account>,
}

impl Visitors {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, reviews: Quota::per_second(REVIEWS_PER_SECOND), known: Expiring::new(REMEMBERED) }
    }

    /// The account whose token the request has.
    pub(super) async fn account(&self, headers: &HeaderMap) -> Result<Account, Refusal> {
        let token =
            token(headers).filter(|token| token.len() <= LONGEST).ok_or_else(|| unknown("there is no token"))?;
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(account) = self.known.get(&key) {
            return Ok(account);
        }
        if self.reviews.take().is_none() {
            let busy = "too many ask at the same time: try again in a second".to_owned();
            return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, busy));
        }
        match self.cluster.account_of(token).await {
            Ok(Some(account)) => {
                self.known.put(key, account.clone(), BELIEVED);
                Ok(account)
            }
            Ok(None) => Err(unknown("the token has run out, or is none of a ServiceAccount for this audience")),
            Err(error) => Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        }
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(token) = headers.get(TOKEN) {
        return token.to_str().ok();
    }
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn unknown(why: &str) -> Refusal {
    let how = format!(
        "{why}: send one of the rule's ServiceAccount, made by kubectl create token ACCOUNT -n NAMESPACE --audience={AUDIENCE}, \
         as Authorization: Bearer TOKEN, or through the API server's proxy as X-Signalbox-Token: TOKEN"
    );
    Refusal(StatusCode::UNAUTHORIZED, how)
}

/// Whether the visitor may see what the rule of this account saw.
pub(super) fn admit(visitor: &Account, rule: &RuleRef, account: &Account) -> Result<(), Refusal> {
    if visitor == account {
        return Ok(());
    }
    if visitor.namespace != account.namespace {
        return Err(stranger(visitor, &rule.namespace, &rule.name));
    }
    let Account { namespace, name } = account;
    let how = format!(
        "the token is of ServiceAccount {}, and rule {rule} acts as {name}: send one made by kubectl create token {name} \
         -n {namespace} --audience={AUDIENCE}",
        visitor.name
    );
    Err(Refusal(StatusCode::FORBIDDEN, how))
}

/// The same whether there is the rule or not.
pub(super) fn stranger(visitor: &Account, namespace: &str, name: &str) -> Refusal {
    let how = format!(
        "the token is of ServiceAccount {}/{}, and what there is of rule {namespace}/{name} is for its own account: send one made by \
         kubectl create token ACCOUNT -n {namespace} --audience={AUDIENCE}",
        visitor.namespace, visitor.name
    );
    Refusal(StatusCode::FORBIDDEN, how)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{kubernetes::fake::Fake, record::RuleUid};

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn behind_a_proxy_the_token_has_a_header_of_its_own() {
        assert_eq!(token(&headers(&[("authorization", "Bearer a")])), Some("a"));
        assert_eq!(token(&headers(&[("authorization", "Bearer a"), ("x-signalbox-token", "b")])), Some("b"));
        assert_eq!(token(&headers(&[("authorization", "Basic a")])), None);
        assert_eq!(token(&headers(&[])), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_shows_no_good_token_is_told_how_to_get_one_and_the_api_server_is_not_flooded() {
        let fake = Fake::new(|_| (201, json!({"spec": {}, "status": {"authenticated": false, "error": "expired"}})));
        let visitors = Visitors::new(Cluster::with_client(fake.client()));
        let Refusal(status, how) = visitors.account(&headers(&[])).await.expect_err("no token");
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(how.contains("kubectl create token ACCOUNT -n NAMESPACE --audience=signalbox"), "{how}");
        let long = "a".repeat(LONGEST + 1);
        assert_eq!(visitors.account(&headers(&[("x-signalbox-token", &long)])).await.expect_err("too long").0, status);
        assert!(fake.requests().is_empty(), "these are not worth a question");
        let mut told = Vec::new();
        for _ in 0..100 {
            told.push(visitors.account(&headers(&[("x-signalbox-token", "bad")])).await.expect_err("bad").0);
        }
        assert_eq!(told.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count(), fake.requests().len());
        assert!(told.contains(&StatusCode::TOO_MANY_REQUESTS) && fake.requests().len() < 50, "{told:?}");
        assert_eq!(fake.requests()[0].body["spec"], json!({"audiences": ["signalbox"], "token": "bad"}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_token_is_asked_for_once_in_half_a_minute() {
        let good = json!({"authenticated": true, "audiences": ["signalbox"],
            "user": {"username": "system:serviceaccount:shop:ops"}});
        let fake = Fake::new(move |_| (201, json!({"spec": {}, "status": good})));
        let visitors = Visitors::new(Cluster::with_client(fake.client()));
        for (wait, asked) in [(0, 1), (29, 1), (2, 2)] {
            tokio::time::advance(Duration::from_secs(wait)).await;
            let account = visitors.account(&headers(&[("x-signalbox-token", "good")])).await.expect("it is good");
            assert_eq!((account.name.as_str(), fake.requests().len()), ("ops", asked), "after {wait} s more");
        }
    }

    #[test]
    fn only_the_rules_own_account_is_let_in() {
        let account = |namespace: &str, name: &str| Account { namespace: namespace.into(), name: name.into() };
        let rule = RuleRef { uid: RuleUid("u".into()), namespace: "shop".into(), name: "web".into() };
        let admit = |visitor: Account| admit(&visitor, &rule, &account("shop", "ops"));
        assert!(admit(account("shop", "ops")).is_ok());
        let Refusal(status, how) = admit(account("shop", "default")).expect_err("another");
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(how.contains("kubectl create token ops -n shop --audience=signalbox"), "{how}");
        let Refusal(status, how) = admit(account("bank", "ops")).expect_err("of another namespace");
        assert_eq!((status, how.contains("acts as")), (StatusCode::FORBIDDEN, false), "{how}");
    }
}
