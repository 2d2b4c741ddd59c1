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

#[tokio::test]
async fn a_hundred_who_ask_the_same_at_once_ask_a_few_times() {
    let fake = Fake::new(|_| (201, json!({"spec": {}, "status": {"allowed": true}})));
    let cluster = Cluster::with_client(fake.client());
    let (account, get) = (account(), Right::new("get", "", "pods"));
    let asked = (0..100).map(|_| cluster.may(&account, &get));
    let answers = futures::future::join_all(asked).await;
    assert!(answers.into_iter().all(|answer| answer.expect("review")));
    let requests = fake.requests().len();
    assert!((1..=ASKING).contains(&requests), "{requests}");
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
        assert!(error.to_string().contains("rules.namespaces={THE-OTHERS,shop}"), "{error}");
    }
    for error in asked(true, absent(), absent()).await {
        let error = error.expect_err("not there");
        assert!(matches!(error, Unusable::NotFound(_)), "{error}");
    }
    for labels in [json!({}), json!({USABLE_LABEL: "yes"})] {
        let [error, _] = asked(true, labelled(labels), absent()).await.map(|answer| answer.expect_err("not labelled"));
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
